from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from rotbench.hookspecs import InitContext
from rotbench.models import backbone_state, build_backbone, state_sha256


@pytest.fixture(scope="module")
def schemes(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("schemes")


def applied(init: Any, stem: str = "imagenet", seed: int = 0, model: str = "resnet18") -> dict[str, Tensor]:
    """What the init claims, by name; all else is as it was."""
    backbone = build_backbone(model, stem, 0)
    before = backbone_state(backbone)
    context = InitContext(
        pretext=None,
        images=torch.zeros(2, 3, 32, 32),
        generator=torch.Generator().manual_seed(seed),
        folder=Path(),
        model_name=model,
        stem=stem,
    )
    claimed = init.apply(backbone, context)
    after = backbone_state(backbone)
    assert {name for name in after if not torch.equal(before[name], after[name])} == set(claimed)
    assert all(after[name].dtype == before[name].dtype for name in after)
    return {name: after[name] for name in claimed}


def fans(kernel: Tensor) -> tuple[int, int]:
    outgoing, incoming, height, width = kernel.shape
    return incoming * height * width, outgoing * height * width


def hold_drawn(kernel: Tensor, variance: float, distribution: str) -> None:
    """That ``kernel`` has mean 0, the variance, and the tails of the distribution, within 5 standard errors."""
    values, deviation = kernel.numpy().ravel().astype(np.float64), np.sqrt(variance)
    count = len(values)
    # Of the fourth moment, m4 = 3 variance^2 for a normal and 9/5 variance^2 for a uniform distribution, the variance
    # of a sample variance is (m4 - variance^2) / n.
    spread = {"normal": 2.0, "uniform": 0.8}[distribution]
    assert abs(values.mean()) < 5 * deviation / np.sqrt(count)
    assert abs(values.var() - variance) < 5 * variance * np.sqrt(spread / count)
    bound = np.sqrt(3) * deviation  # of a uniform distribution; 8.3 % of a normal one lie beyond
    beyond = (np.abs(values) > bound * (1 + 1e-6)).mean()
    assert beyond == 0 if distribution == "uniform" else abs(beyond - 0.0833) < 5 * np.sqrt(0.0833 / count) + 1e-4


def test_kaiming_has_the_variance_of_two_over_a_fan(schemes: ModuleType) -> None:
    checked = 0
    for stem in ("imagenet", "cifar"):
        for side, mode in enumerate(("fan_in", "fan_out")):
            for distribution in ("normal", "uniform"):
                made = applied(schemes.Kaiming(mode=mode, distribution=distribution), stem)
                for kernel in made.values():
                    hold_drawn(kernel, 2 / fans(kernel)[side], distribution)
                    checked += 1
    assert checked == 8 * 20


def test_xavier_has_the_variance_of_two_over_both_fans(schemes: ModuleType) -> None:
    checked = 0
    for stem in ("imagenet", "cifar"):
        for distribution in ("normal", "uniform"):
            for kernel in applied(schemes.Xavier(distribution=distribution), stem).values():
                hold_drawn(kernel, 2 / sum(fans(kernel)), distribution)
                checked += 1
    assert checked == 4 * 20


def test_orthogonal_has_rows_or_columns_at_right_angles_and_as_long_as_the_gain(schemes: ModuleType) -> None:
    wide = tall = 0
    for model, stem, gain in (("resnet18", "imagenet", 1.0), ("resnet18", "cifar", 1.5), ("resnet50", "cifar", 0.7)):
        for kernel in applied(schemes.Orthogonal(gain=gain), stem, model=model).values():
            matrix = kernel.numpy().reshape(len(kernel), -1).astype(np.float64)
            if matrix.shape[0] > matrix.shape[1]:
                matrix, tall = matrix.T, tall + 1
            else:
                wide += 1
            rounding = matrix.shape[1] * float(np.finfo(np.float32).eps)  # of as many sums
            assert np.allclose(matrix @ matrix.T / gain**2, np.eye(len(matrix)), rtol=0, atol=rounding)
    # More filters than inputs to each have resnet18's three 1 x 1 shortcuts and, of 27 inputs, the stem of small
    # images; in resnet50 that stem, four shortcuts, and the last convolution of each of 16 blocks.
    assert (wide, tall) == (17 + 16 + 32, 3 + 4 + 21)


@pytest.mark.thorough
def test_draws_come_from_the_generator_of_the_context_alone(schemes: ModuleType) -> None:
    cases = [schemes.Kaiming(), schemes.Kaiming(distribution="uniform"), schemes.Xavier(),
             schemes.Xavier(distribution="normal"), schemes.Orthogonal()]  # fmt: skip
    for init in cases:
        torch.manual_seed(3)
        state = torch.get_rng_state()
        first = state_sha256(applied(init))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(4)
        assert state_sha256(applied(init)) == first
        assert state_sha256(applied(init, seed=1)) != first
    assert len(cases) == 5


def test_zero_init_residual_sets_what_torchvision_sets(schemes: ModuleType) -> None:
    for model, blocks in (("resnet18", 8), ("resnet34", 16), ("resnet50", 16)):
        made = applied(schemes.ZeroInitResidual(), model=model)
        theirs = torchvision.models.get_model(model, weights=None, zero_init_residual=True).state_dict()
        scales = {name for name, tensor in theirs.items() if "bn" in name and name.endswith("weight")}
        assert set(made) == {name for name in scales if not theirs[name].any()}
        assert len(made) == blocks
        assert not any(tensor.any() for tensor in made.values())


def test_zero_init_residual_makes_each_block_its_shortcut(schemes: ModuleType) -> None:
    shortcuts = []
    for model, stem in (("resnet18", "imagenet"), ("resnet18", "cifar"), ("resnet50", "imagenet")):
        backbone = build_backbone(model, stem, 0)
        given = InitContext(None, torch.zeros(1), torch.Generator(), Path(), model, stem)
        schemes.ZeroInitResidual().apply(backbone, given)
        for training in (False, True):
            backbone.train(training)
            source = torch.Generator().manual_seed(0)
            for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
                for block in stage:
                    maps = torch.randn(2, block.conv1.in_channels, 4, 4, generator=source)
                    with torch.no_grad():
                        shortcut = maps if block.downsample is None else block.downsample(maps)
                        assert torch.equal(block(maps), shortcut.relu())
                    shortcuts.append(block.downsample is None)
    assert len(shortcuts) == 2 * (8 + 8 + 16)
    assert 0 < sum(shortcuts) < len(shortcuts)


def test_they_register_themselves(schemes: ModuleType) -> None:
    names = [one.name for one in schemes.register_inits()]
    assert names == ["kaiming", "xavier", "orthogonal", "zero-init-residual"]
