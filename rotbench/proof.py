"""Proof of what a run started from and of what it left alone, read off the tensors themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from rotbench.hookspecs import STAGES, Parameter
from rotbench.models import stage_of, state_sha256


class Unproven(Exception):
    """An init or a freeze policy did not do what it says; the run fails with these words."""


def start_proof(
    init: str,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    claimed: Collection[str],
    unexpected: set[str],
    *,
    exact: bool = True,
) -> dict[str, Any]:
    """What an init did to a backbone whose state was ``before`` and is ``after``.

    Tensors that an ``exact`` init does not claim are missing; another leaves them as they were on purpose.
    Raises :class:`Unproven` where it claims tensors that do not exist, or claims some and changed none.
    """
    unknown = sorted(set(claimed) - set(after))
    if unknown:
        raise Unproven(f"init {init} claims tensors that the backbone does not have: {', '.join(unknown[:4])}")
    changed = [name for name in after if state_sha256({name: before[name]}) != state_sha256({name: after[name]})]
    if claimed and not set(changed) & set(claimed):
        raise Unproven(f"init {init} claims {len(claimed)} tensors and changed none of them")
    return {
        "exact": exact,
        "tensors": len(after),
        "claimed": len(claimed),
        "changed": len(changed),
        "missing": sorted(set(after) - set(claimed)) if claimed and exact else [],
        "unexpected": sorted(unexpected),
        "seed_backbone_sha256": state_sha256(before),
        "backbone_sha256": state_sha256(after),
    }


def freeze_proof(
    policy: str,
    parameters: Collection[Parameter],
    ever_trained: Collection[str],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> dict[str, Any]:
    """How far frozen tensors moved: parameters that no epoch trained, and the buffers of their BatchNorm modules.

    ``before`` and ``after``: all parameters and running statistics by name, on the CPU. Raises :class:`Unproven`
    where a frozen parameter moved.
    """
    frozen = {parameter.name for parameter in parameters if parameter.name not in ever_trained}
    buffers = {
        name
        for name in before
        if name.endswith(("running_mean", "running_var")) and f"{name.rpartition('.')[0]}.weight" in frozen
    }
    change = {name: float((after[name] - before[name]).abs().max()) for name in frozen | buffers}
    moved = sorted(name for name in frozen if change[name] != 0)
    if moved:
        raise Unproven(f"freeze policy {policy} leaks: {moved[0]} is frozen and changed by {change[moved[0]]:.3g}")

    def largest(names: Collection[str], stage: str | None = None) -> float | None:
        return max((change[name] for name in names if stage in (None, stage_of(name))), default=None)

    trained = [parameter for parameter in parameters if parameter.name in ever_trained]
    return {
        "policy": policy,
        "trainable_parameters": sum(before[parameter.name].numel() for parameter in trained),
        "frozen_parameters": sum(before[name].numel() for name in frozen),
        "trainable_by_stage": {
            stage: sum(before[parameter.name].numel() for parameter in trained if parameter.stage == stage)
            for stage in STAGES
        },
        "largest_change_of_frozen_parameter": largest(frozen),
        "largest_change_of_frozen_buffer": largest(buffers),
        "largest_change_by_stage": {
            stage: {"parameters": largest(frozen, stage), "buffers": largest(buffers, stage)} for stage in STAGES
        },
    }
