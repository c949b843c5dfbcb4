"""Data sets with one fault each, and a sound one that they are made from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from rotbench.data import Images

_CALLS = itertools.count()


@dataclass(frozen=True)
class Sound:
    """Noise of two classes."""

    name: ClassVar[str] = "sound"
    size: ClassVar[int | None] = 8
    classes: ClassVar[int | None] = 2
    images_per_class: ClassVar[int | None] = 4

    def fingerprint(self, root: Path) -> Any:
        return "noise"

    def load(self, root: Path, split: Literal["train", "test"]) -> Any:
        return self.noise(("a", "b"))

    @staticmethod
    def noise(classes: tuple[str, ...], seed: int = 0) -> Images:
        source = torch.Generator().manual_seed(seed)
        pixels = torch.randint(256, (8, 3, 8, 8), generator=source).to(torch.uint8)
        return Images(pixels, torch.arange(8) % 2, classes)


@dataclass(frozen=True)
class ClassesDisagree(Sound):
    """The splits list their classes in different orders."""

    def load(self, root: Path, split: Literal["train", "test"]) -> Any:
        return self.noise(("a", "b") if split == "train" else ("b", "a"))


@dataclass(frozen=True)
class EmptyClass(Sound):
    """A class without images."""

    def load(self, root: Path, split: Literal["train", "test"]) -> Any:
        return self.noise(("a", "b", "c"))


@dataclass(frozen=True)
class Shuffling(Sound):
    """Other images each time."""

    def load(self, root: Path, split: Literal["train", "test"]) -> Any:
        return self.noise(("a", "b"), seed=next(_CALLS))


@dataclass(frozen=True)
class WrongSize(Sound):
    """Says another size than its images have."""

    size: ClassVar[int | None] = 32


@dataclass(frozen=True)
class WrongAugment(Sound):
    """An augmentation that there is not."""

    augment: ClassVar[tuple[str, ...]] = ("rotate",)


@dataclass(frozen=True)
class NoFingerprint(Sound):
    """Another identity each time."""

    def fingerprint(self, root: Path) -> Any:
        return f"version {next(_CALLS)}"


@dataclass(frozen=True)
class NoImages(Sound):
    """Bare tensors."""

    def load(self, root: Path, split: Literal["train", "test"]) -> Any:
        return self.noise(("a", "b")).pixels


#: Each data set, the one check that has to fail, and words that have to be said.
CASES: list[tuple[type, str, str]] = [
    (ClassesDisagree, "classes-agree", "the splits have different classes: a, b for training, b, a for testing"),
    (EmptyClass, "classes-agree", "there is no training image of c"),
    (Shuffling, "load-repeats", "gave other images the second time"),
    (WrongSize, "attributes-hold", "size says 32, but the training images have 8"),
    (WrongAugment, "class-attributes", "augment names ['rotate']; there are crop, flip"),
    (NoFingerprint, "fingerprint", "gave something else the second time"),
    (NoImages, "splits", "should return Images, returns Tensor"),
]
