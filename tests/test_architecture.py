"""What is told of a ResNet without building it is what torchvision builds."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
import torch

from rotbench.architecture import SHAPES, backbone_bytes, backbone_parameters, features, head_parameters
from rotbench.models import Network, backbone_state, build_backbone, named_parameters, parameters_of
from rotbench.models import features as built_features
from rotbench.settings import ModelSettings


def test_every_network_that_a_study_can_name_is_described() -> None:
    assert tuple(SHAPES) == get_args(get_type_hints(ModelSettings)["name"])


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_of_torchvision(name: str, stem: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, stem, 0)
        network = Network(backbone, torch.nn.Linear(built_features(backbone), 10))
    told = (*backbone_parameters(name, stem), *head_parameters(name, 10))
    assert tuple(sized.parameter for sized in told) == parameters_of(network)
    assert [sized.count for sized in told] == [tensor.numel() for tensor in named_parameters(network).values()]
    assert features(name) == built_features(backbone)
    state = {key: tensor for key, tensor in backbone.state_dict().items() if not key.startswith("fc.")}
    assert backbone_bytes(name, stem) == sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def test_the_bytes_are_those_that_a_pretext_run_keeps() -> None:
    state = backbone_state(build_backbone("resnet18", "imagenet", 0))
    assert backbone_bytes("resnet18", "imagenet") == sum(t.numel() * t.element_size() for t in state.values())
