"""SimCLR: the target is which other view shows the same image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

#: The least of the paper's experiments on CIFAR-10 (appendix B.9): 94.0 % were reached by a ResNet50 after 1000 epochs.
EPOCHS, BATCH_SIZE, TEMPERATURE = 1000, 256, 0.5


@dataclass(frozen=True)
class SimCLR:
    """Tell which of many distorted views shows the same image (Chen, Kornblith, Norouzi and Hinton, ICML 2020)."""

    name: ClassVar[str] = "simclr"
    augments: ClassVar[bool] = True
    cite: ClassVar[str] = (
        "@inproceedings{chen2020simclr, title = {A Simple Framework for Contrastive Learning of Visual "
        "Representations}, author = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey}, "
        "booktitle = {ICML}, year = {2020}}"
    )

    #: What cosines are divided by before the softmax.
    temperature: Annotated[float, Field(gt=0)] = TEMPERATURE
    #: Numbers that a view is projected to before views are compared.
    projection: Annotated[int, Field(ge=2)] = 128

    def head(self, features: int) -> nn.Module:
        """(2 N, features) to (2 N, projection) through one hidden layer as wide as the features."""
        from rotbench.heads import perceptron

        return perceptron(features, features, self.projection)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Two views of each image, float32 (2 N, 3, H, W), all first ones first; int64 (2 N,), where the other stands.

        As in the paper's experiments on CIFAR-10: a random part is enlarged, mirrored, changed in colour, made grey.
        """
        import torch

        from rotbench.distortions import simclr_distortion

        views = simclr_distortion(torch.cat((images, images)), generator)
        return views, torch.arange(len(views), device=images.device).roll(len(images))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """NT-Xent: cross entropy over the other views of the batch, whose logits are cosines over ``temperature``."""
        from torch.nn import functional

        return functional.cross_entropy(_cosines(outputs) / self.temperature, targets)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(2 N,), 1 where of all views in the batch the one of the same image is the nearest."""
        return _cosines(outputs).argmax(1) == targets

    def chance(self, *, examples: int) -> float:
        """One of the other views in a batch."""
        return 1 / (2 * examples - 1)

    def notice(self, *, epochs: int, batch_size: int, model_name: str, stem: str) -> str | None:
        """How far a study stays below the recipe of the paper's 94.0 % on CIFAR-10, or None."""
        less = [
            f"{epochs} epoch{'s' * (epochs > 1)} instead of {EPOCHS}" if epochs < EPOCHS else "",
            f"batches of {batch_size} instead of at least {BATCH_SIZE}" if batch_size < BATCH_SIZE else "",
            f"{model_name} instead of resnet50" if model_name in ("resnet18", "resnet34") else "",
            f'the stem "{stem}" instead of "cifar"' if stem != "cifar" else "",
            f"temperature {self.temperature:g} instead of {TEMPERATURE}" if self.temperature != TEMPERATURE else "",
        ]
        told = ", ".join(filter(None, less))
        return f"runs below the recipe of the published 94.0 % on CIFAR-10 (linear probe): {told}" if told else None

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Both views of an image side by side."""
        import torch

        cosines, found = _cosines(outputs), self.score(outputs, targets)
        for first, other in enumerate(targets[: len(targets) // 2].tolist()):
            says = "nearest" if found[first] else "another is nearer"
            yield torch.cat((views[first], views[other]), 2), f"cosine {float(cosines[first, other]):.2f}, {says}"


def _cosines(outputs: Tensor) -> Tensor:
    """Cosines of all pairs (M, M); a view with itself has minus infinity, so that it is never told."""
    from torch.nn import functional

    unit = functional.normalize(outputs, dim=1)
    return (unit @ unit.T).fill_diagonal_(float("-inf"))


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [SimCLR]
