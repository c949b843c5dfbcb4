"""Inits that start from the weights of a seed, of a pretext run, or of both.

A model arrives with the random weights of its seed. Weights of a pretext run must fit it tensor by tensor: a network
that kept part of its random weights without a word would pass for a pretrained one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl
from rotbench.hookspecs import STAGES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Random:
    """Random weights as torchvision draws them, the same for every variant of a seed."""

    name: ClassVar[str] = "random"

    def apply(self, model: nn.Module, context: InitContext) -> None:
        """Leaves the model as it is."""


@dataclass(frozen=True)
class Pretext:
    """The backbone that a pretext run ended with."""

    name: ClassVar[str] = "pretext"

    #: The name of a [pretext.NAME].
    pretext: str

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copies and claims every tensor; ``ValueError`` where one does not fit."""
        from rotbench.models import load_backbone

        weights = _weights_of(self.pretext, context)
        load_backbone(model, weights)
        return tuple(weights)


@dataclass(frozen=True)
class Permuted:
    """The weights of a pretext run, permuted within each tensor (cf. Neyshabur, Sedghi and Zhang, NeurIPS 2020).

    A control for what is transferred: only the scale and spread of each tensor are left, no feature. The paper asks
    that of shuffled images; here the weights are shuffled. The running statistics of BatchNorm are permuted too and no
    longer belong to the channels that they stand at: a frozen BatchNorm should be ``"calibrated"`` or ``"train"``.
    """

    name: ClassVar[str] = "permuted"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{neyshabur2020transferred, title = {What Is Being Transferred in Transfer Learning?}, author = "
        "{Neyshabur, Behnam and Sedghi, Hanie and Zhang, Chiyuan}, booktitle = {NeurIPS}, year = {2020}}"
    )

    #: The name of the [pretext.NAME] whose weights are permuted.
    pretext: str

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copies every tensor in an order of its own and claims it; ``ValueError`` where one does not fit."""
        import torch

        from rotbench.models import load_backbone

        permuted = {}
        for name, tensor in sorted(_weights_of(self.pretext, context).items()):
            order = torch.randperm(tensor.numel(), generator=context.generator)
            permuted[name] = tensor.reshape(-1)[order].view(tensor.shape)
        load_backbone(model, permuted)
        return tuple(permuted)


@dataclass(frozen=True)
class Partial:
    """The lower stages from a pretext run, the rest random: how general is each (Yosinski et al., NeurIPS 2014)."""

    name: ClassVar[str] = "partial"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{yosinski2014transferable, title = {How Transferable Are Features in Deep Neural Networks?}, "
        "author = {Yosinski, Jason and Clune, Jeff and Bengio, Yoshua and Lipson, Hod}, booktitle = {NeurIPS}, year = "
        "{2014}}"
    )

    #: The name of the [pretext.NAME] whose weights are used.
    pretext: str
    #: The last stage that comes from the pretext run; those after it stay random.
    stage: Literal["stem", "layer1", "layer2", "layer3", "layer4"] = "layer3"

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copies and claims the tensors up to ``stage``; ``ValueError`` where one does not fit."""
        from rotbench.models import backbone_state, load_backbone, stage_of

        def lower(name: str) -> bool:
            return STAGES.index(stage_of(name)) <= STAGES.index(self.stage)

        chosen = {name: tensor for name, tensor in _weights_of(self.pretext, context).items() if lower(name)}
        kept = {name: tensor for name, tensor in backbone_state(model).items() if not lower(name)}
        load_backbone(model, {**kept, **chosen})
        return tuple(chosen)


def _weights_of(pretext: str, context: InitContext) -> Mapping[str, Tensor]:
    if context.pretext is None:
        raise ValueError(f'there are no weights of the pretext run "{pretext}"')
    return context.pretext


@hookimpl
def register_inits() -> list[type]:
    return [Random, Pretext, Permuted, Partial]
