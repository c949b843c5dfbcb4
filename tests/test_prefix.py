"""What frozen stages make of constant images is computed once, and nothing changes by it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from rotbench import prefix
from rotbench.hookspecs import BatchNorm, Parameter
from rotbench.models import Network, named_parameters
from rotbench.prefix import frozen_depth
from rotbench.tasks import Classification, Task
from tests.program import thorough
from tests.test_train import Below, feed, network, tensors, trained


@dataclass(frozen=True)
class Head:
    """The head alone, or layer4 too from an epoch on."""

    joins: int = 99
    batchnorm: BatchNorm = "eval"
    name: str = "head"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.stage == "fc" or (parameter.stage == "layer4" and epoch >= self.joins)


def images_through(made: Network, stage: str) -> list[int]:
    """The sizes of the batches that pass a stage, as they pass."""
    sizes: list[int] = []

    def count(module: nn.Module, given: Any, output: Any) -> None:
        sizes.append(len(output))

    getattr(made.backbone, stage).register_forward_hook(count)
    return sizes


@pytest.mark.parametrize(
    ("trained_stages", "batchnorm", "depth"),
    [
        (("fc",), "eval", 5),
        (("fc",), "calibrated", 5),
        (("fc",), "train", 0),
        (("layer4", "fc"), "eval", 4),
        (("layer2", "fc"), "eval", 2),
        (("stem",), "eval", 0),
    ],
)
def test_the_depth_is_that_of_the_first_stage_that_changes(
    trained_stages: tuple[str, ...], batchnorm: str, depth: int
) -> None:
    made = network()
    names = named_parameters(made)
    first = {"stem": ("conv1", "bn1")}
    prefixes = tuple(one for stage in trained_stages for one in first.get(stage, (stage,)))
    assert frozen_depth(made, {name for name in names if not name.startswith(prefixes)}, batchnorm) == depth


@pytest.mark.parametrize(
    ("policy", "augment"),
    [
        (Head(joins=3), ()),
        *thorough((Below("calibrated"), ("crop",))),
        *thorough((Head(), ()), (Below(), ()), (Below("calibrated"), ())),
        *thorough((Head(), ("crop",)), (Below(), ("crop",)), (Head(joins=3), ("crop",))),
    ],
)
def test_keeping_maps_changes_no_bit(monkeypatch: pytest.MonkeyPatch, policy: Any, augment: tuple[str, ...]) -> None:
    """One batch of 24 images, so that a map is computed in the same company with and without."""
    fed = replace(feed(24, 24, augment=augment), validation=torch.arange(12, 24), updates=2)
    kept, plain = network(), network()
    with_maps = trained(kept, fed, policy, epochs=4)
    monkeypatch.setattr(prefix, "frozen_depth", lambda *_: 0)
    without = trained(plain, fed, policy, epochs=4)
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in with_maps.history] == [
        {k: v for k, v in row.items() if k not in drop} for row in without.history
    ]
    for name, tensor in tensors(kept).items():
        assert torch.equal(tensor, tensors(plain)[name]), name


def test_a_constant_image_passes_the_frozen_stages_once() -> None:
    made = network()
    sizes = images_through(made, "layer3")
    trained(made, feed(24, 12, augment=()), Head(), epochs=5)
    assert sum(sizes) == 24 + 24  # the training images, and as many that are scored
    augmented = network()
    sizes = images_through(augmented, "layer3")
    trained(augmented, feed(24, 12), Head(), epochs=5)
    assert sum(sizes) == 5 * 24 + 24
    batch_dependent = network()
    sizes = images_through(batch_dependent, "layer3")
    trained(batch_dependent, feed(24, 12, augment=()), Head(batchnorm="train"), epochs=5)
    assert sum(sizes) == 5 * (24 + 24)


def test_what_a_stage_that_joins_changes_is_computed_anew() -> None:
    made = network()
    third, fourth = images_through(made, "layer3"), images_through(made, "layer4")
    trained(made, feed(24, 12, augment=()), Head(joins=4), epochs=5)
    assert sum(third) == 2 * (24 + 24)  # once for the head alone, once more for layer4 and the head
    assert sum(fourth) == (24 + 24) + 2 * (24 + 24)


def test_maps_that_are_too_large_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = network()
    history = trained(expected, feed(24, 24, augment=()), Head(), epochs=3).history
    monkeypatch.setattr(prefix, "KEPT_BYTES", 100)
    made = network()
    sizes = images_through(made, "layer3")
    found = trained(made, feed(24, 24, augment=()), Head(), epochs=3).history
    assert [row["test_loss"] for row in found] == [row["test_loss"] for row in history]
    assert sum(sizes) == 24 + 3 * (24 + 24)  # one batch more, to see how large they are
    assert torch.equal(named_parameters(made)["fc.weight"], named_parameters(expected)["fc.weight"])


def test_images_that_were_only_remembered_count_as_seen() -> None:
    fed = replace(feed(24, 12, augment=()), subset=torch.arange(16), updates=2)
    trained(network(), fed, Head(), epochs=2)
    assert fed.seen.nonzero().flatten().tolist() == list(range(16))


def test_a_task_built_on_classification_is_shown_anew_at_every_step() -> None:
    """A plugin may derive from it and turn images at random: nothing of that may be remembered."""

    @dataclass(frozen=True)
    class Turning(Classification):
        def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Tensor, Tensor]:
            return images.flip(2 + int(torch.randint(2, (1,), generator=generator))), labels

    plain = feed(24, 12, augment=())
    derived = replace(plain, task=Task(Turning()))
    assert (plain.constant, derived.constant) == (True, False)
    made = network()
    sizes = images_through(made, "layer3")
    assert trained(made, derived, Head(), epochs=3).outputs is None
    assert sum(sizes) == 3 * 24 + 24
