"""Training of the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl
from rotbench.hookspecs import BatchNorm

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class NoFreeze:
    """All parameters are trained."""

    name: ClassVar[str] = "none"

    #: The mode of a frozen BatchNorm module; this policy freezes none.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train every parameter in every epoch."""
        return True


@hookimpl
def register_freeze_policies() -> list[type]:
    return [NoFreeze]
