"""Classification as a pretext task: the upper bound of what weights from the same images can bring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class Supervised:
    """Tell the class of an image: pretraining with labels, an upper bound (Yosinski et al., NeurIPS 2014)."""

    name: ClassVar[str] = "supervised"
    uses_labels: ClassVar[bool] = True
    cite: ClassVar[str] = (
        "@inproceedings{yosinski2014transferable, title = {How Transferable Are Features in Deep Neural Networks?}, "
        "author = {Yosinski, Jason and Clune, Jeff and Bengio, Yoshua and Lipson, Hod}, booktitle = {NeurIPS}, "
        "year = {2014}}"
    )

    def head(self, features: int, *, classes: int) -> nn.Module:
        """A linear layer from (N, features) to (N, classes)."""
        from torch import nn

        return nn.Linear(features, classes)

    def make_batch(self, images: Tensor, generator: Generator, *, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The images as they are, float32 (N, 3, H, W), and their labels, int64 (N,)."""
        return images, labels

    def chance(self, *, classes: int) -> float:
        """One of the classes."""
        return 1 / classes

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """The images, with class and prediction by their numbers."""
        from rotbench.heads import answers

        for view, (target, answer, share) in zip(views, answers(outputs, targets), strict=True):
            yield view, f"class {target}, says {answer} ({share:.0f} %)"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Supervised]
