from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from torch import nn

from rotbench.hookspecs import STAGES, Parameter
from rotbench.models import Network, build_backbone, parameters_of
from rotbench.train import Phase, phases_of

FILES = ("no_freeze", "freeze_below", "head_only", "only_stage", "batchnorm_only", "gradual", "probe_then_tune")


@pytest.fixture(scope="module")
def freeze(shipped_classes: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return shipped_classes(*FILES)


@pytest.fixture(scope="module")
def parameters() -> tuple[Parameter, ...]:
    return parameters_of(Network(build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 10)))


def test_what_each_policy_trains(freeze: SimpleNamespace, parameters: tuple[Parameter, ...]) -> None:
    cases = {
        freeze.NoFreeze(): set(STAGES),
        freeze.Below(): {"layer4", "fc"},
        freeze.Below(stage="stem"): set(STAGES),
        freeze.Below(stage="layer2"): {"layer2", "layer3", "layer4", "fc"},
        freeze.Below(stage="fc"): {"fc"},
        freeze.HeadOnly(): {"fc"},
        freeze.Only(stage="stem"): {"stem", "fc"},
        freeze.Only(stage="layer3"): {"layer3", "fc"},
    }
    for policy, stages in cases.items():
        for epoch in (1, 20):
            trained = {one.name for one in parameters if policy.trainable(one, epoch, 20)}
            assert trained == {one.name for one in parameters if one.stage in stages}
    assert len(cases) == 8


def test_batchnorm_only_trains_scales_shifts_and_the_head(
    freeze: SimpleNamespace, parameters: tuple[Parameter, ...]
) -> None:
    trained = {one.name for one in parameters if freeze.BatchNormOnly().trainable(one, 1, 1)}
    network = Network(build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 10))
    norms = {
        f"{name}.{part}"
        for name, module in network.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    assert len(norms) == 40
    assert trained == norms | {"fc.weight", "fc.bias"}


def test_gradual_lets_a_stage_join_from_the_top_every_few_epochs(
    freeze: SimpleNamespace, parameters: tuple[Parameter, ...]
) -> None:
    policy = freeze.Gradual(every=2)
    joined = {1: "fc", 2: "fc", 3: "layer4", 4: "layer4", 5: "layer3", 7: "layer2", 9: "layer1", 11: "stem", 20: "stem"}
    for epoch, lowest in joined.items():
        stages = {one.stage for one in parameters if policy.trainable(one, epoch, 20)}
        assert stages == set(STAGES[STAGES.index(lowest) :]), epoch
    assert len(joined) == 9
    assert phases_of(policy, 20) == [Phase(1, 20, 1.0)]


def test_probe_then_tune_has_two_phases_of_as_many_epochs_in_all(
    freeze: SimpleNamespace, parameters: tuple[Parameter, ...]
) -> None:
    assert phases_of(freeze.ProbeThenTune(), 20) == [Phase(1, 10, 1.0), Phase(11, 20, 0.1)]
    assert phases_of(freeze.ProbeThenTune(probe=0.25, lr_factor=0.5), 9) == [Phase(1, 2, 1.0), Phase(3, 9, 0.5)]
    assert phases_of(freeze.ProbeThenTune(), 1) == [Phase(1, 1, 0.1)]
    policy = freeze.ProbeThenTune()
    assert {one.stage for one in parameters if policy.trainable(one, 10, 20)} == {"fc"}
    assert all(policy.trainable(one, 11, 20) for one in parameters)


def test_frozen_means_frozen_by_default(freeze: SimpleNamespace) -> None:
    policies = list(vars(freeze).values())
    assert [policy.name for policy in policies] == [
        "none",
        "below",
        "head-only",
        "only",
        "batchnorm-only",
        "gradual",
        "probe-then-tune",
    ]
    for policy in policies:
        needed = {"stage": "layer4"} if policy is freeze.Only else {}
        assert policy(**needed).batchnorm == "eval"
        for mode in ("train", "calibrated"):
            assert policy(**needed, batchnorm=mode).batchnorm == mode
