"""Differences of differences: held against numpy and scipy, and against studies whose truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import compare, report
from rotbench.answer import sentences
from rotbench.contrast import Contrast
from rotbench.summary import summary
from tests import simulated
from tests.program import thorough
from tests.test_report import Page

pytestmark = pytest.mark.usefixtures("undrawn")

Results = dict[str, Any]


def asked(results: Results, **study: Any) -> Results:
    results["study"] |= {"interactions": True, **study}
    return results


def accuracies(results: Results, init: str, freeze: str) -> list[float]:
    """Final accuracies of a variant by seed, straight from the runs."""
    return [
        run["final"]["test_accuracy"]
        for run in results["runs"]
        if run["kind"] == "downstream"
        and run["variant"]["init"] == init
        and (run["variant"]["freeze"] == "none") == (freeze == "none")
    ]


@pytest.mark.parametrize("seeds", [2, 3, 6, 10])
def test_it_is_the_paired_t_test_of_the_difference_of_differences(seeds: int) -> None:
    results = asked(simulated.results(seeds=seeds, epochs=2, pretext_epochs=2))
    *plain, item = compare.contrasts(results)
    assert [contrast.condition for contrast in plain] == [None, None]
    sides = {(i, f): np.array(accuracies(results, i, f)) for i in ("random", "rotation") for f in ("none", "below")}
    below = sides["rotation", "below"] - sides["random", "below"]
    none = sides["rotation", "none"] - sides["random", "none"]
    test = stats.ttest_rel(below, none)
    wide = test.confidence_interval(0.95)
    assert (item.comparison, item.n, item.planned) == ("interaction", seeds, seeds)
    assert item.difference == pytest.approx((below - none).mean())
    assert item.interval == pytest.approx((wide.low, wide.high))
    assert item.p_t == pytest.approx(test.pvalue)
    assert item.condition is not None
    assert item.condition.axis == "freeze"
    assert item.condition.variant == {"init": "rotation", "freeze": "none"}
    assert item.condition.baseline == {"init": "random", "freeze": "none"}


def test_it_counts_in_the_family_and_is_left_out_where_the_study_says_so() -> None:
    results = simulated.results()
    without = compare.contrasts(results)
    *plain, item = compare.contrasts(asked(results))
    assert len(without) == len(plain) == 2
    uncorrected = sorted(contrast.p_t or 1.0 for contrast in (*plain, item))
    assert min(contrast.p_holm or 1.0 for contrast in (*plain, item)) == pytest.approx(3 * uncorrected[0])
    assert len(compare.contrasts(asked(results, interactions=False))) == 2


def test_each_value_is_held_against_the_first_one_of_its_axis() -> None:
    """Three numbers of labels and two policies: two steps along labels under each policy, one along freeze at each."""
    runs = []
    for count, labels in enumerate((10, 100, 1000)):
        for freeze in ("none", simulated.FREEZE_BELOW):
            for init in ("random", "rotation"):
                variant = {"init": init, "freeze": freeze, "labels_per_class": labels}
                for seed in range(3):
                    gain = 0.1 * (3 - count) + (0.05 if freeze != "none" else 0.0) if init == "rotation" else 0.0
                    final = round(0.4 + 0.1 * count + gain + 0.001 * seed * (count + 1), 4)
                    runs.append(simulated.run("downstream", variant, seed, final, 0.2, 2))
    results = asked(simulated.results(), references=[])
    results |= {"runs": runs, "pairs": [], "seed_agreement": [], "error_images": []}
    found = [item for item in compare.contrasts(results) if item.condition]
    steps = {
        axis: [
            (item.variant["freeze"] == "none", item.variant["labels_per_class"], round(item.difference or 0.0, 6))
            for item in found
            if item.condition and item.condition.axis == axis
        ]
        for axis in ("freeze", "labels_per_class")
    }
    assert len(found) == 7
    assert steps["freeze"] == [(False, 10, 0.05), (False, 100, 0.05), (False, 1000, 0.05)]
    assert steps["labels_per_class"] == [
        (True, 100, -0.1),
        (True, 1000, -0.2),
        (False, 100, -0.1),
        (False, 1000, -0.2),
    ]
    said = " ".join(item.text for item in sentences(results, compare.contrasts(results)))
    assert "when labels_per_class is 100, against when labels_per_class is 10, where layer4 and fc are trained" in said


def test_in_words_and_as_json() -> None:
    results = asked(simulated.results())
    page = Page(report.render(results)).text.replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "rotation minus random is 17.6 points higher when layer4 and fc are trained than when everything is trained "
        "(95 % t interval 16.1 to 19.2, n = 3 seeds, p < 0.001 after Holm over 3 contrasts; "
        "assuming normal differences)"
    ) in page
    assert "does not show it; this does" in page
    last = summary(results)["contrasts"][-1]
    assert last["comparison"] == "interaction"
    assert last["condition"] == {
        "axis": "freeze",
        "variant": {"init": "rotation", "freeze": "none"},
        "baseline": {"init": "random", "freeze": "none"},
    }
    assert last["pairs"] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "missing", "final": None, "history": []}, "2 of 3 seeds"),
        ({"status": "failed", "diverged": True, "final": None}, "diverged"),
    ],
)
def test_without_all_four_sides_there_is_no_verdict(change: dict[str, Any], reason: str) -> None:
    results = asked(simulated.results())
    results["runs"][-1] |= change
    item = compare.contrasts(results)[-1]
    assert item.condition is not None
    assert (item.verdict, item.reason, item.n) == (None, reason, 2)


def test_a_confound_of_one_side_is_one_of_the_interaction() -> None:
    results = asked(simulated.results())
    for run in results["runs"]:
        if run["variant"] == {"init": "random", "freeze": "none"}:
            run["settings"]["train"]["lr"] = 0.1
    item = compare.contrasts(results)[-1]
    assert (item.verdict, item.reason) == (None, "confounded")
    assert [difference.setting for difference in item.confounds] == ["lr"]
    assert "no verdict, since they also differ in lr" in sentences(results, (item,))[0].text


def test_one_seed_gets_no_verdict_and_the_error_of_four_networks() -> None:
    results = asked(simulated.results(seeds=1))
    *plain, item = compare.contrasts(results)
    assert (item.verdict, item.reason, item.interval) == (None, "one seed", None)
    assert item.standard_error == pytest.approx(math.hypot(*(contrast.standard_error or 0.0 for contrast in plain)))
    assert "from one seed." in sentences(results, (item,))[0].text


def test_what_is_primary_in_one_condition_alone_makes_no_interaction_primary() -> None:
    results = asked(simulated.results(), primary={"freeze": "none"})
    none, below, item = compare.contrasts(results)
    assert none.verdict is not None
    assert (below.exploratory, item.exploratory, item.verdict) == (True, True, None)
    results["study"]["primary"] = {"init": "rotation"}
    assert [contrast.exploratory for contrast in compare.contrasts(results)] == [False] * 3


def test_where_settings_are_tuned_it_compares_each_side_at_its_best() -> None:
    runs = []
    for freeze in ("none", simulated.FREEZE_BELOW):
        for init in ("random", "rotation"):
            for lr in (0.1, 0.01):
                for seed in range(3):
                    best = lr == (0.1 if init == "random" else 0.01)
                    lead = (0.02 if freeze == "none" else 0.12) * (init == "rotation")
                    final = round(0.6 + lead + 0.05 * best + 0.001 * seed * (1 + (init == "rotation")), 4)
                    run = simulated.run("downstream", {"init": init, "freeze": freeze, "lr": lr}, seed, final, 0.2, 2)
                    run["settings"]["train"]["lr"] = lr
                    run["final"]["validation_accuracy"] = final
                    runs.append(run)
    results = asked(simulated.results(), tune=["lr"], references=[])
    results |= {"runs": runs, "pairs": [], "seed_agreement": [], "error_images": []}
    (item,) = (contrast for contrast in compare.contrasts(results) if contrast.condition)
    assert item.difference == pytest.approx(0.10)
    (said,) = sentences(results, (item,))
    assert "each at its own best lr," in said.text


def simulated_family(truth: float, seeds: int, rng: np.random.Generator) -> Contrast:
    """A study of four variants whose differences differ by ``truth``, with noise of each run and of each seed."""
    results = asked(simulated.results(seeds=seeds, epochs=1, pretext_epochs=1))
    shared = rng.normal(0, 0.01, seeds)
    for run in results["runs"]:
        if run["kind"] == "downstream":
            gain = truth if run["variant"]["init"] == "rotation" and run["variant"]["freeze"] != "none" else 0.0
            run["final"]["test_accuracy"] = 0.6 + gain + shared[run["seed"]] + rng.normal(0, 0.004)
    results |= {"pairs": [], "seed_agreement": [], "error_images": []}
    return compare.contrasts(results)[-1]


@pytest.mark.parametrize("seeds", thorough(3, 5))
def test_the_truth_of_simulated_studies_lies_in_the_interval_as_often_as_promised(seeds: int) -> None:
    rng, studies = np.random.default_rng(seeds), 300
    found = [simulated_family(0.02, seeds, rng) for _ in range(studies)]
    held = sum(item.interval is not None and item.interval[0] <= 0.02 <= item.interval[1] for item in found)
    low, high = stats.binom.interval(0.999, studies, 0.95)
    assert low <= held <= high


def test_the_first_value_is_the_one_that_the_study_names_first() -> None:
    results = asked(simulated.results())
    forward = compare.contrasts(results)[-1]
    results["runs"].sort(key=lambda run: run["variant"].get("freeze") == "none")  # below before none
    backward = compare.contrasts(results)[-1]
    assert forward.condition is not None
    assert backward.condition is not None
    assert (forward.condition.variant["freeze"], backward.variant["freeze"]) == ("none", "none")
    assert backward.difference == pytest.approx(-(forward.difference or 0.0))
