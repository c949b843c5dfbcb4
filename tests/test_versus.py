"""Two studies as contrasts: what is joined, what is paired, and numbers held against scipy and simulated truths."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import inference
from rotbench.contrast import EQUAL
from rotbench.joined import Shared, shared
from rotbench.versus import NO_SPREAD, SAME, Versus, pretexts, versus, welch
from tests import simulated
from tests.program import thorough
from tests.test_simulations import ERRORS, within
from tests.two_studies import NAMES, Results, again, runs_of, study, unpair

ONE = "random / none"


def contrasts(a: Results, b: Results) -> tuple[Versus, ...]:
    return versus(a, b, shared(a, b))


def only(a: Results, b: Results) -> Versus:
    (item,) = contrasts(a, b)
    return item


# Numbers


FIRST, SECOND = [0.801, 0.797, 0.805, 0.799, 0.803], [0.812, 0.806, 0.819, 0.808, 0.811]


def test_paired_seeds_are_scipys_paired_t_test() -> None:
    item = only(study({ONE: FIRST}), study({ONE: SECOND}))
    test = stats.ttest_rel(SECOND, FIRST)
    wide, narrow = test.confidence_interval(0.95), test.confidence_interval(0.90)
    assert (item.method, item.n, item.left_out) == ("paired", 5, ())
    assert item.difference == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    assert item.interval == pytest.approx((wide.low, wide.high))
    assert item.interval_90 == pytest.approx((narrow.low, narrow.high))
    assert item.p == item.p_holm == pytest.approx(test.pvalue)
    assert item.differences == pytest.approx({s: b - a for s, (a, b) in enumerate(zip(FIRST, SECOND, strict=True))})
    assert (item.verdict, item.reason, item.assumes_normality) == ("higher", None, True)
    back = only(study({ONE: SECOND}), study({ONE: FIRST}))
    assert back.interval == pytest.approx((-wide.high, -wide.low))
    assert back.verdict == "lower"


@pytest.mark.parametrize("of_b", [2, 3, 5])
def test_other_streams_are_scipys_welch_test(of_b: int) -> None:
    item = only(study({ONE: FIRST[:3]}), unpair(study({ONE: SECOND[:of_b]})))
    test = stats.ttest_ind(SECOND[:of_b], FIRST[:3], equal_var=False)
    wide, narrow = test.confidence_interval(0.95), test.confidence_interval(0.90)
    assert (item.method, item.n, dict(item.differences)) == ("Welch", min(3, of_b), {})
    assert item.difference == pytest.approx(np.mean(SECOND[:of_b]) - np.mean(FIRST[:3]))
    assert item.interval == pytest.approx((wide.low, wide.high))
    assert item.interval_90 == pytest.approx((narrow.low, narrow.high))
    assert item.p == pytest.approx(test.pvalue)


def test_welchs_interval_is_the_one_of_its_formula() -> None:
    (low, high), _, p = welch(FIRST, SECOND[:3])
    parts = [np.var(values, ddof=1) / len(values) for values in (FIRST, SECOND[:3])]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 2)
    error, difference = math.sqrt(sum(parts)), np.mean(SECOND[:3]) - np.mean(FIRST)
    half = stats.t.ppf(0.975, freedom) * error
    assert (low, high) == pytest.approx((difference - half, difference + half))
    assert p == pytest.approx(2 * stats.t.sf(abs(difference) / error, freedom))


def test_a_side_without_spread_is_no_part_of_the_error_and_two_are_not_judged() -> None:
    (low, high), _, p = welch([0.8, 0.8, 0.8], [0.81, 0.82, 0.83])
    expected = stats.ttest_1samp([0.01, 0.02, 0.03], 0)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert p == pytest.approx(expected.pvalue)


def test_without_spread_there_is_neither_interval_nor_verdict_but_a_place_in_the_family() -> None:
    flat, level = [0.8] * 3, [0.75] * 3
    a = study({NAMES[0]: flat, NAMES[1]: FIRST[:3], NAMES[2]: FIRST[:3]})
    b = study({NAMES[0]: level, NAMES[1]: [value + 0.01 for value in FIRST[:3]], NAMES[2]: SECOND[:3]})
    for method, reasons in (("paired", [EQUAL, EQUAL]), ("Welch", [NO_SPREAD, None])):
        found = contrasts(a, b if method == "paired" else unpair(b))
        assert [item.method for item in found] == [method] * 3
        assert [item.reason for item in found] == [*reasons, None]
        nothing = found[0]
        assert (nothing.interval, nothing.p, nothing.p_holm, nothing.verdict) == (None, None, None, None)
        assert nothing.difference == pytest.approx(-0.05)
        p_values = [1.0 if item.p is None else item.p for item in found]
        assert found[2].p_holm == pytest.approx(min(1.0, p_values[2] * (3 if p_values[2] == min(p_values) else 2)))


def test_holm_is_over_all_joined_variants() -> None:
    accuracies = {name: [0.80, 0.81, 0.79, 0.805] for name in NAMES}
    changed = {
        name: [value + shift * step for value, step in zip(accuracies[name], (0.9, 1.0, 1.1, 1.05), strict=True)]
        for name, shift in zip(NAMES, (0.02, 0.002, 0.05, -0.03), strict=True)
    }
    changed[NAMES[1]] = [0.801, 0.809, 0.792, 0.805]
    found = contrasts(study(accuracies), study(changed))
    plain = [stats.ttest_rel(changed[name], accuracies[name]).pvalue for name in NAMES]
    assert [item.p for item in found] == pytest.approx(plain)
    # By hand: the smallest times 4, the next times 3, and so on, each at least as large as the one before.
    rising, highest = sorted(plain), 0.0
    by_hand = {}
    for rank, p in enumerate(rising):
        highest = max(highest, min(1.0, (4 - rank) * p))
        by_hand[p] = highest
    assert [item.p_holm for item in found] == pytest.approx([by_hand[p] for p in plain])
    assert [item.verdict for item in found] == ["higher", "equivalent", "higher", "lower"]


def test_the_margin_is_that_of_a() -> None:
    a, b = study({ONE: [0.8, 0.8004, 0.7996]}), study({ONE: [0.8041, 0.804, 0.8039]})
    assert only(a, b).verdict == "higher, by less than the margin"
    a["study"]["margin"], b["study"]["margin"] = 0.002, 0.05
    assert only(a, b).verdict == "higher"


def test_a_verdict_is_the_reports_word_for_the_same_numbers() -> None:
    rng, words = np.random.default_rng(5), set()
    for _ in range(60):
        spread = rng.choice([0.002, 0.02])
        a, b = rng.normal(0.8, spread, 4), rng.normal(0.8 + rng.choice([0, 0.004, 0.03]), spread, 4)
        item = only(study({ONE: list(a)}), study({ONE: list(b)}))
        narrow = stats.ttest_rel(b, a).confidence_interval(0.90)
        expected = inference.verdict(
            float(np.mean(b - a)), float(stats.ttest_rel(b, a).pvalue), (narrow.low, narrow.high)
        )
        assert item.verdict == expected
        words.add(expected)
    assert words >= {"higher", "higher, by less than the margin", "equivalent", "not resolved"}


# What is simulated is found


SIMULATED = 1200


@pytest.mark.parametrize(("spread_a", "spread_b"), [(0.006, 0.002), *thorough((0.002, 0.006))])
def test_the_welch_interval_of_3_and_5_seeds_holds_the_truth_in_95_of_100_studies(
    spread_a: float, spread_b: float
) -> None:
    """1,200 pairs of studies: four binomial standard errors are 2.5 points.

    Student's t with one variance for both misses by more where the smaller side spreads most.
    """
    rng, truth = np.random.default_rng(1), 0.013
    held = pooled = 0
    for a, b in zip(
        rng.normal(0.8, spread_a, (SIMULATED, 3)), rng.normal(0.8 + truth, spread_b, (SIMULATED, 5)), strict=True
    ):
        (low, high), _, _ = welch(list(a), list(b))
        held += low <= truth <= high
        student = stats.ttest_ind(b, a).confidence_interval(0.95)
        pooled += student.low <= truth <= student.high
    assert within(held / SIMULATED, 0.95, SIMULATED)
    assert within(pooled / SIMULATED, 0.95, SIMULATED) == (spread_a < spread_b)


def test_the_paired_interval_of_whole_studies_holds_the_truth() -> None:
    """400 pairs of studies of one variant; what a seed does to both sides drops out of the difference."""
    rng, truth, studies = np.random.default_rng(2), 0.004, 400
    a, b = study({ONE: [0.8] * 4}), study({ONE: [0.8] * 4})
    held, widths = 0, []
    for _ in range(studies):
        shared_by_seed = rng.normal(0.8, 0.02, 4)
        for results, values in (
            (a, shared_by_seed + rng.normal(0, 0.001, 4)),
            (b, shared_by_seed + truth + rng.normal(0, 0.001, 4)),
        ):
            for run in runs_of(results, ONE):
                run["final"]["test_accuracy"] = float(values[run["seed"]])
        item = only(a, b)
        assert item.interval is not None
        held += item.interval[0] <= truth <= item.interval[1]
        widths.append(item.interval[1] - item.interval[0])
    assert within(held / studies, 0.95, studies)
    assert np.mean(widths) < 0.01  # two samples of that spread would give some 0.07


@pytest.mark.thorough
def test_two_studies_of_no_difference_differ_in_at_most_5_of_100_families() -> None:
    """200 pairs of studies of four variants, half of them paired by seed and half as two samples."""
    rng, studies, wrong = np.random.default_rng(3), 200, 0
    sides = study({name: [0.8] * 3 for name in NAMES}), study({name: [0.8] * 3 for name in NAMES})
    for number in range(studies):
        for results in sides:
            for run in results["runs"]:
                run["final"]["test_accuracy"] = float(rng.normal(0.8, 0.005))
        if number == studies // 2:
            unpair(sides[1])
        found = contrasts(*sides)
        assert {item.method for item in found} == {"paired" if number < studies // 2 else "Welch"}
        wrong += any((item.verdict or "").startswith(("higher", "lower")) for item in found)
    assert wrong / studies <= 0.05 + ERRORS * math.sqrt(0.05 * 0.95 / studies)


# Pairs


CHANGES: dict[str, tuple[str, str]] = {
    "seed_backbone_sha256": ("start", "at seed 1 the random starting weights are not the same"),
    "head_sha256": ("start", "at seed 1 the head is not the same"),
    "fingerprint": ("data", "at seed 1 the data are not the same"),
    "subset_sha256": ("data", "at seed 1 the labelled images are not the same"),
}


@pytest.mark.parametrize(("key", "expected"), CHANGES.items())
def test_seeds_are_paired_only_where_all_streams_agree(key: str, expected: tuple[str, str]) -> None:
    part, why = expected
    a = study({ONE: FIRST})
    same = only(a, study({ONE: SECOND}))
    assert (same.method, same.why) == (
        "paired",
        "at each seed both draw the same starting weights, head and labelled images",
    )
    b = study({ONE: SECOND})
    runs_of(b, ONE)[1]["provenance"][part][key] = "another"
    other = only(a, b)
    assert (other.method, other.why) == ("Welch", why)
    for results in (a, b):
        del runs_of(results, ONE)[1]["provenance"][part][key]
    unknown = only(a, b)
    assert (unknown.method, unknown.why) == ("Welch", f"{why.removesuffix(' the same')} recorded in both")


def test_a_study_that_was_continued_is_compared_over_the_seeds_that_both_have() -> None:
    more = [*SECOND[:3], 0.9, 0.95]
    item = only(study({ONE: FIRST[:3]}), study({ONE: more}))
    assert (item.method, item.n, item.left_out, item.common) == ("paired", 3, (3, 4), (0, 1, 2))
    assert item.difference == pytest.approx(np.mean(SECOND[:3]) - np.mean(FIRST[:3]))
    assert (item.verdict, item.reason) != (None, None)


@pytest.mark.parametrize(
    ("of_b", "why"),
    [((3, 4, 5), "no finished seed is in both"), ((1, 2, 3), "each side has seeds that the other has not")],
)
def test_other_seeds_are_two_samples(of_b: tuple[int, ...], why: str) -> None:
    item = only(study({ONE: FIRST[:3]}), study({ONE: SECOND[:3]}, of_b))
    assert (item.method, item.why, item.left_out) == ("Welch", why, ())
    assert item.p == pytest.approx(stats.ttest_ind(SECOND[:3], FIRST[:3], equal_var=False).pvalue)


def test_repeats_are_paired_repeat_by_repeat() -> None:
    sides = []
    for second in (9.0, 8.0):
        results = study({ONE: FIRST[:3]}, second=second)
        results["study"]["repeats"] = 2
        for run in runs_of(results, ONE):
            twin = deepcopy(run) | {"id": f"{run['id']}r1", "repeat": 1}
            twin["provenance"]["start"]["head_sha256"] = "the head of the second repeat"
            twin["final"]["test_accuracy"] += 0.01 if second == 8.0 else 0.0
            results["runs"].append(twin)
        sides.append(results)
    item = only(*sides)
    assert item.method == "paired"
    assert item.difference == pytest.approx(0.005)
    assert (item.same, item.common) == ((), (0, 1, 2))
    for run in sides[1]["runs"]:
        if run.get("repeat"):
            run["provenance"]["start"]["head_sha256"] = "another one"
    assert only(*sides).why == "at seed 0 the head is not the same"


# The same to the last digit


def test_what_is_the_same_to_the_last_digit_is_found_and_told_from_a_copy() -> None:
    a = study({ONE: FIRST})
    b = again(a)
    item = only(a, b)
    assert (item.identical, item.same, item.same_weights, item.copied) == (True, (0, 1, 2, 3, 4), (0, 1, 2, 3, 4), ())
    assert (item.difference, item.interval, item.p, item.verdict, item.reason) == (0.0, None, None, None, SAME)
    runs_of(b, ONE)[2]["history"][0]["test_accuracy"] += 1e-15
    runs_of(b, ONE)[3]["provenance"]["backbone_sha256"] = "other weights, as accurate"
    item = only(a, b)
    assert (item.identical, item.same, item.same_weights) == (False, (0, 1, 3, 4), (0, 1, 2, 4))
    del runs_of(b, ONE)[0]["provenance"]["backbone_sha256"]
    assert only(a, b).same_weights is None
    b = again(a)
    for run in runs_of(b, ONE):  # a backbone that was not trained says nothing
        run["provenance"]["freeze"]["trainable_by_stage"] = {"layer4": 0, "fc": 5130}
    assert only(a, b).same_weights is None
    assert only(a, deepcopy(a)).copied == (0, 1, 2, 3, 4)


# What gets no verdict


def failed(results: Results, seed: int, **changes: Any) -> Results:
    runs_of(results, ONE)[seed].update({"status": "failed", "final": None, "error": "loss is nan"} | changes)
    return results


def test_one_seed_an_unfinished_one_and_a_diverged_one_get_no_verdict() -> None:
    whole, one = study({ONE: FIRST[:3]}), study({ONE: SECOND[:1]})
    cases = {
        "one seed in A and B": (study({ONE: FIRST[:1]}), one),
        "one seed in B": (whole, one),
        "2 of 3 seeds in B": (whole, failed(study({ONE: SECOND[:3]}), 1)),
        "2 of 3 seeds in A and 0 of 1 seeds in B": (failed(study({ONE: FIRST[:3]}), 0), failed(deepcopy(one), 0)),
        "diverged in A": (failed(study({ONE: FIRST[:3]}), 1, diverged=True), study({ONE: SECOND[:3]})),
        "diverged in A and B": (failed(deepcopy(whole), 2, diverged=True), failed(deepcopy(one), 0, diverged=True)),
    }
    for reason, sides in cases.items():
        item = only(*sides)
        assert (item.verdict, item.reason) == (None, reason)
        assert (item.difference is None) == (0 in (item.a.n, item.b.n)), reason
    assert only(*cases["one seed in B"]).interval is None
    assert only(*cases["one seed in B"]).difference == pytest.approx(SECOND[0] - FIRST[0])
    assert only(*cases["2 of 3 seeds in B"]).differences.keys() == {0, 2}


def test_a_single_seed_of_other_streams_has_a_difference_of_means_and_no_interval() -> None:
    item = only(study({ONE: FIRST[:3]}), study({ONE: SECOND[:1]}, (7,)))
    assert (item.method, item.interval, item.p, item.p_holm, item.reason) == (
        "Welch",
        None,
        None,
        None,
        "one seed in B",
    )
    assert item.difference == pytest.approx(SECOND[0] - np.mean(FIRST[:3]))


def test_other_test_images_get_no_verdict_though_they_count_in_the_family() -> None:
    a, b = (study(dict.fromkeys(NAMES[:2], values)) for values in (FIRST, SECOND))
    for run in runs_of(b, ONE):
        run["provenance"]["data"]["fingerprint"] = "other images"
    first, second = contrasts(a, b)
    assert (first.method, first.verdict, first.reason) == ("Welch", None, "other data")
    assert first.p is not None
    assert second.p is not None
    assert second.p_holm == pytest.approx(2 * min(first.p, second.p) if second.p < first.p else second.p)
    assert second.verdict == "higher"


# Joins


def rewritten(results: Results, name: str, variant: dict[str, Any], **settings: Any) -> Results:
    """The runs of a variant under another way to write it, with these resolved settings."""
    for run in runs_of(results, name):
        run["variant"] = variant
        for key, value in settings.items():
            if key in ("init", "freeze"):
                run["settings"][key] = value
            else:
                run["settings"]["train"][key] = value
    return results


def joined(ours: tuple[dict[str, Any], dict[str, Any]], theirs: tuple[dict[str, Any], dict[str, Any]]) -> Shared:
    """The join of two studies of one variant each: how it is written, and its settings."""
    a, b = (rewritten(study({ONE: FIRST[:2]}), ONE, variant, **settings) for variant, settings in (ours, theirs))
    return shared(a, b)


BELOW = {"name": "below", "stage": "layer4", "batchnorm": "eval"}
SETTINGS = {"freeze": BELOW}


@pytest.mark.parametrize(
    ("ours", "theirs", "joins"),
    [
        (({"lr": 1}, {}), ({"lr": 1.0}, {}), True),
        (({"lr": 1}, {}), ({"lr": 2}, {}), False),
        (({"lr": 1}, {}), ({"lr": True}, {}), False),
        (({"freeze": "none"}, {}), ({"init": "random"}, {}), True),  # both at their defaults
        (({"freeze": {"name": "below", "stage": "layer4"}}, SETTINGS), ({"freeze": "below"}, SETTINGS), True),
        (({"freeze": BELOW}, SETTINGS), ({"freeze": {"name": "below"}}, SETTINGS), True),
        (
            ({"freeze": "below"}, SETTINGS),
            ({"freeze": {"name": "below", "stage": "layer3"}}, {"freeze": {**BELOW, "stage": "layer3"}}),
            False,
        ),
        # Written alike, though a default is another one by now: that is a change, and no other variant.
        (({"freeze": "below"}, SETTINGS), ({"freeze": "below"}, {"freeze": {**BELOW, "batchnorm": "train"}}), True),
        # A setting that one study has as an axis and the other for all its runs.
        (({"init": "random", "lr": 0.01}, {"lr": 0.01}), ({"init": "random"}, {"lr": 0.01}), True),
        (({"init": "random", "lr": 0.01}, {"lr": 0.01}), ({"init": "random"}, {"lr": 0.02}), False),
        (({"init": "random", "unheard of": 1}, {}), ({"init": "random"}, {}), False),
        (({"init": "random", "compute_matched": 9}, {}), ({"init": "random"}, {}), False),
        (({"init": "random", "compute_matched": 9}, {}), ({"init": "random", "compute_matched": 9.0}, {}), True),
    ],
)
def test_variants_are_joined_where_they_mean_the_same(
    ours: tuple[dict[str, Any], dict[str, Any]], theirs: tuple[dict[str, Any], dict[str, Any]], joins: bool
) -> None:
    for one, other in ((ours, theirs), (theirs, ours)):
        found = joined(one, other)
        if joins:
            assert (found.variants, found.only_a, found.only_b) == (((one[0], other[0]),), (), ())
        else:
            assert (found.variants, found.only_a, found.only_b) == ((), (one[0],), (other[0],))


def test_what_is_written_alike_is_joined_before_what_is_resolved_alike_and_no_choice_is_made() -> None:
    a = study({ONE: FIRST[:2]})
    b = study({ONE: FIRST[:2], NAMES[2]: FIRST[:2]})
    rewritten(a, ONE, {"freeze": "below"}, freeze=BELOW)
    rewritten(b, ONE, {"freeze": BELOW}, freeze=BELOW)
    rewritten(b, NAMES[2], {"freeze": "below"}, freeze={**BELOW, "stage": "layer2"}, init={"name": "random"})
    found = shared(a, b)
    assert found.variants == (({"freeze": "below"}, {"freeze": "below"}),)
    assert found.only_b == ({"freeze": BELOW},)
    # Two of B mean what the one of A means, and which of them is its partner cannot be known.
    for results, written in ((a, ("layer4",)), (b, ("eval", "layer4 and eval"))):
        for run in results["runs"]:
            if run["kind"] == "downstream":
                number = 0 if results is a or run["variant"]["freeze"] == "below" else 1
                run["variant"] = {"freeze": {"name": "below", "written": written[number]}}
                run["settings"]["freeze"] = BELOW
    found = shared(a, b)
    assert (found.variants, len(found.only_a), len(found.only_b)) == ((), 1, 2)


def test_what_only_one_study_has_is_listed_in_its_order_and_pretext_runs_are_joined_by_name() -> None:
    a = study(dict.fromkeys(NAMES[:3], FIRST[:2]))
    b = study(dict.fromkeys((NAMES[3], NAMES[2]), FIRST[:2]))
    b["runs"] += [simulated.run("pretext", {"pretext": "jigsaw"}, seed, 0.6, 0.3, 2) for seed in (0, 1)]
    found = shared(a, b)
    assert [pair[0]["init"] for pair in found.variants] == ["rotation"]
    assert [variant["init"] for variant in found.only_a] == ["random", "random"]
    assert found.only_b == ({"init": "rotation", "freeze": simulated.FREEZE_BELOW},)
    assert (found.pretexts, found.pretexts_only_a, found.pretexts_only_b) == (("rotation",), (), ("jigsaw",))


def test_pretext_scores_are_compared_and_not_judged() -> None:
    a, b = study({ONE: FIRST[:3]}), study({ONE: SECOND[:3]})
    scores = [0.77, 0.78, 0.775], [0.80, 0.81, 0.79]
    for results, values in zip((a, b), scores, strict=True):
        for run in results["runs"]:
            if run["kind"] == "pretext":
                run["final"]["test_accuracy"] = values[run["seed"]]
    (item,) = pretexts(a, b, shared(a, b))
    test = stats.ttest_rel(scores[1], scores[0])
    assert item.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (item.p, item.p_holm, item.verdict, item.reason) == (None, None, None, "not tested")
    assert (item.a.n, item.b.planned) == (3, 3)
