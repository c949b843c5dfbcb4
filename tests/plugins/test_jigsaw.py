from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from rotbench.options import check_table


@pytest.fixture(scope="module")
def jigsaw(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("jigsaw")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, size: int) -> Tensor:
    """Images that say where a pixel lies: the first channel its row, the second its column."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack((rows, columns, rows)).float().div(size).expand(count, 3, size, size)


def differences(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_orders_are_chosen_as_the_paper_chooses_them(jigsaw: ModuleType) -> None:
    """Step by step in plain Python: farthest from the nearest chosen one, then from all, then first by alphabet."""
    cases = 0
    for tiles, count in ((3, 6), (4, 24), (5, 12)):
        chosen = [tuple(range(tiles))]
        rest = [order for order in itertools.permutations(range(tiles)) if order != chosen[0]]
        while len(chosen) < count:
            far = [(min(differences(o, c) for c in chosen), sum(differences(o, c) for c in chosen)) for o in rest]
            chosen.append(rest.pop(far.index(max(far))))
        assert jigsaw.permutation_set(tiles, count) == tuple(chosen)
        cases += 1
    assert cases == 3
    assert set(jigsaw.permutation_set(4, 24)) == set(itertools.permutations(range(4)))


def test_orders_of_nine_tiles_are_far_apart(jigsaw: ModuleType) -> None:
    """Nine orders can all differ in every place (a Latin square); of a hundred drawn at random some pair shares 5."""
    nearest = []
    for count in (9, 100):
        orders = jigsaw.permutation_set(9, count)
        assert all(sorted(order) == list(range(9)) for order in orders)
        nearest.append(min(differences(*pair) for pair in itertools.combinations(orders, 2)))
    assert nearest[0] == 9
    assert nearest[1] >= 6
    drawn_ones = [tuple(torch.randperm(9, generator=drawn(at)).tolist()) for at in range(100)]
    assert min(differences(*pair) for pair in itertools.combinations(drawn_ones, 2)) <= 4


@pytest.mark.parametrize(("grid", "count", "size"), [(2, 24, 32), (3, 100, 32), (3, 100, 28), (2, 24, 64), (3, 24, 13)])
def test_tiles_are_shown_in_the_order_that_is_the_target(jigsaw: ModuleType, grid: int, count: int, size: int) -> None:
    task = jigsaw.Jigsaw(grid=grid, permutations=count, enlarge=False)
    images = coordinates(40, size)
    before = images.clone()
    cell, margin = size // grid, size % grid // 2
    batches = [task.make_batch(images, drawn(0)), *task.evaluation_batches(images, drawn(0))]
    assert len(batches) == 2
    for views, targets in batches:
        assert views.shape[0] == 40 * grid**2
        assert views.shape[2] == views.shape[3] < cell
        assert targets.dtype == torch.int64
        orders = [jigsaw.permutation_set(grid**2, count)[target] for target in targets.tolist()]
        corners = views[:, :2, 0, 0].mul(size).round().long().sub(margin) // cell  # row and column of the cell
        ends = views[:, :2, -1, -1].mul(size).round().long().sub(margin) // cell
        shown = (corners[:, 0] * grid + corners[:, 1]).view(40, -1)
        assert shown.tolist() == [list(order) for order in orders]
        assert torch.equal(corners, ends)  # no tile reaches into another cell
    assert torch.equal(images, before)


def test_gaps_are_random_in_training_and_fixed_in_evaluation(jigsaw: ModuleType) -> None:
    task = jigsaw.Jigsaw(enlarge=False)
    images = coordinates(200, 32)
    corners = [
        views[:, :2, 0, 0].mul(32).round().long().remainder(16)
        for views, _ in (task.make_batch(images, drawn(0)), *task.evaluation_batches(images, drawn(0)))
    ]
    assert [sorted(set(found.flatten().tolist())) for found in corners] == [[0, 1, 2], [1]]


def test_draws_are_the_generators(jigsaw: ModuleType) -> None:
    task, images = jigsaw.Jigsaw(), torch.rand(16, 3, 32, 32, generator=drawn(1))
    for make in (task.make_batch, lambda *given: next(task.evaluation_batches(*given))):
        (first, one), (second, two), (_, three) = (make(images, drawn(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, second)
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
    assert len(task.make_batch(images.repeat(20, 1, 1, 1), drawn(0))[1].unique()) == 24


def test_enlarged_tiles_have_the_size_of_the_image(jigsaw: ModuleType) -> None:
    for size, count in ((32, 1), (29, 3)):
        views, targets = jigsaw.Jigsaw().make_batch(torch.rand(count, 3, size, size), drawn(0))
        assert views.shape == (4 * count, 3, size, size)
        assert targets.shape == (count,)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1


def test_the_head_judges_the_tiles_of_one_image_together(jigsaw: ModuleType) -> None:
    task = jigsaw.Jigsaw(grid=3, permutations=50)
    head = task.head(16)
    features = torch.randn(4 * 9, 16, generator=drawn(0))
    outputs = head(features)
    assert outputs.shape == (4, 50)
    other = features.clone()
    other[9:18] = features[9:18].flip(0)  # the second image's tiles in another order
    changed = (head(other) != outputs).any(1)
    assert changed.tolist() == [False, True, False, False]
    assert task.chance() == 1 / 50


def test_more_orders_than_there_are_is_a_fault_of_the_study(jigsaw: ModuleType) -> None:
    with pytest.raises(ValueError, match="2 x 2 tiles have 24 orders"):
        jigsaw.Jigsaw(permutations=25)
    _, faults = check_table(jigsaw.Jigsaw, {"permutations": 25}, ("task",))
    (fault,) = faults
    assert fault.message.startswith("2 x 2 tiles have 24 orders, not 25; use fewer permutations or grid 3")
    assert not check_table(jigsaw.Jigsaw, {"grid": 3, "permutations": 1000}, ("task",))[1]
    assert check_table(jigsaw.Jigsaw, {"permutations": 1}, ("task",))[1]


def test_pictures_put_the_tiles_together_as_shown(jigsaw: ModuleType) -> None:
    task = jigsaw.Jigsaw(enlarge=False)
    views = torch.arange(8.0).div(8).view(8, 1, 1, 1).expand(8, 3, 5, 5)  # a tile a grey
    targets = torch.tensor([0, 1])
    outputs = torch.zeros(2, 24)
    outputs[0, 0] = outputs[1, 0] = math.log(23)  # against 23 others: a half
    shown = list(task.pictures(views, outputs, targets))
    assert len(shown) == 2
    for number, (image, _) in enumerate(shown):
        assert image.shape == (3, 14, 14)
        corners = image[0, [3, 3, 10, 10], [3, 10, 3, 10]]
        assert torch.equal(corners, views[4 * number : 4 * number + 4, 0, 0, 0])
    other = "".join(str(tile + 1) for tile in jigsaw.permutation_set(4, 24)[1])
    captions = [f"order {order} → predicted 1234 (50 %)" for order in ("1234", other)]
    assert [caption for _, caption in shown] == captions


def test_it_registers_itself(jigsaw: ModuleType) -> None:
    assert jigsaw.register_pretext_tasks() == [jigsaw.Jigsaw]
    assert jigsaw.Jigsaw.name == "jigsaw"
    assert jigsaw.Jigsaw.augments  # a padded crop would leave black bars
