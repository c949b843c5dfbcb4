"""What depends on the operating system: durable writes, locks, signals, process groups and the watch on a parent.

Written for Linux and other POSIX systems; another system is supported by another version of this file.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rotbench.errors import EnvironmentLacking, StoreUnusable
from rotbench.resources import checkout


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is there whole, or as it was before.

    Raises :class:`EnvironmentLacking` where the disk is full or the folder may not be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with lacking(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def free_bytes(folder: Path) -> int:
    """How much room there is where a folder is, or would be made."""
    there = next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.exists())
    return shutil.disk_usage(there).free


def sync_folder(folder: Path) -> None:
    """Make renames within ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lacking(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals about ``path`` into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(path.parent).free / 1e6
            raise EnvironmentLacking(
                f"no room to write {path}: {error.strerror}, {free:.0f} MB free", "Make room and run the command again."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise EnvironmentLacking(
                f"{path} cannot be written: {error.strerror}",
                "Give another place with --out or --to, or mend its permissions.",
            ) from None
        raise


#: How network file systems say that they were mounted without locks.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def store_lock(folder: Path) -> Iterator[str]:
    """Hold the store's lock. The kernel frees it when the process ends; the owner file says whose it is.

    Yields what is to be told of an owner who ended without cleaning up, or "".
    """
    import filelock  # late: workers hold no lock

    owner = folder / ".owner.json"
    # The mere existence of a file, which is taken for a lock otherwise, outlives a process that is killed.
    lock = filelock.FileLock(folder / ".lock", fallback_to_soft=False)
    with lacking(folder / ".lock"):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise StoreUnusable(
                f"{folder} is in use by {_owner(owner)}", "Wait until it ends, or give another folder with --out."
            ) from None
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            raise EnvironmentLacking(
                f"{folder} is on a file system that holds no locks: {error.strerror}",
                "Have it mounted with flock, or give a folder elsewhere with --out.",
            ) from None
    try:
        left = f"{_owner(owner)} ended without cleaning up; its lock is taken over" if owner.exists() else ""
        write_durably(owner, json.dumps(_this_process()).encode())
        yield left
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _this_process() -> dict[str, Any]:
    """Who holds a lock: enough to tell it from another process that has its number later."""
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot_id(), "started": started}


def _boot_id() -> str:
    """What Linux calls this start of the machine; "" elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def in_use(folder: Path) -> bool:
    """Whether a process on this machine seems to hold the store's lock; nothing is locked to find out."""
    try:
        owner = json.loads((folder / ".owner.json").read_bytes())
        if owner["host"] == socket.gethostname():
            if owner["boot"] != _boot_id():
                return False
            os.kill(owner["pid"], 0)
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process by way of its ``finally`` clauses."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_bytes())
        since = f" since {owner['started']}" if "started" in owner else ""
        return f"process {owner['pid']} on {owner['host']}{since}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


class Stop:
    """Notes SIGINT and SIGTERM instead of dying of them. ``signal`` is the first that came, ``count`` how many."""

    def __init__(self) -> None:
        self.signal = 0
        self.count = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self.count += 1


#: Of what a process prints, so much is kept from its beginning and as much from its end.
LOG_BYTES = 512 * 1024


class KeptLog(threading.Thread):
    """Copies what a process prints to a file: a bounded part, the beginning as it comes, the end when it ends."""

    def __init__(self, log: Path) -> None:
        """Start to copy. Raises OSError where there is no room for another thread or pipe."""
        super().__init__(name="log", daemon=True)
        self._reading, self.writing = os.pipe()
        self._log = log
        self.start()

    def handed_over(self) -> None:
        """Close this process's writing end: the copy ends once nobody else has it open."""
        os.close(self.writing)

    def run(self) -> None:
        written, left_out, tail = 0, 0, b""
        with contextlib.suppress(OSError, ValueError), self._log.open("ab", buffering=0) as file:
            while chunk := os.read(self._reading, 65536):
                room = max(0, LOG_BYTES - written)
                file.write(chunk[:room])
                written += len(chunk[:room])
                tail += chunk[room:]
                left_out += max(0, len(tail) - LOG_BYTES)
                tail = tail[-LOG_BYTES:]
            if left_out:
                file.write(f"\n.. {left_out:,} bytes are left out ..\n".encode())
            file.write(tail)
        os.close(self._reading)


class Process(subprocess.Popen[bytes]):
    """A process that :func:`start_process` started; ``log`` keeps what it prints."""

    log: KeptLog

    def close(self) -> None:
        """Close the pipe on which the process watches for its parent's end, and let its log be written out."""
        if self.stdin is not None:
            self.stdin.close()
        self.log.join(timeout=2.0)


def start_process(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """Start a process in a group of its own, what it prints going to ``log``, of which a bounded part is kept.

    Its standard input is a pipe from this process: when that ends, for whatever reason, :func:`end_with_parent` in
    the child sees the end of the pipe.
    """
    kept = KeptLog(log)
    try:
        process = Process(
            command,
            stdin=subprocess.PIPE,
            stdout=kept.writing,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    finally:
        kept.handed_over()
    process.log = kept
    return process


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of rotbench with this interpreter.

    ``-P`` keeps the current folder out of the import path: a study may lie beside files called ``random.py``.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment(threads: int) -> dict[str, str]:
    """The environment of a worker: how many threads it may use, and where a bare clone's rotbench is imported from."""
    environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    # A training step asks for the same large blocks again and again. glibc gives each back to the kernel at once, which
    # hands it out zeroed the next time: several thousand page faults a step. Bounded by what a step holds at its peak.
    environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it deterministic algorithms are refused on a GPU
    folder = checkout()
    if folder is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return environment


class Leader(Protocol):
    """A process that leads a group of its own."""

    @property
    def pid(self) -> int: ...

    def wait(self, timeout: float) -> int:
        """The exit code. Raises :class:`subprocess.TimeoutExpired` after so many seconds."""
        ...


def end_group(process: Leader, *, grace_seconds: float = 2.0) -> None:
    """End a process that leads a group, and all that it started."""
    for number, wait in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
            return


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone."""

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 1024):
                pass
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def usable_cores() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
