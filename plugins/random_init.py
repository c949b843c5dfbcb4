"""The random initialisation of torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Random:
    """Random weights as torchvision draws them, identical for all variants of a seed."""

    name: ClassVar[str] = "random"

    def apply(self, model: nn.Module, context: InitContext) -> None:
        """Leave the model as it is: it arrives with the random weights of its seed."""


@hookimpl
def register_inits() -> list[type]:
    return [Random]
