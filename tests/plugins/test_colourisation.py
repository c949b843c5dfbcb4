from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

TARGETS = ("quantised", "regressed")


@pytest.fixture(scope="module")
def colourisation(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("colourisation")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coloured(count: int, size: int) -> Tensor:
    """Smooth images, whose colours differ from place to place."""
    coarse = torch.rand(count, 3, 4, 4, generator=drawn(1))
    return functional.interpolate(coarse, (size, size), mode="bilinear")


def test_grey_is_shown_and_chroma_is_asked_for(colourisation: ModuleType) -> None:
    """The matrix of JFIF, whose digits are rounded: Y, Cb and Cr of R, G and B, without the offset of 128."""
    jfif = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    images = coloured(5, 32)
    before = images.clone()
    views, targets = colourisation.Colourisation().make_batch(images, drawn(0))
    assert views.shape == images.shape
    assert targets.shape == (5, 2, 8, 8)
    expected = np.einsum("yc,nchw->nyhw", jfif, images.double().numpy())
    for channel in range(3):
        np.testing.assert_allclose(views[:, channel], expected[:, 0], atol=2e-4)
    cells = expected[:, 1:].reshape(5, 2, 8, 4, 8, 4).mean((3, 5))
    np.testing.assert_allclose(targets, cells, atol=2e-4)
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [28, 29, 33, 64])
def test_images_of_any_size(colourisation: ModuleType, size: int) -> None:
    for images in (coloured(1, size), torch.ones(2, 3, size, size)):
        views, targets = colourisation.Colourisation().make_batch(images, drawn(0))
        assert views.shape == images.shape
        assert targets.shape == (len(images), 2, 8, 8)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1


def test_a_colour_belongs_to_the_nearest_class(colourisation: ModuleType) -> None:
    """Cross entropy is least for the class whose colour is nearest, found by trying all 81."""
    task = colourisation.Colourisation()
    levels = colourisation.LEVELS
    assert len(levels) == 9
    assert (levels[0], levels[4], levels[8]) == (-0.5, 0, 0.5)
    colours = np.array(list(itertools.product(levels, levels)))
    targets = torch.rand(3, 2, 8, 8, generator=drawn(0)) - 0.5
    flat = targets.permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    nearest = ((flat[:, None] - colours) ** 2).sum(2).argmin(1)
    sure = torch.full((len(flat), 81), -50.0)
    sure[torch.arange(len(flat)), torch.tensor(nearest)] = 50.0
    outputs = sure.view(3, 8, 8, 81).permute(0, 3, 1, 2)
    assert float(task.loss(outputs, targets)) == pytest.approx(0, abs=1e-6)
    # And the score takes those classes for their colours.
    predicted = torch.tensor(colours[nearest], dtype=torch.float32).view(3, 8, 8, 2).permute(0, 3, 1, 2)
    deviations = (targets - targets.mean((0, 2, 3), keepdim=True)).square().sum()
    expected = 1 - (targets - predicted).square().sum() / deviations
    assert float(task.score(outputs, targets).mean()) == pytest.approx(float(expected), abs=1e-5)
    assert float(expected) > 0.95


def answer(task: object, colours: Tensor, levels: tuple[float, ...]) -> Tensor:
    """The outputs by which a head says ``colours`` (N, 2, 8, 8): between two levels they are mixed."""
    if task == "regressed":
        return 10 * colours
    grid = torch.tensor(levels)
    upper = torch.searchsorted(grid, colours.contiguous()).clamp(1, len(levels) - 1)
    weight = (colours - grid[upper - 1]) / (grid[upper] - grid[upper - 1])
    each = functional.one_hot(upper - 1, len(levels)) * (1 - weight)[..., None]
    each = each + functional.one_hot(upper, len(levels)) * weight[..., None]  # (N, 2, 8, 8, levels)
    joint = each[:, 0, ..., :, None] * each[:, 1, ..., None, :]
    return joint.flatten(3).permute(0, 3, 1, 2).clamp(min=1e-30).log()


@pytest.mark.parametrize("target", TARGETS)
def test_the_best_single_colour_scores_nothing_and_the_truth_all(colourisation: ModuleType, target: str) -> None:
    task = colourisation.Colourisation(target=target)
    _, targets = task.make_batch(coloured(6, 32), drawn(0))
    best = targets.mean((0, 2, 3), keepdim=True)
    scores = task.score(answer(target, best.expand_as(targets), colourisation.LEVELS), targets)
    assert scores.shape == (6,)
    assert float(scores.mean()) == pytest.approx(task.chance(), abs=1e-5) == pytest.approx(0, abs=1e-5)
    other = best + 0.05
    assert float(task.score(answer(target, other.expand_as(targets), colourisation.LEVELS), targets).mean()) < -0.01
    truth = task.score(answer(target, targets, colourisation.LEVELS), targets)
    np.testing.assert_allclose(truth, 1, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_score_is_explained_variance_by_the_letter(colourisation: ModuleType, target: str) -> None:
    task = colourisation.Colourisation(target=target)
    _, targets = task.make_batch(coloured(6, 32), drawn(0))
    predicted = (torch.rand(targets.shape, generator=drawn(2)) - 0.5) / 2
    scores = task.score(answer(target, predicted, colourisation.LEVELS), targets)
    true, told = targets.double().numpy(), predicted.double().numpy()
    mean = true.mean((0, 2, 3), keepdims=True)
    total = np.mean([((image - mean[0]) ** 2).sum() for image in true])
    expected = [1 - ((image - guess) ** 2).sum() / total for image, guess in zip(true, told, strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_score_is_a_number_for_one_image_and_for_flat_ones(colourisation: ModuleType, target: str) -> None:
    task = colourisation.Colourisation(target=target)
    for images in (coloured(1, 32), torch.full((1, 3, 32, 32), 0.5), torch.zeros(4, 3, 32, 32)):
        _, targets = task.make_batch(images, drawn(0))
        for told in (targets, torch.zeros_like(targets) + 0.1):
            scores = task.score(answer(target, told, colourisation.LEVELS), targets)
            assert torch.isfinite(scores).all()
            assert scores.shape == (len(images),)


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_is_least_for_the_truth(colourisation: ModuleType, target: str) -> None:
    task = colourisation.Colourisation(target=target)
    _, targets = task.make_batch(coloured(4, 32), drawn(0))
    levels = torch.tensor(colourisation.LEVELS)
    rounded = levels[(targets[..., None] - levels).abs().argmin(-1)]  # what classes can say
    true = float(task.loss(answer(target, rounded, colourisation.LEVELS), rounded))
    assert true == pytest.approx(0, abs=1e-5)
    assert float(task.loss(answer(target, rounded.flip(0), colourisation.LEVELS), rounded)) > 0.1


@pytest.mark.parametrize(("target", "channels"), [("quantised", 81), ("regressed", 2)])
def test_the_head_gives_a_picture_of_colours(colourisation: ModuleType, target: str, channels: int) -> None:
    for map_size in (1, 4):
        head = colourisation.Colourisation(target=target).head(16, map_size=map_size)
        assert head(torch.randn(3, 16, map_size, map_size)).shape == (3, channels, 8, 8)
    assert colourisation.Colourisation.takes == "map"


@pytest.mark.parametrize("target", TARGETS)
def test_pictures_in_true_colours_are_the_images(colourisation: ModuleType, target: str) -> None:
    task = colourisation.Colourisation(target=target)
    images = torch.rand(2, 3, 1, 1, generator=drawn(0)).expand(2, 3, 16, 16)
    views, targets = task.make_batch(images, drawn(0))
    shown = list(task.pictures(views, answer(target, targets, colourisation.LEVELS), targets))
    assert len(shown) == 2
    for (picture, caption), view, image in zip(shown, views, images, strict=True):
        assert caption == "input, predicted, true: 100 % of variance explained"
        torch.testing.assert_close(picture, torch.cat((view, image, image), 2), rtol=0, atol=1e-3)


def test_it_registers_itself(colourisation: ModuleType) -> None:
    assert colourisation.register_pretext_tasks() == [colourisation.Colourisation]
    assert colourisation.Colourisation.name == "colourisation"
    assert colourisation.Colourisation.score_name == "explained variance"
