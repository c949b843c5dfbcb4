"""Colourisation: the target is the colour of an image that is shown in grey."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

#: Cells along each side of the picture of colours that is asked for.
CELLS = 8

#: How far blue and red can be from grey: Cb and Cr are the differences divided by this.
BLUE, RED = 1.772, 1.402

#: Chroma in one direction is rounded to one of these, finer near grey, where most of it lies: 9 * 9 colours in all.
LEVELS = tuple(0.5 * abs(step) * step / 16 for step in range(-4, 5))


@dataclass(frozen=True)
class Colourisation:
    """Tell the colours of an image shown in grey (Zhang, Isola and Efros; Larsson et al., ECCV 2016).

    Colours are Cb and Cr of YCbCr (ITU-R BT.601), means over the cells of an 8 x 8 grid. Unlike the paper's, classes
    of colours are not weighted against each other.
    """

    name: ClassVar[str] = "colourisation"
    takes: ClassVar[Literal["map"]] = "map"
    score_name: ClassVar[str] = "explained variance"
    cite: ClassVar[str] = (
        "@inproceedings{zhang2016colorful, title = {Colorful Image Colorization}, author = {Zhang, Richard and Isola, "
        "Phillip and Efros, Alexei A.}, booktitle = {ECCV}, year = {2016}}"
    )

    #: What is predicted: which of 81 colours (classification), or the two numbers of a colour (regression).
    target: Literal["quantised", "regressed"] = "quantised"

    def head(self, features: int, *, map_size: int) -> nn.Module:
        """(N, features, map_size, map_size) to (N, 81 or 2, 8, 8)."""
        from rotbench.heads import Picture

        if self.target == "regressed":
            return Picture(features, 2, map_size, CELLS, scale=0.1)
        return Picture(features, len(LEVELS) ** 2, map_size, CELLS)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Grey images, float32 (N, 3, H, W) of three equal channels, and Cb, Cr in -0.5..0.5, float32 (N, 2, 8, 8)."""
        import torch
        from torch.nn import functional

        from rotbench.distortions import luma

        grey = luma(images)
        chroma = torch.cat(((images[:, 2:] - grey) / BLUE, (images[:, :1] - grey) / RED), 1)
        return grey.repeat(1, 3, 1, 1), functional.adaptive_avg_pool2d(chroma, CELLS)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy over colours, or mean squared error in units of 0.1, as far as chroma commonly goes."""
        import torch
        from torch.nn import functional

        if self.target == "regressed":
            return functional.mse_loss(outputs, 10 * targets)
        levels = torch.tensor(LEVELS, device=targets.device)
        blue, red = torch.bucketize(targets, (levels[1:] + levels[:-1]) / 2).unbind(1)  # the nearest level
        return functional.cross_entropy(outputs, len(LEVELS) * blue + red)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) explained variance: what is predicted against the batch's mean colour as a guess everywhere."""
        from rotbench.heads import explained_variance

        guess = targets.mean((0, 2, 3), keepdim=True)
        errors = (self._colours(outputs) - targets).square().sum((1, 2, 3))
        return explained_variance(errors, (guess - targets).square().sum((1, 2, 3)))

    def chance(self) -> float:
        """The best single colour explains nothing."""
        return 0.0

    def _colours(self, outputs: Tensor) -> Tensor:
        """Cb, Cr (N, 2, 8, 8); of classes the mean colour under their probabilities."""
        import torch

        if self.target == "regressed":
            return outputs / 10
        levels = torch.tensor(LEVELS, device=outputs.device)
        return torch.einsum("nkhw,kc->nchw", outputs.softmax(1), torch.cartesian_prod(levels, levels))

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Side by side: grey, in the colours that were predicted, in the true ones (both as coarse as predicted)."""
        import torch
        from torch.nn import functional

        grey = views[:, :1]
        shown = [views]
        for chroma in (self._colours(outputs), targets):
            enlarged = functional.interpolate(chroma, views.shape[2:], mode="bilinear")
            blue, red = grey + BLUE * enlarged[:, :1], grey + RED * enlarged[:, 1:]
            shown.append(torch.cat((red, (grey - 0.2989 * red - 0.114 * blue) / 0.587, blue), 1).clamp(0, 1))
        for image, share in zip(torch.cat(shown, 3), self.score(outputs, targets).tolist(), strict=True):
            yield image, f"shown, predicted, true: {100 * share:.0f} % explained"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Colourisation]
