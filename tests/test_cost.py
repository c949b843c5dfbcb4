"""Counted FLOPs against multiply-adds written down from the shapes of ResNet18's convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights

from rotbench.architecture import SHAPES
from rotbench.cost import Cost, CountedPhase, step_flops, training_cost
from rotbench.data import channel_statistics, updates_per_epoch
from rotbench.feed import Feed
from rotbench.hookspecs import BatchNorm, Parameter
from rotbench.models import Network, build_backbone, features, named_parameters
from rotbench.registry import load_registry
from rotbench.settings import TrainSettings
from rotbench.setup import Everything
from rotbench.streams import drawing
from rotbench.tasks import Classification, Task
from rotbench.train import fit
from tests.program import thorough

CLASSES = 10
SHIPPED = {(plugin.kind, plugin.name): plugin.cls for plugin in load_registry(shipped_only=True).plugins}


def policy(name: str, **options: Any) -> Any:
    return SHIPPED["freeze policy", name](**options)


@dataclass(frozen=True)
class Layer:
    """Multiply-adds of a layer's forward pass on one view, and the layers below it, from which its input comes."""

    macs: int
    below: frozenset[str]


def resnet18(side: int, stem: str = "imagenet", classes: int = CLASSES) -> dict[str, Layer]:
    """The 21 layers with weights in front of and behind ResNet18's 20 BatchNorms (He et al., 2016, table 1)."""
    layers: dict[str, Layer] = {}

    def add(name: str, macs: int, below: frozenset[str]) -> None:
        layers[name] = Layer(macs, below)

    side = side // 2 if stem == "imagenet" else side
    add("conv1", side**2 * 64 * 3 * (49 if stem == "imagenet" else 9), frozenset())
    side = side // 2 if stem == "imagenet" else side
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            at, below = f"layer{stage}.{block}", frozenset(layers)
            side = side // 2 if (stage, block) in ((2, 0), (3, 0), (4, 0)) else side
            add(f"{at}.conv1", side**2 * width * channels * 9, below)
            add(f"{at}.conv2", side**2 * width * width * 9, below | {f"{at}.conv1"})
            if width != channels:
                add(f"{at}.downsample.0", side**2 * width * channels, below)
            channels = width
    add("fc", 512 * classes, frozenset(layers))
    return layers


def norm_of(layer: str) -> str:
    """The BatchNorm behind a convolution, whose scale and shift are below all that comes after."""
    return layer.replace("conv", "bn").replace("downsample.0", "downsample.1")


def flops(layers: dict[str, Layer], trained: Callable[[str], bool]) -> int:
    """Of a step on one view. ``trained`` tells of a module; where any below is trained, a gradient passes through."""
    macs = 0
    for name, layer in layers.items():
        through = any(trained(below) or trained(norm_of(below)) for below in layer.below)
        macs += layer.macs * (1 + trained(name) + through)
    return 2 * macs


def above(*stages: str) -> Callable[[str], bool]:
    """Whether a module is in one of the stages."""
    stem = ("conv1", "bn1")
    return lambda module: (module if module not in stem else "stem").partition(".")[0] in stages


ALL = above("stem", "layer1", "layer2", "layer3", "layer4", "fc")
TOP = above("layer4", "fc")
HEAD = above("fc")


def pixels(count: int, side: int = 32) -> Tensor:
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def feed(count: int = 8, batch_size: int = 4, task: Any = None, side: int = 32, **changes: Any) -> Feed:
    images, labels = pixels(count, side), torch.arange(count) % CLASSES
    mean, std = channel_statistics(images)
    made = Feed(
        task=Task(task or Classification()),
        pixels=images,
        labels=labels,
        subset=torch.arange(count),
        validation=torch.arange(0),
        test_pixels=images[:2],
        test_labels=labels[:2],
        mean=mean,
        std=std,
        augment=("crop",),
        batch_size=batch_size,
        updates=updates_per_epoch(count, batch_size),
        seed=0,
        kind="downstream",
        name="any",
        seen=torch.zeros(len(images), dtype=torch.bool),
    )
    return replace(made, **changes)


def network(name: str = "resnet18", stem: str = "imagenet", fed: Feed | None = None) -> Network:
    torch.set_num_threads(1)
    backbone = build_backbone(name, stem, 0)
    if fed is None:
        return Network(backbone, nn.Linear(features(backbone), CLASSES))
    views, _ = next(fed.training_batches(1))
    with torch.no_grad(), drawing(0, "head"):
        side = Network(backbone.eval(), nn.Identity(), "map")(views[:1]).shape[-1]
        head = fed.task.head(features(backbone), classes=CLASSES, map_size=side, view_size=views.shape[-1])
    made = Network(backbone, head, fed.task.takes)
    made.to(memory_format=torch.channels_last)
    return made


def cost(fed: Feed, freeze: Any, epochs: int = 1, precision: str = "fp32", stem: str = "imagenet") -> Cost:
    return training_cost(network(stem=stem, fed=fed), fed, freeze, epochs, precision=precision)


def test_the_statement_that_counts_are_held_against_is_the_published_one() -> None:
    layers = resnet18(224, classes=1000)
    macs = sum(layer.macs for layer in layers.values())
    assert macs == 1_814_073_344
    assert round(macs / 1e9, 3) == ResNet18_Weights.IMAGENET1K_V1.meta["_ops"]
    assert len(layers) == 21
    weights = {name.removesuffix(".weight") for name in named_parameters(network()) if name.endswith(".weight")}
    assert set(layers) | {norm_of(name) for name in layers} == weights


@pytest.mark.parametrize("stem", ["imagenet", *thorough("cifar")])
@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        (policy("none"), ALL),
        (policy("below", stage="layer4"), TOP),
        (policy("below", stage="layer4", batchnorm="train"), TOP),
        (policy("below", stage="layer1"), above("layer1", "layer2", "layer3", "layer4", "fc")),
        (policy("head-only"), HEAD),
        (policy("only", stage="layer2"), above("layer2", "fc")),
        (policy("batchnorm-only"), lambda module: module == "fc" or "bn" in module or module.endswith("downsample.1")),
    ],
    ids=["none", "layer4", "layer4-train", "layer1", "head-only", "only-layer2", "batchnorm-only"],
)
def test_a_step_costs_what_its_forward_and_the_gradients_that_it_needs_cost(
    freeze: Any, trained: Callable[[str], bool], stem: str
) -> None:
    counted = cost(feed(8, 4), freeze, epochs=3, stem=stem)
    a_view = flops(resnet18(32, stem), trained)
    assert counted.flops_by_phase == (CountedPhase(1, 3, 8 * a_view),)
    assert counted.training_flops == 3 * 8 * a_view
    assert counted.training_views == 3 * 8
    assert counted.flops_a_view == a_view
    assert counted.calibration_flops == 0


def test_frozen_layers_make_the_known_share_cheaper() -> None:
    """Written out once by hand: layer4 on a map of 2x2 to 1x1, and all below it forward only."""
    layers = resnet18(32)
    assert layers["conv1"].macs == 16 * 16 * 64 * 147
    assert sum(layer.macs for name, layer in layers.items() if name.startswith("layer1")) == 4 * 8 * 8 * 64 * 64 * 9
    layer4 = 256 * 512 * 9 + 3 * 512 * 512 * 9 + 256 * 512  # forward, one position
    below = sum(layer.macs for layer in layers.values()) - layer4 - 5120
    first = 256 * 512 * 9 + 256 * 512  # what layer4 is fed needs no gradient
    assert flops(layers, TOP) == 2 * (below + 3 * layer4 - first + 3 * 5120)
    assert cost(feed(4, 4), policy("below", stage="layer4")).training_flops == 4 * flops(layers, TOP)


def test_phases_are_counted_by_what_each_trains() -> None:
    fed, layers = feed(8, 4), resnet18(32)
    probe, tune = (8 * flops(layers, trained) for trained in (HEAD, ALL))
    counted = cost(fed, policy("probe-then-tune", probe=0.4), epochs=5)
    assert counted.flops_by_phase == (CountedPhase(1, 2, probe), CountedPhase(3, 5, tune))
    assert counted.training_flops == 2 * probe + 3 * tune
    assert probe < tune

    stages = ("fc", "layer4", "layer3", "layer2", "layer1", "stem")
    counted = cost(fed, policy("gradual"), epochs=7)
    joined = [8 * flops(layers, above(*stages[: epoch + 1])) for epoch in range(6)]
    assert [phase.flops for phase in counted.flops_by_phase] == joined
    assert [(phase.first, phase.last) for phase in counted.flops_by_phase] == [(e, e) for e in range(1, 6)] + [(6, 7)]
    assert counted.training_flops == sum(joined) + joined[-1]


@dataclass(frozen=True)
class Alternating:
    """Head and everything in turn."""

    name: str = "alternating"
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return epoch % 2 == 0 or parameter.stage == "fc"


def test_a_set_that_comes_back_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def counting(made: Network, task: Task, views: Tensor, targets: Any, precision: str) -> int:
        steps.append(len(views))
        return step_flops(made, task, views, targets, precision)

    monkeypatch.setattr("rotbench.cost.step_flops", counting)
    counted = cost(feed(10, 4), Alternating(), epochs=300)
    assert steps == [4, 2, 4, 2]  # two sizes of batch, two sets
    assert len(counted.flops_by_phase) == 300
    probe, tune = (10 * flops(resnet18(32), trained) for trained in (HEAD, ALL))
    assert counted.training_flops == 150 * (probe + tune)


@pytest.mark.parametrize(
    ("count", "updates", "views"),
    [
        (12, 3, 12),  # whole batches
        (10, 3, 10),  # a short last one
        (9, 2, 9),  # one of a single image, joined to the one before
        (3, 1, 3),  # fewer images than a batch
        (6, 5, 4 + 2 + 4 + 2 + 4),  # as many updates as a larger set has
    ],
)
def test_every_batch_of_an_epoch_counts_with_its_own_size(count: int, updates: int, views: int) -> None:
    fed = feed(count, 4, updates=updates)
    assert sum(len(batch) for batch, _ in fed.training_batches(1)) == views
    counted = cost(fed, Everything(), epochs=2)
    assert counted.training_views == 2 * views
    assert counted.training_flops == 2 * views * flops(resnet18(32), ALL)


def test_only_the_subset_is_trained_and_calibrated_on() -> None:
    """Calibration is one forward pass of the backbone over each image of the subset."""
    subset = torch.tensor([1, 4, 7, 8, 9, 15])
    freeze = policy("below", stage="layer4", batchnorm="calibrated")
    counted = cost(feed(20, 4, subset=subset, updates=2, side=64), freeze)
    layers = resnet18(64)
    assert counted.calibration_flops == 6 * 2 * sum(layer.macs for name, layer in layers.items() if name != "fc")
    assert counted.training_flops == 6 * flops(layers, TOP)


@pytest.mark.thorough
def test_precision_does_not_change_the_count() -> None:
    precisions = {precision: cost(feed(8, 4), policy("gradual"), 3, precision) for precision in ("fp32", "bf16")}
    assert precisions["fp32"] == precisions["bf16"]
    assert len(set(precisions["fp32"].flops_by_phase)) == 3


def macs_by_shape(made: Network, views: Tensor) -> dict[str, int]:
    """Multiply-adds of each layer's forward pass: each weight is used once at every position of a map."""
    macs: dict[str, int] = {}
    hooks = []

    def hook(name: str) -> Callable[[nn.Module, Sequence[Tensor], Tensor], None]:
        def seen(module: nn.Module, inputs: Sequence[Tensor], outputs: Tensor) -> None:
            places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else outputs
            positions = len(places) * prod(places.shape[2:])
            weight = module.weight
            assert isinstance(weight, Tensor)
            macs[name] = positions * weight.numel()

        return seen

    for name, module in made.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            hooks.append(module.register_forward_hook(hook(name)))
    with torch.no_grad():
        made(views)
    for one in hooks:
        one.remove()
    return macs


def whole(macs: dict[str, int]) -> int:
    """FLOPs of a step that trains everything: thrice the forward pass, but for a gradient of the images."""
    return 2 * (3 * sum(macs.values()) - macs["backbone.conv1"])


TASKS = sorted(name for kind, name in SHIPPED if kind == "pretext task")


@pytest.mark.parametrize("name", TASKS)
def test_every_shipped_task_is_counted(name: str) -> None:
    """Backbone and head by their shapes; of the losses, SimCLR's alone has a product, of all views with each other."""
    options: dict[str, Any] = {"turns": "all"} if name == "rotation" else {}
    fed = feed(10, 4, task=SHIPPED["pretext task", name](**options))
    made = network(fed=fed)
    counted = training_cost(made, fed, Everything(), 2, precision="fp32")
    expected, views = 0, 0
    for batch, _ in fed.training_batches(1):
        expected += whole(macs_by_shape(made, batch))
        views += len(batch)
        if name == "simclr":
            assert len(batch) in (8, 4)
            expected += 2 * 3 * len(batch) ** 2 * 128  # cosines, and the gradients of both factors
    assert counted.training_flops == 2 * expected
    assert counted.training_views == 2 * views
    assert views == 10 * {"jigsaw": 4, "rotation": 4, "simclr": 2, "relative-patch": 2}.get(name, 1)


def test_the_tasks_that_ship_are_all_there() -> None:
    assert len(TASKS) == 8


@pytest.mark.parametrize("name", [*thorough("resnet50"), "resnext50_32x4d"])
def test_grouped_convolutions_cost_what_their_own_channels_cost(name: str) -> None:
    assert SHAPES[name].groups == (32 if "next" in name else 1)
    made = network(name)
    views, targets = torch.zeros(2, 3, 32, 32), torch.tensor([0, 1])
    expected = whole(macs_by_shape(made, views))
    assert step_flops(made.train(), Task(Classification()), views, targets, "fp32") == expected


@dataclass(frozen=True)
class Painting(Classification):
    """A head that enlarges maps by transposed convolutions, one of which is grouped, and drops some of them out."""

    takes: str = "map"

    def head(self, features: int, *, classes: int) -> nn.Module:
        return nn.Sequential(
            nn.ConvTranspose2d(features, 16, 4, stride=2, padding=1),
            nn.Dropout(0.5),
            nn.ConvTranspose2d(16, classes, 3, stride=2, groups=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def test_transposed_convolutions_are_counted_by_the_positions_that_they_start_from() -> None:
    fed = feed(4, 4, task=Painting(), side=64)
    made = network(fed=fed)
    expected = whole(macs_by_shape(made.eval(), next(fed.training_batches(1))[0]))
    assert training_cost(made, fed, Everything(), 1, precision="fp32").training_flops == expected


def test_counting_draws_nothing_that_others_would_miss() -> None:
    fed = feed(4, 4, task=Painting())
    made = network(fed=fed)
    with drawing(3, "outside"):
        before = torch.get_rng_state()
        training_cost(made, fed, policy("gradual"), 2, precision="fp32")
        assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in made.parameters())


@pytest.mark.thorough
def test_a_trained_network_costs_what_a_fresh_one_costs() -> None:
    """So a run that was resumed, or that is counted after training, says the same."""
    fed = feed(8, 4)
    fresh, made = network(fed=fed), network(fed=fed)
    freeze = policy("gradual")
    fit(made, fed, freeze, TrainSettings(epochs=2), precision="fp32", report=lambda row: None)
    counted = training_cost(made, fed, freeze, 2, precision="fp32")
    assert counted == training_cost(fresh, fed, freeze, 2, precision="fp32")
