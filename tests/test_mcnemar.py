"""McNemar's exact test against the binomial distribution said in other words."""

from __future__ import annotations

from fractions import Fraction

import pytest
from scipy import stats

from rotbench.inference import mcnemar


def by_counting(only_first: int, only_second: int) -> Fraction:
    """Each discordant image fell to either side like a fair coin: twice the lighter tail, at most 1, in fractions."""
    n, least = only_first + only_second, min(only_first, only_second)
    ways = [1]
    for k in range(least):
        ways.append(ways[-1] * (n - k) // (k + 1))  # n over k + 1
    return min(Fraction(1), Fraction(2 * sum(ways), 2**n))


def test_all_small_counts_agree_with_exact_fractions_and_with_the_binomial_tail() -> None:
    cases = 0
    for only_first in range(41):
        for only_second in range(41):
            p, least = mcnemar(only_first, only_second), min(only_first, only_second)
            tail = 2 * stats.binom.cdf(least, only_first + only_second, 0.5)
            assert p == pytest.approx(float(by_counting(only_first, only_second)), rel=1e-10)
            assert p == pytest.approx(min(1.0, tail), rel=1e-10)
            cases += 1
    assert cases == 41 * 41


@pytest.mark.parametrize(("only_first", "only_second"), [(380, 470), (900, 1), (0, 300), (2500, 2501), (4000, 4400)])
def test_counts_as_of_ten_thousand_test_images(only_first: int, only_second: int) -> None:
    expected = float(by_counting(only_first, only_second))
    assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(only_second, only_first) == pytest.approx(expected, rel=1e-9)


def test_two_media_for_growing_tubercle_bacilli() -> None:
    """Of 50 specimens 12 grew on one medium alone and 2 on the other (Armitage and Berry 1994, p. 127): P = 0.0129.

    At most 2 heads of 14 coins: 1 + 14 + 91 of 16384, twice.
    """
    assert mcnemar(12, 2) == pytest.approx(212 / 16384, rel=1e-12)
    assert round(mcnemar(12, 2), 4) == 0.0129


def test_where_no_image_sets_the_two_apart_there_is_no_evidence() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 0) == 1.0
    assert mcnemar(5, 5) == 1.0


@pytest.mark.parametrize("counts", [(-1, 3), (3, -1)])
def test_counts_are_counts(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"must not be|not less than"):
        mcnemar(*counts)
