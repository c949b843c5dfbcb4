from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def shuffled_labels(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("shuffled_labels")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_labels_are_dealt_out_at_random_and_none_is_lost(shuffled_labels: ModuleType) -> None:
    task = shuffled_labels.ShuffledLabels()
    labels = torch.arange(5000) % 10
    before = labels.clone()
    dealt = task.relabel(labels, drawn(0))
    assert dealt.dtype == torch.int64
    assert dealt.bincount().tolist() == [500] * 10
    # One in ten agrees with what it was: 500 of 5000, within four standard deviations.
    assert abs(int((dealt == labels).sum()) - 500) < 4 * math.sqrt(5000 * 0.1 * 0.9)
    assert torch.equal(labels, before)
    assert torch.equal(dealt, task.relabel(labels, drawn(0)))
    assert not torch.equal(dealt, task.relabel(labels, drawn(1)))


def test_images_and_labels_are_passed_on(shuffled_labels: ModuleType) -> None:
    task = shuffled_labels.ShuffledLabels()
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    views, targets = task.make_batch(images, drawn(0), labels=labels)
    assert torch.equal(views, images)
    assert torch.equal(targets, labels)
    assert task.uses_labels


def test_head_and_chance(shuffled_labels: ModuleType) -> None:
    task = shuffled_labels.ShuffledLabels()
    assert task.head(16, classes=7)(torch.zeros(2, 16)).shape == (2, 7)
    assert task.chance(classes=10) == 0.1


def test_pictures_name_classes_by_number(shuffled_labels: ModuleType) -> None:
    views = torch.rand(1, 3, 8, 8)
    outputs = torch.tensor([[0.0, math.log(3)]])
    ((image, caption),) = shuffled_labels.ShuffledLabels().pictures(views, outputs, torch.tensor([0]))
    assert torch.equal(image, views[0])
    assert caption == "class 0 → predicted 1 (75 %)"


def test_it_registers_itself(shuffled_labels: ModuleType) -> None:
    assert shuffled_labels.register_pretext_tasks() == [shuffled_labels.ShuffledLabels]
    assert shuffled_labels.ShuffledLabels.name == "shuffled-labels"
