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
    """Tell in which order the tiles of an image are shown (Noroozi and Favaro, ECCV 2016)."""

    name: ClassVar[str] = "jigsaw"
    augments: ClassVar[bool] = True  # a crop after padding leaves black bars, which give the edge of an image away
    cite: ClassVar[str] = (
        "@inproceedings{noroozi2016jigsaw, title = {Unsupervised Learning of Visual Representations by Solving Jigsaw "
        "Puzzles}, author = {Noroozi, Mehdi and Favaro, Paolo}, booktitle = {ECCV}, year = {2016}}"
    )

    #: Tiles along each side of an image: 2 x 2, or 3 x 3 as in the paper.
    grid: Literal[2, 3] = 2
    #: How many orders there are, as unlike as can be: 24 are all that 2 x 2 tiles have; the paper has 1000 of 3 x 3.
    permutations: Annotated[int, Field(ge=2, le=1000)] = 24
    #: Whether tiles are enlarged to the size of the image, so that layer4 sees maps as large as those of whole images.
    enlarge: bool = True

    def __post_init__(self) -> None:
        """Raises ``ValueError`` where there are not so many orders."""
        there = math.factorial(self.grid**2)
        if self.permutations > there:
            asked = f"{self.grid} x {self.grid} tiles have {there} orders, not {self.permutations}"
            raise ValueError(f"{asked}; give fewer or take grid 3")

    def head(self, features: int) -> nn.Module:
        """(N * tiles, features) to (N, permutations): the tiles of an image are judged together."""
        from rotbench.heads import Together

        return Together(features, self.grid**2, self.permutations)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Tiles, float32 (N * tiles, 3, h, h), those of an image together; number of their order, int64 (N,).

        The gaps between tiles are random, lest edges that continue each other give the order away.
        """
        import torch

        targets = torch.randint(self.permutations, (len(images),), generator=generator)
        return self._shown(images, targets, generator), targets.to(images.device)

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One order an image, each tile in the middle of its cell."""
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
        """One of the orders."""
        return 1 / self.permutations

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """The tiles of an image, put together as they were shown."""
        from torch.nn import functional

        from rotbench.heads import answers

        orders = permutation_set(self.grid**2, self.permutations)
        framed = functional.pad(views, (1, 1, 1, 1), value=1.0)
        side = framed.shape[-1]
        rows = framed.view(-1, self.grid, self.grid, 3, side, side)
        shown = rows.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)  # (N, 3, grid * h, grid * h)
        for image, (target, answer, share) in zip(shown, answers(outputs, targets), strict=True):
            true, told = ("".join(str(tile + 1) for tile in orders[order]) for order in (target, answer))
            yield image, f"order {true}, says {told} ({share:.0f} %)"


@functools.cache
def permutation_set(tiles: int, count: int) -> tuple[tuple[int, ...], ...]:
    """``count`` orders of ``tiles``, the first of which is the natural one, chosen one after another.

    Next comes the order that differs in most places from the one chosen that is most like it; of several the one
    that differs most from all chosen together, of those the first in alphabetical order.
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
