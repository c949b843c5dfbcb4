"""Training of the head on a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl
from rotbench.hookspecs import BatchNorm

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class HeadOnly:
    """Only the head is trained, on a frozen backbone: a linear probe."""

    name: ClassVar[str] = "head-only"

    #: The mode of a frozen BatchNorm module.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train the head in every epoch."""
        return parameter.stage == "fc"


@hookimpl
def register_freeze_policies() -> list[type]:
    return [HeadOnly]
