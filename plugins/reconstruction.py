"""Reconstruction: the target is the image itself, which is shown masked or with noise."""

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
    """Reconstruct a corrupted image (Vincent et al., ICML 2008; Pathak et al., CVPR 2016; He et al., CVPR 2022).

    As in the latter two, the loss is computed on masked pixels; with noise it is computed on all. The head predicts
    how pixels deviate from the mean colour of the visible pixels.
    """

    name: ClassVar[str] = "reconstruction"
    takes: ClassVar[Literal["map"]] = "map"
    score_name: ClassVar[str] = "explained variance"
    cite: ClassVar[str] = (
        "@inproceedings{pathak2016context, title = {Context Encoders: Feature Learning by Inpainting}, author = "
        '{Pathak, Deepak and Kr{\\"a}henb{\\"u}hl, Philipp and Donahue, Jeff and Darrell, Trevor and Efros, Alexei}, '
        "booktitle = {CVPR}, year = {2016}}"
    )

    #: How images are corrupted: square patches are replaced by grey, or noise is added to every pixel.
    corruption: Literal["mask", "noise"] = "mask"
    #: Share of the patches that is masked (mask).
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    #: Side of a patch in pixels (mask).
    patch: Annotated[int, Field(ge=1)] = 8
    #: Standard deviation of the noise, for pixels in 0..1 (noise).
    sigma: Annotated[float, Field(gt=0)] = 0.3

    def head(self, features: int, *, map_size: int, view_size: int) -> nn.Module:
        """Return a head from (N, features, map_size, map_size) to pixel deviations (N, 3, view_size, view_size)."""
        from rotbench.heads import Picture

        return Picture(features, 3, map_size, view_size, scale=0.1)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Targets]:
        """Return corrupted images, float32 (N, 3, H, H), and targets: the images, a mask, and a guess.

        The mask is float32 (N, 1, H, H), 1 for pixels that are predicted (noise: all), else 0. The guess is the mean
        colour of the visible pixels, float32 (N, 3, 1, 1). Raise ``ValueError`` if a patch covers the image.
        """
        import torch

        if self.corruption == "noise":
            noise = torch.randn(images.shape, generator=generator).to(images.device)
            views = (images + self.sigma * noise).clamp(0, 1)
            return views, (images, torch.ones_like(images[:, :1]), views.mean((2, 3), keepdim=True))
        masked = self._masked(len(images), images.shape[2], images.shape[3], generator).to(images.device)
        visible = 1 - masked
        guess = (images * visible).sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True)
        return images * visible + 0.5 * masked, (images, masked, guess)

    def _masked(self, count: int, height: int, width: int, generator: Generator) -> Tensor:
        """A mask, float32 (count, 1, height, width), 1 on the same number of patches in every image, at least one."""
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
        """Return the mean squared error of the masked pixels."""
        images, mask, guess = targets
        return ((guess + outputs - images).square() * mask).sum() / (3 * mask.sum())

    def score(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the explained variance (N,) of the masked pixels, relative to predicting the guess."""
        from rotbench.heads import explained_variance

        images, mask, guess = targets
        errors, deviations = (((one - images).square() * mask).sum((1, 2, 3)) for one in (guess + outputs, guess))
        return explained_variance(errors, deviations)

    def chance(self) -> float:
        """Return 0: the mean colour of the visible pixels explains no variance."""
        return 0.0

    def pictures(self, views: Tensor, outputs: Tensor, targets: Targets) -> Iterator[tuple[Tensor, str]]:
        """Yield each image side by side: corrupted, with masked pixels predicted, and true."""
        import torch

        images, mask, guess = targets
        shown = torch.cat((views, torch.lerp(views, guess + outputs, mask), images), 3)
        for image, share in zip(shown, self.score(outputs, targets).tolist(), strict=True):
            yield image.clamp(0, 1), f"input, predicted, true: {100 * share:.0f} % of variance explained"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Reconstruction]
