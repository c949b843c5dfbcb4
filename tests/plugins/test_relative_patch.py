from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="module")
def relative_patch(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("relative_patch")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, size: int) -> Tensor:
    """Images that say where a pixel lies: the first channel its row, the second its column."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack((rows, columns, rows)).float().div(size).expand(count, 3, size, size)


#: Rows down and columns to the right, from the words of the targets.
DIRECTIONS = {
    "above left": (-1, -1),
    "above": (-1, 0),
    "above right": (-1, 1),
    "left": (0, -1),
    "right": (0, 1),
    "below left": (1, -1),
    "below": (1, 0),
    "below right": (1, 1),
}


@pytest.mark.parametrize("size", [32, 28, 13, 64])
def test_the_second_patch_lies_where_the_target_says(relative_patch: ModuleType, size: int) -> None:
    task = relative_patch.RelativePatch(enlarge=False)
    images = coordinates(200, size)
    before = images.clone()
    cell, margin = size // 3, size % 3 // 2
    batches = [task.make_batch(images, drawn(0)), *task.evaluation_batches(images, drawn(0))]
    assert len(batches) == 2
    for views, targets in batches:
        assert views.shape[0] == 400
        assert targets.dtype == torch.int64
        assert targets.unique().tolist() == list(range(8))
        corners = views[:, :2, 0, 0].mul(size).round().long().sub(margin) // cell  # row and column of the cell
        ends = views[:, :2, -1, -1].mul(size).round().long().sub(margin) // cell
        assert torch.equal(corners, ends)  # no patch reaches into another cell
        expected = [DIRECTIONS[relative_patch.NEIGHBOURS[target]] for target in targets.tolist()]
        assert (corners[1::2] - corners[0::2]).tolist() == [list(step) for step in expected]
        assert corners[0::2].unique().tolist() == [1]
    assert torch.equal(images, before)


def test_patches_lie_anywhere_in_their_cells_in_training_only(relative_patch: ModuleType) -> None:
    task = relative_patch.RelativePatch(enlarge=False)
    images = coordinates(200, 32)
    batches = (task.make_batch(images, drawn(0)), *task.evaluation_batches(images, drawn(0)))
    corners = [views[:, :2, 0, 0].mul(32).round().long().sub(1).remainder(10) for views, _ in batches]
    assert [sorted(set(found.flatten().tolist())) for found in corners] == [[0, 1, 2], [1]]
    apart = (corners[0][0::2] != corners[0][1::2]).any(1)
    assert apart.any()  # each patch has a draw of its own


def test_draws_are_the_generators(relative_patch: ModuleType) -> None:
    task, images = relative_patch.RelativePatch(), torch.rand(16, 3, 32, 32, generator=drawn(1))
    for make in (task.make_batch, lambda *given: next(task.evaluation_batches(*given))):
        (first, one), (second, two), (_, three) = (make(images, drawn(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, second)
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


def test_enlarged_patches_have_the_size_of_the_image(relative_patch: ModuleType) -> None:
    for size, count in ((32, 1), (29, 3)):
        views, targets = relative_patch.RelativePatch().make_batch(torch.rand(count, 3, size, size), drawn(0))
        assert views.shape == (2 * count, 3, size, size)
        assert targets.shape == (count,)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1


def test_the_head_judges_both_patches_of_one_image_together(relative_patch: ModuleType) -> None:
    head = relative_patch.RelativePatch().head(16)
    features = torch.randn(6, 16, generator=drawn(0))
    outputs = head(features)
    assert outputs.shape == (3, 8)
    changed = (head(features[[0, 1, 3, 2, 4, 5]]) != outputs).any(1)
    assert changed.tolist() == [False, True, False]
    assert relative_patch.RelativePatch().chance() == 0.125


def test_pictures_show_both_patches_where_they_were(relative_patch: ModuleType) -> None:
    views = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    outputs = torch.zeros(1, 8)
    outputs[0, 1] = math.log(7)
    cases = 0
    for target, words in enumerate(relative_patch.NEIGHBOURS):
        ((image, caption),) = relative_patch.RelativePatch().pictures(views, outputs, torch.tensor([target]))
        assert image.shape == (3, 16, 16)
        down, right = DIRECTIONS[words]
        expected = torch.ones(3, 3)
        expected[1, 1], expected[1 + down, 1 + right] = 0.25, 0.75
        assert torch.equal(image[0, 1::6, 1::6], expected)
        assert caption == f"{words} → predicted above (50 %)"
        cases += 1
    assert cases == 8


def test_images_that_are_not_square_are_refused(relative_patch: ModuleType) -> None:
    with pytest.raises(ValueError, match="not 32 x 30"):
        relative_patch.RelativePatch().make_batch(torch.rand(2, 3, 32, 30), drawn(0))


def test_it_registers_itself(relative_patch: ModuleType) -> None:
    assert relative_patch.register_pretext_tasks() == [relative_patch.RelativePatch]
    assert relative_patch.RelativePatch.name == "relative-patch"
    assert relative_patch.RelativePatch.augments  # a padded crop would leave black bars
