"""The final score of a pretext run is that on all views, in whatever shows it; the curve has one view of each image."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rotbench import compare, drawings, report
from rotbench.curve import final_score, views_words
from rotbench.entry import entry_of
from rotbench.errors import BadInput
from rotbench.joined import shared
from rotbench.redraw import check_shape
from rotbench.references import reference_rows
from rotbench.tables import pretext_rows, pretext_table
from rotbench.transfer import transfers
from rotbench.versus import pretexts
from rotbench.wording import variant_labels
from tests import simulated

pytestmark = pytest.mark.usefixtures("undrawn")

ALL_VIEWS = {0: 0.771, 1: 0.782, 2: 0.779}


def results(views: int | None = 4) -> dict[str, Any]:
    """Three seeds of rotation whose final scores are :data:`ALL_VIEWS`, 0.01 off their curves; or an older result."""
    made = simulated.results(seeds=3, epochs=3, pretext_epochs=4)
    for run in made["runs"]:
        if run["kind"] == "pretext":
            score = ALL_VIEWS[run["seed"]]
            run["final"]["test_accuracy"] = run["history"][-1]["test_accuracy"] = score - (0.01 if views else 0)
            if views:
                run["final"]["score_all_views"] = score
                run["provenance"]["views_per_image"] = views
    return made


@pytest.mark.parametrize("views", [4, None], ids=["all views", "an older result"])
def test_tables_references_and_transfer_have_the_final_score(views: int | None) -> None:
    made = results(views)
    runs = [run for run in made["runs"] if run["kind"] == "pretext"]
    assert [final_score(run) for run in runs] == list(ALL_VIEWS.values())
    (row,) = pretext_rows(made)
    assert row.estimate is not None
    assert row.estimate.mean == pytest.approx(np.mean(list(ALL_VIEWS.values())))
    assert row.views == (views or 1)
    made["study"]["references"] = [
        {"pretext": "rotation", "test_accuracy": 0.775, "source": "asked for", "at_least": True},
        {"pretext": "rotation", "test_accuracy": 0.776, "source": "published", "n": 1},
    ]
    summaries = compare.variants(made)
    labels = variant_labels([item.variant for item in summaries])
    asked, published = reference_rows(made, summaries, labels)
    assert asked.standing == "2 of 3 seeds reach it"
    assert published.values == tuple(ALL_VIEWS.values())
    assert {score for item in transfers(made) for _, score, _ in item.points} == set(ALL_VIEWS.values())


def test_two_studies_are_compared_by_the_final_score() -> None:
    new, old = results(), results(None)
    (item,) = pretexts(new, old, shared(new, old))
    assert item.a.accuracies == item.b.accuracies == ALL_VIEWS
    assert item.a.standard_error is None  # four views of an image are no four images, so there is none at all


def test_a_threshold_of_a_hand_in_is_met_by_the_final_score() -> None:
    made = results()
    made["study"]["references"] = [
        {"pretext": "rotation", "test_accuracy": 0.771, "source": "the assignment", "at_least": True}
    ]
    (threshold,) = entry_of("one", made).thresholds
    assert threshold.met  # by the curve alone none of the seeds 0 and 2 would reach it


def test_a_run_whose_final_score_is_no_number_is_not_finished() -> None:
    made = results()
    made["runs"][0]["final"]["score_all_views"] = float("nan")
    assert not compare.finished(made["runs"][0])


@pytest.mark.drawn
def test_the_end_is_a_mark_of_its_own_beside_the_curve() -> None:
    made = results()
    styles = drawings.styles_of([item.variant for item in compare.variants(made)])
    (panel,) = drawings.pretext_panels(made, styles)
    (series,) = panel.series
    assert series.end is not None
    assert series.end.mean == pytest.approx(np.mean(list(ALL_VIEWS.values())))
    assert series.mean[-1].mean == pytest.approx(series.end.mean - 0.01)
    page = report.render(made)
    title = re.search(r'<g id="pretexts-p0-end">\s*<title>([^<]+)</title>', page)
    assert title is not None
    assert title[1] == "rotation, mean of 3, all 4 views of each test image, 77.7 % at epoch 4"
    section = page[page.index('<section id="pretexts"') :]
    table = section[section.index('data-figure="pretexts') :]
    assert plain(table[table.index("<tfoot>") : table.index("</tfoot>")]) == "all 4 views of each test image 77.73 %"
    assert plain(table[table.index("<tbody>") : table.index("</tbody>")]).endswith("4 76.73 %")
    assert "open diamond: all 4 views of each test image after the last epoch" in plain(section)
    assert "rotation: on all 4 views of each." in plain(section)


def plain(markup: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", markup).split())


@pytest.mark.parametrize("case", ["an older result", "one view", "validation"])
@pytest.mark.drawn
def test_without_several_views_there_is_no_mark(case: str) -> None:
    made = results(None if case == "an older result" else 1 if case == "one view" else 4)
    for run in made["runs"] if case == "validation" else ():
        for entry in run["history"]:
            entry["validation_accuracy"] = entry["test_accuracy"]
            if entry is not run["history"][-1]:
                entry["test_accuracy"] = None
    page = report.render(made)
    assert 'id="pretexts-p0-mean"' in page
    assert 'id="pretexts-p0-end"' not in page
    assert "open diamond: all" not in page
    assert pretext_table(made).ends == ()


def test_what_is_shown_of_several_tasks_names_no_single_number() -> None:
    assert views_words({4, 1}) == "all 4 views of each test image"
    assert views_words({4, 2}) == "all views of each test image"


def test_the_page_carries_the_final_score_and_a_wrong_one_is_damage() -> None:
    made = json.loads(json.dumps(results()))
    check_shape(made, Path("results.json"))
    made["runs"][0]["final"]["score_all_views"] = "high"
    with pytest.raises(BadInput, match="score_all_views"):
        check_shape(made, Path("results.json"))
