"""Where spread comes from: components of variance, held against scipy, moments by hand, and simulated truth."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import compare, report
from rotbench.spread import components
from rotbench.summary import summary
from tests import simulated
from tests.test_report import Page

pytestmark = pytest.mark.usefixtures("undrawn")

Results = dict[str, Any]


def drawn(seeds: int, repeats: int, between: float, within: float, rng: np.random.Generator) -> dict[int, list[float]]:
    """Differences by seed, one a repeat, of a study whose components are known."""
    centres = rng.normal(0.02, between, seeds)
    return {seed: list(rng.normal(centre, within, repeats)) for seed, centre in enumerate(centres)}


def test_an_example_by_hand() -> None:
    """Means 2, 5, 8; squares within 2 each, so within² = 2; the means' variance is 9 = between² + 2 / 2."""
    found = components({0: [0.01, 0.03], 1: [0.04, 0.06], 2: [0.07, 0.09]}, pretraining_cost=8.0)
    assert found is not None
    assert found.within == pytest.approx(0.01 * math.sqrt(2))
    assert found.between == pytest.approx(0.01 * math.sqrt(8))
    assert found.share == pytest.approx(0.8)
    # The square root of 8 x 2 / 8 is 1.41: one repeat costs 9 x 10, two cost 10 x 9; the fewer are taken.
    assert found.best_repeats == 1
    assert (found.seeds, found.repeats) == (3, 2)


def test_the_ratio_is_that_of_the_analysis_of_variance() -> None:
    groups = drawn(5, 3, 0.01, 0.01, np.random.default_rng(3))
    found = components(groups, None)
    assert found is not None
    f = stats.f_oneway(*groups.values()).statistic
    assert found.between**2 / found.within**2 == pytest.approx(max(0.0, (f - 1) / 3))
    for limit, tail in zip(found.share_limits, (0.90, 0.10), strict=True):
        # At the limit the observed F is the quantile of (1 + repeats x ratio) times an F variable.
        ratio = limit / (1 - limit)
        assert f / (1 + 3 * ratio) == pytest.approx(stats.f.ppf(tail, 4, 10)) or limit == 0.0


@pytest.mark.parametrize(("between", "within"), [(0.01, 0.01), (0.02, 0.005), (0.004, 0.012)])
def test_the_limits_of_the_share_hold_the_true_one_as_often_as_they_say(between: float, within: float) -> None:
    rng, studies = np.random.default_rng(7), 1500
    truth = between**2 / (between**2 + within**2)
    found = [components(drawn(4, 3, between, within, rng), 1.0) for _ in range(studies)]
    held = sum(one is not None and one.share_limits[0] <= truth <= one.share_limits[1] for one in found)
    low, high = stats.binom.interval(0.999, studies, 0.80)
    # Where seeds hardly differ the limits are wider than they need be.
    assert low <= held <= (high if truth > 0.8 else studies)


@pytest.mark.parametrize(("cost", "between", "within"), [(4.5, 0.003, 0.012), (45.0, 0.01, 0.01), (0.5, 0.01, 0.01)])
def test_the_best_number_of_repeats_gives_the_narrowest_mean_for_the_compute(
    cost: float, between: float, within: float
) -> None:
    """Held against the variance of a mean that a fixed budget buys, for every number of repeats up to a hundred."""
    rng = np.random.default_rng(0)
    found = components(drawn(4000, 4, between, within, rng), cost)
    assert found is not None
    budget = 1000.0
    variance = {r: (between**2 + within**2 / r) * (cost + r) / budget for r in range(1, 101)}
    least = min(variance, key=variance.__getitem__)
    assert found.best_repeats is not None
    assert variance[found.best_repeats] <= 1.02 * variance[least]


@pytest.mark.parametrize(
    ("by_seed", "told"),
    [
        ({0: [0.1, 0.2]}, "one seed"),
        ({0: [0.1], 1: [0.2]}, "one repeat"),
        ({0: [0.1, 0.2], 1: [0.2]}, "a repeat is missing"),
        ({0: [0.1, 0.1], 1: [0.1, 0.1]}, "nothing varies"),
    ],
)
def test_where_nothing_can_be_told_apart(by_seed: dict[int, list[float]], told: str) -> None:
    assert components(by_seed, 1.0) is None, told


def test_where_all_of_it_lies_on_one_side() -> None:
    apart = components({0: [0.1, 0.1], 1: [0.2, 0.2]}, 10.0)
    assert apart is not None
    assert (apart.share, apart.share_limits, apart.best_repeats, apart.buy) == (1.0, (1.0, 1.0), 1, "seeds")
    alike = components({0: [0.1, 0.2], 1: [0.1, 0.2], 2: [0.1, 0.2]}, 10.0)
    assert alike is not None
    assert (alike.between, alike.share, alike.best_repeats) == (0.0, 0.0, None)
    assert components({0: [0.1, 0.2], 1: [0.3, 0.5]}, None).best_repeats == 1  # type: ignore[union-attr]


def with_repeats(results: Results, repeats: int, between: float, within: float, seed: int = 1) -> Results:
    """Each downstream run several times; what a seed's pretraining adds is shared by its repeats."""
    rng = np.random.default_rng(seed)
    shift = {number: rng.normal(0, between) for number in results["study"]["seeds"]}
    runs = [run for run in results["runs"] if run["kind"] == "pretext"]
    for run in results["runs"]:
        for repeat in range(repeats) if run["kind"] == "downstream" else ():
            copy = deepcopy(run)
            copy |= {"repeat": repeat, "id": f"{run['id']}r{repeat}"}
            pretrained = shift[run["seed"]] if run["variant"]["init"] == "rotation" else 0.0
            final = round(run["final"]["test_accuracy"] + pretrained + rng.normal(0, within), 4)
            copy["final"]["test_accuracy"] = copy["history"][-1]["test_accuracy"] = final
            runs.append(copy)
    results["study"]["repeats"] = repeats
    return results | {"runs": runs, "pairs": [], "seed_agreement": [], "error_images": []}


def test_the_page_tells_both_parts_and_what_to_buy_more_of() -> None:
    results = with_repeats(simulated.results(seeds=6), 3, between=0.03, within=0.002)
    said = summary(results)["contrasts"]
    assert [item["components"]["buy"] for item in said] == ["seeds", "seeds"]
    by_seed: dict[int, list[float]] = {}
    finals = {
        (run["variant"]["init"], run["seed"], run["repeat"]): run["final"]["test_accuracy"]
        for run in results["runs"]
        if run["kind"] == "downstream" and run["variant"]["freeze"] == "none"
    }
    for seed in range(6):
        by_seed[seed] = [finals["rotation", seed, r] - finals["random", seed, r] for r in range(3)]
    expected = components(by_seed, 45 / 40)  # 45 epochs of pretraining, 20 of each side
    assert expected is not None
    assert said[0]["components"]["between"] == pytest.approx(expected.between)
    assert said[0]["components"]["within"] == pytest.approx(expected.within)
    assert said[0]["components"]["pretraining_cost"] == pytest.approx(1.125)
    html = report.render(results)
    page = Page(html)
    assert "What to buy more of: seeds or repeats" in page.text
    assert html.count('id="table-spread"') == 1
    assert 'id="table-spread"' not in report.render(simulated.results())
    assert [item.components is None for item in compare.contrasts(simulated.results())] == [True, True]


def test_what_to_buy_follows_from_the_limits_and_not_from_the_estimate_alone() -> None:
    rng = np.random.default_rng(2)
    told = [
        components(drawn(40, 2, 0.001, 0.02, rng), 10.0),  # pretraining is dear and tells little
        components(drawn(40, 2, 0.02, 0.001, rng), 10.0),  # all that differs are pretrainings
        components({0: [0.01, 0.03], 1: [0.04, 0.06], 2: [0.07, 0.09]}, 45.0),  # three seeds cannot tell
    ]
    assert [item and item.buy for item in told] == ["repeats", "seeds", "not settled"]
