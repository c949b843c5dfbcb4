"""Freeze policies with one fault each, and a sound one that they are made from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from rotbench.hookspecs import Parameter


@dataclass(frozen=True)
class Sound:
    """The head alone is trained."""

    name: ClassVar[str] = "sound"

    #: What a frozen BatchNorm module does.
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> Any:
        return parameter.stage == "fc"


@dataclass(frozen=True)
class AnswersNothing(Sound):
    """Forgets to return."""

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> Any:
        parameter.stage == "fc"  # noqa: B015  the fault that is planted


@dataclass(frozen=True)
class TrainsNothing(Sound):
    """Trains nothing at all."""

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> Any:
        return False


@dataclass(frozen=True)
class TrainsNothingAtTheEnd(Sound):
    """Trains nothing in the last epoch."""

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> Any:
        return parameter.stage == "fc" and (epoch < epochs or epochs == 1)


@dataclass(frozen=True)
class ForgetsTheHead(Sound):
    """Trains everything but the head."""

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> Any:
        return parameter.stage != "fc"


_CALLS = itertools.count()


@dataclass(frozen=True)
class ChangesItsMind(Sound):
    """Answers by turns."""

    def restart(self, epoch: int, epochs: int) -> float | None:
        return 0.5 + next(_CALLS) % 7


@dataclass(frozen=True)
class RestartZero(Sound):
    """Restarts with a learning rate of nothing."""

    def restart(self, epoch: int, epochs: int) -> float | None:
        return 0 if epoch == 2 else None


@dataclass(frozen=True)
class UnknownMode(Sound):
    """A mode that the trainer does not know."""

    #: What a frozen BatchNorm module does.
    batchnorm: Literal["eval", "frozen"] = "eval"  # type: ignore[assignment]


#: Each policy, the one check that has to fail, and words that have to be said.
CASES: list[tuple[type, str, str]] = [
    (AnswersNothing, "answers", "should return True or False, returns None for conv1.weight"),
    (TrainsNothing, "trains", "nothing is trained in epoch 1 of 1"),
    (TrainsNothingAtTheEnd, "trains", "nothing is trained in epoch 2 of 2"),
    (ForgetsTheHead, "trains", "the head is trained in none of 1 epochs"),
    (ChangesItsMind, "repeatable", "restart says something else when it is asked again"),
    (RestartZero, "restarts", "above 0, is 0 at epoch 2 of 2"),
    (UnknownMode, "batchnorm-modes", "batchnorm should be one of eval, train, calibrated, not 'frozen'"),
]
