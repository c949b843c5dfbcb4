"""Training of BatchNorm and the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl
from rotbench.hookspecs import BatchNorm

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class BatchNormOnly:
    """BatchNorm scales and shifts and the head are trained, convolutions are not (Frankle, Schwab and Morcos, 2021)."""

    name: ClassVar[str] = "batchnorm-only"
    cite: ClassVar[str] = (
        "@inproceedings{frankle2021training, title = {Training {BatchNorm} and Only {BatchNorm}: On the Expressive "
        "Power of Random Features in {CNNs}}, author = {Frankle, Jonathan and Schwab, David J. and Morcos, Ari S.}, "
        "booktitle = {ICLR}, year = {2021}}"
    )

    #: The mode of a frozen BatchNorm module; this policy freezes none, so all use the statistics of each batch.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train BatchNorm parameters and the head in every epoch."""
        return parameter.kind == "batchnorm" or parameter.stage == "fc"


@hookimpl
def register_freeze_policies() -> list[type]:
    return [BatchNormOnly]
