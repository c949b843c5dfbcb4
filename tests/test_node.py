"""What a node of a cluster does with an order, without a cluster: the functions that Ray calls, called."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import rotbench
from rotbench import __version__
from rotbench._version import RESULTS_VERSION
from rotbench.engine import LOST
from rotbench.node import (
    BEATS,
    ORDER,
    Unable,
    answer,
    difference,
    inspect,
    make_attempt,
    prepare,
    try_attempt,
    versions,
)

#: A worker that says with how many threads it was started, and ends with a code of its own.
WORKER = """
import os, sys, time
from pathlib import Path
store, run_id, number = sys.argv[1:]
attempt = Path(store) / "attempts" / f"{run_id}.{number}"
(attempt / "threads").write_text(os.environ["OMP_NUM_THREADS"])
time.sleep(0.5)
sys.exit(7)
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with an attempt that was ordered."""
    (tmp_path / "worker_of_a_node.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    attempt = tmp_path / "store" / "attempts" / "run.1"
    attempt.mkdir(parents=True)
    order = {"module": "worker_of_a_node", "log": "worker.log", "threads": 3, "beat_seconds": 0.1}
    (attempt / ORDER).write_text(json.dumps(order))
    return tmp_path / "store"


def test_an_attempt_is_made_in_a_process_with_its_own_threads_and_gives_signs_of_life(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray sets it
    assert make_attempt(str(store), "run", "1") == 7
    attempt = store / "attempts" / "run.1"
    assert (attempt / "threads").read_text() == "3"
    name, beats = (attempt / BEATS).read_text().split()
    assert name == platform.node()
    assert int(beats) >= 2


def test_an_attempt_is_made_once(store: Path) -> None:
    make_attempt(str(store), "run", "1")
    (store / "attempts" / "run.1" / "threads").unlink()
    assert make_attempt(str(store), "run", "1") == LOST
    assert not (store / "attempts" / "run.1" / "threads").exists()


def test_a_node_that_does_not_see_the_attempt_says_which(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"node {platform.node()} does not see .*run\.1"):
        make_attempt(str(tmp_path), "run", "1")


def test_versions_are_those_that_results_depend_on() -> None:
    assert versions() == {
        "Python": platform.python_version(),
        "rotbench": __version__,
        "results of rotbench": str(RESULTS_VERSION),
        "rotbench's code": versions()["rotbench's code"],
        **{name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "safetensors")},
    }
    assert difference(versions(), versions()) == ""
    assert difference(versions(), {**versions(), "numpy": "0.9"}).startswith("has numpy 0.9, this machine ")


def test_a_node_says_what_it_sees(tmp_path: Path) -> None:
    there, changed = tmp_path / "a.py", tmp_path / "b.py"
    there.write_text("a")
    changed.write_text("b")
    asked = {str(path): hashlib.sha256(b"a").hexdigest() for path in (there, changed, tmp_path / "c.py")}
    (tmp_path / "token").write_text(json.dumps(asked))
    (tmp_path / "attempts").mkdir()
    told = inspect(str(tmp_path), "token")
    assert (told.sees, told.refused) == (True, "")
    assert told.lacks == (str(changed), str(tmp_path / "c.py"))
    told = inspect(str(tmp_path / "elsewhere"), "token")
    assert (told.sees, told.lacks) == (False, ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "attempts", "b.py", "token"]
    assert list((tmp_path / "attempts").iterdir()) == []


def test_a_clone_with_another_line_is_another_version(tmp_path: Path) -> None:
    copy = tmp_path / "rotbench"
    shutil.copytree(Path(rotbench.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    ask = [sys.executable, "-c", 'from rotbench.node import versions; print(versions()["rotbench\'s code"])']

    def said() -> str:
        return subprocess.run(ask, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    assert said() == versions()["rotbench's code"]
    with (copy / "train.py").open("a") as file:
        file.write("\n")
    assert difference(versions(), {**versions(), "rotbench's code": said()}).startswith("has rotbench's code ")


def test_who_answers_has_done_in_the_store_what_an_attempt_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, linked = tmp_path / "attempts", []
    attempts.mkdir()
    link = os.link

    def note(old: Path, new: Path) -> None:
        link(old, new)
        linked.append(new.relative_to(attempts).parts)

    monkeypatch.setattr("os.link", note)
    answer(str(tmp_path))
    assert [parts[1:] for parts in linked] == [(BEATS,)]
    assert list(attempts.iterdir()) == []
    with pytest.raises(OSError, match="gone"):
        answer(str(tmp_path / "gone"))

    def refuse(old: Path, new: Path) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)  # as on a file system without hard links
    (tmp_path / "token").write_text("{}")
    assert "not supported" in inspect(str(tmp_path), "token").refused
    assert list(attempts.iterdir()) == []


def test_a_node_that_cannot_make_an_attempt_says_which_it_is_and_why(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "abc"))
    assert try_attempt(str(store), "run", "1") == 7

    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    (store / "attempts" / "run.1" / BEATS).unlink()
    monkeypatch.setattr("rotbench.node.start_process", refuse)
    told = try_attempt(str(store), "run", "1")
    assert isinstance(told, Unable)
    assert told.node == "abc"
    assert "Resource temporarily unavailable" in told.why


def test_a_preparation_gives_signs_of_life_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preparing.py").write_text("import sys\nprint(open(sys.argv[1] + '/beats').read())\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    order = {"module": "preparing", "log": "prepare.log", "threads": 1, "beat_seconds": 60}
    (tmp_path / ORDER).write_text(json.dumps(order))
    assert prepare(str(tmp_path)) == 0
    assert (tmp_path / "prepare.log").read_text().split() == [platform.node(), "0"]
