"""The settings of a study file: what each key is called, its type, its range and its default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from rotbench.options import field_names

#: The stages of a backbone, whose features can be probed.
PROBED = ("stem", "layer1", "layer2", "layer3", "layer4")

_Epoch = Annotated[int, Field(ge=1)]


def _augmentation(value: object) -> object:
    if value == "auto" or (isinstance(value, list) and all(name in ("crop", "flip") for name in value)):
        return tuple(value) if isinstance(value, list) else value
    raise ValueError('should be "auto" or a list of "crop" and "flip"')


def _milestones(value: object) -> object:
    if (
        isinstance(value, list)
        and all(isinstance(epoch, int) and not isinstance(epoch, bool) and epoch > 0 for epoch in value)
        and value == sorted(set(value))
    ):
        return tuple(value)
    raise ValueError("should be a list of rising epochs")


def _switch(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError('should be true, false or "auto"')


Threads = Annotated[int, Field(ge=1, le=1024, description="threads of a run; another number gives other bits")]


@dataclass(frozen=True)
class TrainSettings:
    """How a run is trained: the keys of ``[train]``, which a pretext, a matrix or a run may set for itself."""

    epochs: Annotated[int, Field(ge=1, le=100_000, description="passes over the training images")] = 20
    batch_size: Annotated[
        int,
        Field(ge=2, le=1_000_000, description="images to an update; a last batch of one joins the one before"),
    ] = 128
    optimizer: Annotated[Literal["adam", "adamw", "sgd"], Field(description="adam, adamw or sgd")] = "adam"
    lr: Annotated[float, Field(gt=0, le=1000, description="learning rate at the start")] = 0.01
    schedule: Annotated[
        Literal["step", "cosine", "constant"], Field(description="how lr falls: step, cosine or constant")
    ] = "step"
    step_epochs: Annotated[int, Field(ge=1, description="for step: lr times gamma after every so many epochs")] = 10
    gamma: Annotated[float, Field(gt=0, le=1, description="for step: the factor on lr")] = 0.1
    milestones: Annotated[
        tuple[int, ...],
        PlainValidator(_milestones, json_schema_input_type=list[_Epoch]),
        Field(description="for step: epochs after which lr is multiplied, instead of step_epochs"),
    ] = ()
    warmup_epochs: Annotated[int, Field(ge=0, description="lr rises linearly during these")] = 0
    weight_decay: Annotated[
        float, Field(ge=0, description="decay of every trained weight, as the optimiser has it")
    ] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="for sgd")] = 0.9
    nesterov: Annotated[bool, Field(description="for sgd: Nesterov's momentum")] = False
    augment: Annotated[
        Literal["auto"] | tuple[str, ...],
        PlainValidator(_augmentation, json_schema_input_type=Literal["auto"] | list[Literal["crop", "flip"]]),
        Field(description="a list of crop and flip; auto: the data set's own"),
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Field(description="fp32, bf16 or fp16; auto: bf16 where the machine computes in it"),
    ] = "auto"
    updates: Annotated[
        Literal["constant", "epochs"],
        Field(description="constant: an epoch as long as with all labels; epochs: one pass over the labelled images"),
    ] = "constant"
    labels_per_class: (
        Annotated[
            int,
            Field(ge=1, description="a balanced subset, nested, shared by all variants of a seed"),
        ]
        | None
    ) = None
    validation: Annotated[
        float,
        Field(ge=0, lt=1, description="a share of each class, kept from training and pretraining, scored every epoch"),
    ] = 0.0
    test_each_epoch: Annotated[
        bool | Literal["auto"],
        PlainValidator(_switch, json_schema_input_type=bool | Literal["auto"]),
        Field(description="score the test images every epoch; auto: only where nothing is kept for validation"),
    ] = "auto"
    skip_padding: Annotated[
        bool, Field(description="leave out products of small maps with their padding: faster, other last bits")
    ] = True
    deterministic: Annotated[
        bool, Field(description="ask torch for deterministic algorithms, which matters on a GPU")
    ] = False


@dataclass(frozen=True)
class PretextSettings(TrainSettings):
    """The keys of ``[pretext.NAME]`` beside task and init: those of ``[train]``, and the threads of such a run."""

    threads: Threads | None = None


def held_out(count: int, validation: float) -> int:
    """How many of ``count`` images of one class are kept for validation: the share, rounded down.

    The share is taken as the study file writes it, so that 0.29 of 100 is 29 and not 28.
    """
    return math.floor(Fraction(repr(validation)) * count)


@dataclass(frozen=True)
class ModelSettings:
    """Which network: the keys of ``[model]``."""

    name: Annotated[
        Literal[
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "resnext50_32x4d",
            "resnext101_32x8d",
            "resnext101_64x4d",
            "wide_resnet50_2",
            "wide_resnet101_2",
        ],
        Field(description="a ResNet of torchvision"),
    ] = "resnet18"
    stem: Annotated[
        Literal["imagenet", "cifar"],
        Field(description="imagenet: as torchvision builds it; cifar: 3x3, stride 1, no max-pooling"),
    ] = "imagenet"


@dataclass(frozen=True)
class Resources:
    """What a run may use.

    Another number of threads gives other bits, so ``threads`` is a setting and not a flag. ``cpus`` and ``gpus`` are
    what a run reserves, which says how many run side by side and changes no result; half a GPU lets two share one.
    """

    threads: Threads = 1
    cpus: (
        Annotated[
            float, Field(gt=0, le=1024, description="processors that a run reserves: says how many run side by side")
        ]
        | None
    ) = None
    gpus: (
        Annotated[
            float, Field(ge=0, le=1024, description="the share of a GPU that a run reserves: 0.5 lets two share one")
        ]
        | None
    ) = None


def _stages(value: object) -> object:
    if isinstance(value, list) and value and value == [stage for stage in PROBED if stage in value]:
        return tuple(value)
    raise ValueError(f"should be a list of {', '.join(PROBED)}, in this order")


@dataclass(frozen=True)
class ProbeSettings:
    """What is read off frozen features: the keys of ``[probes]``.

    Probes train no network. Each init of the study is probed as it is, and each pretext run as it was after some of its
    epochs, whose weights it keeps.
    """

    stages: Annotated[
        tuple[str, ...],
        PlainValidator(_stages, json_schema_input_type=list[Literal["stem", "layer1", "layer2", "layer3", "layer4"]]),
        Field(description="the stages whose features are probed, in the order of the network"),
    ] = PROBED
    epochs: Annotated[
        tuple[int, ...],
        PlainValidator(_milestones, json_schema_input_type=list[_Epoch]),
        Field(description="pretext epochs after which the backbone is probed too; the last always is"),
    ] = ()


@dataclass(frozen=True)
class ReportSettings:
    """How variants are compared: the keys of ``[report]``.

    ``primary`` holds the conditions on a variant whose contrasts the study was made for; without it all are. ``tune``
    names axes of which each side may use its own best value, chosen on the validation images. ``compute_matched`` adds
    to each pretrained side a partner that trains for the epochs of both. ``interactions`` asks of each contrast whether
    it depends on the other axes.
    """

    baseline: (
        Annotated[
            dict[str, Any],
            Field(description="a variant is compared with the one that differs in just these keys"),
        ]
        | None
    ) = None
    primary: (
        Annotated[
            dict[str, Any],
            Field(description="whose contrasts the study is made for; others are exploratory"),
        ]
        | None
    ) = None
    margin: Annotated[float, Field(gt=0, lt=1, description="a difference of accuracies too small to matter")] = 0.01
    tune: Annotated[
        tuple[str, ...],
        Field(description="axes of which each side may have its best value, by validation"),
    ] = ()
    compute_matched: Annotated[
        bool, Field(description="add to each pretrained side a partner that trains for the epochs of both")
    ] = False
    interactions: Annotated[
        bool, Field(description="also ask whether a difference depends on the other axes, such as freeze")
    ] = True


@dataclass(frozen=True)
class Reference:
    """A published number to show beside measured ones; accuracies are fractions."""

    test_accuracy: Annotated[float, Field(ge=0, le=1, description="the published number, a fraction")]
    source: Annotated[str, Field(description="where it was published")]
    match: Annotated[dict[str, Any], Field(description="the variants that it is shown beside")] | None = None
    pretext: Annotated[str, Field(description="the pretext run that it is shown beside")] | None = None
    n: Annotated[int, Field(ge=1, description="how many runs it is the mean of")] | None = None
    sd: Annotated[float, Field(ge=0, description="their standard deviation, a fraction")] | None = None
    recipe: Annotated[str, Field(description="how it was trained, where that differs")] | None = None
    at_least: Annotated[bool, Field(description="it is a threshold and not a measurement")] = False


TRAIN_KEYS = field_names(TrainSettings)
FLOAT_KEYS = tuple(name for name, value in vars(TrainSettings()).items() if isinstance(value, float))
MODEL_KEYS = field_names(ModelSettings)
AXES = ("init", "freeze", *TRAIN_KEYS, *MODEL_KEYS)
