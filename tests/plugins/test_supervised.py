from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def supervised(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("supervised")


def test_images_and_labels_are_passed_on(supervised: ModuleType) -> None:
    task = supervised.Supervised()
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    views, targets = task.make_batch(images, torch.Generator(), labels=labels)
    assert torch.equal(views, images)
    assert torch.equal(targets, labels)
    assert task.uses_labels
    assert not hasattr(task, "relabel")


def test_head_and_chance(supervised: ModuleType) -> None:
    task = supervised.Supervised()
    assert task.head(16, classes=7)(torch.zeros(2, 16)).shape == (2, 7)
    assert task.chance(classes=10) == 0.1


def test_pictures_name_classes_by_number(supervised: ModuleType) -> None:
    views = torch.rand(1, 3, 8, 8)
    outputs = torch.tensor([[0.0, math.log(3)]])
    ((image, caption),) = supervised.Supervised().pictures(views, outputs, torch.tensor([0]))
    assert torch.equal(image, views[0])
    assert caption == "class 0 → predicted 1 (75 %)"


def test_it_registers_itself(supervised: ModuleType) -> None:
    assert supervised.register_pretext_tasks() == [supervised.Supervised]
    assert supervised.Supervised.name == "supervised"
