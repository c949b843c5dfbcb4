"""The parameters of torchvision's ResNets, told without building one: names, stages, kinds and sizes.

So a plan can say which stages a freeze policy trains, and how large the weights of a pretext run are, before anything
heavy is imported (He et al., 2016; grouped: Xie et al., 2017; wide: Zagoruyko and Komodakis, 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from rotbench.hookspecs import Parameter, Stage


@dataclass(frozen=True)
class Shape:
    """Blocks in each of the four layers; whether they are bottlenecks; groups and base width of the 3x3 within."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool = True
    groups: int = 1
    base_width: int = 64


SHAPES = {
    "resnet18": Shape((2, 2, 2, 2), bottleneck=False),
    "resnet34": Shape((3, 4, 6, 3), bottleneck=False),
    "resnet50": Shape((3, 4, 6, 3)),
    "resnet101": Shape((3, 4, 23, 3)),
    "resnet152": Shape((3, 8, 36, 3)),
    "resnext50_32x4d": Shape((3, 4, 6, 3), groups=32, base_width=4),
    "resnext101_32x8d": Shape((3, 4, 23, 3), groups=32, base_width=8),
    "resnext101_64x4d": Shape((3, 4, 23, 3), groups=64, base_width=4),
    "wide_resnet50_2": Shape((3, 4, 6, 3), base_width=128),
    "wide_resnet101_2": Shape((3, 4, 23, 3), base_width=128),
}


@dataclass(frozen=True)
class Sized:
    """A parameter and how many numbers it holds."""

    parameter: Parameter
    count: int


def features(model: str) -> int:
    """The number of channels that layer4 gives."""
    return 512 * (4 if SHAPES[model].bottleneck else 1)


def backbone_parameters(model: str, stem: str) -> tuple[Sized, ...]:
    """The backbone's parameters in torchvision's order; ``stem`` is ``"imagenet"`` or ``"cifar"``."""
    shape = SHAPES[model]
    return (
        _conv("conv1", 3, 64, 7 if stem == "imagenet" else 3),
        *_batchnorm("bn1", 64),
        *_layers(shape),
    )


def head_parameters(model: str, classes: int | None) -> tuple[Sized, ...]:
    """The classification head's; a count is 0 where the number of classes is not known."""
    known = classes or 0
    weight, bias = (Parameter(f"fc.{name}", "fc", "linear") for name in ("weight", "bias"))
    return Sized(weight, known * features(model)), Sized(bias, known)


def backbone_bytes(model: str, stem: str) -> int:
    """The size of a backbone's state in float32: its parameters, and three statistics for each BatchNorm."""
    sizes = backbone_parameters(model, stem)
    norms = [
        sized.count for sized in sizes if sized.parameter.name.endswith(("bn1.bias", "bn2.bias", "bn3.bias", "1.bias"))
    ]
    return 4 * sum(sized.count for sized in sizes) + sum(2 * 4 * count + 8 for count in norms)


def _layers(shape: Shape) -> Iterator[Sized]:
    expansion = 4 if shape.bottleneck else 1
    channels = 64
    for layer, (blocks, planes) in enumerate(zip(shape.blocks, (64, 128, 256, 512), strict=True), start=1):
        width = planes * shape.base_width // 64 * shape.groups
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            if shape.bottleneck:
                convolutions = [(channels, width, 1, 1), (width, width, 3, shape.groups), (width, planes * 4, 1, 1)]
            else:
                convolutions = [(channels, planes, 3, 1), (planes, planes, 3, 1)]
            for place, (fan_in, fan_out, size, groups) in enumerate(convolutions, start=1):
                yield _conv(f"{name}.conv{place}", fan_in // groups, fan_out, size)
                yield from _batchnorm(f"{name}.bn{place}", fan_out)
            if block == 0 and (layer > 1 or channels != planes * expansion):
                yield _conv(f"{name}.downsample.0", channels, planes * expansion, 1)
                yield from _batchnorm(f"{name}.downsample.1", planes * expansion)
            channels = planes * expansion


def _stage(name: str) -> Stage:
    first = name.partition(".")[0]
    return cast(Stage, first) if first.startswith("layer") else "stem"


def _sized(name: str, kind: Literal["conv", "batchnorm"], count: int) -> Sized:
    return Sized(Parameter(name, _stage(name), kind), count)


def _conv(name: str, fan_in: int, fan_out: int, size: int) -> Sized:
    return _sized(f"{name}.weight", "conv", fan_in * fan_out * size * size)


def _batchnorm(name: str, channels: int) -> tuple[Sized, Sized]:
    return _sized(f"{name}.weight", "batchnorm", channels), _sized(f"{name}.bias", "batchnorm", channels)
