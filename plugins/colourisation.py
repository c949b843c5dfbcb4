"""Colourisation: the target is the colour of an image that is shown in grey."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

#: Cells along each side of the map of colours that is predicted.
CELLS = 8

#: The ranges of blue and red minus luma: Cb and Cr are these differences divided by them.
BLUE, RED = 1.772, 1.402

#: The levels to which each chroma channel is quantised, finer near grey, where most values lie: 9 * 9 colours.
LEVELS = tuple(0.5 * abs(step) * step / 16 for step in range(-4, 5))


@dataclass(frozen=True)
class Colourisation:
    """Predict the colours of an image shown in grey (Zhang, Isola and Efros; Larsson et al., ECCV 2016).

    Colours are Cb and Cr of YCbCr (ITU-R BT.601), averaged over the cells of an 8 x 8 grid. Unlike in the paper,
    colour classes are not reweighted.
    """

    name: ClassVar[str] = "colourisation"
    takes: ClassVar[Literal["map"]] = "map"
    score_name: ClassVar[str] = "explained variance"
    cite: ClassVar[str] = (
        "@inproceedings{zhang2016colorful, title = {Colorful Image Colorization}, author = {Zhang, Richard and Isola, "
        "Phillip and Efros, Alexei A.}, booktitle = {ECCV}, year = {2016}}"
    )

    #: The kind of target: one of 81 colours (classification), or the two values of a colour (regression).
    target: Literal["quantised", "regressed"] = "quantised"

    def head(self, features: int, *, map_size: int) -> nn.Module:
        """Return a head from (N, features, map_size, map_size) to (N, 81 or 2, 8, 8)."""
        from rotbench.heads import Picture

        if self.target == "regressed":
            return Picture(features, 2, map_size, CELLS, scale=0.1)
        return Picture(features, len(LEVELS) ** 2, map_size, CELLS)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return grey images, float32 (N, 3, H, W), and Cb, Cr in -0.5..0.5, float32 (N, 2, 8, 8)."""
        import torch
        from torch.nn import functional

        from rotbench.distortions import luma

        grey = luma(images)
        chroma = torch.cat(((images[:, 2:] - grey) / BLUE, (images[:, :1] - grey) / RED), 1)
        return grey.repeat(1, 3, 1, 1), functional.adaptive_avg_pool2d(chroma, CELLS)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy over colours, or the mean squared error in units of 0.1, a typical chroma."""
        import torch
        from torch.nn import functional

        if self.target == "regressed":
            return functional.mse_loss(outputs, 10 * targets)
        levels = torch.tensor(LEVELS, device=targets.device)
        blue, red = torch.bucketize(targets, (levels[1:] + levels[:-1]) / 2).unbind(1)  # the nearest level
        return functional.cross_entropy(outputs, len(LEVELS) * blue + red)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the explained variance (N,), relative to predicting the mean colour of the batch everywhere."""
        from rotbench.heads import explained_variance

        guess = targets.mean((0, 2, 3), keepdim=True)
        errors = (self._colours(outputs) - targets).square().sum((1, 2, 3))
        return explained_variance(errors, (guess - targets).square().sum((1, 2, 3)))

    def chance(self) -> float:
        """Return 0: the best constant colour explains no variance."""
        return 0.0

    def _colours(self, outputs: Tensor) -> Tensor:
        """Cb, Cr (N, 2, 8, 8); for classes, the mean colour under their probabilities."""
        import torch

        if self.target == "regressed":
            return outputs / 10
        levels = torch.tensor(LEVELS, device=outputs.device)
        return torch.einsum("nkhw,kc->nchw", outputs.softmax(1), torch.cartesian_prod(levels, levels))

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        """Yield each image side by side: grey, in predicted and in true colours, both at the predicted resolution."""
        import torch
        from torch.nn import functional

        grey = views[:, :1]
        shown = [views]
        for chroma in (self._colours(outputs), targets):
            enlarged = functional.interpolate(chroma, views.shape[2:], mode="bilinear")
            blue, red = grey + BLUE * enlarged[:, :1], grey + RED * enlarged[:, 1:]
            shown.append(torch.cat((red, (grey - 0.2989 * red - 0.114 * blue) / 0.587, blue), 1).clamp(0, 1))
        for image, share in zip(torch.cat(shown, 3), self.score(outputs, targets).tolist(), strict=True):
            yield image, f"input, predicted, true: {100 * share:.0f} % of variance explained"


@hookimpl
def register_pretext_tasks() -> list[type]:
    return [Colourisation]
