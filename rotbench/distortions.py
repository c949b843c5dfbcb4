"""What pretext tasks do to images, a whole batch at once: cut patches, crop and resize, change colours.

All functions take float32 (N, 3, H, W) in [0, 1], leave it as it is and return values in [0, 1] on its device. What is
random is drawn by the caller, or here from a CPU generator that is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

#: Shares of red, green and blue in brightness (ITU-R BT.601), to as many digits as torchvision has.
LUMA = (0.2989, 0.587, 0.114)

#: Boxes that are tried for a crop before it is given up, as torchvision tries them.
_TRIALS = 10


def cut(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Patches (N, P, 3, height, width) whose upper left corners are ``top`` and ``left``, int64 (N, P)."""
    windows = images.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, 3, tops, lefts, height, width)
    image = torch.arange(len(images), device=images.device)[:, None]
    return windows[image, :, top.to(images.device), left.to(images.device)]


def grid_tiles(images: Tensor, grid: int, share: float, generator: Generator | None) -> Tensor:
    """Square tiles (N, grid * grid, 3, side, side), row by row, one in each cell of a grid.

    A tile is shorter than its cell by ``share``, by one pixel at least, and lies anywhere in it, or in its middle
    without a generator: so edges of neighbours do not continue each other. Raises ``ValueError`` for images that are
    not square or whose side is less than 12.
    """
    height, width = images.shape[2:]
    if height != width or height < 12:
        raise ValueError(f"tiles need square images of 12 x 12 pixels or more, not {height} x {width}")
    cell = height // grid
    gap = max(1, int(cell * share))
    corner = (height - grid * cell) // 2 + cell * torch.arange(grid)
    shape = (2, len(images), grid * grid)
    drawn = torch.full(shape, gap // 2) if generator is None else torch.randint(gap + 1, shape, generator=generator)
    top, left = corner.repeat_interleave(grid) + drawn[0], corner.repeat(grid) + drawn[1]
    return cut(images, top, left, cell - gap, cell - gap)


def resized(images: Tensor, side: int) -> Tensor:
    """Square images brought to ``side`` x ``side``, bilinearly."""
    return functional.interpolate(images, (side, side), mode="bilinear", antialias=side < images.shape[-1])


def crop_boxes(
    count: int,
    height: int,
    width: int,
    generator: Generator,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Random boxes, int64 (count, 4) of top, left, height and width, drawn as ``RandomResizedCrop`` of torchvision.

    The area is uniform in ``scale``, the logarithm of width over height in ``ratio``. Of ten such boxes the first is
    taken that fits; where none does, it is the largest box in the middle whose sides keep within ``ratio``.
    """
    uniform = torch.rand(4, count, _TRIALS, generator=generator)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * uniform[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * uniform[1])
    wide, tall = (area * shape).sqrt().round().long(), (area / shape).sqrt().round().long()
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    chosen = fits.int().argmax(1, keepdim=True)  # the first that fits
    tall, wide, down, right = (drawn.gather(1, chosen)[:, 0] for drawn in (tall, wide, uniform[2], uniform[3]))
    lost = ~fits.any(1)
    tall[lost] = min(height, round(width / ratio[0]))
    wide[lost] = min(width, round(height * ratio[1]))
    top, left = ((height - tall + 1) * down).long(), ((width - wide + 1) * right).long()
    top[lost], left[lost] = (height - tall[lost]) // 2, (width - wide[lost]) // 2
    return torch.stack((top, left, tall, wide), 1)


def resized_crops(images: Tensor, boxes: Tensor, flip: Tensor) -> Tensor:
    """Each image's box, int64 (N, 4) as ``crop_boxes``, enlarged to (H, W), mirrored left to right where ``flip`` is.

    Bilinear interpolation within the box is a product of two matrices, one for rows and one for columns.
    """
    height, width = images.shape[2:]
    top, left, tall, wide = boxes.unbind(1)
    rows = _interpolation(top, tall, height)
    columns = _interpolation(left, wide, width)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    return (rows[:, None] @ images @ columns.mT[:, None]).clamp(0, 1)


def _interpolation(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Matrices (N, size, size): each takes ``size`` pixels and gives ``size`` samples of a part of them."""
    place = (torch.arange(size) + 0.5) * (length / size)[:, None] - 0.5  # (N, size), within the part
    place = torch.minimum(place.clamp(min=0), length[:, None] - 1.0)
    pixel = torch.arange(size) - start[:, None]  # (N, size), likewise
    return (1 - (place[:, :, None] - pixel[:, None, :]).abs()).clamp(min=0)


def luma(images: Tensor) -> Tensor:
    """Brightness (N, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def blend(images: Tensor, others: Tensor | float, share: Tensor) -> Tensor:
    """``share`` (N,) of each image and the rest of the other one; more than 1 goes beyond the image."""
    share = share.view(-1, 1, 1, 1)
    return (share * images + (1 - share) * others).clamp(0, 1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Times ``factor`` (N,)."""
    return blend(images, 0.0, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Differences from the image's mean brightness times ``factor`` (N,)."""
    return blend(images, luma(images).mean((2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Differences from grey times ``factor`` (N,)."""
    return blend(images, luma(images), factor)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """The hue moved by ``turn`` (N,) of the colour circle; saturation and value in HSV stay."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    # A channel falls from the value by as much chroma as its distance on the circle of six parts says.
    channel = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    place = (channel + (sixth + 6 * turn.view(-1, 1, 1))[:, None]) % 6
    return (value[:, None] - chroma[:, None] * torch.minimum(place, 4 - place).clamp(0, 1)).clamp(0, 1)


#: The order of the columns of ``factors`` in ``colour_jitter``.
_CHANGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness, contrast, saturation, hue)


def colour_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue changed by ``factors``, float32 (N, 4), in each image's own order.

    ``order``: int64 (N, 4) on the CPU, each row a permutation of 0..3, which change comes first, second, ..
    """
    images, factors = images.clone(), factors.to(images.device)
    for step in range(len(_CHANGES)):
        for number, change in enumerate(_CHANGES):
            chosen = (order[:, step] == number).nonzero()[:, 0].to(images.device)
            images[chosen] = change(images[chosen], factors[chosen, number])
    return images


def simclr_distortion(images: Tensor, generator: Generator, *, strength: float = 0.5) -> Tensor:
    """One random view of each image as in SimCLR's experiments on CIFAR-10: crop, mirror, colour, grey; no blur.

    ``strength``: of the colour jitter, which four in five views get; one in five is then made grey.
    """
    count, (height, width) = len(images), images.shape[2:]
    boxes = crop_boxes(count, height, width, generator)
    views = resized_crops(images, boxes, torch.rand(count, generator=generator) < 0.5)
    jittered = (torch.rand(count, generator=generator) < 0.8).nonzero()[:, 0]
    span = strength * torch.tensor([0.8, 0.8, 0.8, 0.2])
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0])
    lowest = torch.tensor([0.0, 0.0, 0.0, -0.5])
    low, high = torch.maximum(centre - span, lowest), centre + span
    factors = low + (high - low) * torch.rand(count, 4, generator=generator)
    order = torch.rand(count, 4, generator=generator).argsort(1)
    chosen = jittered.to(images.device)
    views[chosen] = colour_jitter(views[chosen], factors[jittered], order[jittered])
    grey = (torch.rand(count, generator=generator) < 0.2).to(images.device)
    return torch.where(grey.view(-1, 1, 1, 1), luma(views), views)
