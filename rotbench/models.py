"""ResNets of torchvision as a backbone and a head, and what can be said about their tensors.

Names of tensors are those of the backbone's state dict (``layer4.0.bn1.weight``); the head's parameters are called
``fc.<name>``, since the head stands where torchvision has its ``fc``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal, TypeGuard, cast, get_args

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import ResNet

from rotbench.hookspecs import BatchNorm, Parameter, Stage
from rotbench.streams import drawing

#: The stages of a backbone, in the order in which an image passes them.
BACKBONE_STAGES: tuple[Stage, ...] = ("stem", "layer1", "layer2", "layer3", "layer4")

#: At most so many names of tensors in one message.
_NAMES_SHOWN = 4


def build_backbone(name: str, stem: str, seed: int) -> ResNet:
    """The randomly initialised backbone of a seed: a torchvision ResNet whose ``fc`` passes features through.

    ``name``: a ResNet of torchvision, such as ``"resnet18"``. ``stem``: ``"imagenet"`` as torchvision has it, or
    ``"cifar"``: a 3x3 convolution of stride 1 and no max-pool. float32 on the CPU. Raises ``ValueError`` for another
    name or stem.

    It is built with torchvision's own head of 1000 classes, which is then replaced: torchvision draws the head before
    it draws the convolutions, so a head of another size would give another backbone.
    """
    names = _resnet_names()
    if name not in names:
        raise ValueError(f'"{name}" is no ResNet of torchvision; there are {", ".join(names)}')
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f'there is no stem "{stem}"; there are imagenet and cifar')
    with drawing(seed, "backbone"):
        backbone = torchvision.models.get_model(name, weights=None)
        if stem == "cifar":
            conv1 = nn.Conv2d(3, backbone.conv1.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
            backbone.conv1 = conv1
            backbone.maxpool = nn.Identity()
    backbone.fc = nn.Identity()
    return backbone


def _resnet_names() -> list[str]:
    builders = {name: torchvision.models.get_model_builder(name) for name in torchvision.models.list_models()}
    return [name for name, builder in builders.items() if builder.__module__ == ResNet.__module__]


def published_weights(sha256: str) -> str | None:
    """Which of torchvision's weights a file is, by its hash: ``"ResNet18_Weights.IMAGENET1K_V1"``; None for others.

    The name of each published file ends with the first digits of its sha256.
    """
    for name in torchvision.models.list_models(module=torchvision.models):
        for member in torchvision.models.get_model_weights(name):
            digits = member.url.rpartition("-")[2].partition(".")[0]
            if len(digits) >= 8 and sha256.startswith(digits):
                return str(member)
    return None


def features(backbone: ResNet) -> int:
    """The number of channels that layer4 gives."""
    expansion: int = backbone.layer4[-1].expansion
    return 512 * expansion


class Network(nn.Module):
    """A backbone with a head on its layer4.

    ``takes``: what the head is fed, ``"pooled"`` (M, features) or ``"map"`` (M, features, h, w).
    """

    def __init__(self, backbone: ResNet, head: nn.Module, takes: Literal["pooled", "map"] = "pooled") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.takes = takes

    def forward(self, views: Tensor, depth: int = 0) -> Tensor:
        """float32 (M, 3, h, w), or the maps after the first ``depth`` stages, to the head's outputs.

        The backbone runs under whatever autocast is active; pooling and head always run in float32.
        """
        maps = self.maps(views, depth, len(BACKBONE_STAGES))  # (M, features, h, w)
        with torch.autocast(views.device.type, enabled=False):
            fed = maps.float()
            if self.takes == "pooled":
                fed = self.backbone.avgpool(fed).flatten(1)  # (M, features)
            return cast(Tensor, self.head(fed))

    def maps(self, views: Tensor, first: int, last: int) -> Tensor:
        """What the stages ``first`` to ``last`` (exclusive) of the backbone make of the maps before them."""
        backbone, maps = self.backbone, views
        for stage in BACKBONE_STAGES[first:last]:
            if stage == "stem":
                maps = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(maps))))
            else:
                maps = getattr(backbone, stage)(maps)
        return maps


def stage_of(name: str) -> Stage:
    """The stage of a tensor by its name; ``ValueError`` for a name that no ResNet has."""
    first = name.partition(".")[0]
    if first in ("conv1", "bn1"):
        return "stem"
    if first in ("layer1", "layer2", "layer3", "layer4", "fc"):
        return cast(Stage, first)
    raise ValueError(f'"{name}" belongs to no stage of a ResNet')


def _named_modules(network: Network) -> Iterator[tuple[str, nn.Module]]:
    """Every module of the network by the name that its tensors begin with."""
    yield from network.backbone.named_modules()
    yield from network.head.named_modules(prefix="fc")


def named_parameters(network: Network) -> dict[str, nn.Parameter]:
    """The parameters themselves, by name; backbone first."""
    return {**dict(network.backbone.named_parameters()), **dict(network.head.named_parameters(prefix="fc"))}


def running_statistics(network: Network) -> dict[str, Tensor]:
    """The buffers themselves, by name; backbone first."""
    return {**dict(network.backbone.named_buffers()), **dict(network.head.named_buffers(prefix="fc"))}


def parameters_of(network: Network) -> tuple[Parameter, ...]:
    """The parameters as a freeze policy sees them, in the order of ``named_parameters``."""
    kinds = {
        f"{prefix}.{name}": _kind(module)
        for prefix, module in _named_modules(network)
        for name, _ in module.named_parameters(recurse=False)
    }
    return tuple(Parameter(name, stage_of(name), kinds[name]) for name in named_parameters(network))


def _kind(module: nn.Module) -> Literal["conv", "batchnorm", "linear", "other"]:
    if isinstance(module, nn.modules.conv._ConvNd):
        return "conv"
    if _is_batchnorm(module):
        return "batchnorm"
    if isinstance(module, nn.Linear):
        return "linear"
    return "other"


def freeze_batchnorm(network: Network, frozen: Collection[str], mode: str) -> None:
    """Put the network into training mode, but for frozen BatchNorm modules unless ``mode`` is ``"train"``.

    ``frozen``: names of the parameters that are not trained. A BatchNorm module is frozen when its weight is. With
    ``"eval"`` and ``"calibrated"`` it keeps its running statistics and uses them; with ``"train"`` it goes on like any
    other. Raises ``ValueError`` for another mode.
    """
    modes = get_args(BatchNorm)
    if mode not in modes:
        raise ValueError(f'frozen BatchNorm can be in mode {", ".join(modes[:-1])} or {modes[-1]}, not "{mode}"')
    network.train()
    if mode != "train":
        for module in _frozen_batchnorm(network, frozen):
            module.eval()


@torch.no_grad()
def calibrate_batchnorm(network: Network, frozen: Collection[str], batches: Iterable[Tensor]) -> int:
    """Compute the running statistics of frozen BatchNorm modules anew, as batch statistics would have them.

    ``batches``: float32 (M, 3, h, w), normalised. All BatchNorm modules normalise by each batch meanwhile; afterwards
    a frozen one's mean and variance are those of the batches, each weighted by its images. Nothing else changes.
    Returns how many images there were.
    """
    chosen = list(_frozen_batchnorm(network, frozen))
    others = [module for _, module in _named_modules(network) if _is_batchnorm(module) and module not in chosen]
    momenta = [module.momentum for module in chosen]
    training = network.training
    network.train()
    for module in others:
        module.track_running_stats = False
    seen = 0
    for views in batches:
        seen += len(views)
        for module in chosen:
            module.momentum = len(views) / seen
        network.backbone(views)
    for module, momentum in zip(chosen, momenta, strict=True):
        module.momentum = momentum
    for module in others:
        module.track_running_stats = True
    network.train(training)
    return seen


def _frozen_batchnorm(network: Network, frozen: Collection[str]) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    for name, module in _named_modules(network):
        if _is_batchnorm(module) and f"{name}.weight" in frozen:
            yield module


def _is_batchnorm(module: nn.Module) -> TypeGuard[nn.modules.batchnorm._BatchNorm]:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def backbone_state(backbone: nn.Module) -> dict[str, Tensor]:
    """A copy of the backbone's parameters and buffers, without its ``fc``: on the CPU, contiguous, dtypes kept."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in backbone.state_dict().items()
        if not name.startswith("fc.")
    }


def load_backbone(backbone: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state into the backbone, all of it or nothing.

    Raises ``ValueError`` that names the tensors which are missing in ``state``, which the backbone does not have, and
    whose shape is another.
    """
    own = backbone.state_dict()
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    told = [f"{len(names)} {what}: {_listed(names)}" for what, names in faults.items() if names]
    if told:
        raise ValueError("the weights do not fit the backbone; tensors " + "; ".join(told))
    backbone.load_state_dict(dict(state))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", .." if len(names) > _NAMES_SHOWN else "")


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """One hash over the names, dtypes, shapes and values of all tensors; device and memory format do not count."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
