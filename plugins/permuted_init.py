"""A control for pretext weights: the same values without the features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Permuted:
    """The weights of a pretext run, permuted within each tensor (cf. Neyshabur, Sedghi and Zhang, NeurIPS 2020).

    A control for what is transferred: the scale and distribution of each tensor are kept, its features are not. The
    paper shuffles images; here the weights are shuffled. The running statistics of BatchNorm are permuted too and no
    longer match their channels, so a frozen BatchNorm should be ``"calibrated"`` or ``"train"``.
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
        """Copy and claim every tensor, each in a random order; raise ``ValueError`` if one does not fit."""
        import torch

        from rotbench.models import load_backbone

        if context.pretext is None:
            raise ValueError(f'the weights of the pretext run "{self.pretext}" are missing')
        permuted = {}
        for name, tensor in sorted(context.pretext.items()):
            order = torch.randperm(tensor.numel(), generator=context.generator)
            permuted[name] = tensor.reshape(-1)[order].view(tensor.shape)
        load_backbone(model, permuted)
        return tuple(permuted)


@hookimpl
def register_inits() -> list[type]:
    return [Permuted]
