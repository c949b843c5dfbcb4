"""Epochs to the baseline's final accuracy, and from when pretraining pays: by hand."""

from __future__ import annotations

import statistics
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from rotbench import compare
from rotbench.answer import sentences
from rotbench.limits import limits
from rotbench.power import seeds_needed
from rotbench.saving import Training, reaches, saving
from tests import simulated


@pytest.mark.parametrize(
    ("curve", "level", "epoch"),
    [
        ([0.1, 0.5, 0.8], 0.5, 2),
        ([0.9, 0.9, 0.9], 0.5, 1),
        ([0.6, 0.4, 0.6], 0.5, 3),  # it was there before, and fell
        ([0.1, 0.2, 0.3], 0.5, None),
        ([0.6, 0.6, 0.4], 0.5, None),  # ends below
        ([0.5], 0.5, 1),
    ],
)
def test_the_first_epoch_from_which_a_curve_stays(curve: list[float], level: float, epoch: int | None) -> None:
    assert reaches(curve, level) == epoch


def straight(*finals: float, epochs: int = 20, start: float = 0.0) -> dict[int, list[float]]:
    """Curves that rise by equal steps to ``finals``, by seed."""
    return {
        seed: [start + (final - start) * epoch / epochs for epoch in range(1, epochs + 1)]
        for seed, final in enumerate(finals)
    }


RANDOM = {"init": "random", "freeze": "none"}
BASELINE = Training(straight(0.8, 0.8, 0.8), 20, 0, flops=20e12, pretraining_flops=0)


def test_the_sentence_of_nine_epochs_and_five_trainings() -> None:
    """Epoch 11 instead of 20 saves 9; 45 epochs of pretraining are paid back by five trainings, 5 x 9 = 45."""
    # At slope 0.8 / 11 an epoch the level of 0.8 is reached at epoch 11.
    fast = {seed: [0.8 * epoch / 11 for epoch in range(1, 21)] for seed in range(3)}
    found = saving(Training(fast, 20, 45, None, None), replace(BASELINE, flops=None))
    assert found is not None
    assert (found.variant, found.baseline) == ({0: 11, 1: 11, 2: 11}, {0: 20, 1: 20, 2: 20})
    assert (found.saved_epochs, found.saved_flops, found.pays_from) == (9, None, 5)


def test_flops_count_where_they_are_known() -> None:
    """An epoch of pretraining may cost more than one of training: 45 of 3 TFLOP are 135, nine of 1 TFLOP are 9."""
    fast = {seed: [0.8 * epoch / 11 for epoch in range(1, 21)] for seed in range(3)}
    found = saving(Training(fast, 20, 45, 20e12, 135e12), BASELINE)
    assert found is not None
    assert found.saved_flops == pytest.approx(9e12)
    assert found.pays_from == -(-Fraction(135) // Fraction(9)) == 15


def test_medians_over_seeds_with_one_that_never_gets_there() -> None:
    curves = {0: [0.9] * 20, 1: [0.0] * 9 + [0.9] * 11, 2: [0.1] * 20}
    found = saving(Training(curves, 20, 45, None, None), BASELINE)
    assert found is not None
    assert found.variant == {0: 1, 1: 10, 2: None}
    assert found.saved_epochs == 10
    worse = saving(replace(BASELINE, curves={**curves, 0: [0.1] * 20}), BASELINE)
    assert worse is not None
    assert (worse.saved_epochs, worse.pays_from) == (None, None)


def test_each_seed_is_held_against_its_own_baseline() -> None:
    found = saving(
        Training({0: [0.5, 0.6], 1: [0.5, 0.6]}, 2, 0, None, None),
        Training({0: [0.1, 0.5], 1: [0.1, 0.6]}, 2, 0, None, None),
    )
    assert found is not None
    assert found.variant == {0: 1, 1: 2}


def test_a_slower_side_saves_nothing_and_never_pays() -> None:
    slow = Training(straight(0.8, 0.8, 0.8), 20, 45, 20e12, 45e12)
    ahead = replace(BASELINE, curves={seed: [0.8] * 20 for seed in range(3)})
    found = saving(slow, ahead)
    assert found is not None
    assert found.saved_epochs == 1 - 20
    assert found.pays_from is None


@pytest.mark.parametrize(
    "change",
    [{"to_the_end": True}, {"epochs": 21}, {"curves": {}}, {"curves": {7: [0.8] * 20}}, {"curves": {0: [0.8] * 19}}],
    ids=["cosine", "other length", "no curve", "other seeds", "half a curve"],
)
def test_nothing_is_told_where_the_epochs_mean_nothing(change: dict[str, Any]) -> None:
    assert saving(replace(BASELINE, **change), BASELINE) is None


#: When everything is trained, what rotation is above random at each seed: +0.6 points on average, as in the write-up.
IN_THE_END = (-0.004, 0.016, 0.006, 0.014, -0.002)


def write_up(**train: Any) -> dict[str, Any]:
    """A study shaped like the course write-up: five seeds instead of one, and FLOPs counted."""
    results = simulated.results(seeds=5)
    finals = {run["seed"]: run["final"] for run in results["runs"] if run["variant"] == RANDOM}
    for run in results["runs"]:
        if run["variant"] == {**RANDOM, "init": "rotation"}:
            accuracy = finals[run["seed"]]["test_accuracy"] + IN_THE_END[run["seed"]]
            run["final"]["test_accuracy"] = run["history"][-1]["test_accuracy"] = accuracy
    for run in results["runs"]:
        run["settings"]["train"] |= train
        run["provenance"]["cost"] = {
            "training_flops": len(run["history"]) * 10**12,
            "flops_by_phase": [],
            "calibration_flops": 0,
            "training_views": 50000,
        }
    return results


def test_the_four_claims_of_the_write_up_each_get_their_own_kind_of_evidence() -> None:
    results = write_up()
    found = compare.contrasts(results)
    everything, below = found
    # "Little difference in the end": the paired contrast, and how many seeds would tell.
    assert everything.difference == pytest.approx(0.006)
    assert everything.verdict == "not resolved"
    assert everything.seeds_needed == seeds_needed(statistics.stdev(IN_THE_END), 5, 0.01)
    # "Twenty points ahead at the start": paired by seed, with an interval.
    assert below.at_start is not None
    starts = {
        (run["variant"]["init"], run["seed"]): run["history"][0]["test_accuracy"]
        for run in results["runs"]
        if run["kind"] == "downstream" and run["variant"]["freeze"] != "none"
    }
    paired = [starts["rotation", seed] - starts["random", seed] for seed in range(5)]
    assert below.at_start.n == 5
    assert below.at_start.mean == pytest.approx(sum(paired) / 5)
    # "Saves compute": epochs to the same accuracy, and the trainings from which pretraining pays, in FLOPs.
    assert below.saving is not None
    assert below.saving.saved_epochs is not None
    assert below.saving.pretraining_epochs == 45
    assert below.saving.pretraining_flops == 45e12
    assert below.saving.saved_flops == pytest.approx(1e12 * below.saving.saved_epochs)
    assert below.saving.pays_from == -(-45 // int(below.saving.saved_epochs))
    said = {sentence.contrast.variant["freeze"] != "none": sentence for sentence in sentences(results, found)}
    about = {remark.about: remark.text for remark in said[True].course}
    assert list(about) == ["At the start", "On the way", "Compute"]
    needed = everything.seeds_needed
    assert needed is not None
    lacking = f"about {needed.seeds} seeds ({needed.fewest} to {needed.most})."
    assert said[False].text.endswith(f"; to see a difference of 1.0 points with 80 % power: {lacking}")
    # "Random may catch up with more training": nobody tried, and the page says so.
    told = " ".join(limits(results, compare.variants(results), found))
    assert "none was trained for the epochs of pretraining and training together (65)" in told
    longer = {**RANDOM, "compute_matched": 65}
    results["study"]["matched"] = [{"variant": {**RANDOM, "init": "rotation"}, "partner": longer}]
    for seed in range(5):
        run = simulated.run("downstream", RANDOM, seed, 0.81 + seed / 1000, 0.3, 65)
        results["runs"].append({**run, "id": f"matched-{seed}", "variant": longer})
    found = compare.contrasts(results)
    matched = next(item for item in sentences(results, found) if item.contrast.comparison == "compute-matched")
    assert "random (trained for 65 epochs, as many as both together)" in matched.text
    assert matched.contrast.interval is not None
    assert "none was trained" not in " ".join(limits(results, compare.variants(results), found))
    assert f"it pays from {below.saving.pays_from} downstream trainings on" in about["Compute"]


def test_no_curve_is_read_under_a_cosine_schedule() -> None:
    assert [item.saving for item in compare.contrasts(write_up(schedule="cosine"))] == [None, None]
    assert all(item.at_start is not None for item in compare.contrasts(write_up(schedule="cosine")))


def test_a_confounded_contrast_has_no_course() -> None:
    results = write_up()
    for run in results["runs"]:
        if run["variant"].get("init") == "random":
            run["settings"]["train"]["optimizer"] = "sgd"
    for item in compare.contrasts(results):
        assert item.confounds
        assert (item.at_start, item.saving, item.seeds_needed) == (None, None, None)


def test_what_is_not_saved_in_every_seed_pays_from_no_number_that_can_be_told() -> None:
    """Two starts that are alike are a little ahead in the median half of the time; that is no saving."""
    early, late = (0.2, 0.5, 0.6, 0.6), (0.2, 0.3, 0.4, 0.6)
    base = Training({0: late, 1: late, 2: late}, 4, 0, None, None)
    told = saving(Training({0: early, 1: early, 2: early}, 4, 6, None, None), base)
    assert told is not None
    assert (told.saved_epochs, told.pays_from, told.in_every_seed) == (1, 6, True)
    mixed = saving(Training({0: early, 1: early, 2: late}, 4, 6, None, None), base)
    assert mixed is not None
    assert mixed.by_seed == {0: 1, 1: 1, 2: 0}
    assert (mixed.saved_epochs, mixed.pays_from, mixed.in_every_seed) == (1, None, False)
