"""Linear probing, then fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from rotbench import hookimpl
from rotbench.hookspecs import BatchNorm

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class ProbeThenTune:
    """Only the head is trained, then everything at a lower learning rate: LP-FT (Kumar et al., ICLR 2022).

    Each phase has its own optimiser and schedule; together they have as many epochs as any other variant.
    """

    name: ClassVar[str] = "probe-then-tune"
    cite: ClassVar[str] = (
        "@inproceedings{kumar2022finetuning, title = {Fine-Tuning Can Distort Pretrained Features and Underperform "
        "Out-of-Distribution}, author = {Kumar, Ananya and Raghunathan, Aditi and Jones, Robbie and Ma, Tengyu and "
        "Liang, Percy}, booktitle = {ICLR}, year = {2022}}"
    )

    #: The share of the epochs in which only the head is trained, rounded down to whole epochs.
    probe: Annotated[float, Field(gt=0, lt=1)] = 0.5
    #: The factor on the learning rate when everything is trained.
    lr_factor: Annotated[float, Field(gt=0)] = 0.1
    #: The mode of a frozen BatchNorm module.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Train the head in every epoch, and everything after the probing phase."""
        return epoch > self._probed(epochs) or parameter.stage == "fc"

    def restart(self, epoch: int, epochs: int) -> float | None:
        """Restart optimiser and schedule after the probing phase, at a lower learning rate."""
        return self.lr_factor if epoch == self._probed(epochs) + 1 else None

    def _probed(self, epochs: int) -> int:
        return int(round(self.probe * epochs, 6))  # 0.29 of 100 is 29


@hookimpl
def register_freeze_policies() -> list[type]:
    return [ProbeThenTune]
