"""The ways a command can end other than well, each with its exit code.

    RotbenchError
    ├── BadInput             2   the study, an option or a plugin name is wrong; nothing was started
    │   └── StudyFaults      2   every fault found in a study file, each with its position
    ├── StoreUnusable        3   the results folder is locked, damaged or written by a newer rotbench
    └── EnvironmentLacking   4   data, disk, permission or an engine is missing; run again once mended

Anything else that escapes is a bug and ends with 70. ``what`` is one line that says what is wrong and
where; ``todo`` is one line that says what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: So many faults of a file are shown; who has more has made one mistake many times.
MOST_SHOWN = 200

EXIT_OK = 0
EXIT_RUN_FAILED = 1
EXIT_BUG = 70


class RotbenchError(Exception):
    """Something that the person at the terminal can act on."""

    exit_code = EXIT_BUG

    def __init__(self, what: str, todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.todo = todo


class BadInput(RotbenchError):
    """The study file, an option or a name is wrong; nothing was started."""

    exit_code = 2


class StoreUnusable(RotbenchError):
    """The results folder cannot be used as it is."""

    exit_code = 3


class EnvironmentLacking(RotbenchError):
    """The machine lacks something (data, disk space, permission, a device); a later run can resume."""

    exit_code = 4


@dataclass(frozen=True)
class Fault:
    """One mistake in a study file.

    ``path`` is where it stands in the file's structure, such as ``("matrix", 0, "freze")``; a fault of a key
    (rather than of its value) has ``at_key``. Line and column are found from the path when the fault is shown;
    """

    path: tuple[str | int, ...]
    message: str
    at_key: bool = False


@dataclass(frozen=True)
class PlacedFault:
    """A fault with its place in a file: line and column from 1, in characters; ``excerpt`` is the line with a caret.

    A fault of ``--set`` has no place, and what was given as its ``file``.
    """

    file: str
    line: int | None
    column: int | None
    path: str
    message: str
    excerpt: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        where = f"{place}: {f'{self.path}: ' if self.path else ''}{self.message}"
        return f"{where}\n{self.excerpt}" if self.excerpt else where


class StudyFaults(BadInput):
    """A study file with mistakes, all of them, in the order of the file."""

    def __init__(self, faults: Sequence[PlacedFault], todo: str = "") -> None:
        told = [str(fault) for fault in faults[:MOST_SHOWN]]
        if len(faults) > MOST_SHOWN:
            told.append(f"and {len(faults) - MOST_SHOWN:,} more")
        super().__init__("\n".join(told), todo)
        self.faults = tuple(faults)


def told_again(exit_code: int, what: str, todo: str) -> RotbenchError:
    """The error that another process ended with, from what it left behind."""
    kinds = {kind.exit_code: kind for kind in (BadInput, StoreUnusable, EnvironmentLacking)}
    return kinds.get(exit_code, EnvironmentLacking)(what, todo)
