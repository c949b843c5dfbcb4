"""How time grows with work: ``python benchmarks/growth.py --data-dir DIR [--json FILE]``.

Three tables: seconds a run in studies of 10 and of 100 very short runs, which is what rotbench itself costs; seconds an
epoch on 1,000 to 50,000 images of CIFAR-10; and seconds that one study takes with 1, 2, 3 and 4 runs side by side,
which says whether ``--jobs auto`` picks well on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

SHORT = """
title = "Short runs"
seeds = {runs}
[dataset]
name = "digits"
[train]
epochs = 1
labels_per_class = 10
updates = "epochs"
[[matrix]]
init = ["random"]
freeze = ["none"]
"""

SIZES = """
title = "Sizes"
seeds = 1
[dataset]
name = "cifar10"
[train]
epochs = 3
updates = "epochs"
test_each_epoch = false
validation = 0.01
[[matrix]]
init = ["random"]
freeze = ["none"]
labels_per_class = [100, 1000, 5000]
"""

SIDE_BY_SIDE = """
title = "Side by side"
seeds = 6
[dataset]
name = "cifar10"
[train]
epochs = 3
labels_per_class = 300
updates = "epochs"
[[matrix]]
init = ["random"]
freeze = ["none"]
"""


def study(text: str, data: Path | None = None, *options: str) -> tuple[float, Any]:
    """Run a study in an empty folder: seconds, and results.json."""
    with tempfile.TemporaryDirectory(prefix="rotbench-growth-") as name:
        file = Path(name) / "study.toml"
        file.write_text(text)
        command = [sys.executable, "-m", "rotbench", "run", str(file), "--out", f"{name}/out", "-q", *options]
        command += ["--data-dir", str(data)] if data else []
        began = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began, json.loads((Path(name) / "out" / "results.json").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="where CIFAR-10 lies, as torchvision has it")
    parser.add_argument("--rounds", type=int, default=2, help="how often each number of runs side by side is tried")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    from benchmarks.machine import described

    data = given.data_dir.resolve()
    print("| runs | seconds | seconds a run |\n|---:|---:|---:|")
    number: dict[int, float] = {}
    for runs in (10, 100):
        number[runs], _ = study(SHORT.format(runs=runs))
        print(f"| {runs} | {number[runs]:.0f} | {number[runs] / runs:.2f} |", flush=True)
    _, results = study(SIZES, data, "--jobs", "1")
    print("\n| training images | seconds an epoch, median of 3 | ms for 1,000 |\n|---:|---:|---:|")
    sizes: dict[int, float] = {}
    for run in results["runs"]:
        images = run["provenance"]["data"]["training_images"]
        sizes[images] = statistics.median(row["seconds"] for row in run["history"])
        print(f"| {images:,} | {sizes[images]:.2f} | {1e6 * sizes[images] / images:.0f} |")
    jobs: dict[int, list[float]] = {count: [] for count in (1, 2, 3, 4)}
    for _ in range(given.rounds):
        for count, seconds in jobs.items():
            seconds.append(study(SIDE_BY_SIDE, data, "--jobs", str(count))[0])
    print("\n| side by side | seconds for six runs, median (min to max) |\n|---:|---:|")
    for count, seconds in jobs.items():
        print(f"| {count} | {statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f}) |")
    machine = described()
    print(f"\n{machine}")
    if given.json:
        told = {
            "machine": machine,
            "seconds_by_runs": number,
            "epoch_seconds_by_images": sizes,
            "seconds_by_jobs": jobs,
        }
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
