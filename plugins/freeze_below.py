"""Freezing of the lower stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl
from rotbench.hookspecs import STAGES, BatchNorm, Stage

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class Below:
    """All stages below a given one are frozen; that stage and those above it, including the head, are trained."""

    name: ClassVar[str] = "below"

    #: The first stage that is trained.
    stage: Stage = "layer4"
    #: The mode of a frozen BatchNorm module.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train ``stage`` and all stages above it in every epoch."""
        return STAGES.index(parameter.stage) >= STAGES.index(self.stage)


@hookimpl
def register_freeze_policies() -> list[type]:
    return [Below]
