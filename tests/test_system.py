"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rotbench.errors import EnvironmentLacking
from rotbench.system import end_group, python_command, start_process, store_lock, write_durably

CHILD = "import time; from rotbench.system import end_with_parent; end_with_parent(); print('up', flush=True); {}"
PARENT = """
import sys, time
from pathlib import Path
from rotbench.system import start_process
process = start_process([sys.executable, "-c", {child!r}], Path({log!r}), {{}})
print(process.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and "up" not in (log.read_text() if log.exists() else ""):
        time.sleep(0.02)


def test_a_worker_ends_when_its_driver_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    program = PARENT.format(child=CHILD.format("time.sleep(60)"), log=str(log))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(log)
        assert alive(child)
        parent.kill()
    until = time.monotonic() + 2
    while alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(child)


def test_a_worker_that_ignores_sigterm_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, 'up', flush=True)\ntime.sleep(60)\n"
    )
    process = start_process([sys.executable, "-c", stubborn], log, {})
    wait_for(log)
    grandchild = int(log.read_text().split()[0])
    end_group(process, grace_seconds=0.2)
    assert process.returncode == -signal.SIGKILL
    until = time.monotonic() + 2
    while alive(grandchild) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(grandchild)
    assert process.stdin is not None
    process.stdin.close()


def test_files_beside_a_study_do_not_stand_in_for_modules(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise RuntimeError('imported from the current folder')")
    reading, writing = os.pipe()  # held open, since the process ends when its standard input does
    done = subprocess.run(
        python_command("rotbench.prepare", "nowhere"),
        stdin=reading,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    os.close(reading)
    os.close(writing)
    assert "current folder" not in done.stderr
    assert "FileNotFoundError" in done.stderr


def operations(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """What is asked of the operating system from now on; the power fails at the operation of that number."""
    done: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            if stop_at is not None and len(done) >= stop_at:
                raise PowerFailure
            return function(*arguments, **options)

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return done


class PowerFailure(BaseException):
    pass


def test_a_file_is_synced_before_it_takes_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that reaches the disk before the content is a file of zeros after a power cut."""
    done = operations(monkeypatch)
    write_durably(tmp_path / "file", b"new")
    assert done == ["fsync", "replace", "fsync"]


def test_a_write_that_is_cut_short_leaves_the_old_content_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for stop_at in range(1, 5):
        (tmp_path / "file").write_bytes(b"old")
        with monkeypatch.context() as patch:
            operations(patch, stop_at)
            with contextlib.suppress(PowerFailure):
                write_durably(tmp_path / "file", b"new")
        found.append((tmp_path / "file").read_bytes())
    assert found == [b"old", b"old", b"new", b"new"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)  # as a network file system does that was mounted so
    with pytest.raises(EnvironmentLacking, match="holds no locks") as caught, store_lock(tmp_path):
        pass
    assert "flock" in caught.value.todo
