"""Every shipped task is trained on a few thousand images of CIFAR-10 and must end well above chance on others.

All but the control: labels that were dealt out at random must teach nothing that holds for other images. ResNet18 with
the stem of ImageNet, Adam at 0.001 with a cosine, batches of 128.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rotbench.data import Images, channel_statistics, updates_per_epoch
from rotbench.device import autocast, choose_precision
from rotbench.feed import Feed
from rotbench.models import Network, build_backbone, features
from rotbench.registry import load_registry
from rotbench.settings import TrainSettings
from rotbench.setup import Everything
from rotbench.streams import drawing, generator
from rotbench.tasks import Task, chance
from rotbench.train import fit

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("ROTBENCH_DATA"), reason="ROTBENCH_DATA names no folder with CIFAR-10"),
]

TRAINED, TESTED = 4000, 3000

#: Standard errors by which a score must be above chance; by as many nothing is by luck.
CLEARLY = 5

#: Task, options, epochs.
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("relative-patch", {}, 5),
    ("colourisation", {"target": "regressed"}, 8),
    ("colourisation", {}, 8),
    ("simclr", {}, 3),
    ("reconstruction", {}, 3),
    ("reconstruction", {"corruption": "noise"}, 2),
    ("supervised", {}, 2),
    ("rotation", {}, 3),
    ("jigsaw", {"enlarge": False}, 3),
    ("jigsaw", {}, 2),
    ("jigsaw", {"grid": 3, "enlarge": False}, 3),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A worker's, so that tests side by side do not get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cifar10() -> tuple[Images, Images]:
    plugin = load_registry(shipped_only=True).find("dataset", "cifar10")
    assert plugin is not None
    root, dataset = Path(os.environ["ROTBENCH_DATA"]), plugin.cls()
    return dataset.load(root, "train"), dataset.load(root, "test")


@dataclass(frozen=True)
class Ended:
    """A trained task: the head's outputs and the targets of the test images, batch by batch, and their scores (K,)."""

    batches: list[tuple[Tensor, Any]]
    scores: Tensor
    chance: float


def trained(cifar10: tuple[Images, Images], name: str, options: dict[str, Any], epochs: int) -> Ended:
    """Train a task and put it to the test."""
    training, test = cifar10
    plugin = load_registry(shipped_only=True).find("pretext task", name)
    assert plugin is not None
    task = Task(plugin.cls(**options))
    mean, std = channel_statistics(training.pixels)
    feed = Feed(
        task=task,
        pixels=training.pixels[:TRAINED],
        labels=task.relabel(training.labels[:TRAINED], generator(0, "relabel", name)),
        subset=torch.arange(TRAINED),
        validation=torch.arange(0),
        test_pixels=test.pixels[:TESTED],
        test_labels=test.labels[:TESTED],
        mean=mean,
        std=std,
        augment=("crop", "flip"),
        batch_size=128,
        updates=updates_per_epoch(TRAINED, 128),
        seed=0,
        kind="pretext",
        name=name,
        seen=torch.zeros(len(training.pixels[:TRAINED]), dtype=torch.bool),
    )
    with drawing(0, "head", "pretext"):
        backbone = build_backbone("resnet18", "imagenet", 0)
        size = next(feed.training_batches(1))[0].shape[-1]
        head = task.head(features(backbone), classes=10, map_size=-(-size // 32), view_size=size)
    network = Network(backbone, head, task.takes)
    network.to(memory_format=torch.channels_last)
    precision = choose_precision("auto", "cpu")
    settings = TrainSettings(
        epochs=epochs, optimizer="adam", lr=0.001, schedule="cosine", batch_size=128, test_each_epoch=False
    )
    done = fit(network, feed, Everything(), settings, precision=precision, report=lambda row: None)
    with torch.no_grad():
        network.eval()
        batches = []
        for views, targets in feed.test_batches():
            with autocast("cpu", precision):
                batches.append((network(views), targets))
    told = torch.cat([task.score(outputs, targets) for outputs, targets in batches]).double()
    assert float(told.mean()) == pytest.approx(done.history[-1]["test_accuracy"])  # what a report would show
    guessing = chance(task.plugin, examples=250, classes=10)
    assert guessing is not None
    return Ended(batches, told, guessing)


def standard_errors(scores: Tensor, guessing: float) -> float:
    """How many of them the mean score is above guessing. Examples of one image count as one."""
    return (float(scores.mean()) - guessing) / (float(scores.std()) / math.sqrt(TESTED))


@pytest.mark.parametrize(("name", "options", "epochs"), CASES, ids=str)
def test_a_task_learns(cifar10: tuple[Images, Images], name: str, options: dict[str, Any], epochs: int) -> None:
    ended = trained(cifar10, name, options, epochs)
    above = standard_errors(ended.scores, ended.chance)
    print(
        f"{name} {options}: {epochs} epochs, {ended.scores.mean():.4f}, chance {ended.chance:.4f}, +{above:.1f} errors"
    )
    assert above > CLEARLY


def deviations_of_names(ended: Ended) -> float:
    """How far accuracy is above one in ten, in the deviation that it has if classes had got their names by chance.

    A network tells images of one kind from others whatever it was taught, and calls each kind by some name; so its
    hits come kind by kind, and scatter more than single images would. Over all ways to deal out ten names the
    accuracy, a sum over one cell in each row and column of the table of answers and classes, has mean 1/10 and the
    variance of Hoeffding (1951), the squares of the doubly centred table over 9.
    """
    table = torch.zeros(10, 10, dtype=torch.float64)
    for outputs, targets in ended.batches:
        table += torch.bincount(10 * outputs.argmax(1) + targets, minlength=100).view(10, 10) / TESTED
    centred = table - table.mean(0) - table.mean(1, keepdim=True) + table.mean()
    return float((table.trace() - 0.1) / (centred.square().sum() / 9).sqrt())


def test_labels_that_were_dealt_out_teach_nothing(cifar10: tuple[Images, Images]) -> None:
    """Within three deviations of one in ten, where the same trainer with true labels is beyond five."""
    ended = {name: trained(cifar10, name, {}, 3) for name in ("shuffled-labels", "supervised")}
    above = {name: deviations_of_names(one) for name, one in ended.items()}
    for name, one in ended.items():
        print(f"{name}: {one.scores.mean():.4f}, chance {one.chance:.4f}, {above[name]:+.1f} deviations")
    assert ended["shuffled-labels"].chance == 0.1
    assert abs(above["shuffled-labels"]) < 3
    assert above["supervised"] > 5


def test_every_shipped_task_is_tried() -> None:
    names = {
        plugin.name
        for plugin in load_registry(shipped_only=True).plugins
        if plugin.kind == "pretext task" and plugin.origin == "shipped"
    }
    assert {name for name, _, _ in CASES} | {"shuffled-labels"} == names
