"""How long a large study's report takes, and how large it is: ``python benchmarks/report.py``.

A store of 100 runs of 45 epochs, 80 of them with predictions of 10,000 test images, is written into a temporary folder;
``rotbench report`` and ``rotbench export`` are then timed as whole processes, start-up included, as a person waits for
them. The parts of the report are timed within one more process each. Medians and ranges.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import simulated  # noqa: E402 -- from the clone, as the line before says
from tests.stored import write_store  # noqa: E402

TIMES = 5
SEEDS, EPOCHS = 20, 45

PARTS = """
import sys, time
from pathlib import Path
began = time.perf_counter()
def told(name):
    global began
    now = time.perf_counter()
    print(name, now - began)
    began = now
import rotbench.cli
told("import the program")
import rotbench.report
told("import the drawing")
from rotbench.results import collect
from rotbench.store import Store
results = collect(Store(Path(sys.argv[1])))
told("read the store")
page = rotbench.report.render(results)
told("render the page")
rotbench.report.results_csv(results)
told("write CSV")
"""


def seconds(command: Sequence[str]) -> tuple[float, str]:
    """How long a process takes, and what it prints."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - began, done.stdout


def row(name: str, measured: Sequence[float]) -> None:
    print(f"{name:<28} {statistics.median(measured):>9.2f} {min(measured):>7.2f} {max(measured):>7.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        store = write_store(Path(name) / "results", simulated.results(SEEDS, EPOCHS, EPOCHS), predictions=True)
        folder = str(store.folder)
        program = [sys.executable, "-m", "rotbench"]
        runs = len(list(store.runs.iterdir()))
        print(f"{f'{runs} runs x {EPOCHS} epochs':<28} {'median s':>9} {'min':>7} {'max':>7}")
        row("rotbench report", [seconds([*program, "report", "--out", folder])[0] for _ in range(TIMES)])
        export = [*program, "export", "--out", folder, "--to", str(Path(name) / "paper")]
        row("rotbench export", [seconds(export)[0] for _ in range(TIMES)])
        parts: dict[str, list[float]] = {}
        for _ in range(TIMES):
            for line in seconds([sys.executable, "-c", PARTS, folder])[1].splitlines():
                part, _, spent = line.rpartition(" ")
                parts.setdefault(part, []).append(float(spent))
        for part, measured in parts.items():
            row(f"  {part}", measured)
        for file in ("report.html", "results.json", "results.csv"):
            print(f"{file:<28} {(store.folder / file).stat().st_size / 1000:>9.0f} kB")


if __name__ == "__main__":
    main()
