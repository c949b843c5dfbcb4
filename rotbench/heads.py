"""Heads that several pretext tasks put on a backbone, and what is made of their outputs.

A head runs in float32. Its weights come from torch's global generator, which rotbench seeds before it asks for a head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

#: Deviations below this, summed over an image, are rounding: a level of 255 in each of 64 values.
_ROUNDING = 1e-3


def perceptron(features: int, hidden: int, outputs: int) -> nn.Sequential:
    """(M, features) to (M, outputs) through one hidden layer."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class Together(nn.Module):
    """One answer for several views of an image: (N * views, features) to (N, outputs).

    The views of an image stand next to each other. Their features are joined, so that their order counts.
    """

    def __init__(self, features: int, views: int, outputs: int, hidden: int = 512) -> None:
        super().__init__()
        self.views = views
        self.answer = perceptron(views * features, hidden, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.answer(features.reshape(len(features) // self.views, -1)))


class Picture(nn.Module):
    """A map of features to a picture: (M, features, map_size, map_size) to (M, channels, side, side).

    Each place of the map tells the pixels of its own square, in one linear layer (as in SimMIM, Xie et al., CVPR 2022).
    Where the squares are too large to make up ``side``, areas of the picture are averaged. ``scale`` multiplies what
    the layer says: Adam moves each weight by the learning rate, and hundreds of them together would overshoot values
    of a few tenths.
    """

    areas: Tensor | None

    def __init__(self, features: int, channels: int, map_size: int, side: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        square = -(-side // map_size)
        self.register_buffer("areas", None if square * map_size == side else _areas(square * map_size, side), False)
        self.pixels = nn.Sequential(nn.Conv2d(features, channels * square**2, 1), nn.PixelShuffle(square))

    def forward(self, maps: Tensor) -> Tensor:
        picture: Tensor = self.scale * self.pixels(maps)
        return picture if self.areas is None else self.areas @ picture @ self.areas.T


def _areas(length: int, side: int) -> Tensor:
    """(side, length): what each of ``length`` pixels in a row contributes to each of fewer that cover the same line.

    A product with it has a gradient that is the same to the bit on a GPU, which resizing has not.
    """
    ratio, pixel = length / side, torch.arange(length)
    first, last = ratio * torch.arange(side)[:, None], ratio * torch.arange(1, side + 1)[:, None]
    return (torch.minimum(pixel + 1, last) - torch.maximum(pixel, first)).clamp(min=0) / ratio


def explained_variance(errors: Tensor, deviations: Tensor) -> Tensor:
    """One value an example: 1 where nothing is wrong, and on average 0 for who guesses what ``deviations`` are from.

    ``errors``, ``deviations``: (N,), squared errors of an answer and of the guess. They are set against each other
    over the batch, not image by image, since an image that has hardly any variance would outweigh all others.
    """
    return 1 - errors / deviations.mean().clamp(min=_ROUNDING)


def top_predictions(outputs: Tensor, targets: Tensor) -> list[tuple[int, int, float]]:
    """Return, for logits (N, K) and targets (N,), each target, the most probable class, and its probability in %."""
    top = outputs.softmax(1).max(1)
    return list(zip(targets.tolist(), top.indices.tolist(), (100 * top.values).tolist(), strict=True))


#: The name that plugin files of earlier versions import.
answers = top_predictions
