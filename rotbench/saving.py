"""What a start saves: the epochs to the accuracy at which the baseline ends, and from when pretraining pays.

The rule is one for both sides: the first epoch from which the curve stays at or above the level. A schedule that falls
smoothly to its end (cosine) has no such epoch to speak of, since its middle depends on its length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median


@dataclass(frozen=True)
class Training:
    """What one side of a contrast trained: curves by seed, epochs and FLOPs of a training and of its pretraining.

    ``curves`` are accuracies after each epoch; FLOPs are None where they were not counted. ``to_the_end``: the schedule
    falls smoothly to its end.
    """

    curves: Mapping[int, Sequence[float]]
    epochs: int
    pretraining_epochs: int
    flops: float | None
    pretraining_flops: float | None
    to_the_end: bool = False


@dataclass(frozen=True)
class Saving:
    """How soon both sides reach the baseline's final accuracy, seed by seed, and what that is worth.

    ``variant`` and ``baseline`` hold by seed the epoch from which that side stays at or above the baseline's final
    accuracy of that seed, None where it never does. ``saved_epochs`` is the difference of their medians, None where
    the variant's median is "not reached"; ``saved_flops`` the same in FLOPs. ``pretraining_epochs`` and
    ``pretraining_flops`` are what the variant's pretraining cost beyond the baseline's. ``pays_from`` is the number of
    trainings from which on the savings exceed that, counted in FLOPs where these are known and else in epochs; None
    where nothing was paid, and where not every seed saves something: of two starts that are alike, one is a little
    ahead in the median half of the time.
    """

    epochs: int
    variant: dict[int, int | None]
    baseline: dict[int, int | None]
    saved_epochs: float | None
    saved_flops: float | None
    pretraining_epochs: int
    pretraining_flops: float | None
    pays_from: int | None

    @property
    def by_seed(self) -> dict[int, int | None]:
        """The epochs that each seed saves; None where the variant never gets there, which saves nothing."""
        ends = {seed: epoch or self.epochs for seed, epoch in self.baseline.items()}  # it is where it ends at its end
        return {seed: None if own is None else ends[seed] - own for seed, own in self.variant.items()}

    @property
    def in_every_seed(self) -> bool:
        """Whether each seed saves an epoch or more."""
        return all(saved is not None and saved > 0 for saved in self.by_seed.values())


def reaches(curve: Sequence[float], level: float) -> int | None:
    """The first epoch, from 1, from which ``curve`` stays at or above ``level``; None where it ends below."""
    last_below = max((epoch for epoch, value in enumerate(curve, 1) if value < level), default=0)
    return last_below + 1 if last_below < len(curve) else None


def saving(variant: Training, baseline: Training) -> Saving | None:
    """Compare two sides of equal length over the seeds of which both have whole curves.

    None where there are none, and where a side's schedule makes the epoch mean nothing.
    """
    if variant.epochs != baseline.epochs or variant.epochs < 2 or variant.to_the_end or baseline.to_the_end:
        return None
    seeds = [
        seed
        for seed, curve in variant.curves.items()
        if len(curve) == variant.epochs and len(baseline.curves.get(seed, ())) == baseline.epochs
    ]
    if not seeds:
        return None
    levels = {seed: baseline.curves[seed][-1] for seed in seeds}
    reached = {seed: reaches(variant.curves[seed], levels[seed]) for seed in seeds}
    reached_by_baseline = {seed: reaches(baseline.curves[seed], levels[seed]) for seed in seeds}
    own, other = middle(reached.values()), middle(reached_by_baseline.values())
    saved = None if own is None or other is None else other - own
    saved_flops = None
    if own is not None and other is not None and variant.flops is not None and baseline.flops is not None:
        saved_flops = (baseline.flops * other - variant.flops * own) / baseline.epochs
    paid_flops = _more(variant.pretraining_flops, baseline.pretraining_flops)
    paid = variant.pretraining_epochs - baseline.pretraining_epochs
    counted = saved_flops is not None and paid_flops is not None
    found = Saving(
        epochs=variant.epochs,
        variant=reached,
        baseline=reached_by_baseline,
        saved_epochs=saved,
        saved_flops=saved_flops,
        pretraining_epochs=paid,
        pretraining_flops=paid_flops,
        pays_from=_pays_from(paid_flops, saved_flops) if counted else _pays_from(paid, saved),
    )
    return found if found.in_every_seed else replace(found, pays_from=None)


def middle(epochs: Iterable[int | None]) -> float | None:
    """The median epoch, "not reached" (None) being later than any; None where it is the median."""
    found = median(math.inf if epoch is None else epoch for epoch in epochs)
    return found if math.isfinite(found) else None


def _more(paid: float | None, also_paid: float | None) -> float | None:
    return None if paid is None or also_paid is None else paid - also_paid


def _pays_from(paid: float | None, saved: float | None) -> int | None:
    """From how many trainings on ``saved`` a training exceeds ``paid`` once."""
    if paid is None or saved is None or paid <= 0 or saved <= 0:
        return None
    return math.ceil(paid / saved)
