"""How much a training step of rotbench costs beyond the network itself: ``python benchmarks/training_step.py``.

Three loops in turn, block by block, so that a machine whose speed drifts slows all of them: the network alone on one
resident batch (the limit), and rotbench's trainer for rotation and for classification. CIFAR-10's sizes, random pixels.
Prints medians, spread and ratios as JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from rotbench.feed import Feed
from rotbench.models import Network, build_backbone
from rotbench.registry import load_registry
from rotbench.settings import TrainSettings
from rotbench.setup import Everything
from rotbench.tasks import Classification, Task
from rotbench.train import autocast, choose_precision, fit, make_optimizer

IMAGES = 10_000
BATCH = 128


def feed(task: object, updates: int) -> Feed:
    """A feed over random images; two test images, so that evaluation costs next to nothing."""
    source = torch.Generator().manual_seed(0)
    return Feed(
        task=Task(task),
        pixels=torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=source),
        labels=torch.randint(10, (IMAGES,), generator=source),
        subset=torch.arange(IMAGES),
        validation=torch.arange(0),
        test_pixels=torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        test_labels=torch.zeros(2, dtype=torch.int64),
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        augment=("crop", "flip"),
        batch_size=BATCH,
        updates=updates,
        seed=0,
        kind="downstream",
        name="benchmark",
        seen=torch.zeros(IMAGES, dtype=torch.bool),
    )


def network(classes: int) -> Network:
    made = Network(build_backbone("resnet18", "imagenet", 0), torch.nn.Linear(512, classes))
    made.to(memory_format=torch.channels_last)
    return made


def trainer(task: object, classes: int, updates: int, precision: str) -> Callable[[], None]:
    """One epoch of ``updates`` updates by rotbench's trainer."""
    made, fed = network(classes), feed(task, updates)

    def block() -> None:
        fit(made, fed, Everything(), TrainSettings(epochs=1), precision=precision, report=lambda row: None)

    return block


def model_alone(updates: int, precision: str) -> Callable[[], None]:
    """``updates`` updates on one batch that is there already."""
    made = network(10).train()
    optimizer = make_optimizer(list(made.parameters()), "adam", lr=0.01, weight_decay=0.0, momentum=0.9, nesterov=False)
    views = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(10, (BATCH,))

    def block() -> None:
        for _ in range(updates):
            optimizer.zero_grad(set_to_none=True)
            with autocast("cpu", precision):
                outputs = made(views)
            torch.nn.functional.cross_entropy(outputs, targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=5, help="blocks of each kind, after one that is not counted")
    parser.add_argument("--updates", type=int, default=8, help="updates to a block")
    given = parser.parse_args()
    torch.set_num_threads(1)
    precision = choose_precision("auto", "cpu")
    rotation = load_registry(shipped_only=True).find("pretext task", "rotation")
    assert rotation is not None
    loops = {
        "model alone": model_alone(given.updates, precision),
        "rotbench, rotation": trainer(rotation.cls(), 4, given.updates, precision),
        "rotbench, classification": trainer(Classification(), 10, given.updates, precision),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(given.blocks + 1):
        for name, block in loops.items():
            began = time.perf_counter()
            block()
            if number:
                seconds[name].append((time.perf_counter() - began) / given.updates)
    alone = seconds["model alone"]
    rows = {
        name: {
            "median_ms": 1000 * statistics.median(values),
            "min_ms": 1000 * min(values),
            "max_ms": 1000 * max(values),
            "median_ratio_to_model_alone": statistics.median(v / a for v, a in zip(values, alone, strict=True)),
        }
        for name, values in seconds.items()
    }
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    print(
        json.dumps({"threads": 1, "precision": precision, "blocks": given.blocks, **machine, "steps": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
