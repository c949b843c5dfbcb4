"""What the contract asks of a data set, each as a rule. Nothing is downloaded: what is missing skips a rule."""

from __future__ import annotations

import functools
from typing import Literal

import torch

from rotbench.data import AUGMENTATIONS, Images
from rotbench.testing.members import add_common
from rotbench.testing.outcome import Rules, Subject, hold

DATASET: Rules[Subject] = Rules()
add_common(DATASET, "dataset")
rule = DATASET.rule

SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")


@functools.lru_cache(maxsize=2)
def _loaded(subject: Subject) -> dict[str, Images]:
    return {split: subject.plugin.load(subject.data_dir, split) for split in SPLITS}


@rule("loads")
def fingerprint(subject: Subject) -> None:
    """What identifies the data is text, and the same every time."""
    made = [subject.plugin.fingerprint(subject.data_dir) for _ in range(2)]
    hold(isinstance(made[0], str) and bool(made[0]), f"fingerprint should be text, is {made[0]!r}")
    hold(made[0] == made[1], "fingerprint gave something else the second time")


@rule("loads")
def splits(subject: Subject) -> None:
    """Both splits load as images of one size."""
    loaded = _loaded(subject)
    for split, images in loaded.items():
        hold(isinstance(images, Images), f"load({split!r}) should return Images, returns {type(images).__name__}")
    sizes = {tuple(images.pixels.shape[2:]) for images in loaded.values()}
    hold(len(sizes) == 1, f"training and test images have different sizes: {sorted(sizes)}")


@rule("splits")
def load_repeats(subject: Subject) -> None:
    """Loaded again, the images are the same and in the same order."""
    for split, images in _loaded(subject).items():
        again = subject.plugin.load(subject.data_dir, split)
        alike = torch.equal(images.pixels, again.pixels) and torch.equal(images.labels, again.labels)
        hold(alike, f"load({split!r}) gave other images the second time: shuffle nothing, and sort what a folder lists")


@rule("splits")
def classes_agree(subject: Subject) -> None:
    """Both splits have the same classes in the same order, and each class has training images."""
    loaded = _loaded(subject)
    train, test = loaded["train"].classes, loaded["test"].classes
    hold(
        train == test,
        f"the splits have different classes: {_few(train)} for training, {_few(test)} for testing; a label would mean "
        "two things",
    )
    counts = loaded["train"].labels.bincount(minlength=len(train))
    empty = [name for name, count in zip(train, counts.tolist(), strict=True) if not count]
    hold(not empty, f"there is no training image of {', '.join(empty[:4])}")


def _few(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:4]) + (", .." if len(classes) > 4 else "")


@rule("loads")
def class_attributes(subject: Subject) -> None:
    """``augment`` names augmentations that rotbench has, and ``notice`` is text."""
    augment = getattr(subject.plugin, "augment", ())
    unknown = [name for name in augment if name not in AUGMENTATIONS]
    hold(not unknown, f"augment names {unknown}; there are {', '.join(AUGMENTATIONS)}")
    notice = getattr(subject.plugin, "notice", "")
    hold(isinstance(notice, str), f"notice should be text, is {notice!r}")


@rule("classes-agree")
def attributes_hold(subject: Subject) -> None:
    """``size``, ``classes`` and ``images_per_class``, where they are not None, are those of the data."""
    images = _loaded(subject)["train"]
    found = {
        "size": images.pixels.shape[-1],
        "classes": len(images.classes),
        "images_per_class": int(images.labels.bincount(minlength=len(images.classes)).min()),
    }
    for name, value in found.items():
        said = getattr(subject.plugin, name, None)
        hold(said is None or said == value, f"{name} says {said}, but the training images have {value}")
