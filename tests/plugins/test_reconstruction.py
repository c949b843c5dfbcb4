from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

CORRUPTIONS = ("mask", "noise")


@pytest.fixture(scope="module")
def reconstruction(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("reconstruction")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=drawn(1))


@pytest.mark.parametrize(("share", "hidden"), [(0.5, 8), (0.75, 12), (0.01, 1), (0.99, 15)])
def test_whole_patches_are_hidden_and_the_rest_is_shown(reconstruction: ModuleType, share: float, hidden: int) -> None:
    images = some(50)
    before = images.clone()
    views, (truth, counts, guess) = reconstruction.Reconstruction(share=share).make_batch(images, drawn(0))
    patches = counts.view(50, 4, 8, 4, 8).permute(0, 1, 3, 2, 4).flatten(3)  # (N, 4, 4, 64)
    assert torch.equal(patches.amin(3), patches.amax(3))
    assert patches[..., 0].sum((1, 2)).tolist() == [hidden] * 50
    assert len({tuple(row) for row in patches[..., 0].flatten(1).tolist()}) > 10
    covered = counts.bool().expand_as(images)
    assert torch.equal(views[~covered], images[~covered])
    assert (views[covered] == 0.5).all()
    assert torch.equal(truth, images)
    for image, cover, mean in zip(images.numpy(), counts.bool().numpy(), guess.numpy(), strict=True):
        np.testing.assert_allclose(mean[:, 0, 0], image[:, ~cover[0]].mean(1), rtol=1e-5)
    assert torch.equal(images, before)


def test_noise_has_its_deviation_and_is_cut_to_what_pixels_can_be(reconstruction: ModuleType) -> None:
    images = torch.full((50, 3, 32, 32), 0.5)
    views, (truth, counts, guess) = reconstruction.Reconstruction(corruption="noise", sigma=0.1).make_batch(
        images, drawn(0)
    )
    # 153,600 draws: a deviation has a standard error of sigma / sqrt(2 n), the mean one of sigma / sqrt(n).
    assert float((views - images).std()) == pytest.approx(0.1, abs=4 * 0.1 / np.sqrt(2 * 153_600))
    assert float((views - images).mean()) == pytest.approx(0, abs=4 * 0.1 / np.sqrt(153_600))
    assert (counts == 1).all()
    assert torch.equal(truth, images)
    np.testing.assert_allclose(guess[..., 0, 0], views.numpy().mean((2, 3)), rtol=1e-5)
    strong, _ = reconstruction.Reconstruction(corruption="noise", sigma=1.0).make_batch(images, drawn(0))
    assert (float(strong.min()), float(strong.max())) == (0.0, 1.0)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_draws_are_the_generators_and_sizes_may_be_odd(reconstruction: ModuleType, corruption: str) -> None:
    task = reconstruction.Reconstruction(corruption=corruption)
    cases = 0
    for count, size in ((1, 32), (3, 28), (2, 29), (1, 9)):
        images = some(count, size)
        (views, targets), (again, same), (other, _) = (task.make_batch(images, drawn(seed)) for seed in (0, 0, 1))
        assert views.shape == images.shape
        assert 0 <= float(views.min()) <= float(views.max()) <= 1
        assert torch.equal(views, again)
        assert all(torch.equal(one, two) for one, two in zip(targets, same, strict=True))
        assert not torch.equal(views, other)
        assert torch.isfinite(task.score(torch.zeros_like(images), targets)).all()
        assert torch.isfinite(task.loss(torch.zeros_like(images), targets))
        cases += 1
    assert cases == 4


def test_a_patch_that_covers_the_image_is_refused(reconstruction: ModuleType) -> None:
    with pytest.raises(ValueError, match="patches of 32 pixels cover images of 32 x 32"):
        reconstruction.Reconstruction(patch=32).make_batch(some(2), drawn(0))


def test_the_loss_counts_what_is_hidden_and_nothing_else(reconstruction: ModuleType) -> None:
    task = reconstruction.Reconstruction()
    images = some(4)
    _, targets = task.make_batch(images, drawn(0))
    truth, counts, guess = targets
    outputs = torch.rand(images.shape, generator=drawn(2)) - 0.5
    wrong = [
        (float(guess[n, c, 0, 0] + outputs[n, c, y, x]) - float(truth[n, c, y, x])) ** 2
        for n, _, y, x in counts.nonzero().tolist()
        for c in range(3)
    ]
    assert len(wrong) == 4 * 3 * 512
    assert float(task.loss(outputs, targets)) == pytest.approx(np.mean(wrong), rel=1e-5)
    elsewhere = outputs + 7 * (1 - counts)
    assert float(task.loss(elsewhere, targets)) == pytest.approx(np.mean(wrong), rel=1e-5)
    torch.testing.assert_close(task.score(elsewhere, targets), task.score(outputs, targets))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_guessing_the_mean_of_what_is_seen_scores_nothing_and_the_truth_all(
    reconstruction: ModuleType, corruption: str
) -> None:
    task = reconstruction.Reconstruction(corruption=corruption)
    images = some(6)
    _, targets = task.make_batch(images, drawn(0))
    guessed = task.score(torch.zeros_like(images), targets)  # no deviation from the guess
    assert guessed.shape == (6,)
    assert float(guessed.mean()) == pytest.approx(task.chance(), abs=1e-6) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(task.score(images - targets[2], targets), 1, atol=1e-6)
    half = task.score((images - targets[2]) / 2, targets)  # half the way: a quarter of the squared error is left
    assert float(half.mean()) == pytest.approx(0.75, abs=1e-6)
    assert len({round(value, 6) for value in half.tolist()}) > 1  # one value an image


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_score_is_a_number_for_one_image_and_for_flat_ones(reconstruction: ModuleType, corruption: str) -> None:
    task = reconstruction.Reconstruction(corruption=corruption)
    for images in (some(1), torch.full((1, 3, 32, 32), 0.5), torch.zeros(4, 3, 32, 32)):
        _, targets = task.make_batch(images, drawn(0))
        for outputs in (torch.zeros_like(images), torch.ones_like(images)):
            scores = task.score(outputs, targets)
            assert torch.isfinite(scores).all()
            assert scores.shape == (len(images),)


def test_the_head_gives_a_picture(reconstruction: ModuleType) -> None:
    cases = 0
    for map_size, size in ((1, 32), (4, 32), (4, 28), (2, 33)):
        head = reconstruction.Reconstruction().head(16, map_size=map_size, view_size=size)
        assert head(torch.randn(3, 16, map_size, map_size)).shape == (3, 3, size, size)
        cases += 1
    assert cases == 4
    assert reconstruction.Reconstruction.takes == "map"


def test_pictures_show_damage_prediction_and_truth(reconstruction: ModuleType) -> None:
    task = reconstruction.Reconstruction()
    images = some(2)
    views, targets = task.make_batch(images, drawn(0))
    shown = list(task.pictures(views, images - targets[2], targets))
    assert len(shown) == 2
    for (picture, caption), view, image in zip(shown, views, images, strict=True):
        torch.testing.assert_close(picture, torch.cat((view, image, image), 2))
        assert caption == "input, predicted, true: 100 % of variance explained"
    ((picture, _), _) = task.pictures(views, torch.full_like(images, 9.0), targets)
    assert float(picture.max()) <= 1
    seen = targets[1][0].expand(3, 32, 32) == 0
    assert torch.equal(picture[:, :, 32:64][seen], images[0][seen])  # what can be seen is shown as it is


def test_it_registers_itself(reconstruction: ModuleType) -> None:
    assert reconstruction.register_pretext_tasks() == [reconstruction.Reconstruction]
    assert reconstruction.Reconstruction.name == "reconstruction"
    assert reconstruction.Reconstruction.score_name == "explained variance"
