"""The settings of a study file: what each key is called, its type, its range and its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from rotbench.options import field_names


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


@dataclass(frozen=True)
class TrainSettings:
    """How a run is trained: the keys of ``[train]``, which a pretext, a matrix or a run may set for itself."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0, le=1000)] = 0.01
    schedule: Literal["step", "cosine", "constant"] = "step"
    step_epochs: Annotated[int, Field(ge=1)] = 10
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    milestones: Annotated[tuple[int, ...], PlainValidator(_milestones)] = ()
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    augment: Annotated[Literal["auto"] | tuple[str, ...], PlainValidator(_augmentation)] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    updates: Literal["constant", "epochs"] = "constant"
    labels_per_class: Annotated[int, Field(ge=1)] | None = None
    deterministic: bool = False


@dataclass(frozen=True)
class ModelSettings:
    """Which network: the keys of ``[model]``."""

    name: Literal[
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
    ] = "resnet18"
    stem: Literal["imagenet", "cifar"] = "imagenet"


@dataclass(frozen=True)
class Resources:
    """What a run may use. Another number of threads gives other bits, so it is a setting and not a flag."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1


@dataclass(frozen=True)
class ReportSettings:
    """How variants are compared: the keys of ``[report]``."""

    baseline: dict[str, Any] | None = None
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01


@dataclass(frozen=True)
class Reference:
    """A published number to show beside measured ones; accuracies are fractions."""

    test_accuracy: Annotated[float, Field(ge=0, le=1)]
    source: str
    match: dict[str, Any] | None = None
    pretext: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    sd: Annotated[float, Field(ge=0)] | None = None
    recipe: str | None = None
    at_least: bool = False


TRAIN_KEYS = field_names(TrainSettings)
MODEL_KEYS = field_names(ModelSettings)
AXES = ("init", "freeze", *TRAIN_KEYS, *MODEL_KEYS)
