"""A data set decoded and counted once, in a file that every worker of a study maps.

Decoding CIFAR-10 and looking for copies in it takes a worker longer than everything else it does before the first
step, and its pixels would lie in memory once for each worker. Mapped, they lie there once, and pages that nothing has
read yet are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rotbench.census import duplicates
from rotbench.data import Images, channel_statistics


@dataclass(frozen=True)
class Counted:
    """Both parts of a data set, on the CPU; the statistics of its training part, float32 (3,) each; its copies."""

    training: Images
    test: Images
    mean: Tensor
    std: Tensor
    duplicates: Mapping[str, int]


def count(training: Images, test: Images) -> Counted:
    """Compute what is known of a data set as a whole."""
    mean, std = channel_statistics(training.pixels)
    return Counted(training, test, mean, std, duplicates(training, test))


def layout_name(reference: Mapping[str, Any], settings: Mapping[str, Any], root: str, fingerprint: str) -> str:
    """What the file of a data set is called: another plugin, other options or other data are another file."""
    identity = json.dumps([reference["sha256"], settings, root, fingerprint], sort_keys=True)
    return f"images-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def lay_out(folder: Path, name: str, counted: Counted) -> None:
    """Write a data set for :func:`map_images`. The hash is written last: what has none is not trusted."""
    file = folder / f"{name}.safetensors"
    partial = folder / f".{name}.partial"
    told = {"classes": counted.training.classes, "duplicates": dict(counted.duplicates)}
    tensors = {
        "training_pixels": counted.training.pixels,
        "training_labels": counted.training.labels,
        "test_pixels": counted.test.pixels,
        "test_labels": counted.test.labels,
        "mean": counted.mean,
        "std": counted.std,
    }
    try:
        # Copies, since parts that are slices of one tensor are refused.
        apart = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
        save_file(apart, partial, metadata={"told": json.dumps(told)})
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    (folder / f"{name}.sha256").write_text(_sha256(file))


def map_images(folder: Path, name: str) -> Counted | None:
    """The data set that was laid out under a name, mapped and not copied; None where it is not there whole."""
    file = folder / f"{name}.safetensors"
    try:
        if _sha256(file) != (folder / f"{name}.sha256").read_text():
            return None
        with safe_open(file, "pt") as mapped:
            told = json.loads(mapped.metadata()["told"])
            names = mapped.keys()  # it has keys, but is no mapping
            tensors = {key: mapped.get_tensor(key) for key in names}
    except (OSError, SafetensorError):
        return None
    classes = tuple(told["classes"])
    training = Images(tensors["training_pixels"], tensors["training_labels"], classes)
    test = Images(tensors["test_pixels"], tensors["test_labels"], classes)
    return Counted(training, test, tensors["mean"], tensors["std"], told["duplicates"])


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
