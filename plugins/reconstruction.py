"""Reconstruction: the target is the image itself, of which a part is hidden or noise is laid over all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    Targets = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Reconstruction:
    """Tell what a damaged image was (Vincent et al., ICML 2008; Pathak et al., CVPR 2016; He et al., CVPR 2022).

    As in the latter two, the loss counts what is hidden; with noise it counts everything. The head tells how pixels
    deviate from the mean colour of what can be seen.
    """

    name: ClassVar[str] = "reconstruction"
    takes: ClassVar[Literal["map"]] = "map"
    score_name: ClassVar[str] = "explained variance"
    cite: ClassVar[str] = (
        "@inproceedings{pathak2016context, title = {Context Encoders: Feature Learning by Inpainting}, author = "
        '{Pathak, Deepak and Kr{\\"a}henb{\\"u}hl, Philipp and Donahue, Jeff and Darrell, Trevor and Efros, Alexei}, '
        "booktitle = {CVPR}, year = {2016}}"
    )

    #: How images are damaged: square patches are painted over in grey, or noise is added to every pixel.
    corruption: Literal["mask", "noise"] = "mask"
    #: Share of the patches that is hidden (mask).
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    #: Side of a patch in pixels (mask).
    patch: Annotated[int, Field(ge=1)] = 8
    #: Standard deviation of the noise; pixels are in 0..1 (noise).
    sigma: Annotated[float, Field(gt=0)] = 0.3

    def head(self, features: int, *, map_size: int, view_size: int) -> nn.Module:
        """(N, features, map_size, map_size) to deviations of pixels (N, 3, view_size, view_size)."""
        from rotbench.heads import Picture

        return Picture(features, 3, map_size, view_size, scale=0.1)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Targets]:
        """Damaged images, float32 (N, 3, H, H), and targets: the images, what counts, and a guess.

        What counts: float32 (N, 1, H, H), 1 where pixels are hidden (noise: everywhere), else 0. The guess: the mean
        colour of what can be seen, float32 (N, 3, 1, 1). Raises ``ValueError`` where a patch covers the image.
        """
        import torch

        if self.corruption == "noise":
            noise = torch.randn(images.shape, generator=generator).to(images.device)
            views = (images + self.sigma * noise).clamp(0, 1)
            return views, (images, torch.ones_like(images[:, :1]), views.mean((2, 3), keepdim=True))
        hidden = self._hidden(len(images), images.shape[2], images.shape[3], generator).to(images.device)
        seen = 1 - hidden
        guess = (images * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
        return images * seen + 0.5 * hidden, (images, hidden, guess)

    def _hidden(self, count: int, height: int, width: int, generator: Generator) -> Tensor:
        """float32 (count, 1, height, width), 1 on the same number of patches in every image, of one at least."""
        import torch

        rows, columns = -(-height // self.patch), -(-width // self.patch)
        patches = rows * columns
        if patches < 2:
            raise ValueError(f"patches of {self.patch} pixels cover images of {height} x {width}; make them smaller")
        number = min(max(round(self.share * patches), 1), patches - 1)
        rank = torch.rand(count, patches, generator=generator).argsort(1).argsort(1)
        grid = (rank < number).float().view(count, 1, rows, columns)
        return grid.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)[..., :height, :width]

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Mean squared error of the pixels that count."""
        images, counts, guess = targets
        return ((guess + outputs - images).square() * counts).sum() / (3 * counts.sum())

    def score(self, outputs: Tensor, targets: Targets) -> Tensor:
        """(N,) explained variance of the pixels that count: what is predicted against the guess."""
        from rotbench.heads import explained_variance

        images, counts, guess = targets
        errors, deviations = (((one - images).square() * counts).sum((1, 2, 3)) for one in (guess + outputs, guess))
        return explained_variance(errors, deviations)

    def chance(self) -> float:
        """The mean of what can be seen explains nothing."""
        return 0.0

    def pictures(self, views: Tensor, outputs: Tensor, targets: Targets) -> Iterator[tuple[Tensor, str]]:
        """Side by side: the damaged image, the prediction where pixels count, the image."""
        import torch

        images, counts, guess = targets
        shown = torch.cat((views, torch.lerp(views, guess + outputs, counts), images), 3)
        for image, share in zip(shown, self.score(outputs, targets).tolist(), strict=True):
            yield image.clamp(0, 1), f"shown, predicted, true: {100 * share:.0f} % explained"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Reconstruction]
