"""Intervals, tests and verdicts: the statistics of a handful of seeds.

What is random are the seeds: pretraining, order, augmentation and label subset, never the test images.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

#: An accuracy difference too small to care about, as a fraction.
MARGIN = 0.01
ALPHA = 0.05
#: With fewer seeds a sign-flip test cannot reach 5 %, so a verdict rests on differences being normal.
SEEDS_WITHOUT_NORMALITY = 6
#: 2**20 sign flips are counted in milliseconds; nobody has yet run more seeds.
MOST_SEEDS_FLIPPED = 20
#: Accuracies are counts over at most some million images: what differs by less differs by rounding of floats.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` seeds with its interval; no interval below two seeds."""

    n: int
    mean: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean and Student's t interval of ``values`` (one or more, finite); equal values give an interval of no width."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("a mean needs at least one value")
    mean = float(sample.mean())
    if sample.size == 1:
        return Estimate(1, mean, None, None)
    # As scipy's sem has it, without what surrounds it: a page asks for thousands.
    error = float(sample.std(ddof=1)) / math.sqrt(sample.size)
    half = _t_quantile((1 + level) / 2, sample.size - 1) * error if spread(sample) else 0.0
    return Estimate(int(sample.size), mean, mean - half, mean + half)


def prediction_interval(values: Sequence[float], runs: int = 1, level: float = 0.95) -> tuple[float, float] | None:
    """Where the mean of ``runs`` more runs would lie, made as those of ``values`` were; None for a single value.

    Mean plus and minus t s sqrt(1 / runs + 1 / n): the interval of the mean alone says nothing of a single run.
    """
    if len(values) < 2:
        return None
    mean, n = float(np.mean(values)), len(values)
    half = _t_quantile((1 + level) / 2, n - 1) * float(np.std(values, ddof=1)) * math.sqrt(1 / runs + 1 / n)
    return mean - half, mean + half


@functools.cache
def _t_quantile(share: float, freedom: int) -> float:
    # A page asks for the same few quantiles once an epoch and variant.
    return float(stats.t.ppf(share, freedom))


def spread(values: Sequence[float] | np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Whether ``values`` differ by more than the rounding of floats."""
    return float(np.ptp(np.asarray(values))) > ROUNDING


def binomial_standard_error(p: float, n: int) -> float:
    """Standard error of an accuracy ``p`` measured on ``n`` test images: what other images would change."""
    return math.sqrt(p * (1 - p) / n)


def paired_t(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t test for two or more differences; None where all are equal.

    Equal differences leave the statistic without a denominator. Accuracies are counts, so on a few hundred test images
    two seeds differ by the same amount now and then without any true difference, and the limit p = 0 would be no error
    of one in a million.
    """
    if not spread(differences):
        return None
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def sign_flip(differences: Sequence[float]) -> float | None:
    """Exact two-sided p: the share of all 2**n choices of signs whose sum is as far from zero as the observed one.

    None above 20 differences. The sums are built by doubling, since ``scipy.stats.permutation_test`` visits the
    choices one by one and takes seconds for what is counted here at once.
    """
    if len(differences) > MOST_SEEDS_FLIPPED:
        return None
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return float(np.mean(np.abs(sums) >= abs(sum(differences)) - ROUNDING))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test that two classifiers are right equally often (McNemar 1947).

    ``only_first`` and ``only_second`` count the test images that one of them alone gets right; the images on which
    they are alike say nothing, and where there are no others p is 1. What is random here are the test images, and the
    two trained networks are given: p says nothing of other seeds, so it takes no part in intervals, Holm or verdicts
    over seeds, and counts or p-values of several seeds are never pooled.
    """
    if only_first == only_second:  # also none at all, of which a binomial test knows no share
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment over one family, in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def verdict(difference: float, p_holm: float, interval_90: tuple[float, float], margin: float = MARGIN) -> str:
    """The word for a complete contrast: a direction, "equivalent" within the margin, both, or "not resolved"."""
    within = -margin < interval_90[0] and interval_90[1] < margin
    if p_holm < ALPHA:
        direction = "higher" if difference > 0 else "lower"
        return f"{direction}, by less than the margin" if within else direction
    return "equivalent" if within else "not resolved"
