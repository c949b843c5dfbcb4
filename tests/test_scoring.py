"""Which views a pretext task is scored on: one of each image every epoch, all of them at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from rotbench.feed import EVALUATION_BATCH, Feed
from rotbench.models import Network, build_backbone
from rotbench.registry import load_registry
from rotbench.scoring import one_view_each, view_ranks
from rotbench.settings import TrainSettings
from rotbench.setup import Everything
from rotbench.streams import drawing, generator
from rotbench.tasks import Task
from rotbench.train import Trained, evaluate, fit
from tests.test_train import digits, feed

TEST = 500  # the last of the scans, as the data set digits has it


def plugin(name: str, **options: Any) -> Any:
    found = load_registry(shipped_only=True).find("pretext task", name)
    assert found is not None
    return found.cls(**options)


def of_task(task: Any, test: int = TEST) -> Feed:
    """Two batches of training images, and as many test images, of the scans of digits."""
    pixels, labels = digits(1797)
    return replace(
        feed(),
        task=Task(task),
        test_pixels=pixels[-test:],
        test_labels=labels[-test:],
        kind="pretext",
        name=task.name,
    )


def expected_views(labels: np.ndarray[Any, Any], views: int) -> np.ndarray[Any, Any]:
    """The rule in numpy: rank of the image among those of its class in the whole set, plus its class, modulo views."""
    ranks = np.array([np.count_nonzero(labels[:place] == label) for place, label in enumerate(labels)])
    expected: np.ndarray[Any, Any] = (ranks + labels) % views
    return expected


def test_rotation_is_scored_on_one_turn_of_each_test_image_by_rank_and_class() -> None:
    fed = of_task(plugin("rotation"))
    batches = list(fed.test_batches())
    assert [len(views) for views, _ in batches] == [EVALUATION_BATCH] * 2
    shown = torch.cat([views for views, _ in batches]).numpy()
    turns = torch.cat([targets for _, targets in batches if isinstance(targets, Tensor)]).numpy()
    labels = fed.test_labels.numpy()
    assert turns.tolist() == expected_views(labels, 4).tolist()
    scaled = fed.test_pixels.numpy().astype(np.float32) / 255
    for place, turn in enumerate(turns):
        turned = np.rot90(scaled[place], turn, (1, 2))
        wanted = (turned - fed.mean.numpy().reshape(3, 1, 1)) / fed.std.numpy().reshape(3, 1, 1)
        np.testing.assert_allclose(shown[place], wanted, rtol=1e-5, atol=1e-5)
    for label in range(10):
        counts = np.bincount(turns[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1  # each turn as often as every other, in every class
    assert set(np.bincount(turns).tolist()) <= {124, 125, 126}


def test_validation_images_are_ranked_among_validation_images() -> None:
    kept = torch.arange(3, 1797, 5)
    pixels, labels = digits(1797)
    fed = replace(of_task(plugin("rotation")), pixels=pixels, labels=labels, validation=kept)
    turns = torch.cat([targets for _, targets in fed.validation_batches() if isinstance(targets, Tensor)])
    assert turns.tolist() == expected_views(labels[kept].numpy(), 4).tolist()


def test_ranks_are_those_of_the_order_of_the_images_whatever_classes_are_there() -> None:
    drawn = np.random.default_rng(0).integers(7, size=200) * 2  # some classes have no image
    for views in (1, 2, 3, 5):
        assert (view_ranks(torch.tensor(drawn)) % views).tolist() == expected_views(drawn, views).tolist()
    assert view_ranks(torch.tensor([], dtype=torch.int64)).tolist() == []


@dataclass(frozen=True)
class Shaded:
    """Batches of a view of each image, as dark as their number, with two targets; each may leave out more images."""

    name: ClassVar[str] = "shaded"
    batches: int = 3
    left_out: int = 0

    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, 2)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, tuple[Tensor, ...]]:
        return images, (torch.zeros(len(images), 2), torch.zeros(len(images)))

    def evaluation_batches(
        self, images: Tensor, generator: Generator, *, index: Tensor
    ) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        for number in range(self.batches):
            few = len(images) - self.left_out * number
            noise = torch.rand(few, 2, generator=generator)
            views = images[:few] * 0 + (number + 1) / 4
            yield views, (noise, index[:few].float())

    def loss(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
        return functional.mse_loss(outputs, targets[0])

    def score(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> Tensor:
        return (outputs - targets[0]).square().mean(1)


def test_targets_of_several_tensors_are_those_of_the_views() -> None:
    fed = of_task(Shaded())
    batches = list(fed.test_batches())
    expected = expected_views(fed.test_labels.numpy(), 3)
    shade = torch.cat([views for views, _ in batches])[:, 0, 0, 0] * fed.std[0] + fed.mean[0]
    assert shade.numpy() == pytest.approx((expected + 1) / 4)
    assert torch.cat([targets[1] for _, targets in batches]).tolist() == list(range(TEST))
    for number, (_, targets) in enumerate(batches):  # what the task draws is drawn as if nothing were left out
        drawn = generator(0, "evaluation", "shaded", number)
        noise = torch.stack([torch.rand(EVALUATION_BATCH, 2, generator=drawn) for _ in range(3)])
        own = expected[number * EVALUATION_BATCH :][:EVALUATION_BATCH]
        assert torch.equal(targets[0], noise[own, torch.arange(EVALUATION_BATCH)])


def per_image(count: int, **options: Any) -> list[Any]:
    views = torch.zeros(count, 3, 4, 4)
    return [(views, torch.zeros(count)), (views, torch.zeros(count)), *options.get("more", [])]


@pytest.mark.parametrize(
    "batches",
    [
        per_image(6)[:1],
        per_image(12),  # two views of an image in a batch
        per_image(5),
        per_image(6, more=[(torch.zeros(5, 3, 4, 4), torch.zeros(5))]),
        per_image(6, more=[(torch.zeros(6, 3, 8, 8), torch.zeros(6))]),
        per_image(6, more=[(torch.zeros(6, 3, 4, 4), torch.zeros(6, 2))]),
        [(torch.zeros(6, 3, 4, 4), torch.tensor(number)) for number in range(4)],
        [(torch.zeros(6, 3, 4, 4), torch.zeros(3)) for _ in range(4)],
    ],
    ids=["one batch", "pairs", "one fewer", "other sizes", "other views", "other targets", "a scalar", "half"],
)
def test_batches_that_do_not_show_each_image_once_are_scored_whole(batches: list[Any]) -> None:
    assert one_view_each(batches, torch.arange(6)) is batches
    assert len(one_view_each(per_image(6), torch.arange(6))) == 1


def fitted(fed: Feed, head: nn.Module, **changes: Any) -> tuple[Network, Trained]:
    torch.set_num_threads(1)
    with drawing(0, "head", "pretext"):
        network = Network(build_backbone("resnet18", "imagenet", 0), head)
    network.to(memory_format=torch.channels_last)
    settings = replace(TrainSettings(epochs=2, lr=0.001), **changes)
    return network, fit(network, fed, Everything(), settings, precision="fp32", report=lambda row: None)


def test_the_curve_is_of_one_view_each_and_the_end_of_all_views() -> None:
    fed = of_task(plugin("rotation"), test=40)
    network, done = fitted(fed, nn.Linear(512, 4))
    network.eval()
    right = np.zeros((40, 4), dtype=bool)  # said by hand: every image at every turn
    unit = fed.test_pixels.float() / 255
    for turn in range(4):
        views = (torch.rot90(unit, turn, (2, 3)) - fed.mean.view(3, 1, 1)) / fed.std.view(3, 1, 1)
        with torch.no_grad():
            right[:, turn] = network(views.contiguous(memory_format=torch.channels_last)).argmax(1).numpy() == turn
    chosen = expected_views(fed.test_labels.numpy(), 4)
    assert done.history[-1]["test_accuracy"] == pytest.approx(right[np.arange(40), chosen].mean())
    assert done.score_all_views == pytest.approx(right.mean())
    assert done.views_per_image == 4
    assert 0 < right.mean() < 1
    assert done.score_all_views != done.history[-1]["test_accuracy"]
    assert done.outputs is None


@pytest.mark.parametrize("name", ["supervised", "simclr", "shaded"])
def test_a_task_with_one_batch_or_uneven_ones_is_scored_as_a_whole(name: str) -> None:
    task = Shaded(batches=2, left_out=1) if name == "shaded" else plugin(name)
    fed = of_task(task, test=40)
    head = Task(task).head(512, classes=10, map_size=1, view_size=32)
    network, done = fitted(fed, head, epochs=1)
    assert fed.views_per_image() == done.views_per_image == 1
    assert done.score_all_views == done.history[-1]["test_accuracy"]
    whole = list(Task(task).evaluation_batches(
        fed.test_pixels.float() / 255, generator(0, "evaluation", fed.name, 0), fed.test_labels, torch.arange(40)
    ))  # fmt: skip
    assert len(whole) == (2 if name == "shaded" else 1)
    mean, std = fed.mean.view(3, 1, 1), fed.std.view(3, 1, 1)
    prepared = [((v - mean) / std, targets) for v, targets in whole]
    by_hand = evaluate(network, fed.task, prepared, "fp32").score
    assert by_hand == pytest.approx(done.score_all_views, rel=1e-4)


def test_a_classifier_has_no_views_to_choose_from() -> None:
    _, done = fitted(feed(), nn.Linear(512, 10), epochs=1)
    assert done.score_all_views is None
    assert done.outputs is not None
