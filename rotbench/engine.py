"""Where attempts run. An engine starts one, says whether it has ended, and can end it; it knows nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rotbench.system import end_group, python_command, python_environment, start_process


class Handle(Protocol):
    """An attempt that was started."""

    def poll(self) -> int | None:
        """The exit code once it has ended, negative for a signal; None while it runs."""
        ...

    def end(self) -> None:
        """End it, and whatever it started, now."""
        ...


class Engine(Protocol):
    def start(self, run_id: str, attempt: Path, threads: int) -> Handle:
        """Start the worker of an attempt, whose folder holds its request."""
        ...


def worker_command(store: Path, run_id: str, number: str) -> Sequence[str]:
    """The command that makes one attempt."""
    return python_command("rotbench.worker", str(store), run_id, number)


@dataclass(frozen=True)
class LocalHandle:
    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def end(self) -> None:
        end_group(self.process)


@dataclass(frozen=True)
class LocalEngine:
    """A process an attempt, on this machine. ``command`` makes the worker's command from store, run and attempt."""

    command: Callable[[Path, str, str], Sequence[str]] = worker_command

    def start(self, run_id: str, attempt: Path, threads: int) -> LocalHandle:
        store, number = attempt.parent.parent, attempt.name.rpartition(".")[2]
        command = self.command(store, run_id, number)
        return LocalHandle(start_process(command, attempt / "worker.log", python_environment(threads)))
