"""Classification as a pretext task: an upper bound for pretraining on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Supervised:
    """Predict the class of an image: pretraining with labels, an upper bound (Yosinski et al., NeurIPS 2014)."""

    name: ClassVar[str] = "supervised"
    uses_labels: ClassVar[bool] = True
    cite: ClassVar[str] = (
        "@inproceedings{yosinski2014transferable, title = {How Transferable Are Features in Deep Neural Networks?}, "
        "author = {Yosinski, Jason and Clune, Jeff and Bengio, Yoshua and Lipson, Hod}, booktitle = {NeurIPS}, "
        "year = {2014}}"
    )

    def head(self, features: int, *, classes: int) -> nn.Module:
        """Return a linear layer from (N, features) to (N, classes)."""
        from torch import nn

        return nn.Linear(features, classes)

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images unchanged, float32 (N, 3, H, W), and their labels, int64 (N,)."""
        return images, labels

    def chance(self, *, classes: int) -> float:
        """Return the accuracy of guessing one of the classes."""
        return 1 / classes

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield the images, each with the numbers of its class and of the predicted one."""
        from rotbench.heads import top_predictions

        for view, (target, predicted, percent) in zip(views, top_predictions(outputs, targets), strict=True):
            yield view, f"class {target} → predicted {predicted} ({percent:.0f} %)"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Supervised]
