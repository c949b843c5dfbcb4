"""Each distortion of a batch against torchvision's of one image, and their draws against torchvision's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from rotbench import distortions

Sample = NDArray[np.float64]

ROUNDING = 2e-6  # float32 of numbers up to 1, summed in another order


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(count: int, height: int = 32, width: int = 32) -> Tensor:
    """Images with fine noise, and some pixels that are grey, black, white or have two equal channels."""
    images = torch.rand(count, 3, height, width, generator=drawn(1))
    images[:, :, 0, 0] = 0.0
    images[:, :, 0, 1] = 1.0
    images[:, :, 0, 2] = 0.5
    images[:, 1, 1] = images[:, 0, 1]
    images[:, 2, 2] = images[:, 1, 2]
    return images


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (distortions.brightness, functional.adjust_brightness, 0.2, 1.8),
        (distortions.contrast, functional.adjust_contrast, 0.2, 1.8),
        (distortions.saturation, functional.adjust_saturation, 0.2, 1.8),
        (distortions.hue, functional.adjust_hue, -0.5, 0.5),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_each_change_of_colour_is_torchvisions(ours, theirs, low, high) -> None:  # type: ignore[no-untyped-def]
    images = some(20)
    before = images.clone()
    factors = torch.linspace(low, high, 20)
    changed = ours(images, factors)
    for image, factor, ours_one in zip(images, factors.tolist(), changed, strict=True):
        torch.testing.assert_close(ours_one, theirs(image, factor), rtol=0, atol=ROUNDING)
    assert torch.equal(images, before)


def test_luma_is_torchvisions_grey() -> None:
    images = some(4)
    for image, grey in zip(images, distortions.luma(images), strict=True):
        torch.testing.assert_close(grey, functional.rgb_to_grayscale(image), rtol=0, atol=ROUNDING)


def test_colour_jitter_applies_each_images_own_changes_in_its_own_order() -> None:
    changes = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    count = 48
    images = some(count)
    before = images.clone()
    order = torch.stack([torch.randperm(4, generator=drawn(at)) for at in range(count)])
    assert len({tuple(row) for row in order.tolist()}) > 15
    factors = torch.rand(count, 4, generator=drawn(3)) * torch.tensor([0.8, 0.8, 0.8, 0.2])
    factors += torch.tensor([0.6, 0.6, 0.6, -0.1])
    changed = distortions.colour_jitter(images, factors, order)
    for image, own_order, own_factors, ours in zip(images, order.tolist(), factors.tolist(), changed, strict=True):
        expected = image
        for number in own_order:
            expected = changes[number](expected, own_factors[number])
        # A hue is far from continuous where a pixel is nearly grey, and each of four changes rounds.
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (17, 23)])
def test_resized_crops_are_torchvisions(height: int, width: int) -> None:
    count = 60
    images = some(count, height, width)
    before = images.clone()
    boxes = distortions.crop_boxes(count, height, width, drawn(4))
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([height - 1, width - 1, 1, 1])
    flip = torch.arange(count) % 3 == 0
    views = distortions.resized_crops(images, boxes, flip)
    for image, box, mirrored, view in zip(images, boxes.tolist(), flip.tolist(), views, strict=True):
        expected = functional.resized_crop(image, *box, size=[height, width], antialias=True)
        torch.testing.assert_close(view, expected.flip(2) if mirrored else expected, rtol=0, atol=5e-6)
    assert torch.equal(images, before)
    assert torch.equal(views[0], images[0].flip(2))


def test_boxes_of_crops_are_distributed_as_torchvisions() -> None:
    """Kolmogorov and Smirnov: two samples of 4000 from one distribution differ by 0.0436 in one case of a thousand."""
    count, bound = 4000, 1.95 * math.sqrt(2 / 4000)
    for height, width in ((32, 32), (20, 60)):
        ours = distortions.crop_boxes(count, height, width, drawn(0)).double().numpy()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            image = torch.zeros(3, height, width)
            transform = v2.RandomResizedCrop((height, width))
            made = [transform.make_params([image]) for _ in range(count)]
        theirs = np.array([[one[key] for key in ("top", "left", "height", "width")] for one in made], float)
        assert (ours[:, 0] + ours[:, 2] <= height).all()
        assert (ours[:, 1] + ours[:, 3] <= width).all()
        assert (ours >= [0, 0, 1, 1]).all()
        distances = [
            greatest_distance(one, other)
            for one, other in zip(described(ours, height), described(theirs, height), strict=True)
        ]
        assert max(distances) < bound, distances
        assert len(distances) == 5


def described(boxes: Sample, height: int) -> list[Sample]:
    """Top, left, area, shape, and how far down a box lies of how far it could."""
    top, left, tall, wide = boxes.T
    return [top, left, tall * wide, wide / tall, top / (height + 1 - tall)]


def greatest_distance(one: Sample, other: Sample) -> float:
    """Between two empirical distribution functions, everywhere: many values are tied."""
    places = np.union1d(one, other)
    shares = [np.searchsorted(np.sort(sample), places, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def test_a_box_that_never_fits_is_the_largest_in_the_middle() -> None:
    """Of 1 x 100 pixels no 8 make a box that is at most 4/3 as wide as high."""
    boxes = distortions.crop_boxes(5, 1, 100, drawn(0))
    with torch.random.fork_rng():
        made = v2.RandomResizedCrop((1, 100)).make_params([torch.zeros(3, 1, 100)])
    assert (made["height"], made["width"]) == (1, 1)
    assert boxes.tolist() == [[made["top"], made["left"], made["height"], made["width"]]] * 5


def test_a_distorted_view_is_one_of_simclrs() -> None:
    """Shares of many views: one in five is grey, half are mirrored, and what is drawn is the generator's."""
    count = 4000
    ramp = torch.linspace(0.2, 0.8, 8).expand(8, 8)  # brighter to the right
    images = torch.stack((ramp, 0.7 * ramp, 0.4 * ramp)).expand(count, 3, 8, 8)
    views = distortions.simclr_distortion(images, drawn(0))
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert 0 <= float(views.min()) <= float(views.max()) <= 1
    spread = 4 * math.sqrt(0.25 / count)  # four standard errors of a share, at most
    grey = (views.amax(1) - views.amin(1)).amax((1, 2)) == 0
    assert abs(float(grey.float().mean()) - 0.2) < spread
    mirrored = views[:, :, :, 0].mean((1, 2)) > views[:, :, :, -1].mean((1, 2))
    assert abs(float(mirrored.float().mean()) - 0.5) < spread
    # Without jitter red, green and blue stay as 10 : 7 : 4, which no jitter leaves as it is.
    as_it_was = ((views[:, 1] / views[:, 0] - 0.7).abs().amax((1, 2)) < 1e-5) & ~grey
    assert abs(float(as_it_was.float().mean()) - 0.2 * 0.8) < spread
    assert torch.equal(views, distortions.simclr_distortion(images, drawn(0)))
    assert not torch.equal(views, distortions.simclr_distortion(images, drawn(1)))


def test_patches_are_cut_where_they_were_asked_for() -> None:
    images = some(5, 9, 11)
    top = torch.randint(6, (5, 7), generator=drawn(0))
    left = torch.randint(6, (5, 7), generator=drawn(1))
    patches = distortions.cut(images, top, left, 4, 6)
    assert patches.shape == (5, 7, 3, 4, 6)
    for image in range(5):
        for number in range(7):
            y, x = int(top[image, number]), int(left[image, number])
            assert torch.equal(patches[image, number], images[image, :, y : y + 4, x : x + 6])


def coordinates(count: int, size: int) -> Tensor:
    """Images that say where a pixel lies: the first channel its row, the second its column."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack((rows, columns, rows)).float().div(size).expand(count, 3, size, size)


@pytest.mark.parametrize(("size", "grid", "share"), [(32, 2, 1 / 6), (32, 3, 1 / 4), (28, 3, 1 / 6), (12, 3, 1 / 6)])
def test_a_tile_lies_anywhere_in_its_cell(size: int, grid: int, share: float) -> None:
    cell = size // grid
    margin = (size - grid * cell) // 2
    images = coordinates(200, size)
    tiles = distortions.grid_tiles(images, grid, share, drawn(0))
    side = cell - max(1, int(share * cell))
    assert tiles.shape == (200, grid**2, 3, side, side)
    corners = (tiles[:, :, :2, 0, 0] * size).round().long()
    steps = torch.arange(side) / size
    assert torch.allclose(tiles[:, :, 0], tiles[:, :, 0, :1, :1] + steps[:, None])
    assert torch.allclose(tiles[:, :, 1], tiles[:, :, 1, :1, :1] + steps)
    seen = 0
    for number in range(grid**2):
        for axis, place in enumerate(divmod(number, grid)):
            start = margin + place * cell
            assert set(corners[:, number, axis].tolist()) == set(range(start, start + cell - side + 1))
            seen += 1
    assert seen == 2 * grid**2
    drawn_places = (corners - margin).remainder(cell)  # (N, tiles, 2)
    places = (cell - side + 1) ** 2
    assert len({tuple(place) for place in drawn_places[:, 0].tolist()}) == places  # rows whatever the columns
    assert len({tuple(map(tuple, tiles)) for tiles in drawn_places.tolist()}) > places  # and tiles whatever the others
    centred = distortions.grid_tiles(images, grid, share, None)
    corners = (centred[:, :, :2, 0, 0] * size).round().long() - margin
    assert (corners == corners[0]).all()
    assert set(corners.remainder(cell).flatten().tolist()) == {(cell - side) // 2}


def test_tiles_of_other_images_are_refused() -> None:
    for height, width in ((12, 13), (11, 11)):
        with pytest.raises(ValueError, match=f"12 x 12 pixels or more, not {height} x {width}"):
            distortions.grid_tiles(torch.zeros(1, 3, height, width), 2, 1 / 6, None)


def test_resizing_is_torchvisions() -> None:
    images = some(3, 14, 14)
    for side in (32, 14, 9):
        for image, changed in zip(images, distortions.resized(images, side), strict=True):
            expected = functional.resize(image, [side, side], antialias=True)
            torch.testing.assert_close(changed, expected, rtol=0, atol=ROUNDING)
