"""Freeze policies: which parameters a run may change.

``batchnorm`` says what a frozen BatchNorm module does. ``"eval"``: it keeps its running statistics and uses them, so
that frozen means frozen. ``"train"``: it normalises by each batch and goes on updating them. ``"calibrated"``: its
statistics are computed anew from the training images before the first epoch, and then kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from rotbench import hookimpl
from rotbench.hookspecs import STAGES, BatchNorm, Stage

if TYPE_CHECKING:
    from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class NoFreeze:
    """Everything is trained."""

    name: ClassVar[str] = "none"

    #: What a frozen BatchNorm module does; here none is frozen.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return True


@dataclass(frozen=True)
class Below:
    """What lies below a stage is frozen; that stage and all after it, the head included, are trained."""

    name: ClassVar[str] = "below"

    #: The first stage that is trained.
    stage: Stage = "layer4"
    #: What a frozen BatchNorm module does.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return STAGES.index(parameter.stage) >= STAGES.index(self.stage)


@dataclass(frozen=True)
class HeadOnly:
    """Only the head is trained, on a frozen backbone: a linear probe."""

    name: ClassVar[str] = "head-only"

    #: What a frozen BatchNorm module does.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.stage == "fc"


@dataclass(frozen=True)
class Only:
    """One stage is trained and the head, which is new: surgical fine-tuning (Lee et al., ICLR 2023)."""

    name: ClassVar[str] = "only"
    cite: ClassVar[str] = (
        "@inproceedings{lee2023surgical, title = {Surgical Fine-Tuning Improves Adaptation to Distribution Shifts}, "
        "author = {Lee, Yoonho and Chen, Annie S. and Tajwar, Fahim and Kumar, Ananya and Yao, Huaxiu and Liang, Percy "
        "and Finn, Chelsea}, booktitle = {ICLR}, year = {2023}}"
    )

    #: The stage that is trained.
    stage: Literal["stem", "layer1", "layer2", "layer3", "layer4"]
    #: What a frozen BatchNorm module does.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.stage in (self.stage, "fc")


@dataclass(frozen=True)
class BatchNormOnly:
    """Scales and shifts of BatchNorm are trained and the head; no convolution is (Frankle, Schwab and Morcos, 2021)."""

    name: ClassVar[str] = "batchnorm-only"
    cite: ClassVar[str] = (
        "@inproceedings{frankle2021training, title = {Training {BatchNorm} and Only {BatchNorm}: On the Expressive "
        "Power of Random Features in {CNNs}}, author = {Frankle, Jonathan and Schwab, David J. and Morcos, Ari S.}, "
        "booktitle = {ICLR}, year = {2021}}"
    )

    #: What a frozen BatchNorm module does; here none is frozen, so that all use the statistics of each batch.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.kind == "batchnorm" or parameter.stage == "fc"


@dataclass(frozen=True)
class Gradual:
    """The head is trained first, and from the top down a stage joins every few epochs (Howard and Ruder, ACL 2018).

    The learning rate's schedule runs on; what joins has no momentum yet, since it had no gradient before.
    """

    name: ClassVar[str] = "gradual"
    cite: ClassVar[str] = (
        "@inproceedings{howard2018universal, title = {Universal Language Model Fine-tuning for Text Classification}, "
        "author = {Howard, Jeremy and Ruder, Sebastian}, booktitle = {ACL}, year = {2018}}"
    )

    #: Epochs between one stage's joining and the next one's; all six are trained after five times as many.
    every: Annotated[int, Field(ge=1)] = 1
    #: What a frozen BatchNorm module does.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        joined = (epoch - 1) // self.every
        return STAGES.index(parameter.stage) >= len(STAGES) - 1 - joined


@dataclass(frozen=True)
class ProbeThenTune:
    """The head is trained alone, then everything at a lower learning rate: LP-FT (Kumar et al., ICLR 2022).

    Both phases have an optimiser and a schedule of their own, and together as many epochs as any other variant.
    """

    name: ClassVar[str] = "probe-then-tune"
    cite: ClassVar[str] = (
        "@inproceedings{kumar2022finetuning, title = {Fine-Tuning Can Distort Pretrained Features and Underperform "
        "Out-of-Distribution}, author = {Kumar, Ananya and Raghunathan, Aditi and Jones, Robbie and Ma, Tengyu and "
        "Liang, Percy}, booktitle = {ICLR}, year = {2022}}"
    )

    #: The share of the epochs in which the head is trained alone, rounded down to whole epochs.
    probe: Annotated[float, Field(gt=0, lt=1)] = 0.5
    #: The factor on the learning rate when everything is trained.
    lr_factor: Annotated[float, Field(gt=0)] = 0.1
    #: What a frozen BatchNorm module does.
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return epoch > self._probed(epochs) or parameter.stage == "fc"

    def restart(self, epoch: int, epochs: int) -> float | None:
        return self.lr_factor if epoch == self._probed(epochs) + 1 else None

    def _probed(self, epochs: int) -> int:
        return int(round(self.probe * epochs, 6))  # 0.29 of 100 is 29


@hookimpl
def register_freeze_policies() -> list[type]:
    return [NoFreeze, Below, HeadOnly, Only, BatchNormOnly, Gradual, ProbeThenTune]
