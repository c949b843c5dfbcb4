"""What large studies take beside their training: ``python benchmarks/scale.py [--runs 1000 10000] [--in FOLDER]``.

For each number of runs, a study of the toy trainer is planned and a store is written in which all of them are done, by
the functions that workers and driver use. Whole processes are then measured, seconds and the largest memory: planning;
``run`` that finds all of it done, which hashes the store, compares it with the plan and writes the page; and ``report``
alone. A run has --epochs rows of history and no weights or predictions, so sizes are those of the bookkeeping.

A folder in memory (such as /dev/shm) is measured without its disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STUDY = """
title = "toy"
seeds = {seeds}
[train]
epochs = {epochs}
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", "below"]
"""
RUNS_A_SEED = 5


def plan_of(runs: int, epochs: int) -> Any:
    from tests.toy_study import toy_plan

    return toy_plan(STUDY.format(seeds=runs // RUNS_A_SEED, epochs=epochs))


def write(folder: Path, runs: int, epochs: int) -> None:
    """A store in which every run of the study is done."""
    from rotbench.store import Store, commit, run_record, to_json

    store = Store(folder)
    store.create()
    for run in plan_of(runs, epochs).runs:
        level = 0.5 + 0.001 * (run.seed % 97)
        history = [
            {
                "epoch": epoch,
                "train_loss": 1.0 / epoch,
                "train_accuracy": level,
                "test_loss": 1.0 / epoch,
                "test_accuracy": level,
                "lr": 0.1,
                "seconds": 1.0,
            }
            for epoch in range(1, epochs + 1)
        ]
        final = {"test_accuracy": level, "test_loss": 1.0}
        result: dict[str, Any] = {"error": None, "diverged": False, "history": history, "final": final}
        result |= {"provenance": {}, "train_seconds": float(epochs)}
        files = {"run.json": to_json(run_record(run)), "result.json": to_json(result), "log.txt": b""}
        attempt = store.open_attempt(run.id, {})
        commit(attempt, run.id, "done", files)
        store.publish(attempt)


def child(what: str, folder: Path, runs: int, epochs: int) -> None:
    """One thing to be measured, in this process."""
    from rotbench.driver import Orders, report_writer, run_study
    from rotbench.store import Store
    from tests.test_driver import Heard
    from tests.toy_study import STARTED

    if what == "plan":
        assert len(plan_of(runs, epochs).everything) == runs
    elif what == "run":
        ended = run_study(plan_of(runs, epochs), Store(folder), STARTED, Orders(jobs=1), Heard(), "x", lambda: None)
        assert ended.done == runs
    elif what == "report":
        report_writer(Store(folder))()
    elif what == "write":
        write(folder, runs, epochs)


def measured(what: str, folder: Path, runs: int, epochs: int) -> tuple[float, float]:
    """Seconds and the most memory, in MB, of a process."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--child", what, str(folder), str(runs), str(epochs)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return time.perf_counter() - began, float(done.stdout.splitlines()[-1])


def megabytes_of(path: Path) -> float:
    return path.stat().st_size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10000], help="multiples of five")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--in", dest="place", type=Path, help="where the stores are written")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, folder, runs, epochs = given.child
        child(what, Path(folder), int(runs), int(epochs))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
        return
    from benchmarks.machine import described

    figures: dict[str, Any] = {"machine": described(), "epochs": given.epochs}
    print("| runs | plan | all done found | page and JSON | store | files | page | results.json |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for runs in given.runs:
        with tempfile.TemporaryDirectory(dir=given.place) as name:
            folder = Path(name) / "results"
            measured("write", folder, runs, given.epochs)
            told: dict[str, Any] = {}
            for what in ("plan", "run", "report"):
                told[what] = measured(what, folder, runs, given.epochs)
            files = [path for path in (folder / "runs").rglob("*") if path.is_file()]
            told["store_megabytes"], told["files"] = sum(map(megabytes_of, files)), len(files)
            told["page"] = megabytes_of(folder / "report.html")
            told["json"] = megabytes_of(folder / "results.json")
        figures[str(runs)] = told
        cells = [f"{seconds:.1f} s, {memory:.0f} MB" for seconds, memory in (told["plan"], told["run"], told["report"])]
        cells += [f"{told['store_megabytes']:.0f} MB", f"{told['files']:,}"]
        print(f"| {runs:,} | {' | '.join(cells)} | {told['page']:.1f} MB | {told['json']:.1f} MB |", flush=True)
    print(f"\n{described()}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
