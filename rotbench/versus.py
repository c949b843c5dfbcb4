"""Two studies against each other: each variant of both as a contrast, B minus A.

Seeds are paired where both studies drew the same from them; else the seeds of both sides are two samples, compared by
Welch's t, which takes neither their number nor their spread to be equal. As everywhere, what is random are the seeds
and never the test images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from rotbench.compare import Results, Run, as_written, by_variant, finished, summarise, variants
from rotbench.contrast import EQUAL, VariantSummary
from rotbench.curve import final_score
from rotbench.inference import (
    MARGIN,
    SEEDS_WITHOUT_NORMALITY,
    holm,
    mean_interval,
    paired_t,
    spread,
    verdict,
)
from rotbench.joined import Shared, parted
from rotbench.power import SeedsNeeded, seeds_needed
from rotbench.recipe import kept
from rotbench.trained import listed

Interval = tuple[float, float]
Method = Literal["paired", "Welch"]

#: Why there is no verdict where there is nothing to judge.
SAME = "the same to the last digit"
NO_SPREAD = "all seeds of a side are equal"


@dataclass(frozen=True)
class Versus:
    """One variant, or pretext run, of two studies: B minus A; accuracies and differences are fractions.

    ``method`` says how the seeds are compared and ``why`` in words; ``differences`` are those of paired seeds, empty
    for Welch's t. ``left_out`` are finished seeds that have no partner. ``p`` is that of the t test, ``p_holm`` the
    same after Holm over all joined variants of two seeds and more. ``verdict`` is None where ``reason`` says why; where
    nothing spreads there is neither an interval nor a p value.

    ``common`` are the seeds that both have finished; in those of ``same`` all test accuracies are equal to the last
    digit, in those of ``same_weights`` the trained backbones are (None where there is none on record), and those of
    ``copied`` took the same seconds, epoch by epoch, too: they are one training, read from two places.
    ``seeds_needed`` is the number of paired seeds that would show a difference of the margin, where this one is not
    resolved.
    """

    a: VariantSummary
    b: VariantSummary
    method: Method
    why: str
    differences: Mapping[int, float]
    left_out: tuple[int, ...]
    common: tuple[int, ...]
    same: tuple[int, ...]
    same_weights: tuple[int, ...] | None
    copied: tuple[int, ...]
    difference: float | None = None
    interval: Interval | None = None
    interval_90: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str | None = None
    reason: str | None = None
    seeds_needed: SeedsNeeded | None = None

    @property
    def n(self) -> int:
        """Seeds of the smaller side, or pairs."""
        return len(self.differences) if self.method == "paired" else min(self.a.n, self.b.n)

    @property
    def identical(self) -> bool:
        """Whether all that is compared is the same to the last digit."""
        return self.method == "paired" and self.same == self.common

    @property
    def assumes_normality(self) -> bool:
        """Whether the verdict claims a difference on fewer seeds than a test without normality would need."""
        claims = self.verdict is not None and self.verdict.startswith(("higher", "lower"))
        return claims and self.n < SEEDS_WITHOUT_NORMALITY


def versus(a: Results, b: Results, joined: Shared) -> tuple[Versus, ...]:
    """The contrast of each joined variant, in A's order, with Holm over all of them; the margin is A's."""
    sides = [_downstream(results) for results in (a, b)]
    pairs = [
        contrast(*(side[as_written(variant)] for side, variant in zip(sides, pair, strict=True)))
        for pair in joined.variants
    ]
    return judged(pairs, margin_of(a))


def pretexts(a: Results, b: Results, joined: Shared) -> tuple[Versus, ...]:
    """The scores of the pretext runs of one name; they are described, and get no p value and no verdict."""
    sides = [_pretexts(results) for results in (a, b)]
    return tuple(
        replace(contrast(*(side[name] for side in sides)), p=None, reason="not tested") for name in joined.pretexts
    )


def margin_of(results: Results) -> float:
    """A difference of accuracies that is too small to matter to a study."""
    return float(results["study"].get("margin", MARGIN))


@dataclass(frozen=True)
class Side:
    """A variant in one of the studies: what its seeds say, its runs, and the seeds that were asked for."""

    summary: VariantSummary
    runs: Sequence[Run]
    planned: frozenset[int]


def _side(summary: VariantSummary, runs: Sequence[Run], results: Results) -> Side:
    return Side(summary, runs, frozenset([*results["study"]["seeds"], *(run["seed"] for run in runs)]))


def _downstream(results: Results) -> dict[str, Side]:
    runs = {as_written(variant): runs for variant, runs in by_variant(results["runs"], "downstream")}
    return {
        key: _side(summary, runs[key], results)
        for summary in variants(results)
        if (key := as_written(summary.variant)) in runs
    }


def _pretexts(results: Results) -> dict[str, Side]:
    seeds = results["study"]["seeds"]
    return {
        str(variant["pretext"]): _side(summarise(variant, runs, seeds, None), runs, results)
        for variant, runs in by_variant(results["runs"], "pretext")
        if "pretext" in variant
    }


def contrast(a: Side, b: Side) -> Versus:
    """B minus A; ``p_holm`` and verdict are left open."""
    common = tuple(seed for seed in a.summary.accuracies if seed in b.summary.accuracies)
    why_not = _unpaired(a, b, common)
    of = {seed: ([r for r in a.runs if r["seed"] == seed], [r for r in b.runs if r["seed"] == seed]) for seed in common}
    plain = Versus(
        a.summary,
        b.summary,
        "Welch" if why_not else "paired",
        why_not or "at each seed both draw the same starting weights, head and labelled images",
        {} if why_not else {seed: b.summary.accuracies[seed] - a.summary.accuracies[seed] for seed in common},
        () if why_not else tuple(sorted({*a.summary.accuracies, *b.summary.accuracies} - set(common))),
        common,
        same=tuple(seed for seed in common if _alike(*of[seed], _accuracies)),
        same_weights=None
        if any(_weights(run) is None for runs in of.values() for side in runs for run in side)
        else tuple(seed for seed in common if _alike(*of[seed], _weights)),
        copied=tuple(seed for seed in common if _alike(*of[seed], _seconds)),
        reason=_reason(a, b),
    )
    return _compared(plain)


def _compared(plain: Versus) -> Versus:
    """The contrast with its difference, and with intervals and p where its seeds allow it and spread."""
    if plain.method == "paired":
        values = list(plain.differences.values())
        estimate = mean_interval(values)
        plain = replace(plain, difference=estimate.mean)
        if estimate.n < 2:
            return plain
        if not spread(values):
            return replace(plain, reason=plain.reason or (SAME if plain.identical else EQUAL))
        narrow = mean_interval(values, level=0.90).interval
        return replace(plain, interval=estimate.interval, interval_90=narrow, p=paired_t(values))
    samples = [list(side.accuracies.values()) for side in (plain.a, plain.b)]
    if not all(samples):
        return plain
    means = [math.fsum(sample) / len(sample) for sample in samples]
    plain = replace(plain, difference=means[1] - means[0])
    if min(map(len, samples)) < 2:
        return plain
    if not any(map(spread, samples)):
        return replace(plain, reason=plain.reason or NO_SPREAD)
    interval, narrow, p = welch(*samples)
    return replace(plain, interval=interval, interval_90=narrow, p=p)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[Interval, Interval, float]:
    """The 95 % and 90 % intervals of the mean of ``b`` less that of ``a``, and p (Welch 1947).

    Both have two or more values, and one of them spreads.
    """
    with warnings.catch_warnings():
        # Equal values on one side are no loss of precision.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(b, a, equal_var=False)
        wide, narrow = (test.confidence_interval(level) for level in (0.95, 0.90))
    return (float(wide.low), float(wide.high)), (float(narrow.low), float(narrow.high)), float(test.pvalue)


def judged(family: Sequence[Versus], margin: float) -> tuple[Versus, ...]:
    """``family`` with ``p_holm`` over all of two seeds and more, and a verdict where no reason speaks against one.

    What has no spread has no p, but was asked all the same: it counts as one that shows nothing.
    """
    counted = [item for item in family if item.n > 1]
    adjusted = iter(holm([1.0 if item.p is None else item.p for item in counted]))
    told = []
    for item in family:
        p_holm = next(adjusted) if item.n > 1 else None
        if p_holm is None or item.difference is None or item.interval_90 is None:
            told.append(item)
            continue
        word = None if item.reason else verdict(item.difference, p_holm, item.interval_90, margin)
        needed = None
        if word == "not resolved" and item.method == "paired":
            differences = list(item.differences.values())
            needed = seeds_needed(float(np.std(differences, ddof=1)), len(differences), margin)
        told.append(replace(item, p_holm=p_holm, verdict=word, seeds_needed=needed))
    return tuple(told)


# Why there is no verdict, and why there are no pairs


def _reason(a: Side, b: Side) -> str | None:
    """Why nothing is concluded, the gravest reason first."""
    named = [("A", a.summary), ("B", b.summary)]
    if diverged := [name for name, side in named if side.diverged]:
        return f"diverged in {listed(diverged)}"
    if incomplete := [f"{side.n} of {side.planned} seeds in {name}" for name, side in named if side.n < side.planned]:
        return listed(incomplete)
    if one := [name for name, side in named if side.n == 1]:
        return f"one seed in {listed(one)}"
    if _data(a) and _data(b) and _data(a) != _data(b):
        return "other data"
    return None


def _data(side: Side) -> set[str]:
    """The data of the finished runs, as far as they recorded it."""
    found = {kept(run, "data").get("fingerprint") for run in side.runs if finished(run)}
    return {str(value) for value in found if value is not None}


def _unpaired(a: Side, b: Side, common: Sequence[int]) -> str:
    """Why the seeds are two samples and no pairs; empty where they are pairs.

    They are where each seed of the side with fewer is on the other side too, and both drew the same from it: a study
    that was continued with more seeds is compared over those that it had.
    """
    if not common:
        return "no finished seed is in both"
    if not (a.planned <= b.planned or b.planned <= a.planned):
        return "each side has seeds that the other has not"
    for seed in common:
        sides = [[run for run in side.runs if run["seed"] == seed] for side in (a, b)]
        if why := parted(*sides):
            return f"at seed {seed} {why}"
    return ""


# What is the same to the last digit


def _accuracies(run: Run) -> Any:
    """Every test accuracy of a run; the page keeps all their digits."""
    return [final_score(run), *(entry["test_accuracy"] for entry in run["history"])]


def _weights(run: Run) -> Any:
    """The hash of a backbone that was trained; one that was not is what it was before, whatever else was done."""
    counts = kept(run, "freeze").get("trainable_by_stage") or {}
    trained = any(count for stage, count in counts.items() if stage != "fc")
    return run["provenance"].get("backbone_sha256") if trained else None


def _seconds(run: Run) -> Any:
    """What the clock said, which no second training repeats; None where it was not kept."""
    seconds = [entry.get("seconds") for entry in run["history"]]
    seconds.append(run["train_seconds"])
    return None if None in seconds else [*seconds, _accuracies(run)]


def _alike(a: Sequence[Run], b: Sequence[Run], told: Any) -> bool:
    """Whether the runs of one seed, repeat by repeat, say the same of themselves, and do say it."""
    sides = [{run.get("repeat", 0): told(run) for run in runs if finished(run)} for runs in (a, b)]
    return bool(sides[0]) and sides[0] == sides[1] and None not in sides[0].values()
