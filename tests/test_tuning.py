"""What was tried and chosen, and comparisons at equal cost: against simulated studies whose best values are known."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import compare, drawings, report
from rotbench.answer import sentences
from rotbench.canvas import page_svg
from rotbench.equal_cost import equal_costs
from rotbench.tuning import tuned_sides
from rotbench.wording import variant_labels
from tests import simulated
from tests.test_report import Page

pytestmark = pytest.mark.usefixtures("undrawn")

Results = dict[str, Any]
BEST = {"random": 0.03, "rotation": 0.003}
LRS = (0.1, 0.03, 0.01, 0.003)


def swept(seeds: int = 3, noise: float = 0.002, lead: float = 0.0, seed: int = 0) -> Results:
    """A study in which each init has a best lr of its own; at their best, rotation leads by ``lead``."""
    rng = np.random.default_rng(seed)
    runs = []
    for init, best in BEST.items():
        for freeze in ("none", simulated.FREEZE_BELOW):
            for lr in LRS:
                for number in range(seeds):
                    level = 0.7 + (lead if init == "rotation" else 0.0) - 0.05 * abs(math.log10(lr / best))
                    final = round(level + rng.normal(0, noise), 5)
                    variant = {"init": init, "freeze": freeze, "lr": lr}
                    run = simulated.run("downstream", variant, number, final, 0.3, 2)
                    run["settings"]["train"] |= {"lr": lr, "validation": 0.1}
                    run["final"]["validation_accuracy"] = level + rng.normal(0, noise)
                    runs.append(run)
    results = simulated.results(seeds=seeds)
    results["study"] |= {"tune": ["lr"], "references": []}
    return results | {"runs": runs, "pairs": [], "seed_agreement": [], "error_images": []}


def sides_of(results: Results) -> Any:
    return tuned_sides(results, compare.variants(results), compare.contrasts(results))


def test_each_side_has_its_values_rising_and_the_one_that_validation_chose() -> None:
    sides = sides_of(swept())
    assert [side.label for side in sides] == [
        "random / none",
        "random / below",
        "rotation / none",
        "rotation / below",
    ]
    for side in sides:
        assert [tried.value for tried in side.tried] == sorted(LRS)
        init = side.variant["init"]
        assert [tried.value for tried in side.tried if tried.chosen] == [BEST[init]]
        assert [tried.value for tried in side.tried if tried.edge] == [0.003, 0.1]
    assert [side.name for side in sides] == ["random", "random", "rotation", "rotation"]
    assert [side.condition for side in sides] == ["freeze: none", "freeze: below"] * 2


@pytest.mark.thorough
def test_the_chosen_values_are_compared_and_the_truth_of_simulated_studies_is_recovered() -> None:
    """At one lr each init is ahead somewhere; at its own best each, rotation leads by what was put in."""
    truth, studies, held = 0.01, 60, 0
    for number in range(studies):
        results = swept(lead=truth, seed=number)
        tuned = [item for item in compare.contrasts(results) if item.comparison == "tuned"]
        assert len(tuned) == 2
        for item in tuned:
            assert item.interval is not None
            held += item.interval[0] <= truth <= item.interval[1]
        if number == 0:
            same = {
                (item.variant["lr"], item.variant["freeze"] == "none"): item.difference or 0.0
                for item in compare.contrasts(results)
                if item.comparison == "same settings"
            }
            assert same[0.1, True] < 0 < same[0.003, True]
    low, high = stats.binom.interval(0.999, 2 * studies, 0.95)
    assert low <= held <= high


def test_a_value_at_the_edge_is_marked_on_the_page() -> None:
    html = report.render(swept())
    page = Page(html)
    assert "Each side at its own best" in page.text
    table = html.partition('id="table-tuning"')[2].partition("</table>")[0]
    assert len(re.findall("<tr[ >]", table)) == 1 + 16
    assert table.count("best, at the edge") == 2  # rotation's, under both policies
    assert len(re.findall(r"<td>best(?:, at the edge)?</td>", table)) == 4
    assert "Each side at its own best" not in Page(report.render(simulated.results())).text


@pytest.mark.thorough
def test_the_figure_has_a_line_a_side_with_every_value_and_a_ring_on_what_was_chosen() -> None:
    results = swept()
    summaries, contrasts = compare.variants(results), compare.contrasts(results)
    labels = variant_labels([item.variant for item in summaries])
    drawn = drawings.drawings(results, summaries, contrasts, labels)
    svg = page_svg(drawn["tuning"])
    lines = re.findall(r'<g id="tuning-(t\d)-mean"><title>([^<]*)</title>', svg)
    assert [name for name, _ in lines] == ["t0", "t2", "t1", "t3"]  # by panel
    for (_, title), side in zip(lines, [sides_of(results)[place] for place in (0, 2, 1, 3)], strict=True):
        told = re.findall(r"([\d.]+) % at ([\d.]+)", title)
        assert [float(value) for _, value in told] == sorted(LRS)
        for (mean, _), tried in zip(told, side.tried, strict=True):
            assert float(mean) == pytest.approx(100 * tried.summary.estimate.mean, abs=0.051)
    assert {"freeze: none", "freeze: below", "chosen on validation images"} <= set(re.findall(r">([^<>]+)</text>", svg))
    results["study"]["tune"] = []
    assert "tuning" not in drawings.drawings(results, summaries, compare.contrasts(results), labels)


def at_equal_cost(partner: float, flops: dict[str, int]) -> Results:
    """Three seeds of rotation (20 epochs after 45) against random, and against random trained for 65."""
    results = simulated.results()
    none = [run for run in results["runs"] if run["kind"] == "pretext" or run["variant"]["freeze"] == "none"]
    matched = {"init": "random", "freeze": "none", "compute_matched": 65}
    for seed in range(3):
        run = simulated.run("downstream", matched, seed, partner + 0.002 * seed, 0.3, 65)
        none.append(run)
    for run in none:
        cost = flops[run["kind"]] * len(run["history"])
        run["provenance"]["cost"] = {"training_flops": cost, "calibration_flops": 0}
    results["study"] |= {
        "matched": [{"variant": {"init": "rotation", "freeze": "none"}, "partner": matched}],
        "references": [],
    }
    return results | {"runs": none, "pairs": [], "seed_agreement": [], "error_images": []}


def test_equal_epochs_in_all_stand_beside_equal_downstream_epochs_with_what_both_cost() -> None:
    results = at_equal_cost(0.83, {"pretext": 2 * 10**12, "downstream": 10**12})
    summaries, contrasts = compare.variants(results), compare.contrasts(results)
    labels = variant_labels([item.variant for item in summaries])
    (row,) = equal_costs(summaries, contrasts, labels)
    assert (row.plain.comparison, row.matched.comparison, row.epochs) == ("same settings", "compute-matched", 65)
    assert row.ratio == pytest.approx(65 / (20 + 2 * 45))
    finals = {
        (run["variant"]["init"], "compute_matched" in run["variant"], run["seed"]): run["final"]["test_accuracy"]
        for run in results["runs"]
        if run["kind"] == "downstream"
    }
    longer = [finals["rotation", False, seed] - finals["random", True, seed] for seed in range(3)]
    assert row.matched.difference == pytest.approx(sum(longer) / 3)
    assert (row.matched.difference or 0.0) < 0 < (row.plain.difference or 0.0)
    page = Page(report.render(results))
    assert "At equal cost" in page.text
    assert "In FLOPs the longer training cost 0.59 of pretraining and training together." in page.text
    (said,) = (item for item in sentences(results, contrasts) if item.contrast.comparison == "compute-matched")
    assert "random (trained for 65 epochs, as many as both together)" in said.text


def test_what_longer_training_brings_is_recovered_as_often_as_promised() -> None:
    """Rotation leads by two points at equal downstream epochs, and lies one behind at equal epochs in all."""
    studies, rng = 80, np.random.default_rng(3)
    held = {"same settings": 0, "compute-matched": 0}
    truth = {"same settings": 0.02, "compute-matched": -0.01}
    for _ in range(studies):
        results = at_equal_cost(0.0, {"pretext": 1, "downstream": 1})
        shared = rng.normal(0, 0.01, 3)  # what the sides of one seed have in common
        for run in results["runs"]:
            if run["kind"] == "downstream":
                level = 0.73 if "compute_matched" in run["variant"] else 0.70
                lead = 0.02 if run["variant"]["init"] == "rotation" else 0.0
                run["final"]["test_accuracy"] = level + lead + shared[run["seed"]] + rng.normal(0, 0.003)
        for item in compare.contrasts(results):
            assert item.interval is not None
            held[item.comparison] += item.interval[0] <= truth[item.comparison] <= item.interval[1]
    low, high = stats.binom.interval(0.999, studies, 0.95)
    assert all(low <= count <= high for count in held.values())


def test_without_counted_costs_there_is_no_ratio() -> None:
    results = at_equal_cost(0.8, {"pretext": 1, "downstream": 1})
    for run in results["runs"]:
        del run["provenance"]["cost"]
    summaries, contrasts = compare.variants(results), compare.contrasts(results)
    (row,) = equal_costs(summaries, contrasts, variant_labels([item.variant for item in summaries]))
    assert row.ratio is None
    assert "In FLOPs" not in Page(report.render(results)).text
    assert equal_costs(summaries, contrasts[:1], {}) == ()
