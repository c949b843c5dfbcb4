"""Images in memory: their statistics, labelled subsets, the order in which they are seen, flips and crops.

Images are kept as uint8 and become float32 in [0, 1] a batch at a time. What is random comes from ``streams``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from rotbench.settings import held_out
from rotbench.streams import generator

#: What ``augment = [..]`` may name: a crop after zero padding, a mirror image.
AUGMENTATIONS = ("crop", "flip")

#: Pixels of zeros on each side before a crop.
PADDING = 4


@dataclass(frozen=True)
class Images:
    """One split of a data set.

    ``pixels``: uint8 (N, 3, H, W). ``labels``: int64 (N,), each an index into ``classes``. Raises ``ValueError``
    where one of these does not hold.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"pixels must be uint8 (N, 3, H, W), not {_described(pixels)}")
        if 0 in pixels.shape:
            raise ValueError(f"there are no pixels in a tensor of shape {tuple(pixels.shape)}")
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise ValueError(f"labels must be int64 (N,), not {_described(labels)}")
        if len(labels) != len(pixels):
            raise ValueError(f"there are {len(pixels)} images but {len(labels)} labels")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"labels must lie in 0..{len(self.classes) - 1}, one a class, not in {low}..{high}")


def images_from_arrays(pixels: NDArray[np.uint8], labels: ArrayLike, classes: Iterable[str]) -> Images:
    """Make :class:`Images` from numpy arrays, which are copied.

    ``pixels``: uint8 (N, H, W, 3), or (N, H, W) in grey, which becomes three equal channels. ``labels``: integers (N,).
    """
    if pixels.ndim == 3:
        pixels = pixels[..., None].repeat(3, axis=3)
    return Images(
        torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(np.array(labels, np.int64)),
        tuple(classes),
    )


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 (..) in 0..255 to float32 (..) in [0, 1]."""
    return pixels.to(torch.float32).div(255)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 (N, 3, H, W) less ``mean`` (3,), divided by ``std`` (3,)."""
    mean, std = mean.to(images.device), std.to(images.device)
    return (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (of the population) of each channel, in units of [0, 1].

    ``pixels``: uint8 (N, 3, H, W). Returns two float32 (3,). The sums are taken over integers, so they are exact for
    any number of images. A channel with one value only has no scale of its own: its deviation is given as 1.
    """
    means, deviations = [], []
    values = torch.arange(256)
    for channel in range(3):
        counts = torch.bincount(pixels[:, channel].reshape(-1), minlength=256)
        number, total, squares = (int((counts * values**power).sum()) for power in (0, 1, 2))
        means.append(total / number / 255)
        spread = number * squares - total**2  # number**2 times the variance
        deviations.append(math.sqrt(spread) / number / 255 if spread else 1.0)
    return torch.tensor(means, dtype=torch.float32), torch.tensor(deviations, dtype=torch.float32)


def balanced_subset(labels: Tensor, per_class: int | None, seed: int) -> Tensor:
    """Which images keep their label: ``per_class`` of each class, or all of them where it is None.

    ``labels``: int64 (N,). Returns int64 (K,), ascending. The images of a class are shuffled once by the seed and the
    first are taken, so the subset for 10 a class is part of the one for 20. Raises ``ValueError`` where a class has
    too few images.
    """
    if per_class is None:
        return torch.arange(len(labels))
    if per_class < 1:
        raise ValueError(f"labels per class must be at least 1, not {per_class}")
    shuffled = torch.randperm(len(labels), generator=generator(seed, "subset"))
    chosen = []
    for label in range(int(labels.max()) + 1):
        members = shuffled[labels[shuffled] == label]
        if len(members) < per_class:
            raise ValueError(f"{per_class} labels per class were asked for, but class {label} has {len(members)}")
        chosen.append(members[:per_class])
    return torch.cat(chosen).sort().values


def split_validation(labels: Tensor, per_class: int | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Which images are trained on, and which are kept for validation: ``share`` of each class, rounded down.

    ``labels``: int64 (N,). Returns two ascending int64 (K,), apart from each other; together they are
    ``balanced_subset``. Of the shuffled images of a class every so many-th is kept, so an image that is kept at one
    ``per_class`` is kept at every larger one: what is kept from the whole set is kept from all subsets of it.
    """
    chosen = balanced_subset(labels, per_class, seed)
    if not share:
        return chosen, chosen[:0]
    shuffled = torch.randperm(len(labels), generator=generator(seed, "subset"))
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        members = shuffled[labels[shuffled] == label]
        held = torch.tensor([held_out(count, share) for count in range(len(members) + 1)])
        kept[members[held.diff() > 0]] = True
    return chosen[~kept[chosen]], chosen[kept[chosen]]


def first_of_each_class(images: Images, per_class: int) -> Images:
    """The first ``per_class`` images of each class, or all where there are fewer, in their order."""
    labels = images.labels
    chosen = torch.cat([(labels == label).nonzero().flatten()[:per_class] for label in range(len(images.classes))])
    chosen = chosen.sort().values
    return Images(images.pixels[chosen], labels[chosen], images.classes)


def updates_per_epoch(images: int, batch_size: int) -> int:
    """How many batches one pass over ``images`` makes.

    BatchNorm cannot train on a single image whose map is 1x1: a last batch of one is joined to the batch before it.
    Raises ``ValueError`` where that leaves no way out (one image, or batches of one).
    """
    if images < 2 or batch_size < 2:
        raise ValueError(f"a batch needs at least 2 images; there are {images}, in batches of {batch_size}")
    whole, rest = divmod(images, batch_size)
    return max(1, whole + (rest > 1))


def epoch_batches(
    count: int, batch_size: int, updates: int, seed: int, kind: str, epoch: int
) -> Iterator[tuple[int, Tensor]]:
    """The batches of one epoch: ``updates`` of them, from as many passes over the subset as it takes.

    ``count``: images in the subset. Yields the number of the pass, from 0, and positions in the subset, int64 (B,).
    Each pass is a permutation of its own. Its last batch may be short, or one longer than ``batch_size`` (see
    ``updates_per_epoch``); the last pass stops where the updates are used up.
    """
    batches_in_pass = updates_per_epoch(count, batch_size)
    for update in range(updates):
        pass_, batch = divmod(update, batches_in_pass)
        if batch == 0:
            order = torch.randperm(count, generator=generator(seed, "order", kind, epoch, pass_))
        is_last = batch == batches_in_pass - 1
        yield pass_, order[batch * batch_size : count if is_last else (batch + 1) * batch_size]


@dataclass(frozen=True)
class Draws:
    """The augmentation of every training image in one pass.

    ``flip``: bool (N,). ``top``, ``left``: int64 (N,), where the crop starts in the padded image,
    0 to twice the padding.
    """

    flip: Tensor
    top: Tensor
    left: Tensor


def augmentation_draws(count: int, seed: int, kind: str, epoch: int, pass_: int, padding: int = PADDING) -> Draws:
    """Draws for all ``count`` training images of the data set, to be indexed by image.

    All is drawn, used or not, and for images outside the subset too: an image gets the same crop with and without
    flips, and at every number of labels.
    """
    source = generator(seed, "augment", kind, epoch, pass_)
    return Draws(
        flip=torch.rand(count, generator=source) < 0.5,
        top=torch.randint(2 * padding + 1, (count,), generator=source),
        left=torch.randint(2 * padding + 1, (count,), generator=source),
    )


def augment(
    images: Tensor, flip: Tensor | None, top: Tensor | None, left: Tensor | None, padding: int = PADDING
) -> Tensor:
    """Crop each image out of its zero-padded self, then mirror it left to right where ``flip`` says so.

    ``images``: (B, 3, H, W) of any dtype; uint8 is a quarter of the memory to move. ``flip``: bool (B,) or None for
    no flips. ``top``, ``left``: int64 (B,) or both None for no crop. All on the device of ``images``. Returns
    (B, 3, H, W).
    """
    if top is not None and left is not None:
        height, width = images.shape[2:]
        padded = functional.pad(images, (padding, padding, padding, padding))
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, 3, tops, lefts, H, W)
        images = windows[torch.arange(len(images), device=images.device), :, top, left]
    if flip is not None:
        images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    return images
