"""Pretext tasks with one fault each, and a sound one that they are made from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Sound:
    """Tell whether an image is upside down."""

    name: ClassVar[str] = "sound"

    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, 2)

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        turned = torch.rand(len(images), generator=generator) < 0.5
        return torch.where(turned.view(-1, 1, 1, 1), images.flip(2), images), turned.long()

    def chance(self) -> float | None:
        return 0.5


@dataclass(frozen=True)
class Undocumented(Sound):
    """An option of which nothing is said."""

    share: float = 0.5


@dataclass(frozen=True)
class NotPlain(Sound):
    """An option that no JSON holds."""

    #: A number of a kind that JSON has not.
    share: complex = 1j


@dataclass(frozen=True)
class Misspelt(Sound):
    """A score that is never asked for."""

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float()


@dataclass(frozen=True)
class WrongTakes(Sound):
    """A head that is fed something unknown."""

    takes: ClassVar[str] = "pooled"
    augments: ClassVar[Any] = "no"


@dataclass(frozen=True)
class ByteViews(Sound):
    """Views that are bytes."""

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        views, targets = super().make_batch(images, generator, labels=labels)
        return (views * 255).to(torch.uint8), targets


@dataclass(frozen=True)
class Normalised(Sound):
    """Views that are normalised already."""

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        views, targets = super().make_batch(images, generator, labels=labels)
        return (views - 0.5) / 0.25, targets


@dataclass(frozen=True)
class ChangingSize(Sound):
    """Views whose size is drawn for each batch."""

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        views, targets = super().make_batch(images, generator, labels=labels)
        size = 24 + int(torch.randint(9, (), generator=generator))
        return views[..., :size, :size], targets


@dataclass(frozen=True)
class GlobalDraws(Sound):
    """Draws from torch's global generator."""

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        turned = torch.rand(len(images)) < 0.5
        return torch.where(turned.view(-1, 1, 1, 1), images.flip(2), images), turned.long()


@dataclass(frozen=True)
class Mutating(Sound):
    """Brightens the images that it is given."""

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        return super().make_batch(images.mul_(0.9), generator, labels=labels)


@dataclass(frozen=True)
class Leaking(Sound):
    """Targets that come from the labels, which nobody is told."""

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Any, Any]:
        return images, labels % 2


_CALLS = itertools.count()


@dataclass(frozen=True)
class Unrepeatable(Sound):
    """Another evaluation each time."""

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        turned = torch.arange(len(images)) % 2 == next(_CALLS) % 2
        yield torch.where(turned.view(-1, 1, 1, 1), images.flip(2), images), turned.long()


@dataclass(frozen=True)
class NothingToScore(Sound):
    """An evaluation without batches."""

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        yield from ()


class HalfHead(nn.Linear):
    """Answers in half precision."""

    def forward(self, fed: Tensor) -> Tensor:
        return super().forward(fed).half()


@dataclass(frozen=True)
class HalfPrecision(Sound):
    """A head whose answers are not float32."""

    def head(self, features: int) -> nn.Module:
        return HalfHead(features, 2)


@dataclass(frozen=True)
class Raising(Sound):
    """A head that raises."""

    def head(self, features: int) -> nn.Module:
        raise KeyError("no such thing")


@dataclass(frozen=True)
class UnseededHead(Sound):
    """A head whose weights come from a generator of its own."""

    def head(self, features: int) -> nn.Module:
        head = nn.Linear(features, 2)
        torch.nn.init.normal_(head.weight, std=0.01, generator=Generator().manual_seed(next(_CALLS)))
        return head


class Forgetful(nn.Linear):
    """Keeps a scale outside its state."""

    def __init__(self, features: int) -> None:
        super().__init__(features, 2)
        self.scale = torch.rand(2) + 0.5

    def forward(self, fed: Tensor) -> Tensor:
        return super().forward(fed) * self.scale


@dataclass(frozen=True)
class ForgetfulHead(Sound):
    """A head that a saved state does not bring back."""

    def head(self, features: int) -> nn.Module:
        return Forgetful(features)


class Squeezing(nn.Linear):
    """Takes every dimension of length one away."""

    def forward(self, fed: Tensor) -> Tensor:
        return super().forward(fed).squeeze()


@dataclass(frozen=True)
class NotOneImage(Sound):
    """A head that cannot take one image."""

    def head(self, features: int) -> nn.Module:
        return Squeezing(features, 2)


@dataclass(frozen=True)
class DetachedLoss(Sound):
    """A loss without a gradient."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.detach(), targets)


@dataclass(frozen=True)
class StuckLoss(Sound):
    """A loss that has a gradient and never changes."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        lost = functional.cross_entropy(outputs, targets)
        return 1 + lost - lost.detach()


@dataclass(frozen=True)
class SummedLoss(Sound):
    """A loss that grows with the batch."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="sum")


@dataclass(frozen=True)
class MeanScore(Sound):
    """One score for the whole batch."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float().mean()


@dataclass(frozen=True)
class PercentScore(Sound):
    """An accuracy in per cent."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 100 * (outputs.argmax(1) == targets).float()


@dataclass(frozen=True)
class WrongChance(Sound):
    """Guessing would be harder than it is."""

    def chance(self) -> float | None:
        return 0.25


@dataclass(frozen=True)
class OneSize(Sound):
    """A head that is made for images of 32 pixels alone."""

    takes: ClassVar[str] = "map"

    def head(self, features: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(features, 2))


@dataclass(frozen=True)
class ForeignLabels(Sound):
    """New labels of classes that there are not."""

    def relabel(self, labels: Tensor, generator: Generator) -> Tensor:
        return labels + 1


@dataclass(frozen=True)
class WildPictures(Sound):
    """Pictures out of range."""

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        for view in views:
            yield view * 2, "a view"


@dataclass(frozen=True)
class WrongNotice(Sound):
    """A notice that is no sentence."""

    def notice(self) -> Any:
        return 3


#: Each task, the one check that has to fail, and words that have to be said.
CASES: list[tuple[type, str, str]] = [
    (Undocumented, "options-documented", "the option share: write a comment"),
    (NotPlain, "options-survive-json", "cannot be written as JSON"),
    (Misspelt, "members-spelt", 'did you mean "score"?'),
    (WrongTakes, "class-attributes", "augments should be True or False, is 'no'"),
    (ByteViews, "views", "views should be float32 (M, 3, h, w), are torch.uint8"),
    (Normalised, "view-range", "rotbench normalises afterwards"),
    (ChangingSize, "view-size", "views should have one size for every batch, have"),
    (GlobalDraws, "no-global-chance", "make_batch draws from a global generator"),
    (Mutating, "input-unchanged", "make_batch changes its images: work on a copy"),
    (Leaking, "labels-unused", "labels leak into a task without labels"),
    (Unrepeatable, "evaluation", "gave other batches the second time"),
    (NothingToScore, "evaluation", "evaluation_batches yields nothing"),
    (HalfPrecision, "head", "outputs should be float32, are torch.float16"),
    (Raising, "head", "KeyError: 'no such thing' (in head, pretext_tasks.py:"),
    (UnseededHead, "head-seeded", "two heads of one seed have different weights"),
    (ForgetfulHead, "head-state", "register_buffer"),
    (NotOneImage, "one-image", "a batch of 1"),
    (DetachedLoss, "loss", "loss has no gradient"),
    (StuckLoss, "loss-falls", "it should fall"),
    (SummedLoss, "loss-is-a-mean", "it should be a mean over examples"),
    (MeanScore, "score", "score should be (K,), one value an example, has shape ()"),
    (PercentScore, "score", "give the score another score_name"),
    (WrongChance, "chance-of-guessing", "chance says 0.25, but random answers score 0.49"),
    (OneSize, "other-size", "a batch of images of 48 x 48"),
    (ForeignLabels, "relabel", "labels 0..9 became labels 1..10"),
    (WildPictures, "pictures", "a picture should be in [0, 1]"),
    (WrongNotice, "notice", "notice should be text or None, is 3"),
]
