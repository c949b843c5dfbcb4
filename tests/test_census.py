"""Images a class and exact copies, against numpy and against comparing every image with every other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rotbench.census import class_counts, duplicates
from rotbench.data import Images


def images(count: int, seed: int) -> Images:
    """Images of one pixel with few colours, so that many are copies."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(3, (count, 3, 1, 1), generator=draw, dtype=torch.uint8)
    return Images(pixels, torch.randint(2, (count,), generator=draw), ("a", "b"))


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_those_that_a_comparison_of_all_with_all_finds(seed: int) -> None:
    training, test = images(20, seed), images(12, seed + 100)
    both = [(p.tolist(), int(y)) for part in (training, test) for p, y in zip(part.pixels, part.labels, strict=True)]
    first, second = both[:20], both[20:]
    assert duplicates(training, test) == {
        "test_in_train": sum(any(p == q for q, _ in first) for p, _ in second),
        "train": sum(any(p == q for q, _ in first[:place]) for place, (p, _) in enumerate(first)),
        "test": sum(any(p == q for q, _ in second[:place]) for place, (p, _) in enumerate(second)),
        "conflicting": sum(any(p == q and y != z for q, z in both) for p, y in both),
    }


def test_planted_copies_are_counted_and_near_copies_are_not() -> None:
    pixels = torch.arange(6 * 12, dtype=torch.uint8).view(6, 3, 2, 2)
    training = Images(pixels, torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"))
    near = pixels[2:3].clone()
    near[0, 0, 0, 0] += 1
    test = Images(torch.cat([pixels[:1], pixels[5:], near]), torch.tensor([0, 0, 0]), ("a", "b"))
    assert duplicates(training, test) == {"test_in_train": 2, "train": 0, "test": 0, "conflicting": 2}


def test_images_a_class_are_numpys_count() -> None:
    labels = torch.tensor([3, 1, 1, 0, 3, 3])
    assert class_counts(labels, 5) == np.bincount(labels.numpy(), minlength=5).tolist() == [1, 2, 0, 3, 0]


def test_the_random_images_have_copies_of_every_kind() -> None:
    found = [duplicates(images(20, seed), images(12, seed + 100)) for seed in range(5)]
    assert len(found) == 5
    assert all(count > 0 for counts in found for count in counts.values())


def test_a_copy_has_the_same_shape_and_may_lie_in_memory_in_another_way() -> None:
    """The bytes of a wide image are no copy of a high one's; channels first or last is the same image."""
    pixels = torch.arange(2 * 24, dtype=torch.uint8).view(2, 3, 4, 2)
    labels, classes = torch.tensor([0, 1]), ("a", "b")
    training = Images(pixels, labels, classes)
    wide = Images(pixels.reshape(2, 3, 2, 4), labels, classes)
    assert set(duplicates(training, wide).values()) == {0}
    last = Images(pixels.contiguous(memory_format=torch.channels_last), labels.flip(0), classes)
    assert duplicates(training, last) == {"test_in_train": 2, "train": 0, "test": 0, "conflicting": 4}
