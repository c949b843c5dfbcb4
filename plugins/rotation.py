"""Rotation prediction: the target is the quarter turn by which an image was rotated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Rotation:
    """Tell by which multiple of 90 degrees an image was turned (Gidaris, Singh and Komodakis, ICLR 2018)."""

    name: ClassVar[str] = "rotation"
    cite: ClassVar[str] = (
        "@inproceedings{gidaris2018rotation, title = {Unsupervised Representation Learning by Predicting Image "
        "Rotations}, author = {Gidaris, Spyros and Singh, Praveer and Komodakis, Nikos}, booktitle = {ICLR}, "
        "year = {2018}}"
    )

    #: One random turn of each image in a batch, or all four of each image (the paper's way, at four times the cost).
    turns: Literal["one", "all"] = "one"

    def head(self, features: int) -> nn.Module:
        """A linear layer from (M, features) to (M, 4)."""
        from torch import nn

        return nn.Linear(features, 4)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Turned images, float32 (M, 3, H, H), and their turns, int64 (M,) in 0..3; M is N, or 4 N for ``all``."""
        import torch

        turned = torch.stack(_all_turns(images))  # (4, N, 3, H, H)
        if self.turns == "all":
            targets = torch.arange(4, device=images.device).repeat_interleave(len(images))
            return turned.flatten(0, 1), targets
        targets = torch.randint(4, (len(images),), generator=generator).to(images.device, non_blocking=True)
        return turned[targets, torch.arange(len(images), device=images.device)], targets

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Four batches: every image at every turn, so that the score has no luck of the draw in it."""
        import torch

        for turn, views in enumerate(_all_turns(images)):
            yield views, torch.full((len(images),), turn, device=images.device)

    def chance(self) -> float:
        """One of four."""
        return 0.25

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """The turned images, with turns in degrees."""
        from rotbench.heads import answers

        for view, (target, answer, share) in zip(views, answers(outputs, targets), strict=True):
            yield view, f"{90 * target}°, says {90 * answer}° ({share:.0f} %)"


def _all_turns(images: Tensor) -> list[Tensor]:
    """(N, 3, H, H) turned counter-clockwise by 0, 90, 180 and 270 degrees, as ``numpy.rot90`` turns."""
    import torch

    height, width = images.shape[2:]
    if height != width:
        raise ValueError(f"rotation needs square images, not {height} x {width}")
    return [torch.rot90(images, turn, (2, 3)) for turn in range(4)]


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Rotation]
