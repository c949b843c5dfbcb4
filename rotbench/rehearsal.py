"""A rehearsal: every run of the study, as small as still goes through every line of the real one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

EPOCHS = 2
BATCHES = 2
LABELS_PER_CLASS = 8
PROBED_IMAGES = 256


def rehearsed(settings: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, made small: two epochs of two batches, with every schedule's turn within them.

    The batch keeps its size, since whether it fits into memory is worth knowing. The variant is part of the settings,
    so that variants that differ in what is made small, such as epochs, stay apart.
    """
    train = dict(settings["train"])
    epochs = min(EPOCHS, train["epochs"])
    train |= {
        "epochs": epochs,
        "step_epochs": 1,
        "milestones": [1] if train["milestones"] and epochs > 1 else [],
        "warmup_epochs": min(train["warmup_epochs"], epochs - 1),
    }
    held = math.ceil(1 / train["validation"]) if train["validation"] else 0
    if train.get("labels_per_class") is not None:
        train["labels_per_class"] = min(train["labels_per_class"], max(LABELS_PER_CLASS, held))
    small = {
        "images": BATCHES * train["batch_size"],
        "per_class": max(train.get("labels_per_class") or 0, held),
        "updates": BATCHES,
    }
    return {**settings, "train": train, "rehearsal": {**small, "variant": variant}}


def rehearsed_probe(settings: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a probe, with few images: as many labels a class as a kNN of a few neighbours needs."""
    train = dict(settings["train"])
    held = math.ceil(1 / train["validation"]) if train["validation"] else 0
    if train["labels_per_class"] is not None:
        train["labels_per_class"] = min(train["labels_per_class"], max(LABELS_PER_CLASS, held))
    small = {"images": PROBED_IMAGES, "per_class": max(train["labels_per_class"] or 0, held)}
    return {**settings, "train": train, "rehearsal": {**small, "variant": variant}}
