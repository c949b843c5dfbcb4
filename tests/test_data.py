from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as reference

from rotbench import data


def random_pixels(count: int, side: int = 8) -> Tensor:
    return torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


# Images


def test_images_refuses_what_does_not_fit_together() -> None:
    pixels, labels = random_pixels(4), torch.tensor([0, 1, 1, 0])
    data.Images(pixels, labels, ("cat", "dog"))
    cases: list[tuple[Tensor, Tensor, tuple[str, ...], str]] = [
        (pixels.float(), labels, ("cat", "dog"), r"pixels must be uint8 \(N, 3, H, W\), not float32"),
        (pixels[:, :1], labels, ("cat", "dog"), r"not uint8 \(4, 1, 8, 8\)"),
        (pixels[0], labels, ("cat", "dog"), "pixels must be"),
        (pixels[:0], labels[:0], ("cat", "dog"), "no pixels"),
        (pixels, labels.int(), ("cat", "dog"), r"labels must be int64 \(N,\), not int32 \(4,\)"),
        (pixels, labels[:, None], ("cat", "dog"), "labels must be"),
        (pixels, labels[:3], ("cat", "dog"), "4 images but 3 labels"),
        (pixels, labels, ("cat",), r"0\.\.0, one a class, not in 0\.\.1"),
        (pixels, labels - 1, ("cat", "dog"), r"not in -1\.\.0"),
    ]
    for wrong_pixels, wrong_labels, classes, message in cases:
        with pytest.raises(ValueError, match=message):
            data.Images(wrong_pixels, wrong_labels, classes)


# Statistics


def test_statistics_are_those_of_numpy_in_double_precision() -> None:
    pixels = random_pixels(50)
    mean, std = data.channel_statistics(pixels)
    unit = pixels.numpy().astype(np.float64) / 255
    assert mean.dtype == std.dtype == torch.float32
    np.testing.assert_array_equal(mean.numpy(), unit.mean(axis=(0, 2, 3)).astype(np.float32))
    np.testing.assert_allclose(std.numpy(), unit.std(axis=(0, 2, 3)), rtol=1e-7)


def test_statistics_do_not_drift_with_the_number_of_images() -> None:
    pixels = random_pixels(4)
    assert [torch.equal(*pair) for pair in zip(
        data.channel_statistics(pixels), data.channel_statistics(pixels.repeat(5000, 1, 1, 1)), strict=True
    )] == [True, True]  # fmt: skip


def test_a_constant_channel_is_centred_and_not_divided_by_zero() -> None:
    pixels = random_pixels(4)
    pixels[:, 1] = 77
    mean, std = data.channel_statistics(pixels)
    normal = data.normalise(data.to_unit(pixels), mean, std)
    assert torch.isfinite(normal).all()
    assert normal[:, 1].abs().max() < 1e-6
    assert normal.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(normal.std(dim=(0, 2, 3), correction=0)[[0, 2]], torch.ones(2))


def test_pixels_become_what_torchvision_makes_of_them() -> None:
    pixels = random_pixels(2)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    for image, ours in zip(pixels, data.normalise(data.to_unit(pixels), mean, std), strict=True):
        expected = reference.normalize(reference.to_tensor(image.permute(1, 2, 0).numpy()), mean.tolist(), std.tolist())
        assert torch.equal(ours, expected)


# Subsets


@pytest.fixture(scope="module")
def labels() -> Tensor:
    """Ten classes, mixed, with 30 to 39 images each."""
    each = torch.arange(10).repeat_interleave(torch.arange(30, 40))
    return each[torch.randperm(len(each), generator=torch.Generator().manual_seed(1))]


def test_subsets_are_balanced_and_nested(labels: Tensor) -> None:
    smaller: set[int] = set()
    for per_class in range(1, 31):
        subset = data.balanced_subset(labels, per_class, seed=0)
        assert subset.dtype == torch.int64
        assert labels[subset].bincount().tolist() == [per_class] * 10
        assert smaller < set(subset.tolist())
        smaller = set(subset.tolist())
    assert len(smaller) == 300


def test_subsets_depend_on_the_seed_alone(labels: Tensor) -> None:
    first = data.balanced_subset(labels, 5, seed=0)
    torch.rand(1)
    assert torch.equal(first, data.balanced_subset(labels, 5, seed=0))
    assert not torch.equal(first, data.balanced_subset(labels, 5, seed=1))


def test_a_subset_is_not_the_first_of_the_file(labels: Tensor) -> None:
    first = torch.cat([(labels == label).nonzero()[:5, 0] for label in range(10)]).sort().values
    assert not torch.equal(data.balanced_subset(labels, 5, seed=0), first)


def test_all_labels_are_all_images_in_order(labels: Tensor) -> None:
    assert torch.equal(data.balanced_subset(labels, None, seed=3), torch.arange(len(labels)))


def test_a_subset_larger_than_a_class_is_refused(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="31 labels per class were asked for, but class 0 has 30"):
        data.balanced_subset(labels, 31, seed=0)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        data.balanced_subset(labels, 0, seed=0)


# Order


def test_updates_of_an_epoch() -> None:
    cases = {(50_000, 128): 391, (129, 128): 1, (128, 128): 1, (130, 128): 2, (257, 128): 2, (10, 128): 1, (3, 2): 1}
    for (images, batch_size), updates in cases.items():
        assert data.updates_per_epoch(images, batch_size) == updates, (images, batch_size)
    for images, batch_size in ((1, 128), (100, 1)):
        with pytest.raises(ValueError, match="at least 2 images"):
            data.updates_per_epoch(images, batch_size)


@given(count=st.integers(2, 60), batch_size=st.integers(2, 20), updates=st.integers(1, 30))
def test_an_epoch_has_its_updates_and_each_pass_sees_each_image_once(count: int, batch_size: int, updates: int) -> None:
    batches = list(data.epoch_batches(count, batch_size, updates, 0, "downstream", 1))
    assert len(batches) == updates
    passes: dict[int, list[Tensor]] = {}
    for number, positions in batches:
        passes.setdefault(number, []).append(positions)
    assert list(passes) == list(range(len(passes)))
    for number, of_pass in passes.items():
        seen = torch.cat(of_pass).tolist()
        assert len(set(seen)) == len(seen)
        if number < len(passes) - 1 or len(of_pass) == data.updates_per_epoch(count, batch_size):
            assert sorted(seen) == list(range(count))
        assert all(len(positions) == batch_size for positions in of_pass[:-1])
        assert 2 <= len(of_pass[-1]) <= batch_size + 1


def test_no_two_passes_epochs_kinds_or_seeds_share_an_order() -> None:
    orders = set()
    for seed, kind, epoch in itertools.product((0, 1), ("pretext", "downstream"), (1, 2)):
        for _, positions in data.epoch_batches(40, 40, 3, seed, kind, epoch):
            orders.add(tuple(positions.tolist()))
    assert len(orders) == 2 * 2 * 2 * 3


def test_an_order_is_the_same_when_it_is_asked_for_again() -> None:
    first = [positions for _, positions in data.epoch_batches(30, 8, 10, 5, "pretext", 2)]
    again = [positions for _, positions in data.epoch_batches(30, 8, 10, 5, "pretext", 2)]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))


# Augmentation


def test_crop_then_flip_is_that_of_torchvision_at_every_offset() -> None:
    image = data.to_unit(random_pixels(1, side=8))[0]
    cases = list(itertools.product((False, True), range(9), range(9)))
    flip, top, left = (torch.tensor(column) for column in zip(*cases, strict=True))
    ours = data.augment(image.expand(len(cases), -1, -1, -1), flip, top, left)
    for mirrored, row, column, one in zip(flip, top, left, ours, strict=True):
        expected = reference.crop(reference.pad(image, [4]), int(row), int(column), 8, 8)
        assert torch.equal(one, reference.hflip(expected) if mirrored else expected)
    assert len(ours) == 162


def test_each_image_of_a_batch_gets_its_own_draw_and_no_other() -> None:
    images = data.to_unit(random_pixels(20, side=6))
    draws = data.augmentation_draws(20, 0, "downstream", 1, 0, padding=2)
    together = data.augment(images, draws.flip, draws.top, draws.left, padding=2)
    for at in range(20):
        one = slice(at, at + 1)
        assert torch.equal(
            together[one], data.augment(images[one], draws.flip[one], draws.top[one], draws.left[one], padding=2)
        )


def test_parts_of_the_augmentation_can_be_left_out() -> None:
    images = data.to_unit(random_pixels(6))
    draws = data.augmentation_draws(6, 0, "downstream", 1, 0)
    assert torch.equal(data.augment(images, None, None, None), images)
    only_flipped = data.augment(images, draws.flip, None, None)
    assert torch.equal(only_flipped, data.augment(images, draws.flip, torch.full((6,), 4), torch.full((6,), 4)))
    only_cropped = data.augment(images, None, draws.top, draws.left)
    assert torch.equal(only_cropped, data.augment(images, torch.zeros(6, dtype=torch.bool), draws.top, draws.left))


def test_draws_cover_their_range_and_repeat() -> None:
    draws = data.augmentation_draws(5000, 0, "pretext", 3, 1)
    assert draws.flip.dtype == torch.bool
    assert 0.45 < draws.flip.float().mean() < 0.55
    for offsets in (draws.top, draws.left):
        assert set(offsets.tolist()) == set(range(9))
    assert not torch.equal(draws.top, draws.left)
    again = data.augmentation_draws(5000, 0, "pretext", 3, 1)
    assert torch.equal(draws.flip, again.flip)
    others = [(1, "pretext", 3, 1), (0, "downstream", 3, 1), (0, "pretext", 4, 1), (0, "pretext", 3, 0)]
    for seed, kind, epoch, pass_ in others:
        assert not torch.equal(draws.top, data.augmentation_draws(5000, seed, kind, epoch, pass_).top)


# Validation


@given(
    counts=st.lists(st.integers(4, 30), min_size=2, max_size=4),
    per_class=st.one_of(st.none(), st.integers(1, 4)),
    share=st.sampled_from([0.1, 0.25, 0.29, 1 / 3, 0.5, 0.9]),
    seed=st.integers(0, 5),
)
def test_validation_is_a_share_of_each_class_apart_from_what_is_trained_on(
    counts: list[int], per_class: int | None, share: float, seed: int
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    trained, held = data.split_validation(labels, per_class, share, seed)
    both = torch.cat([trained, held]).sort().values
    assert torch.equal(both, data.balanced_subset(labels, per_class, seed))
    for label, count in enumerate(counts):
        used = count if per_class is None else per_class
        assert int((labels[held] == label).sum()) == int(Decimal(repr(share)) * used)
    # What a smaller subset keeps, the whole set keeps too: a pretext run on all images sees none of it.
    _, kept = data.split_validation(labels, None, share, seed)
    assert set(held.tolist()) <= set(kept.tolist())


def test_without_validation_the_subset_is_what_it_was() -> None:
    labels = torch.arange(40) % 4
    trained, held = data.split_validation(labels, 5, 0.0, 3)
    assert torch.equal(trained, data.balanced_subset(labels, 5, 3))
    assert len(held) == 0


def test_the_first_images_of_each_class_are_taken_in_order() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 0])
    images = data.Images(random_pixels(6), labels, ("cat", "dog"))
    few = data.first_of_each_class(images, 2)
    assert torch.equal(few.pixels, images.pixels[[0, 1, 2, 4]])
    assert few.labels.tolist() == [1, 0, 1, 0]
    assert len(data.first_of_each_class(images, 99).labels) == 6
