"""rotbench as a person starts it: a process of its own, in some folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from _pytest.mark.structures import ParameterSet

ROOT = Path(__file__).parent.parent

T = TypeVar("T")


def rotbench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``rotbench ARGUMENTS`` in ``folder``, with more environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "rotbench", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def thorough(*values: object) -> list[ParameterSet]:
    """Parameters of a test that ``make test-all`` alone tries."""
    return [
        pytest.param(*value, marks=pytest.mark.thorough)
        if isinstance(value, tuple)
        else pytest.param(value, marks=pytest.mark.thorough)
        for value in values
    ]


def wait_for(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """What a condition gives once that is true; it may take so many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found
