"""Shuffled labels: a control that trains as long on the same images and can only memorise them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class ShuffledLabels:
    """Predict randomly assigned classes, a control: nothing generalises (Zhang et al., ICLR 2017)."""

    name: ClassVar[str] = "shuffled-labels"
    uses_labels: ClassVar[bool] = True
    cite: ClassVar[str] = (
        "@inproceedings{zhang2017rethinking, title = {Understanding Deep Learning Requires Rethinking Generalization}, "
        "author = {Zhang, Chiyuan and Bengio, Samy and Hardt, Moritz and Recht, Benjamin and Vinyals, Oriol}, "
        "booktitle = {ICLR}, year = {2017}}"
    )

    def relabel(self, labels: Tensor, generator: Generator) -> Tensor:
        """Return the training labels, int64 (N,), shuffled: each class keeps its number of images."""
        import torch

        return labels[torch.randperm(len(labels), generator=generator).to(labels.device)]

    def head(self, features: int, *, classes: int) -> nn.Module:
        """Return a linear layer from (N, features) to (N, classes)."""
        from torch import nn

        return nn.Linear(features, classes)

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images unchanged, float32 (N, 3, H, W), and labels, int64 (N,); test labels are the true ones."""
        return images, labels

    def chance(self, *, classes: int) -> float:
        """Return the accuracy of guessing one of the classes: memorised labels do not transfer to test images."""
        return 1 / classes

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield the images, each with the numbers of its true class and of the predicted one."""
        from rotbench.heads import top_predictions

        for view, (target, predicted, percent) in zip(views, top_predictions(outputs, targets), strict=True):
            yield view, f"class {target} → predicted {predicted} ({percent:.0f} %)"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [ShuffledLabels]
