"""Probes over seeds and labels in numbers and on the page: against simulated studies of known levels."""

from __future__ import annotations

import copy
import csv
import io
import re
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import compare, report
from rotbench.canvas import page_svg
from rotbench.export import exported
from rotbench.labels import label_lines
from rotbench.probes import probe_rows
from rotbench.redraw import check_shape
from rotbench.summary import summary
from tests import simulated
from tests.test_drawings import drawn
from tests.test_report import Page

pytestmark = pytest.mark.usefixtures("undrawn")

Results = dict[str, Any]
LEVELS, STAGES = simulated.PROBED, simulated.PROBED_STAGES


def probed(seeds: int = 3) -> Results:
    results = simulated.results(seeds=seeds)
    return results | {"probes": simulated.probes(range(seeds))}


def test_means_intervals_and_paired_gains_are_students() -> None:
    results = probed()
    check_shape(results, report.__file__)  # type: ignore[arg-type]
    rows = probe_rows(results)
    assert [(row.init, row.epoch, row.at, row.n, row.planned) for row in rows] == [
        ("random", None, None, 3, 3),
        ("rotation", 5, 5, 3, 3),
        ("rotation", None, 45, 3, 3),
    ]
    checked = 0
    for row in rows:
        own = [one for one in results["probes"] if (one["init"], one["epoch"]) == (row.init, row.epoch)]
        other = [one for one in results["probes"] if one["init"] == "random"]
        for place, stage in enumerate(row.stages):
            for kind in ("knn", "linear"):
                values = [one["stages"][place][kind] for one in own]
                estimate = getattr(stage, kind)
                expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
                assert estimate.mean == pytest.approx(np.mean(values))
                assert estimate.interval == pytest.approx(expected)
                gain = getattr(stage, f"{kind}_gain")
                if row.is_random:
                    assert gain is None
                else:
                    differences = np.subtract(values, [one["stages"][place][kind] for one in other])
                    paired = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
                    assert gain.interval == pytest.approx(paired)
                checked += 1
    assert checked == 3 * 3 * 2


def test_the_pretext_score_beside_a_probe_is_that_of_its_epoch() -> None:
    results = probed()
    rows = {(row.init, row.epoch): row for row in probe_rows(results)}
    pretexts = [run for run in results["runs"] if run["kind"] == "pretext"]
    for epoch, at in ((5, 4), (None, -1)):
        expected = np.mean([run["history"][at]["test_accuracy"] for run in pretexts])
        score = rows["rotation", epoch].score
        assert score is not None
        assert score.mean == pytest.approx(expected)
    assert rows["random", None].score is None


def test_where_the_test_images_are_scored_at_the_end_alone_validation_images_are_told() -> None:
    results = probed()
    for run in results["runs"]:
        for row in run["history"]:
            row["validation_accuracy"] = row["test_accuracy"] - 0.125
        for row in run["history"][:-1]:
            row |= {"test_accuracy": None, "test_loss": None}  # as the trainer has it
    pretexts = [run for run in results["runs"] if run["kind"] == "pretext"]
    rows = [row for row in probe_rows(results) if row.init == "rotation"]
    for row, at in zip(rows, (4, -1), strict=True):
        expected = np.mean([run["history"][at]["validation_accuracy"] for run in pretexts])
        assert row.scored_on == "validation"
        assert row.score is not None
        assert row.score.mean == pytest.approx(expected)
    said = " ".join(report.render(results).split())
    assert "The pretext score of rotation is that on validation images" in said
    assert "on validation images" in page_svg(drawn(results)["probes-epochs"])
    (told,) = {one["pretext_scored_on"] for one in summary(results)["probes"] if one["init"] != "random"}
    assert told == "validation"
    assert "on validation images: the test" not in report.render(probed())


def test_the_page_has_tables_and_figures_of_probes_and_none_without() -> None:
    html = report.render(probed())
    assert "probes" in [attributes.get("id") for _, attributes in Page(html).elements]
    table = html.partition('id="table-linear"')[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]*)</th>', table) == ["random", "rotation", "rotation"]
    values = [one["stages"][0]["linear"] for one in probed()["probes"] if one["init"] == "random"]
    assert f'data-value="{float(np.mean(values))!r}"' in table
    figures = drawn(probed())
    svg = page_svg(figures["probes"])
    titles = re.findall(r'<g id="probes-(?:linear|knn)\d-mean"><title>([^<]*)</title>', svg)
    assert [title.partition(":")[0] for title in titles] == ["random", "rotation", "random", "rotation"]
    grown = page_svg(figures["probes-epochs"])
    told = dict(re.findall(r'<g id="probes-epochs-(e0-[^"]*)-mean"><title>([^<]*)</title>', grown))
    assert len(told) == len(STAGES) + 2  # and the two variants that were trained from rotation
    assert "at epoch 5" in told["e0-1"]
    assert "at epoch 45" in told["e0-1"]
    plain = report.render(simulated.results())
    assert 'id="probes"' not in plain
    assert {"probes", "probes-epochs", "labels"}.isdisjoint(drawn(simulated.results()))


def test_fits_that_did_not_converge_are_told() -> None:
    results = probed()
    assert "had not converged" not in report.render(results)
    for one in results["probes"][:2]:
        one["stages"][0]["converged"] = False
    assert "2 of 27 linear classifiers had not converged" in " ".join(report.render(results).split())


def test_probes_that_are_not_done_are_told() -> None:
    results = probed()
    results["probes"][0] |= {"status": "failed", "error": "RuntimeError: <b>no", "stages": []}
    results["probes"][1] |= {"status": "missing", "stages": []}
    rows = probe_rows(results)
    assert [(row.n, row.planned) for row in rows] == [(2, 3), (2, 3), (3, 3)]
    assert rows[2].stages[0].linear_gain is not None
    assert rows[2].stages[0].linear_gain.n == 2
    html = report.render(results)
    assert "2 of 9 probes are not simply done" in " ".join(html.split())
    assert "RuntimeError: &lt;b&gt;no" in html
    for one in results["probes"]:
        if one["epoch"] is None:
            one.update(status="missing", stages=[])
    assert "probes" not in drawn(results)  # what is done first are earlier epochs
    assert 'id="probes"' in report.render(results)
    for one in results["probes"]:
        one.update(status="missing", stages=[])
    assert "9 of 9 probes" in " ".join(report.render(results).split())


def test_report_json_has_them_at_full_precision() -> None:
    results = probed()
    told = summary(results)["probes"]
    assert [(row["init"], row["epoch"]) for row in told] == [("random", None), ("rotation", 5), ("rotation", 45)]
    values = [one["stages"][1]["linear"] for one in results["probes"] if one["init"] == "random"]
    assert told[0]["stages"][1]["linear"]["mean"] == float(np.mean(values))
    assert told[0]["bank_images"] == 50000


def test_an_export_has_the_probes_as_a_table_with_all_digits_and_in_the_methods() -> None:
    results = probed()
    files = exported(results)
    rows = list(csv.DictReader(io.StringIO(files["probes.csv"].decode())))
    assert len(rows) == len(LEVELS) * 2 * len(STAGES)
    values = [one["stages"][2]["knn"] for one in results["probes"] if (one["init"], one["epoch"]) == ("rotation", 5)]
    own = [row for row in rows if (row["init"], row["epoch"], row["probe"], row["stage"]) == (
        "rotation", "5", "knn", "layer4"
    )]  # fmt: skip
    assert [float(row["mean"]) for row in own] == [float(np.mean(values))]
    assert "| rotation | nearest neighbours | 5 | 3 of 3 |" in files["probes.md"].decode()
    assert "stem, layer3 and layer4" in files["methods.md"].decode()
    assert "pedregosa2011scikit" in files["references.bib"].decode()
    plain = exported(simulated.results())
    assert "probes.csv" not in plain
    assert "scikit" not in plain["methods.md"].decode()


def labelled(labels: tuple[int | None, ...] = (20, 100, None)) -> Results:
    results = simulated.results()
    draw = np.random.default_rng(1)
    runs = []
    for init, start in (("random", 0.3), ("rotation", 0.5)):
        for place, count in enumerate(labels):
            for seed in range(3):
                variant: dict[str, Any] = {"init": init, "freeze": "none"}
                if count is not None:
                    variant["labels_per_class"] = count
                final = round(start + 0.1 * place + draw.normal(0, 0.01), 4)
                runs.append(simulated.run("downstream", variant, seed, final, 0.2, 2))
                runs[-1]["settings"]["train"]["labels_per_class"] = count
    results["study"]["references"] = [
        {"match": {"init": "random", "labels_per_class": 20}, "test_accuracy": 0.3366, "source": "Some, 2018"},
        {"match": {"init": "random", "labels_per_class": 100}, "test_accuracy": 0.4726, "source": "Some, 2018"},
        {"match": {"init": "rotation", "labels_per_class": 20}, "test_accuracy": 0.6463, "source": "Some, 2018"},
        {"match": {"init": "random", "labels_per_class": 20}, "test_accuracy": 0.3, "source": "x", "at_least": True},
    ]
    return results | {"runs": runs, "pairs": [], "seed_agreement": [], "error_images": []}


def test_accuracy_by_labels_is_a_line_an_init_with_all_labels_at_its_end() -> None:
    results = labelled()
    lines = label_lines(results, compare.variants(results))
    assert [line.variant["init"] for line in lines] == ["random", "rotation"]
    for line in lines:
        assert [at for at, _ in line.points] == [20, 100, 5000]
        for at, estimate in line.points:
            finals = [
                run["final"]["test_accuracy"]
                for run in results["runs"]
                if run["variant"]["init"] == line.variant["init"]
                and (run["variant"].get("labels_per_class") or 5000) == at
            ]
            assert len(finals) == 3
            assert estimate.mean == pytest.approx(np.mean(finals))
    # A published curve needs two points; thresholds are no measurements.
    assert lines[0].published == (("Some, 2018", ((20, 0.3366), (100, 0.4726))),)
    assert lines[1].published == ()
    # One that names no labels is of all of them, and no flat curve.
    results["study"]["references"].append({"match": {"init": "random"}, "test_accuracy": 0.93, "source": "Some, 2018"})
    lines = label_lines(results, compare.variants(results))
    assert lines[0].published == (("Some, 2018", ((20, 0.3366), (100, 0.4726), (5000, 0.93))),)


@pytest.mark.thorough
def test_the_figure_of_labels_has_published_curves_dashed_and_is_not_there_for_one_count() -> None:
    svg = page_svg(drawn(labelled())["labels"])
    titles = re.findall(r'<g id="labels-(l\d[^"]*)-mean"><title>([^<]*)</title>', svg)
    assert [key for key, _ in titles] == ["l0", "l0-published0", "l1"]
    assert "33.7 % at 20, 47.3 % at 100" in titles[1][1]
    assert "labels" not in drawn(labelled((100,)))
    assert "labels" not in drawn(copy.deepcopy(simulated.results()))


@pytest.mark.thorough
def test_variants_that_differ_in_more_have_panels_of_their_own() -> None:
    results = labelled()
    more = copy.deepcopy(results["runs"])
    for run in more:
        run["variant"]["freeze"] = simulated.FREEZE_BELOW
        run["id"] += "x"
    results["runs"] += more
    lines = label_lines(results, compare.variants(results))
    assert len(lines) == 4
    svg = page_svg(drawn(results)["labels"])
    assert svg.count("labelled images a class") == 2
