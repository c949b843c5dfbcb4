"""Relative patch position: the target is which of eight neighbours is shown with a patch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

#: The cells of a 3 x 3 grid around its middle, row by row; a target is an index into them.
NEIGHBOURS = ("above left", "above", "above right", "left", "right", "below left", "below", "below right")


@dataclass(frozen=True)
class RelativePatch:
    """Predict the position of a patch relative to another one (Doersch, Gupta and Efros, ICCV 2015)."""

    name: ClassVar[str] = "relative-patch"
    augments: ClassVar[bool] = True  # crops after padding show black bars, which reveal the edges of an image
    cite: ClassVar[str] = (
        "@inproceedings{doersch2015context, title = {Unsupervised Visual Representation Learning by Context "
        "Prediction}, author = {Doersch, Carl and Gupta, Abhinav and Efros, Alexei A.}, booktitle = {ICCV}, "
        "year = {2015}}"
    )

    #: Whether patches are enlarged to the size of the image, so that layer4 gets maps as large as for whole images.
    enlarge: bool = True

    def head(self, features: int) -> nn.Module:
        """Return a head from (2 N, features) to (N, 8), one prediction for the two patches of an image."""
        from rotbench.heads import Together

        return Together(features, 2, 8)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return middle and neighbour in turn, float32 (2 N, 3, h, h), and the neighbour's index, int64 (N,) in 0..7.

        Each patch has a random place in its cell of a 3 x 3 grid, so that edges and distances do not reveal the
        position. The first patch is always the middle one: a single patch then reveals only where it usually lies.
        """
        import torch

        targets = torch.randint(8, (len(images),), generator=generator)
        return self._shown(images, targets, generator), targets.to(images.device)

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch: one neighbour per image, each patch in the middle of its cell."""
        import torch

        targets = torch.randint(8, (len(images),), generator=generator)
        yield self._shown(images, targets, None), targets.to(images.device)

    def _shown(self, images: Tensor, targets: Tensor, generator: Generator | None) -> Tensor:
        import torch

        from rotbench.distortions import grid_tiles, resized

        tiles = grid_tiles(images, 3, 1 / 4, generator)  # (N, 9, 3, h, h)
        cells = torch.stack((torch.full_like(targets, 4), targets + (targets >= 4)), 1).to(images.device)
        views = tiles[torch.arange(len(images), device=images.device)[:, None], cells].flatten(0, 1)
        return resized(views, images.shape[-1]) if self.enlarge else views

    def chance(self) -> float:
        """Return the accuracy of guessing one of eight neighbours."""
        return 1 / 8

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield both patches of each image in their cells, with the other cells empty."""
        from rotbench.heads import top_predictions

        side = views.shape[-1]
        pairs = zip(views[0::2], views[1::2], strict=True)
        for pair, (target, predicted, percent) in zip(pairs, top_predictions(outputs, targets), strict=True):
            board = views.new_ones(3, 3 * side + 4, 3 * side + 4)
            for patch, cell in zip(pair, (4, target + (target >= 4)), strict=True):
                top, left = ((side + 2) * place for place in divmod(cell, 3))
                board[:, top : top + side, left : left + side] = patch
            yield board, f"{NEIGHBOURS[target]} → predicted {NEIGHBOURS[predicted]} ({percent:.0f} %)"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [RelativePatch]
