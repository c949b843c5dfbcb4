"""What a freeze policy trains: which stages, from which epoch on, and how many parameters; told without torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.architecture import Sized
from rotbench.hookspecs import STAGES

#: Policies are asked about every epoch of a run up to so many, else about so many of them.
EPOCHS_ASKED = 2000


@dataclass(frozen=True)
class TrainedPhase:
    """What is trained from epoch ``first`` on. ``parts``: stages, or ``BatchNorm`` for that of the whole backbone."""

    first: int
    parts: tuple[str, ...]
    parameters: int


def trained_phases(policy: Any, sizes: Sequence[Sized], epochs: int) -> tuple[TrainedPhase, ...]:
    """Ask a freeze policy about the parameters of a network in each epoch; raises what the policy raises."""
    phases: list[TrainedPhase] = []
    for epoch in range(1, epochs + 1, max(1, -(-epochs // EPOCHS_ASKED))):
        trained = [sized for sized in sizes if policy.trainable(sized.parameter, epoch, epochs)]
        phase = TrainedPhase(epoch, _parts(sizes, trained), sum(sized.count for sized in trained))
        if not phases or (phases[-1].parts, phases[-1].parameters) != (phase.parts, phase.parameters):
            phases.append(phase)
    return tuple(phases)


def trained_words(phases: Sequence[TrainedPhase]) -> str:
    """``layer4 and fc``; ``fc, also layer4 from epoch 2, layer3 from 3``; ``fc, then everything from epoch 11``."""
    told = listed(phases[0].parts)
    joining = False
    for before, phase in itertools.pairwise(phases):
        joins = set(before.parts) < set(phase.parts) and len(phase.parts) == len(before.parts) + 1
        if joins:
            (part,) = set(phase.parts) - set(before.parts)
            told += f", {part} from {phase.first}" if joining else f", also {part} from epoch {phase.first}"
        else:
            told += f", then {listed(phase.parts)} from epoch {phase.first}"
        joining = joins
    return told


def most_parameters(phases: Sequence[TrainedPhase]) -> int:
    """How many parameters are trained in the epoch that trains most of them."""
    return max(phase.parameters for phase in phases)


def _parts(sizes: Sequence[Sized], trained: Sequence[Sized]) -> tuple[str, ...]:
    """The stages that are trained whole, and what is trained of others."""
    chosen = {sized.parameter.name for sized in trained}
    backbone = [sized.parameter for sized in sizes if sized.parameter.stage != "fc"]
    norms = {parameter.name for parameter in backbone if parameter.kind == "batchnorm"}
    if chosen and chosen & {parameter.name for parameter in backbone} == norms:
        return ("BatchNorm", "fc") if len(chosen) > len(norms) else ("BatchNorm",)
    parts = []
    for stage in STAGES:
        names = {sized.parameter.name for sized in sizes if sized.parameter.stage == stage}
        if names <= chosen:
            parts.append(stage)
        elif names & chosen:
            parts.append(f"BatchNorm of {stage}" if names & chosen == names & norms else f"part of {stage}")
    return tuple(parts)


def listed(parts: Sequence[str]) -> str:
    """``everything``, ``layer3, layer4 and fc``, ``nothing``."""
    if tuple(parts) == STAGES:
        return "everything"
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1] if parts else "nothing")))
