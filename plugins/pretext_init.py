"""The weights of a pretext run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Pretext:
    """The final backbone weights of a pretext run."""

    name: ClassVar[str] = "pretext"

    #: The name of a [pretext.NAME].
    pretext: str

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copy and claim every tensor; raise ``ValueError`` if one does not fit."""
        from rotbench.models import load_backbone

        if context.pretext is None:
            raise ValueError(f'the weights of the pretext run "{self.pretext}" are missing')
        # All tensors or none: a network that silently kept random weights would count as a pretrained one.
        load_backbone(model, context.pretext)
        return tuple(context.pretext)


@hookimpl
def register_inits() -> list[type]:
    return [Pretext]
