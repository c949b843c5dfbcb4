from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rotbench import heads


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_perceptron_has_one_hidden_layer() -> None:
    made = heads.perceptron(5, 7, 3)
    first, _, last = made
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)
    fed = torch.randn(4, 5, generator=drawn(0))
    expected = torch.clamp(fed @ first.weight.T + first.bias, min=0) @ last.weight.T + last.bias
    torch.testing.assert_close(made(fed), expected)
    assert (first.weight.shape, last.weight.shape) == ((7, 5), (3, 7))


def test_views_that_stand_together_are_answered_together() -> None:
    head = heads.Together(5, 3, 4, hidden=6)
    fed = torch.randn(2 * 3, 5, generator=drawn(0))
    outputs = head(fed)
    assert outputs.shape == (2, 4)
    for image in range(2):
        joined = torch.cat([fed[3 * image + view] for view in range(3)])
        torch.testing.assert_close(outputs[image], head.answer(joined))


@pytest.mark.parametrize(
    ("map_size", "side"), [(1, 8), (1, 32), (4, 8), (4, 32), (2, 30), (4, 29), (7, 8), (7, 224), (9, 8)]
)
def test_a_picture_has_the_size_that_was_asked_for(map_size: int, side: int) -> None:
    head = heads.Picture(6, 2, map_size, side)
    maps = torch.randn(3, 6, map_size, map_size, generator=drawn(0))
    outputs = head(maps)
    assert outputs.shape == (3, 2, side, side)
    head.scale = 0.5
    torch.testing.assert_close(head(maps), outputs / 2)


@pytest.mark.parametrize(("map_size", "side"), [(7, 8), (4, 29), (9, 8)])
def test_a_picture_that_is_too_large_is_averaged_area_by_area(map_size: int, side: int) -> None:
    """Each pixel is repeated ``side`` times and as many as there were are averaged, which divides evenly."""
    head = heads.Picture(3, 2, map_size, side)
    maps = torch.randn(2, 3, map_size, map_size, generator=drawn(0))
    large = head.pixels(maps).detach().numpy()
    length = large.shape[-1]
    assert length > side
    fine = large.repeat(side, 2).repeat(side, 3)
    expected = fine.reshape(2, 2, side, length, side, length).mean((3, 5))
    np.testing.assert_allclose(head(maps).detach(), expected, atol=1e-5)
    assert set(head.state_dict()) == {"pixels.0.weight", "pixels.0.bias"}


@pytest.mark.parametrize(("map_size", "side"), [(1, 8), (4, 8), (2, 6)])
def test_a_place_of_the_map_tells_its_own_square(map_size: int, side: int) -> None:
    head = heads.Picture(6, 2, map_size, side)
    maps = torch.randn(1, 6, map_size, map_size, generator=drawn(0))
    outputs = head(maps)
    square, cases = side // map_size, 0
    for row in range(map_size):
        for column in range(map_size):
            other = maps.clone()
            other[0, :, row, column] += 1
            changed = (head(other) != outputs)[0].any(0)
            expected = torch.zeros(side, side, dtype=torch.bool)
            expected[row * square : (row + 1) * square, column * square : (column + 1) * square] = True
            assert torch.equal(changed, expected)
            cases += 1
    assert cases == map_size**2


def test_explained_variance_over_a_batch_is_that_of_statistics() -> None:
    """1 - (residual sum of squares) / (total sum of squares), as R squared is defined."""
    targets, predicted = torch.randn(2, 6, 10, generator=drawn(0)).double().unbind(0)
    deviations = (targets - targets.mean()).square().sum(1)
    errors = (targets - predicted).square().sum(1)
    scores = heads.explained_variance(errors, deviations)
    assert scores.shape == (6,)
    assert float(scores.mean()) == pytest.approx(float(1 - errors.sum() / deviations.sum()))
    assert float(heads.explained_variance(deviations, deviations).mean()) == pytest.approx(0, abs=1e-12)
    assert heads.explained_variance(torch.zeros(6), deviations.float()).tolist() == [1.0] * 6
    # An image without variance does not outweigh the others.
    flat = heads.explained_variance(torch.tensor([0.01, 1.0]), torch.tensor([0.0, 2.0]))
    assert flat.tolist() == pytest.approx([0.99, 0.0])


def test_explained_variance_is_a_number_where_there_is_no_variance() -> None:
    for errors in (torch.zeros(3), torch.tensor([0.0, 1e-3, 1.0])):
        scores = heads.explained_variance(errors, torch.zeros(3))
        assert (scores <= 1).all()
        assert (scores >= -1000).all()
    assert heads.explained_variance(torch.zeros(1), torch.zeros(1)).tolist() == [1.0]


def test_answers_are_class_and_per_cent() -> None:
    outputs = torch.tensor([[0.0, math.log(3), -math.inf], [math.log(8), 0.0, 0.0]])
    told = heads.answers(outputs, torch.tensor([2, 0]))
    assert [answer[:2] for answer in told] == [(2, 1), (0, 0)]
    assert [answer[2] for answer in told] == pytest.approx([75.0, 80.0])
