"""Attempts as children of a process that has loaded PyTorch already: each starts at once.

The other end of what ``worker_server`` describes. Nothing here waits for that process: what it has replied is read
whenever somebody looks at a handle.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rotbench.engine import LOST, PREPARE_LOG, WORKER_LOG, worker_arguments
from rotbench.errors import EnvironmentLacking
from rotbench.system import KeptLog, end_group, python_command, python_environment

#: What a server imports beforehand for a training.
TRAINING = ("rotbench.attempt", "rotbench.prepare", "rotbench.timing", "rotbench.worker")

#: The longest reply of a server.
REPLY_BYTES = 4096

#: A server that is to end is given so long, as is a child that is to end before it was forked.
GRACE_SECONDS = 2.0


class ForkedHandle:
    """A child of the server, or the request for one."""

    def __init__(self, connection: Connection, log: Path) -> None:
        self.pid = 0  # until it is known
        self.code: int | None = None
        self._connection = connection
        reading, self._parent = os.pipe()
        self._log = KeptLog(log)
        self.given = [reading, self._log.writing, os.open(".", os.O_PATH | os.O_DIRECTORY)]

    def poll(self) -> int | None:
        if self.code is None:
            self._connection.exchange()
        return self.code

    def begun(self) -> bool:
        return self.pid > 0

    def place(self) -> str:
        return ""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or :data:`~rotbench.engine.LOST`. Raises :class:`subprocess.TimeoutExpired`."""
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self.code is None:
            left = until - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
            self._connection.exchange(min(left, 60.0))
        return self.code

    def end(self) -> None:
        with contextlib.suppress(EnvironmentLacking):
            until = time.monotonic() + GRACE_SECONDS
            while self.code is None and not self.pid and time.monotonic() < until:
                if self._connection.withdraw(self):
                    break
                self._connection.exchange(until - time.monotonic())
            if self.code is None and self.pid:
                end_group(self)
        self.close()

    def hand_over(self) -> None:
        """Close what the child has been given."""
        for descriptor in self.given:
            os.close(descriptor)
        self.given = []

    def lose(self) -> None:
        """End a child whose server is gone: nobody else waits for it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.code = LOST
        self.close()

    def close(self) -> None:
        """Close the pipe on which the child watches for its parent's end, and let its log be written out."""
        self.hand_over()
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1
        self._log.join(timeout=GRACE_SECONDS)


class Connection:
    """One server process, from its start to its death, with all that was launched on it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.usable = True
        self._ready = False
        self._refused = ""  # why nothing can be started
        self._number = 0
        self._handles: dict[int, ForkedHandle] = {}
        self._unsent: dict[int, Mapping[str, Any]] = {}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the connection
        self._environment = {**os.environ, **python_environment(1)}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        with theirs:
            self.process = subprocess.Popen(
                python_command("rotbench.worker_server", str(theirs.fileno()), *modules),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def launch(self, module: str, arguments: Sequence[str], log: Path, threads: int) -> ForkedHandle:
        """Request a child, which is forked as soon as the server has loaded PyTorch."""
        wanted: dict[str, str | None] = {**os.environ, **python_environment(threads)}
        changed = {name: value for name, value in wanted.items() if self._environment.get(name) != value}
        changed |= dict.fromkeys(self._environment.keys() - wanted.keys())
        self._number += 1
        self._handles[self._number] = handle = ForkedHandle(self, log)
        self._unsent[self._number] = {
            "id": self._number,
            "module": module,
            "arguments": list(arguments),
            "threads": threads,
            "environment": changed,
        }
        self.exchange()
        return handle

    def exchange(self, seconds: float = 0.0) -> None:
        """Take the server's replies, waiting so long for the first, and send what waits.

        Raises :class:`~rotbench.errors.EnvironmentLacking` if it cannot load PyTorch or fork.
        """
        if self.usable and seconds > 0:
            select.select([self._socket], [], [], seconds)
        while self.usable:
            try:
                reply = self._socket.recv(REPLY_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:  # it died with a request unread; its last replies follow
                continue
            if reply:
                self._take(json.loads(reply))
            else:
                self.close()
        while self.usable and self._ready and self._unsent and self._send(next(iter(self._unsent))):
            pass
        if self._refused:
            raise EnvironmentLacking(self._refused, "Mend that, and run the command again.")

    def withdraw(self, handle: ForkedHandle) -> bool:
        """Forget a request that has not been sent; returns whether there was one."""
        number = next((number for number in self._unsent if self._handles[number] is handle), None)
        if number is not None:
            del self._unsent[number], self._handles[number]
        return number is not None

    def close(self) -> None:
        """End the server and all that runs on it."""
        if not self.usable:
            return
        self.usable = False
        self._socket.close()
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if not self._ready:
            self._refused = f"PyTorch cannot be loaded: {self._last_words()}"
        self._log.close()
        for handle in self._handles.values():
            handle.lose()

    def _send(self, number: int) -> bool:
        handle = self._handles[number]
        try:
            socket.send_fds(self._socket, [json.dumps(self._unsent[number]).encode()], handle.given)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):  # full; or dead, as the next reply will show
            return False
        del self._unsent[number]
        handle.hand_over()
        return True

    def _take(self, reply: Mapping[str, Any]) -> None:
        if "ready" in reply:
            self._ready = True
        elif "pid" in reply:
            self._handles[reply["id"]].pid = reply["pid"]
        elif "code" in reply:
            handle = self._handles.pop(reply["id"])
            handle.code = reply["code"]
            handle.close()
        else:
            self._refused = f"no process can be started: {reply['refused']}"
            self.close()

    def _last_words(self) -> str:
        """The last line that the server printed, or how it ended."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        code = self.process.returncode
        return lines[-1] if lines else f"killed by signal {-code}" if code < 0 else f"exit code {code}"


class WarmEngine:
    """A child of the server for each attempt, on this machine.

    The server is started when something is first launched, and once more after it has died. ``close`` ends it. It
    imports ``modules`` beforehand. ``worker`` and ``preparation`` are the modules whose ``main`` children run.
    """

    def __init__(
        self,
        modules: Sequence[str] = TRAINING,
        worker: str = "rotbench.worker",
        preparation: str = "rotbench.prepare",
    ) -> None:
        self._modules = modules
        self._worker = worker
        self._preparation = preparation
        self._connection: Connection | None = None

    @property
    def server_pid(self) -> int:
        """The process of the server; 0 if there is none."""
        return self._connection.process.pid if self._connection is not None and self._connection.usable else 0

    def room(self) -> None:
        return None

    def notes(self) -> list[str]:
        return []

    def prepare(self, folder: Path) -> ForkedHandle:
        return self.launch(self._preparation, [str(folder)], folder / PREPARE_LOG, 1)

    def start(self, run_id: str, attempt: Path, threads: int) -> ForkedHandle:
        return self.launch(self._worker, worker_arguments(run_id, attempt), attempt / WORKER_LOG, threads)

    def launch(self, module: str, arguments: Sequence[str], log: Path, threads: int) -> ForkedHandle:
        if self._connection is None or not self._connection.usable:
            self._connection = Connection(self._modules)
        return self._connection.launch(module, arguments, log, threads)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
