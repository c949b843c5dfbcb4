"""Rotation prediction: the target is the angle by which an image was rotated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Rotation:
    """Predict by which multiple of 90 degrees an image was rotated (Gidaris, Singh and Komodakis, ICLR 2018)."""

    name: ClassVar[str] = "rotation"
    cite: ClassVar[str] = (
        "@inproceedings{gidaris2018rotation, title = {Unsupervised Representation Learning by Predicting Image "
        "Rotations}, author = {Gidaris, Spyros and Singh, Praveer and Komodakis, Nikos}, booktitle = {ICLR}, "
        "year = {2018}}"
    )

    #: One random rotation per image in a batch, or all four of each image, as in the paper, at four times the cost.
    turns: Literal["one", "all"] = "one"

    def head(self, features: int) -> nn.Module:
        """Return a linear layer from (M, features) to (M, 4)."""
        from torch import nn

        return nn.Linear(features, 4)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return rotated images, float32 (M, 3, H, H), and their rotations, int64 (M,) in 0..3.

        M is N, or 4 N if ``turns`` is ``"all"``.
        """
        import torch

        rotated = torch.stack(_all_rotations(images))  # (4, N, 3, H, H)
        if self.turns == "all":
            targets = torch.arange(4, device=images.device).repeat_interleave(len(images))
            return rotated.flatten(0, 1), targets
        targets = torch.randint(4, (len(images),), generator=generator).to(images.device, non_blocking=True)
        return rotated[targets, torch.arange(len(images), device=images.device)], targets

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield four batches, every image in every rotation, so that the score does not depend on random draws."""
        import torch

        for target, views in enumerate(_all_rotations(images)):
            yield views, torch.full((len(images),), target, device=images.device)

    def chance(self) -> float:
        """Return the accuracy of guessing one of four rotations."""
        return 0.25

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield the rotated images, each with its rotation and the predicted one in degrees."""
        from rotbench.heads import top_predictions

        for view, (target, predicted, percent) in zip(views, top_predictions(outputs, targets), strict=True):
            yield view, f"{90 * target}° → predicted {90 * predicted}° ({percent:.0f} %)"


def _all_rotations(images: Tensor) -> list[Tensor]:
    """(N, 3, H, H) rotated counter-clockwise by 0, 90, 180 and 270 degrees, as ``numpy.rot90`` does."""
    import torch

    height, width = images.shape[2:]
    if height != width:
        raise ValueError(f"rotation needs square images, not {height} x {width}")
    return [torch.rot90(images, quarters, (2, 3)) for quarters in range(4)]


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Rotation]
