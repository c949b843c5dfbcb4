"""Proof of what a run started from, of what it left alone and of what it saw, read off the tensors themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from rotbench.hookspecs import STAGES, Parameter
from rotbench.models import stage_of, state_sha256

#: BatchNorm's count of batches: torchvision's networks never use it, and older files of weights lack it.
COUNTER = ".num_batches_tracked"

#: What BatchNorm normalises by in eval mode.
STATISTICS = ("running_mean", "running_var")

_NAMES_SHOWN = 3


class Unproven(Exception):
    """A run did not do what its init, its freeze policy or its settings say; it fails with these words."""


def start_proof(
    init: str,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    claimed: Collection[str],
    unexpected: set[str],
    *,
    exact: bool = True,
    parent: Mapping[str, Tensor] | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """What an init did to a backbone whose state was ``before`` and is ``after``.

    ``parent`` are the weights of the pretext run that the init was to start from; ``source`` says in words where
    weights were promised from, for an init that has them from a pretext run or a file. Tensors that an ``exact`` init
    does not claim are missing; another leaves them as they were on purpose.

    Raises :class:`Unproven` where the init claims tensors that do not exist; where it claims or was given weights and
    changed nothing; and where it is exact and the backbone is not its parent's to the bit.
    """
    unknown = sorted(set(claimed) - set(after))
    if unknown:
        raise Unproven(f"init {init} claims tensors that the backbone does not have: {_listed(unknown)}")
    changed = {name for name in after if not _equal(before[name], after[name])}
    if claimed and not changed & set(claimed):
        raise Unproven(f"init {init} claims {len(claimed)} tensors and changed none of them")
    if source is not None and not changed:
        raise Unproven(f"init {init} was given the weights of {source} and left the backbone at its random weights")
    if parent is not None and exact:
        others = [name for name in after if not (name in parent and _equal(after[name], parent[name]))]
        if others:
            random = sum(name not in changed for name in others)
            left = f", {random} of them still random" if random else ""
            raise Unproven(
                f"init {init} does not start from the weights of {source}: "
                f"{len(others)} of {len(after)} tensors are others{left} ({_listed(others)})"
            )
    return {
        "exact": exact,
        "tensors": len(after),
        "claimed": len(claimed),
        "changed": len(changed),
        "unclaimed": len(changed - set(claimed)),
        "origins": origins(before, after, parent),
        "missing": sorted(name for name in set(after) - set(claimed) if not name.endswith(COUNTER))
        if claimed and exact
        else [],
        "unexpected": sorted(unexpected),
        "seed_backbone_sha256": state_sha256(before),
        "backbone_sha256": state_sha256(after),
    }


def origins(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], parent: Mapping[str, Tensor] | None
) -> dict[str, list[str]]:
    """Which tensors came from where: ``random``, the seed's own; ``parent``, the pretext run's to the bit; ``init``.

    A stage that is from one place whole stands for its tensors; BatchNorm's counters do not count.
    """
    found: dict[str, list[str]] = {"random": [], "parent": [], "init": []}
    for stage in STAGES[:-1]:
        names = [name for name in after if stage_of(name) == stage and not name.endswith(COUNTER)]
        by_name = {name: _origin(name, before, after, parent) for name in names}
        places = set(by_name.values())
        if len(places) == 1:
            found[places.pop()].append(stage)
        else:
            for name, place in by_name.items():
                found[place].append(name)
    return found


def _origin(
    name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], parent: Mapping[str, Tensor] | None
) -> str:
    if parent is not None and name in parent and _equal(after[name], parent[name]):
        return "parent"
    return "random" if _equal(after[name], before[name]) else "init"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same to the bit: a NaN equals itself, 0.0 and -0.0 are two things."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:_NAMES_SHOWN]
    return ", ".join(shown) + (", .." if len(names) > len(shown) else "")


def frozen_buffers(names: Iterable[str], frozen: Collection[str]) -> set[str]:
    """Of ``names``, the running statistics of BatchNorm modules whose weight is in ``frozen``."""
    return {name for name in names if name.endswith(STATISTICS) and f"{name.rpartition('.')[0]}.weight" in frozen}


def epoch_proof(
    policy: str, mode: str, epoch: int, held: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, float]:
    """How far each tensor that was frozen in one epoch moved in it, by name.

    ``held``: copies of the frozen parameters and of the running statistics of frozen BatchNorm modules from before the
    epoch. Raises :class:`Unproven` at the first that moved; with BatchNorm mode ``"train"`` running statistics may.
    """
    change = {name: _change(tensor, after[name]) for name, tensor in held.items()}
    for name, moved in change.items():
        statistic = name.endswith(STATISTICS)
        if moved and not (statistic and mode == "train"):
            what = f"of a frozen BatchNorm in mode {mode} and" if statistic else "frozen and"
            raise Unproven(f"freeze policy {policy} leaks: {name} is {what} changed by {moved:.3g} in epoch {epoch}")
    return change


def _change(before: Tensor, after: Tensor) -> float:
    """The largest change of any one value; 0 only for what is the same to the bit."""
    if _equal(before, after):
        return 0.0
    return float((after - before).abs().max()) or float(torch.finfo(before.dtype).tiny)


def gradient_proof(policy: str, parameters: Collection[Parameter], without_gradient: Collection[str]) -> None:
    """Raises :class:`Unproven` where a stage is trained and no gradient has reached any of its parameters.

    ``parameters``: those that are trained. ``without_gradient``: names of those that had none in the last step.
    """
    for stage in STAGES:
        names = {parameter.name for parameter in parameters if parameter.stage == stage}
        if names and names <= set(without_gradient):
            raise Unproven(f"freeze policy {policy} trains {stage}, but no gradient of the loss reaches it")


def freeze_proof(
    policy: str,
    parameters: Collection[Parameter],
    ever_trained: Collection[str],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    moved_in_epochs: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """How far frozen tensors moved: parameters that no epoch trained, and the buffers of their BatchNorm modules.

    ``before`` and ``after``: all parameters and running statistics by name, on the CPU. ``moved_in_epochs``: the most
    that a tensor moved in an epoch in which it was frozen, for policies that train it in another. Raises
    :class:`Unproven` where a frozen parameter moved, and where a stage was trained and none of its values changed.
    """
    frozen = {parameter.name for parameter in parameters if parameter.name not in ever_trained}
    buffers = frozen_buffers(before, frozen)
    change = {name: _change(before[name], after[name]) for name in frozen | buffers}
    moved = sorted(name for name in frozen if change[name] != 0)
    if moved:
        raise Unproven(f"freeze policy {policy} leaks: {moved[0]} is frozen and changed by {change[moved[0]]:.3g}")
    trained = [parameter for parameter in parameters if parameter.name in ever_trained]
    unchanged = {one.name for one in trained if _equal(before[one.name], after[one.name])}
    for stage in STAGES:
        names = {parameter.name for parameter in trained if parameter.stage == stage}
        if names and names <= unchanged:
            raise Unproven(
                f"freeze policy {policy} trains {stage}, but training changed none of its {len(names)} tensors"
            )
    for name, most in (moved_in_epochs or {}).items():
        change[name] = max(change.get(name, 0.0), most)
    held = set(change)

    def largest(names: Collection[str], stage: str | None = None) -> float | None:
        return max((change[name] for name in names if stage in (None, stage_of(name))), default=None)

    statistics = {name for name in held if name.endswith(STATISTICS)}
    return {
        "policy": policy,
        "trainable_parameters": sum(before[parameter.name].numel() for parameter in trained),
        "frozen_parameters": sum(before[name].numel() for name in frozen),
        "trainable_by_stage": {
            stage: sum(before[parameter.name].numel() for parameter in trained if parameter.stage == stage)
            for stage in STAGES
        },
        "unchanged_by_training": sorted(unchanged),
        "largest_change_of_frozen_parameter": largest(held - statistics),
        "largest_change_of_frozen_buffer": largest(statistics),
        "largest_change_by_stage": {
            stage: {"parameters": largest(held - statistics, stage), "buffers": largest(statistics, stage)}
            for stage in STAGES
        },
    }


def label_proof(
    seen: Tensor, held: Tensor, labels: Tensor, labels_per_class: int | None, classes: int
) -> dict[str, Any]:
    """Which training images training really drew, and that they are no more than the settings allow.

    ``seen``: bool (N,), marked where a batch was made of an image. ``held``: int64 (V,), the images kept for
    validation. ``labels``: int64 (N,), as the data set has them. Raises :class:`Unproven` where an image that was kept
    for validation was trained on, or more images of a class than ``labels_per_class``, validation included.
    """
    seen, labels = seen.cpu(), labels.cpu()
    leaked = int(seen[held.cpu()].sum())
    if leaked:
        raise Unproven(f"{leaked} images that were kept for validation were trained on")
    counts = torch.bincount(labels[seen], minlength=classes)
    used = counts + torch.bincount(labels[held.cpu()], minlength=classes)
    if labels_per_class is not None and int(used.max()) > labels_per_class:
        worst = int(used.argmax())
        raise Unproven(
            f"labels_per_class = {labels_per_class} was ignored: {int(used[worst])} images of class {worst} were used, "
            f"{int(seen.sum())} images in all were trained on"
        )
    numbers = seen.nonzero().flatten()
    return {"seen_images": len(numbers), "seen_sha256": state_sha256({"subset": numbers})}
