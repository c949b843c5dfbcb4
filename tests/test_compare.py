"""Statistics of the report, held against scipy and against cases worked out by hand."""

from __future__ import annotations

import json
import math
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import compare, inference
from rotbench.answer import sentences
from rotbench.contrast import EQUAL, Contrast, ImagePair, family_size, judge, with_interval
from rotbench.power import smallest_n
from rotbench.summary import summary
from tests import simulated


def two_sides(first: list[float], second: list[float], **changes: Any) -> Contrast:
    """The contrast of two variants with these final accuracies, judged as a family of one."""
    results = simulated.results(seeds=len(first))
    results["study"] |= changes
    runs = [run for run in results["runs"] if run["kind"] == "downstream" and run["variant"]["freeze"] == "none"]
    for run in runs:
        run["final"]["test_accuracy"] = (first if run["variant"]["init"] == "rotation" else second)[run["seed"]]
    results["runs"] = runs
    (only,) = compare.contrasts(results)
    return only


@pytest.mark.parametrize("n", [2, 3, 6, 10])
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_the_interval_of_a_mean_is_scipys_t_interval(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(0.8, 0.01, n)
    estimate = inference.mean_interval(list(values), level)
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert estimate.n == n
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.interval == pytest.approx((expected.low, expected.high))


def test_one_value_has_a_mean_and_no_interval_and_none_has_no_mean() -> None:
    assert inference.mean_interval([0.64]) == inference.Estimate(1, 0.64, None, None)
    with pytest.raises(ValueError, match="at least one"):
        inference.mean_interval([])


def test_binomial_standard_error_of_the_write_up() -> None:
    assert inference.binomial_standard_error(0.8, 10_000) == pytest.approx(0.0040)


@pytest.mark.parametrize("n", [2, 3, 6, 10])
def test_a_contrast_is_scipys_paired_t_test(n: int) -> None:
    generator = np.random.default_rng(n)
    first, second = generator.normal(0.81, 0.004, n), generator.normal(0.80, 0.004, n)
    contrast = two_sides(list(first), list(second))
    test = stats.ttest_rel(first, second)
    wide, narrow = test.confidence_interval(0.95), test.confidence_interval(0.90)
    assert contrast.n == contrast.planned == n
    assert contrast.difference == pytest.approx(np.mean(first - second))
    assert contrast.p_t == contrast.p_holm == pytest.approx(test.pvalue)
    assert contrast.interval == pytest.approx((wide.low, wide.high))
    assert contrast.interval_90 == pytest.approx((narrow.low, narrow.high))


@pytest.mark.parametrize(("n", "least"), [(1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125), (10, 2**-9)])
def test_the_least_p_that_sign_flips_can_reach(n: int, least: float) -> None:
    assert inference.sign_flip([0.1 + 0.01 * seed for seed in range(n)]) == least


@pytest.mark.parametrize(
    "differences",
    [[0.01, -0.02, 0.03], [0.1, 0.1, -0.1, 0.2], [0.0, 0.0, 0.1], [0.01, 0.012, 0.011, -0.001, 0.02, 0.015]],
)
def test_sign_flips_agree_with_scipys_permutation_test(differences: list[float]) -> None:
    test = stats.permutation_test(
        (differences,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10**6,
    )
    assert inference.sign_flip(differences) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("n", [2, 3, 6, 10])
@pytest.mark.parametrize("more", [1, 5])
def test_the_range_of_more_runs_is_that_of_a_t_distribution(n: int, more: int) -> None:
    """By definition: (mean of the new - mean of the old) / (s sqrt(1 / more + 1 / n)) has Student's t distribution."""
    values = np.random.default_rng(n).normal(0.8, 0.01, n)
    interval = inference.prediction_interval(list(values), more)
    assert interval is not None
    scaled = (np.array(interval) - values.mean()) / (values.std(ddof=1) * math.sqrt(1 / more + 1 / n))
    assert stats.t.cdf(scaled, n - 1) == pytest.approx([0.025, 0.975])
    assert inference.prediction_interval([0.8]) is None


def test_sign_flips_are_left_out_where_they_would_take_gigabytes() -> None:
    assert inference.sign_flip([0.01] * 20) == 2 / 2**20
    assert inference.sign_flip([0.01] * 21) is None


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1 is 0.03, 0.06, 0.04, of which the last may not fall below the one before.
    assert inference.holm([0.04, 0.01, 0.03]) == [pytest.approx(0.06), pytest.approx(0.03), pytest.approx(0.06)]
    assert inference.holm([0.9, 0.8]) == [1.0, 1.0]
    assert inference.holm([]) == []


def test_equal_differences_have_no_verdict_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # 0.83 - 0.80, 0.73 - 0.70 and 0.63 - 0.60 differ in their last bits.
        apart = two_sides([0.83, 0.73, 0.63], [0.80, 0.70, 0.60])
        equal = two_sides([0.8, 0.7, 0.6], [0.8, 0.7, 0.6])
    assert (apart.p_t, apart.p_holm, apart.p, apart.verdict) == (None, None, 0.25, None)
    assert apart.difference == pytest.approx(0.03)
    assert apart.interval is None
    assert (equal.p_t, equal.p, equal.verdict, equal.difference) == (None, 1.0, None, 0.0)
    assert apart.reason == equal.reason == "all seeds differ by the same amount"


@pytest.mark.thorough
def test_two_seeds_of_few_test_images_find_no_difference_where_there_is_none() -> None:
    """Accuracies are counts: on 500 images both seeds differ by the same number every twentieth time or so."""
    generator = np.random.default_rng(11)
    families, equal, found = 2000, 0, 0
    for _ in range(families):
        counts = generator.binomial(500, 0.9, (12, 2, 2)) / 500
        family = [_contrast_of(side[0] - side[1], name) for name, side in enumerate(counts)]
        equal += sum(item.reason == EQUAL for item in family)
        found += any(item.verdict in ("higher", "lower") for item in judge(family, margin=0.001))
    assert 0.02 < equal / (12 * families) < 0.10
    assert found / families < 0.05 + 2 * math.sqrt(0.05 * 0.95 / families)


def _contrast_of(differences: np.ndarray[Any, Any], name: int = 0) -> Contrast:
    """A contrast of which only the differences by seed are known; ``name`` tells it from others."""
    count, sides = len(differences), ({"init": f"init{name}"}, {"init": "random"})
    return with_interval(Contrast(*sides, count, count, dict(enumerate(differences.tolist()))))


def test_a_contrast_without_spread_counts_in_the_family() -> None:
    """Whether seeds happen to differ by the same amount must not make another contrast easier to resolve."""
    spread_out, no_spread = _contrast_of(np.array([0.02, 0.03, 0.05])), _contrast_of(np.array([0.02, 0.02, 0.02]), 1)
    alone, (beside, _) = judge([spread_out])[0], judge([spread_out, no_spread])
    assert alone.p_holm == pytest.approx(spread_out.p_t)
    assert beside.p_holm == pytest.approx(2 * (spread_out.p_t or 0.0))


def test_the_standard_error_of_one_pair_is_that_of_its_images() -> None:
    """Held against the images themselves: right or wrong on each, and the mean of their differences."""
    right = np.random.default_rng(5).random((2, 400)) < np.array([[0.8], [0.7]])
    first, second = right
    pair = ImagePair(
        seed=0,
        repeat=0,
        images=400,
        both=int((first & second).sum()),
        only_variant=int((first & ~second).sum()),
        only_baseline=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
        agree=0,
    )
    differences = first.astype(float) - second.astype(float)
    assert pair.standard_error == pytest.approx(differences.std() / math.sqrt(400))


@pytest.mark.parametrize(
    ("difference", "p_holm", "interval_90", "word"),
    [
        (0.17, 0.001, (0.16, 0.18), "higher"),
        (-0.17, 0.001, (-0.18, -0.16), "lower"),
        (0.004, 0.01, (0.003, 0.005), "higher, by less than the margin"),
        (-0.004, 0.01, (-0.005, -0.003), "lower, by less than the margin"),
        (0.001, 0.6, (-0.009, 0.0099), "equivalent"),
        (0.001, 0.6, (-0.009, 0.011), "not resolved"),
        (0.17, 0.05, (0.01, 0.3), "not resolved"),
    ],
)
def test_verdicts(difference: float, p_holm: float, interval_90: tuple[float, float], word: str) -> None:
    assert inference.verdict(difference, p_holm, interval_90) == word


def test_the_margin_of_the_study_decides_what_is_equivalent() -> None:
    first, second = [0.802, 0.812, 0.794], [0.800, 0.810, 0.795]
    assert two_sides(first, second).verdict == "equivalent"
    assert two_sides(first, second, margin=0.001).verdict == "not resolved"


def test_below_six_seeds_a_claimed_difference_assumes_normality() -> None:
    six = [0.83, 0.832, 0.829, 0.831, 0.828, 0.833]
    assert two_sides(six, [0.8] * 6).assumes_normality is False
    assert two_sides(six[:5], [0.8] * 5).assumes_normality is True
    assert two_sides([0.8] * 3, [0.8] * 3).assumes_normality is False


def test_one_seed_has_a_difference_and_no_verdict() -> None:
    contrast = two_sides([0.8115], [0.8051])
    assert contrast.difference == pytest.approx(0.0064)
    assert (contrast.interval, contrast.p, contrast.verdict, contrast.reason) == (None, None, None, "one seed")
    (pair,) = contrast.pairs
    assert contrast.standard_error == pair.standard_error


def test_without_the_images_one_seed_has_the_error_of_two_independent_runs() -> None:
    results = simulated.results(seeds=1)
    del results["pairs"]
    means = {json.dumps(v.variant): v.estimate.mean for v in compare.variants(results) if v.estimate}
    found = compare.contrasts(results)
    for contrast in found:
        sides = [means[json.dumps(side)] for side in (contrast.variant, contrast.baseline)]
        assert contrast.standard_error == pytest.approx(math.sqrt(sum(p * (1 - p) for p in sides) / 10_000))
    said = [sentence.text for sentence in sentences(results, found)]
    assert len(said) == 2
    assert all("were the two right on different images" in text for text in said)


@pytest.mark.parametrize("broken", ["missing", "failed", "diverged"])
def test_an_incomplete_or_diverged_side_has_no_verdict(broken: str) -> None:
    results = simulated.results()
    run = results["runs"][-1]
    run |= {"status": "failed" if broken == "diverged" else broken, "diverged": broken == "diverged", "final": None}
    whole, part = compare.contrasts(results)
    assert whole.verdict is not None
    assert (part.n, part.planned, part.verdict) == (2, 3, None)
    assert part.reason == ("diverged" if broken == "diverged" else "2 of 3 seeds")
    assert part.interval is not None
    assert part.p_holm is not None
    summary = compare.variants(results)[-1]
    assert (summary.n, summary.planned, summary.diverged) == (2, 3, broken == "diverged")
    assert summary.estimate is not None
    assert summary.estimate.n == 2


def test_pretraining_with_more_labels_than_the_other_side_had_gets_no_verdict() -> None:
    results = simulated.results()
    assert all(contrast.verdict for contrast in compare.contrasts(results))
    results["study"]["pretexts"]["rotation"]["uses_labels"] = True
    # All labels downstream: the other side had as many.
    assert all(contrast.verdict for contrast in compare.contrasts(results))
    for run in results["runs"]:
        if run["kind"] == "downstream":
            run["settings"]["train"]["labels_per_class"] = 40
    for contrast in compare.contrasts(results):
        assert (contrast.verdict, contrast.reason) == (None, "confounded")
        assert [(item.setting, item.variant, item.baseline) for item in contrast.confounds] == [
            ("labels", "of all images", "40 a class")
        ]
        assert contrast.interval is not None
    said = sentences(results, compare.contrasts(results))
    assert len(said) == 2
    for sentence in said:
        assert sentence.text.endswith(
            "no verdict, since they also differ in labels (of all images against 40 a class)."
        )
        assert " above " not in sentence.text
        assert "an upper bound, no fair comparison" in " ".join(sentence.notes)


def test_labels_dealt_out_at_random_are_no_advantage() -> None:
    results = simulated.results()
    results["study"]["pretexts"]["rotation"] |= {"uses_labels": True, "learns_labels": False}
    for run in results["runs"]:
        if run["kind"] == "downstream":
            run["settings"]["train"]["labels_per_class"] = 40
    assert all(contrast.verdict for contrast in compare.contrasts(results))


def test_labels_are_inherited_from_the_run_that_a_pretext_run_starts_from() -> None:
    results = simulated.results()
    for run in results["runs"]:
        if run["kind"] == "pretext":
            run["settings"]["init"] = {"name": "pretext", "pretext": "supervised"}
        else:
            run["settings"]["train"]["labels_per_class"] = 40
    parent = deepcopy(results["runs"][0]) | {"id": "supervised-s0", "variant": {"pretext": "supervised"}}
    parent["settings"]["init"] = {"name": "random"}
    results["runs"].insert(0, parent)
    results["study"]["pretexts"]["supervised"] = {**results["study"]["pretexts"]["rotation"], "uses_labels": True}
    assert {contrast.reason for contrast in compare.contrasts(results)} == {"confounded"}
    results["study"]["pretexts"]["supervised"]["uses_labels"] = False
    assert {contrast.reason for contrast in compare.contrasts(results)} == {None}


def test_differences_are_paired_by_seed_not_by_position() -> None:
    results = simulated.results()
    expected = compare.contrasts(results)
    results["runs"].reverse()
    again = {json.dumps(item.variant): item for item in compare.contrasts(results)}
    for contrast in expected:
        assert again[json.dumps(contrast.variant)].differences == contrast.differences
        assert again[json.dumps(contrast.variant)].p_t == pytest.approx(contrast.p_t)


def test_a_variant_without_a_partner_is_listed() -> None:
    results = simulated.results()
    results["runs"] = [run for run in results["runs"] if run["variant"] != {"init": "random", "freeze": "none"}]
    assert compare.without_partner(results) == ({"init": "rotation", "freeze": "none"},)
    assert [item.variant["freeze"] for item in compare.contrasts(results)] == [simulated.FREEZE_BELOW]


def test_the_summary_is_plain_json_at_full_precision() -> None:
    results = simulated.results()
    said = json.loads(json.dumps(summary(results), allow_nan=False))
    assert [(item["n"], item["planned"]) for item in said["variants"]] == [(3, 3)] * 4
    for item in said["variants"]:
        finals = [run["final"]["test_accuracy"] for run in results["runs"] if run["variant"] == item["variant"]]
        assert item["mean"] == np.mean(finals)
        assert item["interval"] == pytest.approx(list(stats.t.interval(0.95, 2, np.mean(finals), stats.sem(finals))))
    assert [item["verdict"] for item in said["contrasts"]] == ["not resolved", "higher"]
    assert {"variant", "baseline", "n", "difference", "interval", "p", "p_t", "p_holm"} <= said["contrasts"][0].keys()


def test_a_final_accuracy_that_is_no_number_is_not_counted() -> None:
    results = simulated.results()
    results["runs"][-1]["final"]["test_accuracy"] = math.nan
    assert compare.variants(results)[-1].n == 2
    json.dumps(summary(results), allow_nan=False)


def test_labels_are_names_with_the_options_that_set_them_apart() -> None:
    layer3, layer4 = ({"name": "below", "stage": stage, "batchnorm": "eval"} for stage in ("layer3", "layer4"))
    labels = compare.axis_labels(["none", layer3, layer4])
    assert list(labels.values()) == ["none", "below (stage layer3)", "below (stage layer4)"]
    assert list(compare.axis_labels(["none", layer3]).values()) == ["none", "below"]
    assert list(compare.axis_labels(["below", layer3]).values()) == ["below", "below (stage layer3, batchnorm eval)"]
    assert list(compare.axis_labels([0.1, True, "random"]).values()) == ["0.1", "true", "random"]


def with_axis(lrs: list[float], accuracy: Any, validation: Any, seeds: int = 3) -> dict[str, Any]:
    """The simulated study with a learning rate as an axis; accuracies by (init, lr, seed)."""
    results = simulated.results(seeds=seeds)
    kept = [run for run in results["runs"] if run["kind"] == "downstream" and run["variant"]["freeze"] == "none"]
    results["runs"] = []
    for run in kept:
        for lr in lrs:
            copy = json.loads(json.dumps(run))
            copy["variant"]["lr"] = lr
            copy["final"] = {
                "test_accuracy": accuracy(run["variant"]["init"], lr, run["seed"]),
                "validation_accuracy": validation(run["variant"]["init"], lr, run["seed"]),
            }
            results["runs"].append(copy)
    return results


def test_each_side_is_tuned_on_validation_images_and_never_on_test_images() -> None:
    # On the test images lr 0.1 is best for both; on the validation images 0.01 for rotation, 0.001 for random.
    test = {0.1: 0.9, 0.01: 0.8, 0.001: 0.7}
    best = {"rotation": 0.01, "random": 0.001}
    results = with_axis(
        list(test),
        lambda init, lr, seed: test[lr] + 0.001 * seed * (2 if init == "rotation" else 1),
        lambda init, lr, seed: 0.5 + (0.1 if lr == best[init] else 0) - 0.01 * seed,
    )
    assert [item.comparison for item in compare.contrasts(results)] == ["same settings"] * 3
    results["study"]["tune"] = ["lr"]
    *same, tuned = compare.contrasts(results)
    assert len(same) == 3
    assert (tuned.comparison, tuned.chosen_from) == ("tuned", 3)
    assert (tuned.variant["lr"], tuned.baseline["lr"]) == (0.01, 0.001)
    assert list(tuned.differences.values()) == pytest.approx([0.1, 0.101, 0.102])
    # One more test in the family: its p counts for all.
    assert [item.p_holm for item in (*same, tuned)] == pytest.approx(
        multipletests_holm([item.p_t for item in (*same, tuned) if item.p_t is not None])
    )


def multipletests_holm(p_values: list[float]) -> list[float]:
    """Holm (1979) as the paper states it: the k-th smallest times (m - k + 1), never below the one before."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.minimum(1, np.asarray(p_values)[order] * (len(p_values) - np.arange(len(p_values))))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]


def test_nothing_is_tuned_before_every_value_has_been_tried_on_every_seed() -> None:
    results = with_axis([0.1, 0.01], lambda init, lr, seed: 0.8 + 0.01 * seed, lambda init, lr, seed: lr)
    results["study"]["tune"] = ["lr"]
    assert len(compare.contrasts(results)) == 3
    del results["runs"][-1]
    assert [item.comparison for item in compare.contrasts(results)] == ["same settings"] * 2


def test_a_partner_of_as_many_epochs_is_a_contrast_of_its_own_and_no_row_without_a_partner() -> None:
    results = simulated.results(seeds=3)
    partner = {"init": "random", "freeze": "none", "compute_matched": 65}
    for seed in range(3):
        run = simulated.run("downstream", {"init": "random", "freeze": "none"}, seed, 0.81, 0.3, 65)
        results["runs"].append({**run, "id": f"matched-{seed}", "variant": partner})
    results["study"]["matched"] = [{"variant": {"init": "rotation", "freeze": "none"}, "partner": partner}]
    *same, matched = compare.contrasts(results)
    assert [item.comparison for item in same] == ["same settings"] * 2
    assert (matched.comparison, matched.baseline) == ("compute-matched", partner)
    assert matched.difference == pytest.approx(_mean(results, "rotation", "none") - 0.81)
    assert compare.without_partner(results) == ()


def _mean(results: dict[str, Any], init: str, freeze: str) -> float:
    return float(
        np.mean(
            [
                run["final"]["test_accuracy"]
                for run in results["runs"]
                if run["variant"] == {"init": init, "freeze": freeze}
            ]
        )
    )


def test_what_is_not_primary_is_exploratory_and_costs_the_primary_contrasts_nothing() -> None:
    results = simulated.results(seeds=5)
    everything, below = compare.contrasts(results)
    results["study"]["primary"] = {"freeze": "none"}
    primary, rest = compare.contrasts(results)
    both = [item.p_t for item in (everything, below) if item.p_t is not None]
    assert [everything.p_holm, below.p_holm] == pytest.approx(multipletests_holm(both))
    assert primary.p_holm == primary.p_t
    assert (rest.p_holm, rest.verdict, rest.reason, rest.exploratory) == (None, None, "exploratory", True)
    assert rest.interval == below.interval


def test_repeats_are_averaged_before_anything_else() -> None:
    results = simulated.results(seeds=3)
    results["study"]["repeats"] = 2
    rng = np.random.default_rng(0)
    doubled = []
    for run in results["runs"]:
        doubled.append({**run, "repeat": 0})
        if run["kind"] == "downstream":
            final = {**run["final"], "test_accuracy": run["final"]["test_accuracy"] + float(rng.normal(0, 0.01))}
            doubled.append({**run, "id": f"{run['id']}r1", "repeat": 1, "final": final})
    results["runs"] = doubled
    for item in compare.variants(results):
        own = [run for run in doubled if run["variant"] == item.variant]
        by_seed = [np.mean([run["final"]["test_accuracy"] for run in own if run["seed"] == s]) for s in range(3)]
        assert (item.n, item.planned) == (3, 3)
        assert item.estimate is not None
        assert item.estimate.mean == pytest.approx(float(np.mean(by_seed)))
        low, high = stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
        assert item.estimate.interval == pytest.approx((low, high))
    # A seed of which a repeat is missing is not done.
    results["runs"] = doubled[:-1]
    assert [summary.n for summary in compare.variants(results)] == [3, 3, 3, 2]


def test_a_value_at_which_a_run_diverged_has_been_tried_and_is_not_chosen() -> None:
    results = with_axis(
        [0.1, 0.01, 0.001],
        lambda init, lr, seed: 0.8 + 0.01 * seed + (0.05 + 0.001 * seed if init == "rotation" else 0),
        lambda init, lr, seed: lr,  # the largest would be chosen
    )
    results["study"]["tune"] = ["lr"]
    for run in results["runs"]:
        if run["variant"] == {"init": "rotation", "freeze": "none", "lr": 0.1} and run["seed"] == 1:
            run |= {"status": "failed", "diverged": True, "final": None}
    (tuned,) = (item for item in compare.contrasts(results) if item.comparison == "tuned")
    assert (tuned.variant["lr"], tuned.baseline["lr"], tuned.chosen_from) == (0.01, 0.1, 3)
    assert tuned.verdict is not None
    (said,) = (s for s in sentences(results, compare.contrasts(results)) if s.contrast.comparison == "tuned")
    assert "lr 0.1 diverged and could not be chosen" in " ".join(said.notes)


def test_the_spread_of_repeats_is_told_apart_from_that_of_seeds() -> None:
    results = simulated.results(seeds=3)
    results["study"]["repeats"] = 2
    scores = {0: (0.80, 0.82), 1: (0.84, 0.84), 2: (0.79, 0.85)}
    results["runs"] = [
        {**run, "repeat": repeat, "final": {**run["final"], "test_accuracy": scores[run["seed"]][repeat]}}
        for run in results["runs"]
        if run["kind"] == "downstream"
        for repeat in (0, 1)
    ]
    summary = compare.variants(results)[0]
    assert summary.spread_between == pytest.approx(np.std([0.81, 0.84, 0.82], ddof=1))
    within = np.mean([np.var(pair, ddof=1) for pair in scores.values()])
    assert summary.spread_within == pytest.approx(np.sqrt(within))
    assert compare.variants(simulated.results(seeds=3))[0].spread_within is None


def said_of(first: list[float], second: list[float], **study: Any) -> str:
    """The sentence on two variants with these final accuracies."""
    results = simulated.results(seeds=len(first))
    results["study"] |= study
    for run in results["runs"]:
        if run["kind"] == "downstream" and run["variant"]["freeze"] == "none":
            run["final"]["test_accuracy"] = (first if run["variant"]["init"] == "rotation" else second)[run["seed"]]
    return sentences(results, compare.contrasts(results))[0].text.replace("\N{NO-BREAK SPACE}", " ")


def test_equivalence_is_told_by_the_interval_that_it_rests_on() -> None:
    first, second = [0.802, 0.812, 0.794], [0.800, 0.810, 0.795]
    low, high = stats.ttest_rel(first, second).confidence_interval(0.90)
    assert said_of(first, second) == (
        "rotation and random differ by less than the margin of 1.0 points when everything is trained: +0.1 points "
        f"(90 % t interval {100 * low:.1f} to {100 * high:.1f}, n = 3 seeds).".replace("-", "\N{MINUS SIGN}")
    )


def test_what_is_not_resolved_says_what_leaves_it_open() -> None:
    few = [0.0, 0.0, 0.02, 0.0, 0.02]
    needed = smallest_n(float(np.std(few, ddof=1)), 0.01)
    told = said_of([0.8 + item for item in few], [0.8] * 5)
    assert f"; to see a difference of 1.0 points with 80 % power: about {needed} seeds" in told
    # 16 seeds that differ by 0.53 points, with a spread for which 12 would be enough to see one of 1.0.
    many = [0.0053 + (0.01065 if seed % 2 else -0.01065) for seed in range(16)]
    assert smallest_n(float(np.std(many, ddof=1)), 0.01) == 12
    told = said_of([0.8 + item for item in many], [0.8] * 16)
    assert told.endswith(
        "; as many seeds would see a difference of 1.0 points with 80 % power, so it is likely smaller."
    )


def test_a_contrast_that_only_the_correction_leaves_open_says_so() -> None:
    results = simulated.results(seeds=5)
    results["study"]["interactions"] = True
    for run in results["runs"]:
        if run["kind"] == "downstream":
            gain = (0.02, 0.03, 0.001, 0.025, 0.012)[run["seed"]] if run["variant"]["init"] == "rotation" else 0.0
            run["final"]["test_accuracy"] = (
                0.7 + gain + 0.002 * (run["variant"]["freeze"] != "none") * run["seed"] * gain
            )
    item = compare.contrasts(results)[0]
    assert item.p_t is not None
    assert item.p_holm is not None
    assert item.p_t < 0.05 <= item.p_holm
    assert (
        f"by itself (p = {item.p_t:.3f}) it would be resolved, among 3 contrasts it is not"
        in sentences(results, compare.contrasts(results))[0].text
    )


def test_sides_that_are_at_their_best_at_one_value_are_asked_about_once() -> None:
    """Both chose lr 0.1: each at its own best is the contrast at lr 0.1, and one question is corrected for once."""
    results = with_axis(
        [0.1, 0.01],
        lambda init, lr, seed: 0.8 + 0.01 * seed + (0.05 + 0.001 * seed if init == "rotation" else 0) - lr / 100,
        lambda init, lr, seed: lr,
    )
    results["study"]["tune"] = ["lr"]
    *same, tuned = compare.contrasts(results)
    (twin,) = (item for item in same if item.variant == tuned.variant)
    assert (tuned.comparison, twin.comparison) == ("tuned", "same settings")
    assert (tuned.difference, tuned.p_holm, tuned.verdict) == (twin.difference, twin.p_holm, twin.verdict)
    assert family_size((*same, tuned)) == len(same) == 2
    assert sorted(item.p_holm or 0.0 for item in same) == pytest.approx(
        sorted(inference.holm([item.p_t or 0.0 for item in same]))
    )
    assert "after Holm over 2 contrasts" in sentences(results, (*same, tuned))[-1].text
