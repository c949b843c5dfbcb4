from __future__ import annotations

import torch

from rotbench.testing import PluginTests
from rotbench_vflip import VerticalFlip


class TestConformance(PluginTests):
    """Everything that rotbench expects of a pretext task, a test each."""

    plugin = VerticalFlip()


def test_the_target_says_which_images_are_upside_down() -> None:
    images = torch.rand(64, 3, 8, 8)
    views, targets = VerticalFlip().make_batch(images, torch.Generator().manual_seed(0))
    for image, view, target in zip(images.numpy(), views.numpy(), targets.tolist(), strict=True):
        assert (view == (image[:, ::-1] if target else image)).all()
    assert 0 < targets.sum() < 64


def test_the_share_of_flipped_images_is_the_options() -> None:
    _, targets = VerticalFlip(share=0.25).make_batch(torch.zeros(10_000, 3, 1, 1), torch.Generator().manual_seed(0))
    error = (0.25 * 0.75 / 10_000) ** 0.5
    assert abs(targets.double().mean() - 0.25) < 4 * error
