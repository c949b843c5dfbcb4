"""Where attempts run. An engine starts one, says whether it has ended, and can end it; it knows nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rotbench.system import Process, end_group, python_command, python_environment, start_process

#: How an attempt ended that was killed, by its number as POSIX has it.
KILLED = -9

#: How an attempt ended of which nothing is known but that its machine, or the process that watched it there, is gone.
LOST = -1000

#: What a worker prints, in the folder of its attempt, and what the preparation prints, in its own.
WORKER_LOG = "worker.log"
PREPARE_LOG = "prepare.log"


class Handle(Protocol):
    """An attempt that was started."""

    def poll(self) -> int | None:
        """The exit code once it has ended, negative for a signal, or :data:`LOST`; None while it runs or waits."""
        ...

    def begun(self) -> bool:
        """Whether its process was started; where it waits for room on some machine it was not yet."""
        ...

    def place(self) -> str | None:
        """The machine that it runs on, "" for this one; None until that is known."""
        ...

    def end(self) -> None:
        """End it, and whatever it started, now."""
        ...


class Engine(Protocol):
    """What runs attempts. It holds no state that the store lacks: another engine can go on at any time."""

    def prepare(self, folder: Path) -> Handle:
        """Start what makes sure that the data are there; ``folder`` holds its request."""
        ...

    def start(self, run_id: str, attempt: Path, threads: int) -> Handle:
        """Start the worker of an attempt, whose folder holds its request; it may wait for room first."""
        ...

    def room(self) -> int | None:
        """How many runs can be trained side by side now; None where that is for the command to say.

        Asked now and then as long as anything is to be done: an engine that reaches others looks after them here.
        Raises :class:`~rotbench.errors.EnvironmentLacking` once nothing can be trained any more.
        """
        ...

    def notes(self) -> list[str]:
        """What the user should know of machines that came or were left out, since this was last asked."""
        ...


class Launcher(Protocol):
    """How a module of rotbench is run in a process of its own."""

    def launch(self, module: str, arguments: Sequence[str], log: Path, threads: int) -> Handle:
        """Start to run the module's ``main`` with these arguments; what it prints goes to ``log``."""
        ...


def worker_arguments(run_id: str, attempt: Path) -> list[str]:
    """The arguments of ``rotbench.worker`` for an attempt, from its folder."""
    return [str(attempt.parent.parent), run_id, attempt.name.rpartition(".")[2]]


def worker_command(store: Path, run_id: str, number: str) -> Sequence[str]:
    """The command that makes one attempt."""
    return python_command("rotbench.worker", str(store), run_id, number)


def prepare_command(folder: Path) -> Sequence[str]:
    """The command that prepares data and weights."""
    return python_command("rotbench.prepare", str(folder))


@dataclass(frozen=True)
class ProcessHandle:
    process: Process

    def poll(self) -> int | None:
        code = self.process.poll()
        if code is not None:
            self.process.close()
        return code

    def begun(self) -> bool:
        return True

    def place(self) -> str:
        return ""

    def end(self) -> None:
        end_group(self.process)
        self.process.close()


@dataclass(frozen=True)
class ProcessEngine:
    """A new Python for each attempt, on this machine, which imports PyTorch itself.

    ``worker`` makes the command of a worker from store, run and attempt; ``preparation`` that of the preparation from
    its folder.
    """

    worker: Callable[[Path, str, str], Sequence[str]] = worker_command
    preparation: Callable[[Path], Sequence[str]] = prepare_command

    def room(self) -> None:
        return None

    def notes(self) -> list[str]:
        return []

    def prepare(self, folder: Path) -> ProcessHandle:
        return ProcessHandle(start_process(self.preparation(folder), folder / PREPARE_LOG, python_environment(1)))

    def start(self, run_id: str, attempt: Path, threads: int) -> ProcessHandle:
        store, run, number = worker_arguments(run_id, attempt)
        command = self.worker(Path(store), run, number)
        return ProcessHandle(start_process(command, attempt / WORKER_LOG, python_environment(threads)))

    def launch(self, module: str, arguments: Sequence[str], log: Path, threads: int) -> ProcessHandle:
        return ProcessHandle(start_process(python_command(module, *arguments), log, python_environment(threads)))
