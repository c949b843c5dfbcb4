"""Vertical flip prediction: the target is whether an image was turned upside down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class VerticalFlip:
    """Tell whether an image was turned upside down."""

    name: ClassVar[str] = "vflip"

    #: The share of images in a batch that are turned.
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def head(self, features: int) -> nn.Module:
        """A linear layer from (M, features) to (M, 2)."""
        from torch import nn

        return nn.Linear(features, 2)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The images (N, 3, H, W), some upside down, and which: int64 (N,), 1 for those."""
        import torch

        targets = (torch.rand(len(images), generator=generator) < self.share).long().to(images.device)
        return torch.where(targets.bool().view(-1, 1, 1, 1), images.flip(2), images), targets

    def evaluation_batches(self, images: Tensor, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Two batches: every image as it is and upside down, so that the score has no luck of the draw in it."""
        import torch

        yield images, torch.zeros(len(images), dtype=torch.int64, device=images.device)
        yield images.flip(2), torch.ones(len(images), dtype=torch.int64, device=images.device)

    def chance(self) -> float:
        """One of two: images are scored both ways."""
        return 0.5

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield the views, each with its orientation and the predicted one."""
        words = ("upright", "upside down")
        for view, target, predicted in zip(views, targets.tolist(), outputs.argmax(1).tolist(), strict=True):
            yield view, f"{words[target]} → predicted {words[predicted]}"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [VerticalFlip]
