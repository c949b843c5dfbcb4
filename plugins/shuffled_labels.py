"""Shuffled labels: a control that trains as long on the same images and has nothing to learn but each by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class ShuffledLabels:
    """Tell classes that were dealt out at random, a control: nothing generalises (Zhang et al., ICLR 2017)."""

    name: ClassVar[str] = "shuffled-labels"
    uses_labels: ClassVar[bool] = True
    cite: ClassVar[str] = (
        "@inproceedings{zhang2017rethinking, title = {Understanding Deep Learning Requires Rethinking Generalization}, "
        "author = {Zhang, Chiyuan and Bengio, Samy and Hardt, Moritz and Recht, Benjamin and Vinyals, Oriol}, "
        "booktitle = {ICLR}, year = {2017}}"
    )

    def relabel(self, labels: Tensor, generator: Generator) -> Tensor:
        """The training labels, int64 (N,), in another order: each class keeps its number of images."""
        import torch

        return labels[torch.randperm(len(labels), generator=generator).to(labels.device)]

    def head(self, features: int, *, classes: int) -> nn.Module:
        """A linear layer from (N, features) to (N, classes)."""
        from torch import nn

        return nn.Linear(features, classes)

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The images as they are, float32 (N, 3, H, W), and labels, int64 (N,); those of test images are true."""
        return images, labels

    def chance(self, *, classes: int) -> float:
        """One of the classes: what is learnt by heart says nothing of test images."""
        return 1 / classes

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """The images, with true class and prediction by their numbers."""
        from rotbench.heads import answers

        for view, (target, answer, share) in zip(views, answers(outputs, targets), strict=True):
            yield view, f"class {target}, says {answer} ({share:.0f} %)"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [ShuffledLabels]
