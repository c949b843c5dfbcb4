"""A whole small study by hand and by rotbench: ``python benchmarks/study.py --data-dir DIR [--json FILE]``.

The study is that of the assignment on real CIFAR-10, shortened equally on both sides: rotation pretraining, then
classification from random and from those weights, training layer4 and the head or everything; Adam with 0.01, tested
after every epoch. By hand it is a script that trains one network after the other with all cores, as notebooks do; the
number of its loading processes is the better of 0 and 2. For each seed in turn the script, then ``rotbench run`` of
that seed in an empty folder; at the end ``rotbench run`` of all seeds at once. Prints a Markdown table of times and one
of accuracies.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

CELLS = (("random", "layer4+fc"), ("random", "all"), ("rotation", "layer4+fc"), ("rotation", "all"))

STUDY = """
title = "Rotation pretraining, shortened"
seeds = {seeds}
[dataset]
name = "cifar10"
[train]
epochs = {downstream}
lr = 0.01
schedule = "constant"
[pretext.rotation]
task = "rotation"
epochs = {pretext}
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", {{ name = "below", stage = "layer4", batchnorm = "train" }}]
"""


def by_hand(seed: int, data: Path, pretext: int, downstream: int, workers: int) -> dict[str, float]:
    """The five trainings of one seed, one after the other; accuracies by name."""
    import torch
    from torchvision.datasets import CIFAR10

    from benchmarks import notebook

    torch.manual_seed(seed)
    training, test = (CIFAR10(data, train=train, transform=notebook.transform(train)) for train in (True, False))

    def fit(model: Any, wrap: Callable[[Any], Any], epochs: int) -> float:
        optimizer = notebook.adam(model)
        batches = notebook.loader(wrap(training), train=True, workers=workers)
        tests = notebook.loader(wrap(test), train=False, workers=workers)
        score = 0.0
        for _ in range(epochs):
            sum(notebook.train_steps(model, optimizer, batches))
            score = notebook.accuracy(model, tests)
        return score

    pretrained = notebook.network(4)
    accuracies = {"pretext": fit(pretrained, notebook.Rotated, pretext)}
    kept = {name: tensor for name, tensor in pretrained.state_dict().items() if not name.startswith("fc.")}
    for init, trained in CELLS:
        model = notebook.network(10)
        if init == "rotation":
            model.load_state_dict(kept, strict=False)
        if trained == "layer4+fc":
            notebook.freeze_below_layer4(model)
        accuracies[f"{init}, {trained}"] = fit(model, lambda images: images, downstream)
    return accuracies


def better_workers(data: Path, steps: int = 40) -> int:
    """0 or 2 loading processes, whichever makes the faster rotation training here."""
    from torchvision.datasets import CIFAR10

    from benchmarks import notebook

    images = notebook.Rotated(CIFAR10(data, train=True, transform=notebook.transform(train=True)))
    took = {}
    for workers in (0, 2):
        model = notebook.network(4)
        losses = notebook.train_steps(model, notebook.adam(model), notebook.loader(images, train=True, workers=workers))
        for _ in range(5):
            next(losses)
        began = time.perf_counter()
        for _ in range(steps):
            next(losses)
        took[workers] = time.perf_counter() - began
    return min(took, key=lambda workers: took[workers])


def by_rotbench(seeds: Sequence[int], data: Path, pretext: int, downstream: int, options: Sequence[str]) -> Any:
    """``rotbench run`` in an empty folder; results.json."""
    with tempfile.TemporaryDirectory(prefix="rotbench-study-") as name:
        study = Path(name) / "study.toml"
        study.write_text(STUDY.format(seeds=list(seeds), pretext=pretext, downstream=downstream))
        command = [sys.executable, "-m", "rotbench", "run", str(study), "--out", f"{name}/out", "-q", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([*command, "--data-dir", str(data)], check=True, env=environment, stdout=subprocess.DEVNULL)
        return json.loads((Path(name) / "out" / "results.json").read_bytes())


def accuracies_of(results: Mapping[str, Any]) -> list[dict[str, float]]:
    """Accuracies by name, seed by seed."""
    made: dict[int, dict[str, float]] = {}
    for run in results["runs"]:
        variant = run["variant"]
        name = "pretext"
        if run["kind"] == "downstream":
            name = f"{variant['init']}, {'all' if variant['freeze'] == 'none' else 'layer4+fc'}"
        made.setdefault(run["seed"], {})[name] = run["final"]["test_accuracy"]
    return [made[seed] for seed in sorted(made)]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation in per cent."""
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="where CIFAR-10 lies, as torchvision has it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretext", type=int, default=2, help="epochs of pretraining")
    parser.add_argument("--downstream", type=int, default=1, help="epochs of each classification")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    from benchmarks.machine import described

    size = (given.pretext, given.downstream)
    data = given.data_dir.resolve()
    workers = better_workers(data)
    hand: list[float] = []
    single: list[float] = []
    by_script: list[dict[str, float]] = []
    for seed in range(given.seeds):
        seconds, accuracies = timed(lambda seed=seed: by_hand(seed, data, *size, workers))  # type: ignore[misc]
        hand.append(seconds)
        by_script.append(accuracies)
        seconds, _ = timed(lambda seed=seed: by_rotbench([seed], data, *size, ()))  # type: ignore[misc]
        single.append(seconds)
        print(f"seed {seed}: by hand {hand[-1]:.0f} s, rotbench {single[-1]:.0f} s", flush=True)
    together, results = timed(lambda: by_rotbench(range(given.seeds), data, *size, ()))
    both, _ = timed(lambda: by_rotbench([0], data, *size, ("--set", "resources.threads=2")))
    ratios = [a / b for a, b in zip(hand, single, strict=True)]
    machine = described()
    print(f"\n{given.pretext} epochs of pretraining and {given.downstream} of each classification; {machine}\n")
    print("| | by hand | rotbench | faster |\n|---|---:|---:|---:|")
    print(
        f"| one seed, median of {given.seeds} | {statistics.median(hand):.0f} s | {statistics.median(single):.0f} s "
        f"| {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )
    print(f"| one seed, each run on 2 threads | | {both:.0f} s | {hand[0] / both:.2f} x |")
    print(f"| {given.seeds} seeds | {sum(hand):.0f} s | {together:.0f} s | {sum(hand) / together:.2f} x |")
    by_tool = accuracies_of(results)
    print("\n| accuracy in %, mean and standard deviation over seeds | by hand | rotbench |\n|---|---:|---:|")
    for name in by_script[0]:
        print(f"| {name} | {shown([one[name] for one in by_script])} | {shown([one[name] for one in by_tool])} |")
    if given.json:
        told = {
            "machine": machine, "epochs": size, "loading_processes": workers, "by_hand_seconds": hand,
            "rotbench_seconds": single, "rotbench_all_seeds_seconds": together, "rotbench_two_threads_seconds": both,
            "by_hand_accuracies": by_script, "rotbench_accuracies": by_tool,
        }  # fmt: skip
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
