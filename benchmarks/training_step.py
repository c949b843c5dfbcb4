"""What a training step costs: ``python benchmarks/training_step.py [--json FILE]``.

Side by side, for rotation, for layer4 and the head alone, and for everything: a loop as notebooks have it, with 0 and
with 2 loading processes; rotbench's trainer; and the network alone on one batch that is there already, which is the
limit, as rotbench computes it and as torchvision does. Each is a process of its own, all alive at once and waiting;
they take turns block by block, so that a machine whose speed drifts slows all of them. CIFAR-10's sizes, random pixels.

The notebook has all cores, as it would; the others have them in one table and a single one in the other, since
rotbench trains one run a core. Prints Markdown tables of medians, minima and maxima.

Where a step of the network alone goes, and what was tried and left out. One thread of an AMD EPYC with AVX2 and without
bf16, torch 2.14.1, float32, batch 128, other work on both cores: minima of 12 to 30 calls, in processor time. A step of
rotation took 340 ms, one of layer4 and fc 135. Convolutions are 59 % of the former, matrix products 17 %, BatchNorm and
ReLU about 8 %, Adam 1 %.

- The stem's 7x7 convolution, 9.1 ms (68 GFLOP/s), and its weight gradient, 8.9: columns and a matrix product take 11.8
  and 12.6. Left out.
- layer1's 3x3 convolutions run at 94 GFLOP/s forward, 93 for maps and 65 for weights, about what a core can; a weight
  gradient by columns takes 10.6 ms instead of 9.3. Left out.
- layer2's weight gradients, 10.8 ms each, take 8.2 by columns and a product, with the convolution of stride 2 about
  11 ms a step, 3 % at best: not worth an autograd function of its own that would also change bf16. Left out.
- layer2 position by position, as layer3 and layer4 are (``MOST_POSITIONS = 16``): 1.02 (rotation) and 1.08 times the
  time, medians of 14 pairs. Left out.
- layer3's four products of a 2x2 map as one: 3.4 ms instead of 3.5 forward, 4.5 instead of 3.3 for weights, 4.7 instead
  of 4.8 for maps. Left out.
- BatchNorm and ReLU in one pass would need a kernel of its own, or ``torch.compile``, which made a step slower.
- Evaluation with BatchNorm folded into convolutions: at most a tenth of the 6 % that scoring takes. Left out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

IMAGES = 10_000
BATCH = 128
CASES = ("rotation", "layer4+fc", "all")
#: A process measures one loop. Held here, since a context that nothing refers to is left at once.
NEVER_LEFT = contextlib.ExitStack()
LOOPS = ("notebook, 0 workers", "notebook, 2 workers", "rotbench", "network alone", "torchvision's network alone")


def rotbench_block(case: str, updates: int, precision: str) -> Callable[[], None]:
    """One epoch of ``updates`` updates by rotbench's trainer."""
    import torch

    from rotbench.feed import Feed
    from rotbench.registry import load_registry
    from rotbench.settings import TrainSettings
    from rotbench.tasks import Classification, Task
    from rotbench.train import fit

    source = torch.Generator().manual_seed(0)
    rotation = load_registry(shipped_only=True).find("pretext task", "rotation")
    assert rotation is not None
    feed = Feed(
        task=Task(rotation.cls() if case == "rotation" else Classification()),
        pixels=torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=source),
        labels=torch.randint(10, (IMAGES,), generator=source),
        subset=torch.arange(IMAGES),
        validation=torch.arange(0),
        test_pixels=torch.zeros(2, 3, 32, 32, dtype=torch.uint8),  # so that evaluation costs next to nothing
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
    network, policy = rotbench_network(case), freeze_policy(case)
    settings = TrainSettings(epochs=1)

    def block() -> None:
        fit(network, feed, policy, settings, precision=precision, report=lambda row: None)

    return block


def rotbench_network(case: str, *, skip: bool = True) -> Any:
    import torch

    from rotbench.models import Network, build_backbone
    from rotbench.taps import skip_padding

    backbone = build_backbone("resnet18", "imagenet", 0)
    if skip:
        skip_padding(backbone.modules())
    network = Network(backbone, torch.nn.Linear(512, 4 if case == "rotation" else 10))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))  # so that it has met maps of that size, as when a run is set up
    return network.to(memory_format=torch.channels_last)


def freeze_policy(case: str) -> Any:
    from rotbench.registry import load_registry

    found = load_registry(shipped_only=True).find("freeze policy", "below" if case == "layer4+fc" else "none")
    assert found is not None
    return found.cls(stage="layer4", batchnorm="train") if case == "layer4+fc" else found.cls()


def alone_block(case: str, updates: int, precision: str, *, skip: bool) -> Callable[[], None]:
    """``updates`` updates on one batch that is there already."""
    import torch

    from rotbench.device import autocast
    from rotbench.models import freeze_batchnorm, named_parameters, parameters_of
    from rotbench.optimizer import Optimizer
    from rotbench.taps import trained_by_tap

    network, policy = rotbench_network(case, skip=skip), freeze_policy(case)
    tensors = named_parameters(network)
    # Without LiveConv2d there is nothing to split.
    taps = NEVER_LEFT.enter_context(trained_by_tap(network.modules()))
    parts = {name: taps.get(tensor, (tensor,)) for name, tensor in tensors.items()}
    trained = {one.name for one in parameters_of(network) if policy.trainable(one, 1, 1)}
    for name, tensor in tensors.items():
        for part in (tensor, *parts[name]):
            part.requires_grad_(name in trained)
    freeze_batchnorm(network, tensors.keys() - trained, policy.batchnorm)
    stepped = [part for several in parts.values() for part in several]
    if skip:
        optimizer: Any = Optimizer(stepped, "adam", lr=0.01, weight_decay=0.0, momentum=0.9, nesterov=False)
        step = functools.partial(optimizer.step, torch.amp.GradScaler("cpu", enabled=False))
    else:
        optimizer = torch.optim.Adam(stepped, lr=0.01, fused=True)
        step = optimizer.step
    views = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(4, (BATCH,))

    def block() -> None:
        for _ in range(updates):
            optimizer.zero_grad()
            with autocast("cpu", precision):
                outputs = network(views)
            torch.nn.functional.cross_entropy(outputs, targets).backward()  # type: ignore[no-untyped-call]
            step()

    return block


def notebook_block(case: str, updates: int, workers: int) -> Callable[[], None]:
    import numpy as np
    from PIL import Image
    from torch.utils.data import Dataset

    from benchmarks import notebook

    change = notebook.transform(train=True)
    pixels = np.random.default_rng(0).integers(256, size=(IMAGES, 32, 32, 3), dtype=np.uint8)

    class Random(Dataset[Any]):
        def __len__(self) -> int:
            return IMAGES

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return change(Image.fromarray(pixels[index])), index % 10

    images: Dataset[Any] = notebook.Rotated(Random()) if case == "rotation" else Random()
    model = notebook.network(4 if case == "rotation" else 10)
    if case == "layer4+fc":
        notebook.freeze_below_layer4(model)
    optimizer = notebook.adam(model)

    def endless() -> Iterator[Any]:
        while True:
            yield from notebook.loader(images, train=True, workers=workers)

    batches = endless()

    def block() -> None:
        few = (next(batches) for _ in range(updates))
        for _ in notebook.train_steps(model, optimizer, few):
            pass

    return block


def serve(loop: str, case: str, threads: int, updates: int) -> None:
    """Run a block for every line of standard input and say how long it took."""
    import torch

    from rotbench.device import choose_precision

    torch.set_num_threads(threads)
    precision = choose_precision("auto", "cpu")
    if loop.startswith("notebook"):
        block = notebook_block(case, updates, int(loop.split()[1]))
    elif loop == "rotbench":
        block = rotbench_block(case, updates, precision)
    else:
        block = alone_block(case, updates, precision, skip=loop == "network alone")
    block()
    print(precision, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        block()
        print(time.perf_counter() - began, flush=True)


class Server:
    """A process that runs one loop when it is asked to."""

    def __init__(self, loop: str, case: str, threads: int, updates: int) -> None:
        from rotbench.system import python_environment

        # rotbench's loops in the environment that rotbench gives its workers; the notebook in the user's.
        environment = {} if loop.startswith("notebook") else python_environment(threads)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", loop, case, str(threads), str(updates)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
        )  # fmt: skip
        self.precision = self._said()

    def block(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._said())

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(case: str, threads: int, cores: int, blocks: int, updates: int) -> dict[str, dict[str, float]]:
    servers = {loop: Server(loop, case, cores if loop.startswith("notebook") else threads, updates) for loop in LOOPS}
    seconds: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for _ in range(blocks):
        for loop, server in servers.items():
            seconds[loop].append(server.block() / updates)
    for server in servers.values():
        server.close()
    alone = seconds["network alone"]
    return {
        loop: {
            "median_ms": 1000 * statistics.median(values),
            "min_ms": 1000 * min(values),
            "max_ms": 1000 * max(values),
            "median_ratio_to_network_alone": statistics.median(v / a for v, a in zip(values, alone, strict=True)),
        }
        for loop, values in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=7, help="blocks of each loop, after one that is not counted")
    parser.add_argument("--updates", type=int, default=12, help="updates to a block")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        loop, case, threads, updates = given.serve
        serve(loop, case, int(threads), int(updates))
        return
    from benchmarks.machine import described

    machine = described()
    tables: dict[str, Any] = {}
    for threads in dict.fromkeys((1, machine["cores"])):
        rows = {case: measure(case, threads, machine["cores"], given.blocks, given.updates) for case in CASES}
        tables[f"{threads} threads"] = rows
        print(f"\nms a step, batch {BATCH}, median (min to max) of {given.blocks} blocks of {given.updates}; ", end="")
        print(f"notebook on {machine['cores']} threads, the others on {threads}\n")
        print(f"| | {' | '.join(CASES)} |\n|---|{'---:|' * len(CASES)}")
        for loop in LOOPS:
            cells = [
                f"{row['median_ms']:.0f} ({row['min_ms']:.0f} to {row['max_ms']:.0f})"
                + (f", {row['median_ratio_to_network_alone']:.2f} x alone" if loop == "rotbench" else "")
                for row in (rows[case][loop] for case in CASES)
            ]
            print(f"| {loop} | {' | '.join(cells)} |", flush=True)
    print(f"\n{machine}")
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "steps": tables}, indent=1) + "\n")


if __name__ == "__main__":
    main()
