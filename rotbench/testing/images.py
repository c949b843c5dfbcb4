"""What plugins are tried on: a few made-up images, a ResNet18, and global generators put to a known state."""

from __future__ import annotations

import copy
import functools
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.models import ResNet

from rotbench.data import normalise
from rotbench.models import build_backbone

MODEL = "resnet18"
FEATURES = 512
CLASSES = 10
SIZE = 32

_MEAN, _STD = torch.full((3,), 0.5), torch.full((3,), 0.25)


@dataclass(frozen=True)
class Batch:
    """``images``: float32 (N, 3, H, W) in [0, 1]; ``labels``, ``index``: int64 (N,)."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def copied(self) -> Batch:
        return Batch(self.images.clone(), self.labels.clone(), self.index.clone())

    def relabelled(self) -> Batch:
        """The same images, every one with another label."""
        return Batch(self.images, (self.labels + 3) % CLASSES, self.index)


def batch_of(count: int, size: int = SIZE, seed: int = 0) -> Batch:
    """Images with something in them: coarse patches of colour that blend, and a little noise."""
    source = Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=source)
    smooth = functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    images = (smooth + 0.05 * torch.randn(smooth.shape, generator=source)).clamp(0, 1)
    return Batch(images, torch.arange(count) % CLASSES, torch.arange(count) + 40)


def unit_normalised(images: Tensor) -> Tensor:
    """As rotbench normalises by the statistics of a data set."""
    return normalise(images, _MEAN, _STD)


def backbone(stem: str = "imagenet", seed: int = 0) -> ResNet:
    """A ResNet18 with the random weights of a seed, the caller's own."""
    return copy.deepcopy(_built(stem, seed))


@functools.lru_cache(maxsize=3)
def _built(stem: str, seed: int) -> ResNet:
    return build_backbone(MODEL, stem, seed)


def seed_globally(seed: int, *, others: int | None = None) -> None:
    """Put torch's global generator, and those of numpy and Python (to ``others``, where given), to a known state."""
    torch.manual_seed(seed)
    np.random.seed(seed if others is None else others)
    random.seed(seed if others is None else others)


def global_state() -> tuple[bytes, bytes, int]:
    """What shows whether anybody drew from torch's, numpy's or Python's global generator."""
    state: Any = np.random.get_state()
    return (
        torch.get_rng_state().numpy().tobytes(),
        state[1].tobytes() + bytes([state[2] % 256]),
        hash(random.getstate()),
    )


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a value that may be a tensor, or tuples, lists and tables of some."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, (tuple, list)) else []


def same(one: Any, other: Any) -> bool:
    """Whether two values hold the same tensors, to the bit."""
    ours, theirs = tensors_in(one), tensors_in(other)
    return len(ours) == len(theirs) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )
