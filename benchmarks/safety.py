"""What safety costs: the share of the time that goes into checkpoints, hashes and synced writes.

    python benchmarks/safety.py experiments.toml [--set seeds=[0] ..]           any study, with options of rotbench run

The study is run from nothing into a temporary folder. Workers record the seconds of their checkpoints; committing a
result (hash, write, sync) and verifying it (the driver reads and hashes it again) is timed afterwards on the very files
that the study left. All of it is held against the time that the workers lived.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rotbench.store import commit, verify_folder

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "results"
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "rotbench", "run", *arguments, "--out", str(folder), "-q"],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        wall = time.perf_counter() - began
        workers = checkpoints = committing = verifying = 0.0
        runs = sorted((folder / "runs").iterdir())
        for place, run in enumerate(runs):
            result = json.loads((run / "result.json").read_bytes())
            workers += result["worker_seconds"]
            checkpoints += result["checkpoint_seconds"]
            files = {path.name: path.read_bytes() for path in run.iterdir() if path.name != "manifest.json"}
            copy = Path(name) / f"copy{place}"
            copy.mkdir()
            began = time.perf_counter()
            commit(copy, run.name, "done", files)
            committing += time.perf_counter() - began
            began = time.perf_counter()
            verify_folder(copy)
            verifying += time.perf_counter() - began
    print(f"{len(runs)} runs, {wall:.0f} s in all, workers lived {workers:.0f} s")
    for what, seconds in (("checkpoints", checkpoints), ("committing", committing), ("verifying", verifying)):
        print(f"{what:<12} {seconds:8.2f} s  {seconds / workers:7.2%}")
    print(
        f"{'together':<12} {checkpoints + committing + verifying:8.2f} s  "
        f"{(checkpoints + committing + verifying) / workers:7.2%} of the workers' time"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
