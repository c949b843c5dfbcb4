"""Freeze policies: which parameters a run may change.

``batchnorm`` says what a frozen BatchNorm module does: ``"eval"`` keeps its running statistics and uses them, so that
frozen means frozen; ``"train"`` normalises by each batch and goes on updating them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl
from rotbench.hookspecs import STAGES, Stage

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class NoFreeze:
    """Everything is trained."""

    name: ClassVar[str] = "none"
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return True


@dataclass(frozen=True)
class Below:
    """What lies below a stage is frozen; that stage and all after it, the head included, are trained."""

    name: ClassVar[str] = "below"
    stage: Stage = "layer4"
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return STAGES.index(parameter.stage) >= STAGES.index(self.stage)


@dataclass(frozen=True)
class HeadOnly:
    """Only the head is trained, on a frozen backbone."""

    name: ClassVar[str] = "head-only"
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.stage == "fc"


@hookimpl
def register_freeze_policies() -> list[type]:
    return [NoFreeze, Below, HeadOnly]
