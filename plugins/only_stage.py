"""Surgical fine-tuning of one stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl
from rotbench.hookspecs import BatchNorm

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class Only:
    """One stage and the head, which is new, are trained: surgical fine-tuning (Lee et al., ICLR 2023)."""

    name: ClassVar[str] = "only"
    cite: ClassVar[str] = (
        "@inproceedings{lee2023surgical, title = {Surgical Fine-Tuning Improves Adaptation to Distribution Shifts}, "
        "author = {Lee, Yoonho and Chen, Annie S. and Tajwar, Fahim and Kumar, Ananya and Yao, Huaxiu and Liang, Percy "
        "and Finn, Chelsea}, booktitle = {ICLR}, year = {2023}}"
    )

    #: The stage that is trained.
    stage: Literal["stem", "layer1", "layer2", "layer3", "layer4"]
    #: The mode of a frozen BatchNorm module.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train ``stage`` and the head in every epoch."""
        return parameter.stage in (self.stage, "fc")


@hookimpl
def register_freeze_policies() -> list[type]:
    return [Only]
