"""What is in a data set: images a class, and images that occur more than once."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from rotbench.data import Images


def class_counts(labels: Tensor, classes: int) -> list[int]:
    """How many of ``labels``, int64 (N,), there are of each class."""
    return [int(count) for count in torch.bincount(labels.cpu(), minlength=classes)]


def duplicates(training: Images, test: Images) -> dict[str, int]:
    """Images whose pixels are another's to the bit; images that differ in a single value are not counted.

    ``test_in_train``: test images that are in the training part too. ``train``, ``test``: images that repeat an
    earlier one of the same part. ``conflicting``: images of both parts that have a copy with another label.
    """
    parts = [_digests(part.pixels) for part in (training, test)]
    labels: dict[bytes, set[int]] = {}
    for digests, part in zip(parts, (training, test), strict=True):
        for digest, label in zip(digests, part.labels.tolist(), strict=True):
            labels.setdefault(digest, set()).add(label)
    known = set(parts[0])
    return {
        "test_in_train": sum(digest in known for digest in parts[1]),
        "train": len(parts[0]) - len(known),
        "test": len(parts[1]) - len(set(parts[1])),
        "conflicting": sum(len(labels[digest]) > 1 for digests in parts for digest in digests),
    }


def _digests(pixels: Tensor) -> list[bytes]:
    """16 bytes an image and its shape: of a million images no two are taken for one."""
    rows = pixels.cpu().contiguous().flatten(1).numpy()
    shape = repr(tuple(pixels.shape[1:])).encode()
    return [hashlib.blake2b(row.data, digest_size=16, key=shape[:64]).digest() for row in rows]
