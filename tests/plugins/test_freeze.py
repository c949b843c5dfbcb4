from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from torch import nn

from rotbench.hookspecs import STAGES, Parameter
from rotbench.models import Network, build_backbone, parameters_of


@pytest.fixture(scope="module")
def freeze(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("freeze")


@pytest.fixture(scope="module")
def parameters() -> tuple[Parameter, ...]:
    return parameters_of(Network(build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 10)))


def test_what_each_policy_trains(freeze: ModuleType, parameters: tuple[Parameter, ...]) -> None:
    cases = {
        freeze.NoFreeze(): set(STAGES),
        freeze.Below(): {"layer4", "fc"},
        freeze.Below(stage="stem"): set(STAGES),
        freeze.Below(stage="layer2"): {"layer2", "layer3", "layer4", "fc"},
        freeze.Below(stage="fc"): {"fc"},
        freeze.HeadOnly(): {"fc"},
    }
    for policy, stages in cases.items():
        for epoch in (1, 20):
            trained = {one.name for one in parameters if policy.trainable(one, epoch, 20)}
            assert trained == {one.name for one in parameters if one.stage in stages}
    assert len(cases) == 6


def test_frozen_means_frozen_by_default(freeze: ModuleType) -> None:
    policies = freeze.register_freeze_policies()
    assert [policy.name for policy in policies] == ["none", "below", "head-only"]
    for policy in policies:
        assert policy().batchnorm == "eval"
        assert policy(batchnorm="train").batchnorm == "train"
