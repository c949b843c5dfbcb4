"""Where the spread of a difference comes from, pretrainings or what follows them, and what to buy more of.

Repeats of one seed share its pretraining and its labelled images and differ in head, order and augmentation: a random
effects model with seeds as groups. The variance of a mean over s seeds of r repeats is between²/s + within²/(s r), so
repeats only ever narrow the second part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from rotbench.inference import spread

#: How sure the limits are between which the share of the variance and the best number of repeats are given.
LEVEL = 0.80


@dataclass(frozen=True)
class Components:
    """The variance of a difference in two parts, estimated from ``seeds`` seeds of ``repeats`` repeats each.

    ``between`` and ``within`` are standard deviations (fractions) of what a seed's pretraining and labels contribute,
    and of what head, order and augmentation do; ``share`` is the part of the first in the variance of a single repeat,
    ``share_limits`` its 80 % interval. ``pretraining_cost`` is what the pretraining of a seed costs in trainings of
    both sides, None where costs are not known. ``best_repeats`` is the number of repeats a seed that gives the
    narrowest mean for the compute, ``best_limits`` that for the limits of the share; None is "the more the better".
    """

    seeds: int
    repeats: int
    between: float
    within: float
    share: float
    share_limits: tuple[float, float]
    pretraining_cost: float | None
    best_repeats: int | None
    best_limits: tuple[int | None, int | None]

    @property
    def buy(self) -> Literal["seeds", "repeats", "not settled"]:
        """What narrows the interval most for the compute; "not settled" where the limits allow for either."""
        fewest, most = (math.inf if limit is None else limit for limit in self.best_limits)
        if most <= self.repeats:
            return "seeds"
        return "repeats" if fewest > self.repeats else "not settled"


def components(by_seed: Mapping[int, Sequence[float]], pretraining_cost: float | None) -> Components | None:
    """Split the variance of differences, given by seed, one a repeat.

    None below two seeds or two repeats, where seeds have different numbers of repeats, and where nothing varies.
    """
    groups = [list(values) for values in by_seed.values()]
    sizes = {len(group) for group in groups}
    if len(groups) < 2 or len(sizes) != 1 or min(sizes) < 2 or not spread(np.ravel(groups)):
        return None
    seeds, repeats = len(groups), sizes.pop()
    within = float(np.mean([np.var(group, ddof=1) for group in groups]))
    total = float(np.var(np.mean(groups, axis=1), ddof=1))  # of the seeds' means: between² + within²/repeats
    between = max(0.0, total - within / repeats)
    share = between / (between + within)
    limits = _share_limits(repeats * total / within if within > 0 else math.inf, seeds, repeats)
    best = [_best_repeats(part, pretraining_cost) for part in (share, *reversed(limits))]
    return Components(
        seeds=seeds,
        repeats=repeats,
        between=math.sqrt(between),
        within=math.sqrt(within),
        share=share,
        share_limits=limits,
        pretraining_cost=pretraining_cost,
        best_repeats=best[0],
        best_limits=(best[1], best[2]),
    )


def _share_limits(ratio: float, seeds: int, repeats: int) -> tuple[float, float]:
    """An interval of between² / (between² + within²) from the F ratio of the analysis of variance, exact from 1 on.

    Searle, Casella and McCulloch (1992), Variance Components, section 3.6.
    """
    if math.isinf(ratio):
        return 1.0, 1.0
    f = stats.f(seeds - 1, seeds * (repeats - 1))
    tail = (1 - LEVEL) / 2
    shares = []
    # Seeds that differ less than repeats do by chance (a ratio below 1) are no proof that they do not differ at all.
    for observed, quantile in ((ratio, f.ppf(1 - tail)), (max(ratio, 1.0), f.ppf(tail))):
        relative = max(0.0, (observed / float(quantile) - 1) / repeats)  # between² / within²
        shares.append(relative / (1 + relative))
    return shares[0], shares[1]


def _best_repeats(share: float, pretraining_cost: float | None) -> int | None:
    """The number of repeats with the least (cost of a seed) x (variance of its mean); None where there is no end.

    The square root of cost and ratio of variances (Cochran 1977, Sampling Techniques, section 10.6), as a whole number.
    """
    cost = pretraining_cost or 0.0
    if cost <= 0 or share >= 1:
        return 1
    if share <= 0:
        return None
    relative = (1 - share) / share
    root = math.sqrt(cost * relative)

    def spent(repeats: int) -> float:
        return (cost + repeats) * (1 + relative / repeats)

    return min(max(1, math.floor(root)), math.ceil(root), key=spent)
