from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor


@pytest.fixture(scope="module")
def rotation(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("rotation")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def turned(image: Tensor, turn: int) -> NDArray[np.float32]:
    """The independent statement: numpy turns counter-clockwise."""
    return np.rot90(image.numpy(), turn, axes=(1, 2))


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_turn_an_image(rotation: ModuleType, images: Tensor) -> None:
    views, targets = rotation.Rotation().make_batch(images, drawn(0))
    assert views.shape == images.shape
    assert targets.dtype == torch.int64
    for image, view, target in zip(images, views, targets.tolist(), strict=True):
        np.testing.assert_array_equal(view.numpy(), turned(image, target))
    assert targets.bincount().min() > 5
    assert len(targets.bincount()) == 4


def test_the_draw_is_the_generators(rotation: ModuleType, images: Tensor) -> None:
    task = rotation.Rotation()
    targets = [task.make_batch(images, drawn(seed))[1] for seed in (0, 0, 1)]
    assert torch.equal(targets[0], targets[1])
    assert not torch.equal(targets[0], targets[2])


def test_all_turns_of_every_image(rotation: ModuleType, images: Tensor) -> None:
    views, targets = rotation.Rotation(turns="all").make_batch(images, drawn(0))
    seen = set()
    for at, (view, target) in enumerate(zip(views, targets.tolist(), strict=True)):
        np.testing.assert_array_equal(view.numpy(), turned(images[at % 64], target))
        seen.add((at % 64, target))
    assert len(seen) == len(views) == 4 * 64


def test_evaluation_shows_every_turn_of_every_image_whatever_is_trained(rotation: ModuleType, images: Tensor) -> None:
    for turns in ("one", "all"):
        batches = list(rotation.Rotation(turns=turns).evaluation_batches(images, drawn(0)))
        assert len(batches) == 4
        for turn, (views, targets) in enumerate(batches):
            assert targets.tolist() == [turn] * 64
            assert targets.dtype == torch.int64
            for image, view in zip(images, views, strict=True):
                np.testing.assert_array_equal(view.numpy(), turned(image, turn))


def test_head_and_chance(rotation: ModuleType) -> None:
    task = rotation.Rotation()
    assert task.head(512)(torch.zeros(2, 512)).shape == (2, 4)
    assert task.chance() == 0.25


def test_pictures_tell_turns_in_degrees(rotation: ModuleType, images: Tensor) -> None:
    outputs = torch.zeros(4, 4)
    outputs[:, 1] = torch.tensor(3.0).log()  # against three others: a half
    shown = list(rotation.Rotation().pictures(images[:4], outputs, torch.arange(4)))
    assert [caption for _, caption in shown] == [f"{turn}° → predicted 90° (50 %)" for turn in (0, 90, 180, 270)]
    assert all(torch.equal(view, image) for (view, _), image in zip(shown, images[:4], strict=True))


def test_images_that_are_not_square_are_refused(rotation: ModuleType) -> None:
    with pytest.raises(ValueError, match="square images, not 8 x 6"):
        rotation.Rotation().make_batch(torch.rand(2, 3, 8, 6), drawn(0))


def test_it_registers_itself(rotation: ModuleType) -> None:
    assert rotation.register_pretext_tasks() == [rotation.Rotation]
    assert rotation.Rotation.name == "rotation"
