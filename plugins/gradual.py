"""Gradual unfreezing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from rotbench import hookimpl
from rotbench.hookspecs import STAGES, BatchNorm

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class Gradual:
    """The head is trained first; every few epochs the next stage below is unfrozen (Howard and Ruder, ACL 2018).

    The learning rate schedule is not restarted. A stage has no momentum when it is unfrozen, since it had no gradient.
    """

    name: ClassVar[str] = "gradual"
    cite: ClassVar[str] = (
        "@inproceedings{howard2018universal, title = {Universal Language Model Fine-tuning for Text Classification}, "
        "author = {Howard, Jeremy and Ruder, Sebastian}, booktitle = {ACL}, year = {2018}}"
    )

    #: Epochs from the unfreezing of one stage to that of the next; all six are trained after five times as many.
    every: Annotated[int, Field(ge=1)] = 1
    #: The mode of a frozen BatchNorm module.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train the head and, from the top down, one more stage after every ``every`` epochs."""
        unfrozen = (epoch - 1) // self.every
        return STAGES.index(parameter.stage) >= len(STAGES) - 1 - unfrozen


@hookimpl
def register_freeze_policies() -> list[type]:
    return [Gradual]
