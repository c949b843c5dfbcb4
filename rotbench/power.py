"""How many seeds would show a difference that matters: the power of the paired t test.

The answer rests on the observed spread of the differences and on the margin, never on the observed difference: what a
study happened to find says nothing of how large a difference is worth finding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from rotbench.inference import ALPHA

POWER = 0.80
#: How sure the limits of the spread are, between which the number of seeds is given.
LEVEL = 0.80
#: More seeds than anybody trains; where they do not suffice the number is not given.
MOST_SEEDS = 1000


@dataclass(frozen=True)
class SeedsNeeded:
    """The smallest number of seeds at which a paired t test at 5 % sees a difference of ``margin`` with ``power``.

    ``seeds`` is for the observed spread, ``fewest`` and ``most`` for the limits between which the true spread lies
    with 80 % confidence; None is more than :data:`MOST_SEEDS`.
    """

    margin: float
    power: float
    seeds: int | None
    fewest: int | None
    most: int | None


def seeds_needed(spread: float, n: int, margin: float) -> SeedsNeeded | None:
    """For differences with standard deviation ``spread`` (a fraction, above 0) over ``n`` seeds (2 or more).

    None where there is no spread to go by, or no margin to look for.
    """
    if n < 2 or spread <= 0 or margin <= 0:
        return None
    low, high = spread_limits(spread, n)
    return SeedsNeeded(margin, POWER, smallest_n(spread, margin), smallest_n(low, margin), smallest_n(high, margin))


def spread_limits(spread: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The limits of a normal population's standard deviation, of which ``n`` values show ``spread`` (chi-square)."""
    freedom = n - 1
    tail = (1 - level) / 2
    return (
        spread * math.sqrt(freedom / float(stats.chi2.ppf(1 - tail, freedom))),
        spread * math.sqrt(freedom / float(stats.chi2.ppf(tail, freedom))),
    )


def power(n: int, difference: float, spread: float, alpha: float = ALPHA) -> float:
    """The chance that a two-sided paired t test of ``n`` seeds at ``alpha`` sees a true ``difference``.

    Differences are taken for normal with standard deviation ``spread``; the statistic then has a noncentral t
    distribution (Cohen 1988).
    """
    freedom = n - 1
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))
    # From a million on the chance is 1 in floats, and the series for it ends in no number.
    noncentrality = min(difference / spread * math.sqrt(n), 1e6)
    # On the far side the noncentral t has no more than alpha / 2, where scipy's series may give no number.
    far = float(stats.nct.cdf(-critical, freedom, noncentrality))
    near = float(stats.nct.sf(critical, freedom, noncentrality))
    return near + (far if math.isfinite(far) else 0.0)


def smallest_n(spread: float, difference: float) -> int | None:
    """The smallest number of seeds, from 2 on, with at least 80 % power; None above :data:`MOST_SEEDS`."""
    if power(MOST_SEEDS, difference, spread) < POWER:
        return None
    low, high = 1, 2
    while high < MOST_SEEDS and power(high, difference, spread) < POWER:
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, difference, spread) >= POWER else (middle, high)
    return high
