"""What the page's claims promise, held against studies whose truth is known, since it was simulated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rotbench import compare, inference
from rotbench.compare import Results, contrasts
from rotbench.contrast import Contrast, judge
from tests import simulated
from tests.program import thorough

pytestmark = pytest.mark.usefixtures("undrawn")

#: Deviations of a share from its expectation are judged by its own binomial standard error, four of them.
ERRORS = 4


def within(share: float, expected: float, of: int) -> bool:
    return abs(share - expected) <= ERRORS * math.sqrt(expected * (1 - expected) / of)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_holds_the_truth_in_95_of_100_studies(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    studies, held = 4000, 0
    for values in rng.normal(0.64, 0.004, size=(studies, seeds)):
        interval = inference.mean_interval(list(values)).interval
        assert interval is not None
        held += interval[0] <= 0.64 <= interval[1]
    assert within(held / studies, 0.95, studies)


def test_one_more_run_falls_into_its_interval_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    studies, held = 4000, 0
    for *values, new in rng.normal(0.64, 0.004, size=(studies, 4)):
        interval = inference.prediction_interval(values)
        assert interval is not None
        held += interval[0] <= new <= interval[1]
    assert within(held / studies, 0.95, studies)


def measured(differences: np.ndarray[Any, np.dtype[np.float64]], name: int = 0) -> Contrast:
    """A complete contrast of these paired differences; ``name`` tells it from others of its family."""
    values = [float(value) for value in differences]
    wide, narrow = inference.mean_interval(values), inference.mean_interval(values, level=0.90)
    return Contrast(
        {"init": f"init{name}"},
        {"init": "random"},
        len(values),
        len(values),
        dict(enumerate(values)),
        difference=wide.mean,
        interval=wide.interval,
        interval_90=narrow.interval,
        p_t=inference.paired_t(values),
        p=inference.sign_flip(values),
    )


@pytest.mark.parametrize("seeds", [3, *thorough(6)])
@pytest.mark.parametrize("family", [1, *thorough(6)])
def test_a_study_of_no_difference_finds_one_in_at_most_5_of_100_families(seeds: int, family: int) -> None:
    """All variants share one baseline, as they do in a matrix, so that their differences are correlated."""
    rng = np.random.default_rng(100 * seeds + family)
    studies, wrong = 1500, 0
    for _ in range(studies):
        baseline = rng.normal(0.8, 0.01, size=seeds)
        variants = rng.normal(0.8, 0.01, size=(family, seeds))
        judged = judge([measured(variant - baseline, name) for name, variant in enumerate(variants)])
        wrong += any((item.verdict or "").startswith(("higher", "lower")) for item in judged)
    assert wrong / studies <= 0.05 + ERRORS * math.sqrt(0.05 * 0.95 / studies)
    if family == 1:
        assert within(wrong / studies, 0.05, studies), "a test that never finds anything keeps its promise, too"


@pytest.mark.parametrize("truth", [0.01, *thorough(-0.01)])
def test_what_differs_by_the_margin_is_called_equivalent_in_at_most_5_of_100_studies(truth: float) -> None:
    rng = np.random.default_rng(7)
    studies = 3000
    words = [judge([measured(rng.normal(truth, 0.002, size=5))])[0].verdict or "" for _ in range(studies)]
    wrong = sum(word == "equivalent" or word.endswith("less than the margin") for word in words)
    assert wrong / studies <= 0.05 + ERRORS * math.sqrt(0.05 * 0.95 / studies)
    assert wrong > 0


def test_differences_of_heavy_tails_and_of_ties_keep_the_promise_of_the_sign_flip_test() -> None:
    """The check without normality: p at or below any level in at most that share of null studies."""
    rng = np.random.default_rng(3)
    studies = 2000
    for draw in (lambda: rng.standard_t(1, size=6), lambda: rng.choice([-0.01, 0.01, 0.01, -0.01], size=6)):
        p_values = np.array([inference.sign_flip(list(draw())) for _ in range(studies)], dtype=float)
        for level in (1 / 32, 0.0625, 0.25):
            assert np.mean(p_values <= level) <= level + ERRORS * math.sqrt(level * (1 - level) / studies)


@pytest.mark.thorough
def test_whole_studies_of_no_difference_through_the_whole_page() -> None:
    """The same through the results of runs, as the page reads them: 250 studies of four variants and three seeds."""
    rng = np.random.default_rng(11)
    results = simulated.results(seeds=3, epochs=2, pretext_epochs=2)
    studies, wrong = 250, 0
    for _ in range(studies):
        wrong += any((item.verdict or "").startswith(("higher", "lower")) for item in contrasts(null(results, rng)))
    assert wrong / studies <= 0.05 + ERRORS * math.sqrt(0.05 * 0.95 / studies)
    assert len(compare.contrasts(results)) == 2


def null(results: Results, rng: np.random.Generator) -> Results:
    """The same study, every run as accurate as any other but for its own luck."""
    for run in results["runs"]:
        accuracy = float(rng.normal(0.8, 0.005))
        run["final"]["test_accuracy"] = run["history"][-1]["test_accuracy"] = accuracy
    return results
