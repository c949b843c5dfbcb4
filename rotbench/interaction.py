"""Interactions: does a difference depend on a further axis? Differences of differences, seed by seed.

``(rotation - random | below) - (rotation - random | none)`` asks whether pretraining matters more where less is
trained. The verdicts of the two contrasts do not answer that: "higher" beside "not resolved" is no evidence that
they differ.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from rotbench.contrast import Condition, Contrast, Variant, with_interval
from rotbench.partner import alike, filled

#: Why an interaction has no verdict where one of its contrasts has none, the gravest first.
REASONS = ("diverged", "nothing to compare yet", "same start", "confounded")


def interactions(
    family: Sequence[Contrast], variants: Sequence[Variant], baseline: Collection[str], tune: Collection[str] = ()
) -> list[Contrast]:
    """Each contrast of ``family`` minus the one of the same sides at the first value of one further axis.

    ``variants`` give the order of an axis' values; ``baseline`` and ``tune`` are the keys in which the two sides of a
    contrast may differ, which are no conditions that both are under.
    """
    axes = list(dict.fromkeys(key for variant in variants for key in filled(variant)))
    found = []
    for axis in axes:
        if axis in baseline or axis in tune:
            continue
        values = list(dict.fromkeys(alike(filled(variant)[axis]) for variant in variants if axis in filled(variant)))
        groups: dict[str, dict[str, Contrast]] = {}
        for item in family:
            if axis in filled(item.variant):
                groups.setdefault(_asked(item, axis, baseline, tune), {})[alike(filled(item.variant)[axis])] = item
        for group in groups.values():
            first, *others = sorted(group, key=values.index)
            found += [interaction(group[value], group[first], axis) for value in others]
    return found


def _asked(item: Contrast, axis: str, baseline: Collection[str], tune: Collection[str]) -> str:
    """What a contrast compares, and under which conditions but the one on ``axis``."""
    sides = [
        {key: value for key, value in filled(side).items() if key in baseline} for side in (item.variant, item.baseline)
    ]
    left_out = {axis, *baseline, *tune}
    conditions = {key: value for key, value in filled(item.variant).items() if key not in left_out}
    return alike({"variant": sides[0], "baseline": sides[1], "conditions": conditions})


def interaction(item: Contrast, first: Contrast, axis: str) -> Contrast:
    """``item`` minus ``first``, the same contrast at another value of ``axis``; the verdict is left open."""
    seeds = [seed for seed in item.differences if seed in first.differences]
    planned = max(item.planned, first.planned)
    reasons = [reason for reason in REASONS if reason in (item.reason, first.reason)]
    if len(seeds) < planned or planned == 1:
        reasons.append("one seed" if planned == 1 else f"{len(seeds)} of {planned} seeds")
    errors = [error for error in (item.standard_error, first.standard_error) if error is not None]
    plain = Contrast(
        item.variant,
        item.baseline,
        len(seeds),
        planned,
        {seed: item.differences[seed] - first.differences[seed] for seed in seeds},
        comparison="interaction",
        chosen_from=item.chosen_from,
        # A confound of one contrast is one of their difference, and cancels only where it does the same in both.
        comparability=tuple(dict.fromkeys((*item.confounds, *first.confounds))),
        same_start=item.same_start or first.same_start,
        condition=Condition(axis, first.variant, first.baseline),
        reason=reasons[0] if reasons else None,
    )
    return replace(with_interval(plain), standard_error=math.hypot(*errors) if len(errors) == 2 else None)
