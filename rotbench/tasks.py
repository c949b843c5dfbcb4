"""What a run is trained for: a pretext task with its defaults filled in, or classification, which is one too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from rotbench.hookspecs import keywords

Targets = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Classification:
    """Tell the class of an image: what every downstream run is trained for."""

    name: ClassVar[str] = "classification"

    def head(self, features: int, *, classes: int) -> nn.Module:
        return nn.Linear(features, classes)

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images, labels


@dataclass(frozen=True)
class Task:
    """A pretext task plugin, called with the keyword arguments that it names; what it lacks takes the default."""

    plugin: Any

    @property
    def takes(self) -> Literal["pooled", "map"]:
        return cast('Literal["pooled", "map"]', getattr(self.plugin, "takes", "pooled"))

    @property
    def is_classification(self) -> bool:
        """Whether this is the task of downstream runs itself: what is built on it may show images in another way."""
        return type(self.plugin) is Classification

    @property
    def augments(self) -> bool:
        return bool(getattr(self.plugin, "augments", False))

    def head(self, features: int, *, classes: int, map_size: int, view_size: int) -> nn.Module:
        head = self.plugin.head
        offered = keywords(head, classes=classes, map_size=map_size, view_size=view_size)
        return cast(nn.Module, head(features, **offered))

    def make_batch(self, images: Tensor, generator: Generator, labels: Tensor, index: Tensor) -> tuple[Tensor, Targets]:
        """Views (M, 3, h, w) and targets of one batch; raises ``TypeError`` or ``ValueError`` for anything else."""
        make = self.plugin.make_batch
        return _checked(make(images, generator, **keywords(make, labels=labels, index=index)), self.plugin)

    def evaluation_batches(
        self, images: Tensor, generator: Generator, labels: Tensor, index: Tensor
    ) -> Iterator[tuple[Tensor, Targets]]:
        batches = getattr(self.plugin, "evaluation_batches", None)
        if batches is None:
            yield self.make_batch(images, generator, labels, index)
            return
        made: Iterable[Any] = batches(images, generator, **keywords(batches, labels=labels, index=index))
        for batch in made:
            yield _checked(batch, self.plugin)

    def relabel(self, labels: Tensor, generator: Generator) -> Tensor:
        relabel = getattr(self.plugin, "relabel", None)
        return labels if relabel is None else cast(Tensor, relabel(labels, generator))

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        loss = getattr(self.plugin, "loss", None)
        return functional.cross_entropy(outputs, targets) if loss is None else cast(Tensor, loss(outputs, targets))

    def score(self, outputs: Any, targets: Any) -> Tensor:
        score = getattr(self.plugin, "score", None)
        scores: Tensor = outputs.argmax(1) == targets if score is None else score(outputs, targets)
        return scores.float()

    def pictures(self, views: Tensor, outputs: Any, targets: Any) -> list[tuple[Tensor, str]]:
        """Images (3, h, w) with a caption each; without a method of the task, its views with target and prediction."""
        method = getattr(self.plugin, "pictures", None)
        if method is not None:
            return list(method(views, outputs, targets))
        said = [""] * len(views)
        tensors = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
        if tensors and outputs.ndim == 2 and outputs.shape[:1] == targets.shape and not targets.is_floating_point():
            top = outputs.softmax(1).max(1)
            of = zip(targets.tolist(), top.indices.tolist(), top.values.tolist(), strict=True)
            said = [f"target {target} → predicted {index} ({100 * share:.0f} %)" for target, index, share in of]
        return list(zip(views, said, strict=True)) if len(said) == len(views) else [(view, "") for view in views]


def chance(plugin: Any, *, examples: int, classes: int) -> float | None:
    """A task's score of guessing, where it says one. ``examples``: images in a batch that is scored."""
    method = getattr(plugin, "chance", None)
    if method is None:
        return None
    return cast("float | None", method(**keywords(method, examples=examples, classes=classes)))


def _checked(batch: Any, plugin: Any) -> tuple[Tensor, Targets]:
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise TypeError(f"{plugin.name}: a batch should be (views, targets), is {type(batch).__name__}")
    views, targets = batch
    if not isinstance(views, Tensor) or views.ndim != 4 or views.dtype != torch.float32 or views.shape[1] != 3:
        what = f"{views.dtype} {tuple(views.shape)}" if isinstance(views, Tensor) else type(views).__name__
        raise ValueError(f"{plugin.name}: views should be float32 (M, 3, h, w), are {what}")
    return views, targets
