"""Jigsaw puzzles: the target is the order in which the tiles of an image are shown."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Jigsaw:
    """Predict in which order the tiles of an image are shown (Noroozi and Favaro, ECCV 2016)."""

    name: ClassVar[str] = "jigsaw"
    augments: ClassVar[bool] = True  # crops after padding show black bars, which reveal the edges of an image
    cite: ClassVar[str] = (
        "@inproceedings{noroozi2016jigsaw, title = {Unsupervised Learning of Visual Representations by Solving Jigsaw "
        "Puzzles}, author = {Noroozi, Mehdi and Favaro, Paolo}, booktitle = {ECCV}, year = {2016}}"
    )

    #: Tiles along each side of an image: 2 x 2, or 3 x 3 as in the paper.
    grid: Literal[2, 3] = 2
    #: Number of orders, chosen to differ as much as possible: 2 x 2 tiles have 24; the paper uses 1000 of 3 x 3.
    permutations: Annotated[int, Field(ge=2, le=1000)] = 24
    #: Whether tiles are enlarged to the size of the image, so that layer4 gets maps as large as those of whole images.
    enlarge: bool = True

    def __post_init__(self) -> None:
        """Raise ``ValueError`` if the tiles have fewer orders."""
        orders = math.factorial(self.grid**2)
        if self.permutations > orders:
            what = f"{self.grid} x {self.grid} tiles have {orders} orders, not {self.permutations}"
            raise ValueError(f"{what}; use fewer permutations or grid 3")

    def head(self, features: int) -> nn.Module:
        """Return a head from (N * tiles, features) to (N, permutations), one prediction per image."""
        from rotbench.heads import Together

        return Together(features, self.grid**2, self.permutations)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return tiles, float32 (N * tiles, 3, h, h), grouped by image, and the index of their order, int64 (N,).

        The gaps between tiles are random, so that continued edges do not reveal the order.
        """
        import torch

        targets = torch.randint(self.permutations, (len(images),), generator=generator)
        return self._shown(images, targets, generator), targets.to(images.device)

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch: one order per image, each tile in the middle of its cell."""
        import torch

        targets = torch.randint(self.permutations, (len(images),), generator=generator)
        yield self._shown(images, targets, None), targets.to(images.device)

    def _shown(self, images: Tensor, targets: Tensor, generator: Generator | None) -> Tensor:
        import torch

        from rotbench.distortions import grid_tiles, resized

        tiles = grid_tiles(images, self.grid, 1 / 6, generator)  # (N, tiles, 3, h, h)
        order = torch.tensor(permutation_set(self.grid**2, self.permutations))[targets].to(images.device)
        views = tiles[torch.arange(len(images), device=images.device)[:, None], order].flatten(0, 1)
        return resized(views, images.shape[-1]) if self.enlarge else views

    def chance(self) -> float:
        """Return the accuracy of guessing one of the orders."""
        return 1 / self.permutations

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield the tiles of each image in the order in which they were shown."""
        from torch.nn import functional

        from rotbench.heads import top_predictions

        orders = permutation_set(self.grid**2, self.permutations)
        framed = functional.pad(views, (1, 1, 1, 1), value=1.0)
        side = framed.shape[-1]
        rows = framed.view(-1, self.grid, self.grid, 3, side, side)
        shown = rows.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)  # (N, 3, grid * h, grid * h)
        for image, (target, predicted, percent) in zip(shown, top_predictions(outputs, targets), strict=True):
            true, found = ("".join(str(tile + 1) for tile in orders[order]) for order in (target, predicted))
            yield image, f"order {true} → predicted {found} ({percent:.0f} %)"


@functools.cache
def permutation_set(tiles: int, count: int) -> tuple[tuple[int, ...], ...]:
    """Choose ``count`` orders of ``tiles`` one by one, the natural order first.

    The next order is the one with the largest Hamming distance to its nearest chosen order; ties go to the largest
    summed distance to all chosen orders, then to the first in lexicographic order.
    """
    import numpy as np

    flat = itertools.chain.from_iterable(itertools.permutations(range(tiles)))
    orders = np.fromiter(flat, np.uint8, math.factorial(tiles) * tiles).reshape(-1, tiles).T.copy()  # (tiles, orders)
    nearest = np.full(orders.shape[1], tiles + 1, np.int64)
    total = np.zeros(orders.shape[1], np.int64)
    chosen = [0]
    while len(chosen) < count:
        distance = np.zeros(orders.shape[1], np.uint8)
        for place in orders:
            distance += place != place[chosen[-1]]
        np.minimum(nearest, distance, out=nearest)
        total += distance
        chosen.append(int((nearest * (tiles * count + 1) + total).argmax()))
    return tuple(tuple(orders[:, one].tolist()) for one in chosen)


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Jigsaw]
