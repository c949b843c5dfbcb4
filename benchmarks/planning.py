"""How long it takes to plan a large study, and how much memory: ``python benchmarks/planning.py``.

Whole processes, as a person waits for them: 1,000 variants over 5 seeds planned and shown, the same as JSON, a faulty
file of that size checked, and a matrix of a thousand million variants refused. Each several times; the table has the
median, the range, and the largest memory of the process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMES = 7
ROOT = Path(__file__).resolve().parent.parent

THOUSAND = f"""
seeds = 5
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", "below", "head-only", {{ name = "below", stage = "layer2" }}, {{ name = "below", stage = "layer3" }}]
lr = {[round(0.001 * step, 4) for step in range(1, 11)]}
epochs = {list(range(10, 20))}
"""
FAULTY = THOUSAND.replace('"below", "head-only"', '"belw", "head-onyl"')
MILLIARD = "[[matrix]]\n" + "\n".join(f"{key} = {list(range(1, 1001))}" for key in ("epochs", "step_epochs", "lr"))


@dataclass(frozen=True)
class Case:
    """A command on a study, and the exit code that it must end with."""

    name: str
    study: str
    arguments: Sequence[str]
    code: int


CASES = (
    Case("plan 1,000 x 5", THOUSAND, ("plan",), 0),
    Case("plan 1,000 x 5 --json", THOUSAND, ("plan", "--json"), 0),
    Case("check 1,000 x 5, two faults", FAULTY, ("check",), 2),
    Case("plan 10^9", MILLIARD, ("plan",), 2),
)


def measure(command: Sequence[str], code: int) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    ended = os.waitstatus_to_exitcode(status)
    assert ended == code, f"{command} ended with {ended}"
    return seconds, usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'':<30} {'median s':>9} {'min':>7} {'max':>7} {'MB':>7}")
        for case in CASES:
            study = Path(folder) / "study.toml"
            study.write_text(case.study)
            name, *options = case.arguments
            command = [sys.executable, "-m", "rotbench", name, str(study), *options]
            if name == "plan":
                command += ["--out", str(Path(folder) / "results")]
            measured = [measure(command, case.code) for _ in range(TIMES)]
            seconds = [each for each, _ in measured]
            memory = max(each for _, each in measured)
            print(
                f"{case.name:<30} {statistics.median(seconds):>9.2f} {min(seconds):>7.2f} {max(seconds):>7.2f}"
                f" {memory:>7.0f}"
            )


if __name__ == "__main__":
    main()
