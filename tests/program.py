"""rotbench as a person starts it: a process of its own, in some folder; or the same command within this process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import pytest
from _pytest.mark.structures import ParameterSet

from rotbench.cli import main
from rotbench.warm_engine import TRAINING, WarmEngine

ROOT = Path(__file__).parent.parent

T = TypeVar("T")


def rotbench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``rotbench ARGUMENTS`` in ``folder``, with more environment variables and no ROTBENCH_DATA of the user's."""
    return subprocess.run(
        [sys.executable, "-m", "rotbench", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ROTBENCH_DATA": "", **environment},
    )


def thorough(*values: object) -> list[ParameterSet]:
    """Parameters of a test that ``make test-all`` alone tries."""
    return [
        pytest.param(*value, marks=pytest.mark.thorough)
        if isinstance(value, tuple)
        else pytest.param(value, marks=pytest.mark.thorough)
        for value in values
    ]


@functools.cache
def warm_engine() -> WarmEngine:
    """The engine that all tests of a process share: PyTorch is loaded once, for the first that trains."""
    engine = WarmEngine([*TRAINING, "rotbench.probe"])
    atexit.register(engine.close)
    return engine


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What ``rotbench ARGUMENTS`` gives in ``folder``, like :func:`rotbench`, but without starting a Python for it.

    Workers are forked from the server of :func:`warm_engine`. PYTHONPATH cannot be given: modules are imported from
    where this process imports them.
    """
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: str | int | None = 0
    with (
        contextlib.chdir(folder),
        patch.dict(os.environ, {"ROTBENCH_DATA": "", **environment}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
        signals_restored(),
    ):
        try:
            main(arguments, warm_engine())
        except SystemExit as end:
            code = end.code
    told, complained = (stream.buffer.getvalue().decode() for stream in (out, error))
    return subprocess.CompletedProcess(["rotbench", *arguments], int(code or 0), told, complained)


@contextlib.contextmanager
def signals_restored() -> Iterator[None]:
    """Whatever is done inside to the handlers of signals that end a command, they are the old ones afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """What a condition gives once that is true; it may take so many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found
