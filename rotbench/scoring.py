"""Which views of an image a task is scored on: one of each image every epoch, all of them once at the end.

A task may show each image several times, as rotation does at all four turns. One view of each image costs what scoring
a classifier costs. Which one depends on nothing random: classes take turns, and so do the images of a class, so that
all kinds of view are about equally frequent in every class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rotbench.tasks import Targets

Batch = tuple[Tensor, Targets]


def view_ranks(labels: Tensor) -> Tensor:
    """For each image its rank among the images of its class, plus its class; modulo B the one of B views it has.

    ``labels``: int64 (N,), the classes of a whole set, in the order of the data set. Returns int64 (N,).
    """
    order = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    first = counts.cumsum(0) - counts  # where each class begins in ``order``
    ranks = torch.empty_like(labels)
    ranks[order] = torch.arange(len(labels)) - first[labels[order]]
    return ranks + labels


def show_each_image(batches: Sequence[Batch], images: int) -> bool:
    """Whether these are several batches of one view and one target per image, all alike in shape."""
    if len(batches) < 2:
        return False
    shapes = [[(part.shape, part.dtype) for part in (views, *_parts(targets))] for views, targets in batches]
    per_image = all(len(shape) and shape[0] == images for shape, _ in shapes[0])
    return per_image and all(shape == shapes[0] for shape in shapes)


def one_view_each(batches: Sequence[Batch], ranks: Tensor) -> Sequence[Batch]:
    """One batch with a single view of each image, see :func:`view_ranks`; all batches where they do not show each once.

    ``ranks``: int64 (N,), those of the images that the batches show.
    """
    if not show_each_image(batches, len(ranks)):
        return batches
    chosen = (ranks % len(batches)).to(batches[0][0].device)
    picked = [
        _picked(several, chosen)
        for several in zip(*((views, *_parts(targets)) for views, targets in batches), strict=True)
    ]
    return [(picked[0], tuple(picked[1:]) if isinstance(batches[0][1], tuple) else picked[1])]


def _parts(targets: Targets) -> tuple[Tensor, ...]:
    return targets if isinstance(targets, tuple) else (targets,)


def _picked(several: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """Row i of the tensor with the number ``chosen[i]``."""
    picked = several[0].clone()
    for number, tensor in enumerate(several):
        rows = (chosen == number).to(tensor.device)
        picked[rows] = tensor[rows]
    return picked
