"""How many seeds it takes: against published tables, simulation, and the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rotbench.inference import paired_t
from rotbench.power import MOST_SEEDS, power, seeds_needed, smallest_n, spread_limits
from tests.program import thorough


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.3, 90), (0.5, 34), (0.8, 15), (1.0, 10), (1.5, 6)])
def test_sample_sizes_of_published_tables(effect: float, n: int) -> None:
    """Paired t test, two-sided 5 %, power 80 %: what G*Power and Cohen's tables give for these effect sizes."""
    assert smallest_n(1.0, effect) == n


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_power_is_that_of_simulated_studies(n: int) -> None:
    """t from 40,000 simulated samples against the quantile of a table; within four binomial standard errors."""
    rng = np.random.default_rng(n)
    samples = rng.normal(0.01, 0.008, size=(40_000, n))
    t = samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / math.sqrt(n))
    quantile = {2: 12.706, 3: 4.303, 5: 2.776, 8: 2.365}[n]
    share = float(np.mean(np.abs(t) > quantile))
    assert power(n, 0.01, 0.008) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 40_000))


@pytest.mark.parametrize("spread", [0.008, *thorough(0.004, 0.02)])
@pytest.mark.thorough
def test_the_seeds_that_are_promised_have_the_power_that_is_promised_and_one_less_has_not(spread: float) -> None:
    n = smallest_n(spread, 0.01)
    assert n is not None
    rng = np.random.default_rng(1)
    studies = 4000
    seen = [(paired_t(list(rng.normal(0.01, spread, size=n))) or 0.0) < 0.05 for _ in range(studies)]
    fewer = [(paired_t(list(rng.normal(0.01, spread, size=n - 1))) or 0.0) < 0.05 for _ in range(studies)]
    error = math.sqrt(0.8 * 0.2 / studies)
    assert np.mean(seen) > 0.8 - 3 * error
    assert np.mean(fewer) < 0.8 + 3 * error


def test_the_limits_of_the_spread_hold_the_true_one_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    spreads = rng.normal(0, 1, size=(5000, 4)).std(axis=1, ddof=1)
    held = [low < 1 < high for low, high in (spread_limits(float(spread), 4) for spread in spreads)]
    assert np.mean(held) == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / 5000))
    low, high = spread_limits(1.0, 4)
    # The tables' chi-square quantiles for three degrees of freedom.
    assert low == pytest.approx(math.sqrt(3 / 6.251), abs=1e-3)
    assert high == pytest.approx(math.sqrt(3 / 0.584), abs=2e-3)


def test_an_example_by_hand() -> None:
    """Five seeds, +0.6 points, 95 % t interval -0.4 to 1.6: the spread is 1.0 sqrt(5) / 2.776 = 0.81 points."""
    needed = seeds_needed(0.01 * math.sqrt(5) / 2.7764, 5, margin=0.01)
    assert needed is not None
    assert (needed.seeds, needed.fewest, needed.most) == (8, 5, 22)


def test_never_from_the_observed_difference() -> None:
    """Whatever was seen, the spread and the margin alone count: shifted differences need as many seeds."""
    rng = np.random.default_rng(3)
    differences = rng.normal(0, 0.01, size=5)
    shifted = [seeds_needed(float(np.std(differences + by, ddof=1)), 5, 0.01) for by in (0, 0.004, -0.3)]
    assert shifted[0] is not None
    assert [item.seeds for item in shifted if item] == [shifted[0].seeds] * 3


def test_where_there_is_nothing_to_go_by_or_no_end() -> None:
    assert seeds_needed(0.01, 1, 0.01) is None
    assert seeds_needed(0.0, 3, 0.01) is None
    assert seeds_needed(0.01, 3, 0.0) is None
    wide = seeds_needed(0.05, 3, 0.01)
    assert wide is not None
    assert (wide.seeds, wide.most) == (199, None)
    assert smallest_n(1.0, 0.01) is None
    assert smallest_n(0.11, 0.01) in range(900, MOST_SEEDS + 1)


def test_tiny_spreads_need_two_seeds_and_give_no_nan() -> None:
    for spread in (1e-12, 1e-9, 1e-6):
        assert smallest_n(spread, 0.01) == 2
        assert math.isfinite(power(2, 0.01, spread))


def test_power_at_no_difference_is_the_level() -> None:
    for n in (2, 3, 10):
        assert power(n, 1e-12, 1.0) == pytest.approx(0.05, abs=1e-6)
    assert power(10, 0.01, 0.01, alpha=0.01) < power(10, 0.01, 0.01)
    assert stats.t.ppf(0.975, 2) == pytest.approx(4.303, abs=1e-3)
