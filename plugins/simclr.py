"""SimCLR: the target is which other view shows the same image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

#: The smallest setting of the paper on CIFAR-10 (appendix B.9): a ResNet50 reached 94.0 % after 1000 epochs.
EPOCHS, BATCH_SIZE, TEMPERATURE = 1000, 256, 0.5


@dataclass(frozen=True)
class SimCLR:
    """Predict which of many augmented views shows the same image (Chen, Kornblith, Norouzi and Hinton, ICML 2020)."""

    name: ClassVar[str] = "simclr"
    augments: ClassVar[bool] = True
    cite: ClassVar[str] = (
        "@inproceedings{chen2020simclr, title = {A Simple Framework for Contrastive Learning of Visual "
        "Representations}, author = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey}, "
        "booktitle = {ICML}, year = {2020}}"
    )

    #: The divisor of cosine similarities before the softmax.
    temperature: Annotated[float, Field(gt=0)] = TEMPERATURE
    #: Output dimensions of the projection head.
    projection: Annotated[int, Field(ge=2)] = 128

    def head(self, features: int) -> nn.Module:
        """Return a head from (2 N, features) to (2 N, projection) with one hidden layer of width ``features``."""
        from rotbench.heads import perceptron

        return perceptron(features, features, self.projection)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return two views per image, float32 (2 N, 3, H, W), and the index of each view's other, int64 (2 N,).

        The first views of all images come first. Augmentation is as in the paper's experiments on CIFAR-10: random
        resized crop, flip, colour distortion, conversion to grey.
        """
        import torch

        from rotbench.distortions import simclr_distortion

        views = simclr_distortion(torch.cat((images, images)), generator)
        return views, torch.arange(len(views), device=images.device).roll(len(images))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return NT-Xent: cross entropy over the other views of the batch, with cosines / ``temperature`` as logits."""
        from torch.nn import functional

        return functional.cross_entropy(_cosines(outputs) / self.temperature, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (2 N,), 1 if the nearest of all other views in the batch shows the same image."""
        return _cosines(outputs).argmax(1) == targets

    def chance(self, *, examples: int) -> float:
        """Return the accuracy of guessing one of the other views in a batch."""
        return 1 / (2 * examples - 1)

    def notice(self, *, epochs: int, batch_size: int, model_name: str, stem: str) -> str | None:
        """Return the differences from the recipe of the paper's 94.0 % on CIFAR-10, or None."""
        less = [
            f"{epochs} epoch{'s' * (epochs > 1)} instead of {EPOCHS}" if epochs < EPOCHS else "",
            f"batches of {batch_size} instead of at least {BATCH_SIZE}" if batch_size < BATCH_SIZE else "",
            f"{model_name} instead of resnet50" if model_name in ("resnet18", "resnet34") else "",
            f'the stem "{stem}" instead of "cifar"' if stem != "cifar" else "",
            f"temperature {self.temperature:g} instead of {TEMPERATURE}" if self.temperature != TEMPERATURE else "",
        ]
        words = ", ".join(filter(None, less))
        return f"uses less than the published recipe for 94.0 % on CIFAR-10 (linear probe): {words}" if words else None

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield both views of each image side by side."""
        import torch

        cosines, found = _cosines(outputs), self.score(outputs, targets)
        for first, other in enumerate(targets[: len(targets) // 2].tolist()):
            rank = "nearest view" if found[first] else "another view is nearer"
            yield torch.cat((views[first], views[other]), 2), f"cosine {float(cosines[first, other]):.2f}, {rank}"


def _cosines(outputs: Tensor) -> Tensor:
    """Cosine similarities of all pairs (M, M), minus infinity on the diagonal, so that no view is its own nearest."""
    from torch.nn import functional

    unit = functional.normalize(outputs, dim=1)
    return (unit @ unit.T).fill_diagonal_(float("-inf"))


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [SimCLR]
