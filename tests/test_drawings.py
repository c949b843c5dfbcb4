"""Which figures and views a study has, and that what is drawn and tabled is what was measured."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from rotbench import canvas, compare, drawings, figures, report, tables, transfer, views
from rotbench.inference import mean_interval
from rotbench.wording import variant_labels
from tests import simulated
from tests.program import thorough

Results = dict[str, Any]
SVG = "{http://www.w3.org/2000/svg}"
#: What a study has that tunes and probes nothing and has all labels.
UNTUNED = tuple(name for name in drawings.NAMES if name not in ("tuning", "labels", "probes", "probes-epochs"))
CURVES = [name for name in drawings.NAMES if name.startswith("curves")]
#: What is not the accuracy of test images.
MEASURES = {
    "curves-test-loss": "test_loss",
    "curves-train-accuracy": "train_accuracy",
    "curves-train-loss": "train_loss",
}


def drawn(results: Results) -> dict[str, canvas.Drawing]:
    summaries = compare.variants(results)
    labels = variant_labels([summary.variant for summary in summaries])
    return drawings.drawings(results, summaries, compare.contrasts(results), labels)


def pages(results: Results) -> dict[str, str]:
    return {name: canvas.page_svg(drawing) for name, drawing in drawn(results).items()}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 -- drawn here


def group(svg: str, own: str) -> ElementTree.Element | None:
    return next((node for node in parsed(svg).iter(f"{SVG}g") if node.get("id") == own), None)


def vertices(node: ElementTree.Element) -> list[tuple[float, float]]:
    path = next(node.iter(f"{SVG}path"))
    pairs = re.findall(r"[ML]\s*([-\d.]+)[ ,]([-\d.]+)", path.get("d", ""))
    return [(float(x), float(y)) for x, y in pairs]


def marks(node: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in node.iter(f"{SVG}use")]


def against(svg_points: Sequence[float], values: Sequence[float]) -> float:
    """The largest miss, in points of the drawing, of the straight line that takes ``values`` to ``svg_points``."""
    first, last = min(range(len(values)), key=values.__getitem__), max(range(len(values)), key=values.__getitem__)
    scale = (svg_points[last] - svg_points[first]) / (values[last] - values[first])
    return max(
        abs(svg_points[first] + scale * (value - values[first]) - at)
        for at, value in zip(svg_points, values, strict=True)
    )


@functools.cache
def finished() -> Results:
    return simulated.results(seeds=3, epochs=9, pretext_epochs=5)


@functools.cache
def finished_pages() -> dict[str, str]:
    return pages(finished())


def uneven(results: Results) -> Results:
    """Runs of different speed, so that seconds are no multiple of epochs."""
    for place, run in enumerate(results["runs"]):
        for entry in run["history"]:
            entry["seconds"] = 10.0 + 0.5 * place + 0.25 * entry["epoch"]
    return results


@functools.cache
def uneven_pages() -> tuple[Results, dict[str, str]]:
    results = uneven(simulated.results(seeds=3, epochs=45, pretext_epochs=5))
    return results, pages(results)


# Which there are


def test_a_finished_study_has_every_figure() -> None:
    assert tuple(finished_pages()) == UNTUNED


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        (("seconds",), {"curves-seconds"}),
        (("train_loss",), {"curves-train-loss"}),
        (("test_loss", "train_accuracy"), {"curves-test-loss", "curves-train-accuracy"}),
    ],
)
def test_a_view_without_numbers_is_not_there(keys: tuple[str, ...], missing: set[str]) -> None:
    results = simulated.results(seeds=1, epochs=3, pretext_epochs=2)
    for run in results["runs"]:
        for entry in run["history"]:
            entry.update(dict.fromkeys(keys))
    assert {view.name for view in views.views(results)} == set(CURVES) - missing
    assert set(CURVES) - set(drawn(results)) == missing


def test_images_seen_are_not_drawn_where_no_run_tells_its_updates() -> None:
    results = simulated.results(seeds=1, epochs=3, pretext_epochs=2)
    for run in results["runs"]:
        del run["provenance"]["updates"]
    assert [view.name for view in views.views(results)] == [name for name in CURVES if name != "curves-images"]


def test_unfinished_runs_have_lines_by_epoch_and_no_further_view() -> None:
    results = simulated.results(seeds=1, epochs=3, pretext_epochs=2)
    for run in results["runs"]:
        run |= {"status": "failed", "final": None}
    assert {"curves"} == {view.name for view in views.views(results)}
    svg = pages(results)["curves"]
    assert group(svg, "curves-v0-seed0") is not None
    assert group(svg, "curves-v0-mean") is None


def test_a_study_without_runs_has_no_figure() -> None:
    assert drawn({**finished(), "runs": []}) == {}


def test_with_validation_images_the_views_show_their_scores() -> None:
    results = simulated.results(seeds=1, epochs=3, pretext_epochs=2)
    for run in results["runs"]:
        for entry in run["history"]:
            entry |= {"validation_accuracy": entry["test_accuracy"] / 2, "validation_loss": 1.0 * entry["epoch"]}
            if entry["epoch"] < len(run["history"]):
                entry |= {"test_accuracy": None, "test_loss": None}
    found = {view.name: view for view in views.views(results)}
    assert set(found) == set(CURVES)
    assert found["curves-test-loss"].words == "Validation loss by epoch"
    assert {found[name].measure for name in CURVES[:3]} == {"validation_accuracy"}


# What is drawn


@pytest.mark.parametrize("name", CURVES)
def test_vertices_of_a_mean_are_its_values_one_an_epoch(name: str) -> None:
    """x against epochs, images or seconds and y against the measure, both added up here from the histories."""
    results, svg = uneven_pages()[0], uneven_pages()[1][name]
    measure = MEASURES.get(name, "test_accuracy")
    checked = 0
    for place, (_, runs) in enumerate(compare.by_variant(results["runs"], "downstream")):
        histories = [run["history"] for run in runs]
        epochs = range(1, 46)
        ys = [sum(history[epoch - 1][measure] for history in histories) / 3 for epoch in epochs]
        xs = {
            "curves-images": [50000.0 * epoch for epoch in epochs],
            "curves-seconds": [
                sum(entry["seconds"] for history in histories for entry in history[:epoch]) / 3 for epoch in epochs
            ],
        }.get(name, [float(epoch) for epoch in epochs])
        node = group(svg, f"{name}-v{place}-mean")
        assert node is not None
        points = vertices(node)
        assert len(points) == 45
        assert against([x for x, _ in points], xs) < 0.02
        assert against([y for _, y in points], ys) < 0.02
        checked += 1
    assert checked == 4


def test_single_seeds_are_lines_by_epoch_alone() -> None:
    for name in CURVES:
        found = re.findall(rf'id="{name}-v\d+-seed\d+"', finished_pages()[name])
        assert len(found) == (12 if name == "curves" else 0)


def test_one_scale_serves_all_panels_of_a_view() -> None:
    svg = finished_pages()["curves"]
    values: dict[float, set[float]] = {}
    for place, (_, runs) in enumerate(compare.by_variant(finished()["runs"], "downstream")):
        node = group(svg, f"curves-v{place}-mean")
        assert node is not None
        for epoch, (_, y) in enumerate(vertices(node)):
            mean = sum(run["history"][epoch]["test_accuracy"] for run in runs) / 3
            values.setdefault(mean, set()).add(y)
    assert against([min(ys) for ys in values.values()], list(values)) < 0.02


def test_a_mean_ends_where_the_first_seed_stopped() -> None:
    results = simulated.results(seeds=3, epochs=9, pretext_epochs=5)
    (_, runs), *_ = compare.by_variant(results["runs"], "downstream")
    runs[1]["history"] = runs[1]["history"][:6]
    for name, svg in pages(results).items():
        if name.startswith("curves"):
            node = group(svg, f"{name}-v0-mean")
            assert node is not None
            assert len(vertices(node)) == 6


def test_numbers_that_are_none_or_no_numbers_end_a_line() -> None:
    results = simulated.results(seeds=3, epochs=9, pretext_epochs=5)
    (_, first), *_ = compare.by_variant(results["runs"], "downstream")
    first[0]["history"][4]["test_loss"] = math.nan
    first[1]["history"][5]["test_loss"] = math.inf
    first[2]["history"][6]["train_loss"] = None
    lines = {line.seed: len(line.values) for line in views.seed_lines(first, "test_loss")}
    assert lines == {0: 4, 1: 5, 2: 9}
    svg = pages(results)
    for name, length in (("curves-test-loss", 4), ("curves-train-loss", 6), ("curves", 9)):
        node = group(svg[name], f"{name}-v0-mean")
        assert node is not None
        assert len(vertices(node)) == length


def test_a_diverged_run_is_a_line_and_in_no_mean() -> None:
    results = simulated.results(seeds=3, epochs=9, pretext_epochs=5)
    (_, runs), *_ = compare.by_variant(results["runs"], "downstream")
    for entry in runs[2]["history"]:
        entry |= {"test_accuracy": 0.1, "test_loss": 1e12}
    runs[2] |= {"status": "failed", "diverged": True, "final": None}
    svg = pages(results)
    node = group(svg["curves-test-loss"], "curves-test-loss-v0-mean")
    other = group(svg["curves-test-loss"], "curves-test-loss-v1-mean")
    assert node is not None
    assert other is not None
    ys = [y for _, y in vertices(node)]
    assert max(ys) - min(ys) > 20, "a loss of a million millions would flatten every other"
    assert group(svg["curves"], "curves-v0-seed2") is not None


@pytest.mark.parametrize(("seeds", "epochs"), [(1, 1), *thorough((1, 9), (3, 1), (2, 2))])
def test_one_seed_and_one_epoch_are_drawn(seeds: int, epochs: int) -> None:
    results = simulated.results(seeds=seeds, epochs=epochs, pretext_epochs=epochs)
    svg = pages(results)
    assert set(CURVES) <= set(svg)
    for name in CURVES:
        node = group(svg[name], f"{name}-v0-mean")
        assert node is not None
        assert len(vertices(node)) == epochs
        assert (group(svg[name], f"{name}-v0-band") is not None) == (seeds > 1)
    for name in ("curves", "pretexts"):
        between = [text.text or "" for text in parsed(svg[name]).iter(f"{SVG}text")]
        assert "1.5" not in between
        assert "0.5" not in between


@pytest.mark.thorough
def test_files_of_all_figures_are_the_same_every_time() -> None:
    once, again = drawn(finished()), drawn(finished())
    for name, drawing in once.items():
        for save in (canvas.pdf_file, canvas.page_svg, canvas.svg_file):
            assert save(drawing) == save(again[name])


def test_ids_are_unique_in_a_page_that_holds_all_figures() -> None:
    found = [own for svg in finished_pages().values() for own in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(found) > 100
    assert len(found) == len(set(found))


@pytest.mark.parametrize("label", ['<b>"', *thorough("$x^2$ & $y$", "_hidden", "名前", "a" * 90)])
def test_names_are_text_in_every_figure(label: str) -> None:
    results = simulated.results(seeds=2, epochs=2, pretext_epochs=2)
    results["study"] |= {"baseline": {"init": label}, "references": []}
    results["study"]["pretexts"] = {label: {**results["study"]["pretexts"]["rotation"], "score_name": label}}
    for run in results["runs"]:
        if run["kind"] == "pretext":
            run["variant"] = {"pretext": label}
        elif run["variant"]["init"] == "random":
            run["variant"] = {**run["variant"], "init": label}
    svg = pages(results)
    assert set(svg) == set(UNTUNED)
    shown = label if len(label) <= 44 else f"{label[:18]}…{label[-25:]}"
    for name in ("curves", "curves-test-loss", "pretexts", "transfer"):
        assert shown in {"".join(text.itertext()) for text in parsed(svg[name]).iter(f"{SVG}text")}


# Panels and styles


def variants(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{}]
    for axis, values in axes.items():
        found = [{**variant, axis: value} for variant in found for value in values]
    return found


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"init": range(9)}, ()),
        ({"init": range(2), "freeze": range(3)}, ("freeze",)),
        ({"freeze": range(3)}, ("freeze",)),
        ({"init": range(4), "lr": range(2)}, ()),
        ({"init": range(3), "lr": range(4)}, ("lr",)),
        ({"lr": range(12)}, ()),
        ({"init": range(6), "freeze": range(2), "lr": range(4), "labels": range(3)}, ("freeze", "labels", "lr")),
        ({"init": range(2), "freeze": range(2), "lr": range(4), "labels": range(3)}, ("freeze", "labels")),
    ],
)
def test_panels_part_full_figures_by_other_axes_than_the_init(
    axes: dict[str, Sequence[Any]], expected: tuple[str, ...]
) -> None:
    assert drawings.facet_axes(variants(**axes)) == expected


def test_one_init_has_one_style_in_every_panel_and_the_pretext_that_makes_it_has_it_too() -> None:
    results = finished()
    of = [variant for variant, _ in compare.by_variant(results["runs"], "downstream")]
    styles = drawings.styles_of(of)
    by_init: dict[str, set[int]] = {}
    for variant in of:
        by_init.setdefault(variant["init"], set()).add(styles[compare.as_written(variant)])
    assert by_init == {"random": {0}, "rotation": {1}}
    colour = f"var(--series-1, {canvas.COLOURS[1]})"
    for name, own in [
        *((name, f"{name}-v2-mean") for name in ("finals", "differences", *CURVES)),
        ("pretexts", "pretexts-p0-mean"),
        ("transfer", "transfer-v2-seeds"),
    ]:
        node = group(finished_pages()[name], own)
        assert node is not None, own
        drawing = ElementTree.tostring(node, encoding="unicode")
        assert set(re.findall(r"var\(--series-\d, #\w+\)", drawing)) == {colour}


def test_a_pretext_task_that_nothing_starts_from_has_a_style_of_its_own() -> None:
    results = simulated.results(seeds=1, epochs=2, pretext_epochs=2)
    results["runs"].insert(1, simulated.run("pretext", {"pretext": "jigsaw"}, 0, 0.5, 0.3, 2))
    styles = drawings.styles_of([variant for variant, _ in compare.by_variant(results["runs"], "downstream")])
    (panel,) = drawings.pretext_panels(results, styles)
    assert {series.label: series.style for series in panel.series} == {"rotation": 1, "jigsaw": 2}


# Rows


def test_each_row_shows_what_it_is_compared_with() -> None:
    svg = finished_pages()["finals"]
    means = {
        place: sum(run["final"]["test_accuracy"] for run in runs) / 3
        for place, (_, runs) in enumerate(compare.by_variant(finished()["runs"], "downstream"))
    }
    drawn_at, value = [], []
    for place, mean in means.items():
        node = group(svg, f"finals-v{place}-mean")
        assert node is not None
        drawn_at.append(marks(node)[0][0])
        value.append(mean)
    for variant, baseline in ((2, 0), (3, 1)):
        node = group(svg, f"finals-v{variant}-baseline")
        assert node is not None
        drawn_at.append(marks(node)[0][0])
        value.append(means[baseline])
    assert against(drawn_at, value) < 0.02
    assert group(svg, "finals-v0-baseline") is None
    bold = [text for text in parsed(svg).iter(f"{SVG}text") if "font-weight:700" in (text.get("style") or "")]
    assert {text.text for text in bold} == {"random / none", "random / below"}


def test_one_baseline_is_a_line_across_all_rows() -> None:
    results = simulated.results(seeds=2, epochs=2, pretext_epochs=2)
    results["runs"] = [run for run in results["runs"] if run["variant"].get("freeze") in (None, "none")]
    svg = pages(results)["finals"]
    line = group(svg, "finals-baseline")
    own = group(svg, "finals-v0-mean")
    assert line is not None
    assert own is not None
    (x, _), (other, _) = vertices(line)
    assert x == other == pytest.approx(marks(own)[0][0], abs=0.02)
    assert not re.search(r'id="finals-v\d+-baseline"', svg)


def test_published_numbers_of_several_sources_are_told_apart() -> None:
    results = simulated.results(seeds=2, epochs=2, pretext_epochs=2)
    (one, two) = results["study"]["references"]
    results["study"]["references"] = [one, {**two, "source": "another paper"}]
    svg = pages(results)["finals"]
    diamonds = [group(svg, f"finals-v{place}-reference0") for place in (1, 3)]
    shapes = set()
    for diamond in diamonds:
        assert diamond is not None
        markup = ElementTree.tostring(diamond, encoding="unicode")
        shapes.add("fill-opacity:0" in markup)
    assert shapes == {True, False}
    words = {text.text for text in parsed(svg).iter(f"{SVG}text")}
    assert {"course write-up, one seed", "another paper"} <= words


@pytest.mark.parametrize("count", [1, 24, 60])
def test_rows_do_not_cover_one_another(count: int) -> None:
    rows = [
        figures.Row(f"v{place}", f"a variant of some length / number {place}", place, (0.5,), estimate)
        for place, estimate in ((place, mean_interval([0.5 + place / 200])) for place in range(count))
    ]
    svg = canvas.page_svg(figures.dots("finals", "Finals", rows, 0.1))
    heights = sorted(
        float(text.get("y", ""))
        for text in parsed(svg).iter(f"{SVG}text")
        if re.fullmatch(r"\d+\.\d %", text.text or "")
    )
    assert len(heights) == count
    assert all(after - before > 12 for before, after in itertools.pairwise(heights))


# Numbers behind the curves


@pytest.mark.parametrize(
    ("images", "batch_size", "updates"),
    [(1000, 128, 8), (1000, 128, 20), (1025, 128, 8), (100, 64, 2), (100, 128, 3), (129, 128, 1), (130, 64, 5)],
)
def test_images_seen_are_those_of_the_batches(images: int, batch_size: int, updates: int) -> None:
    from rotbench.data import epoch_batches

    run = {
        "provenance": {"updates": 3 * updates, "epochs": 3, "data": {"training_images": images}},
        "settings": {"train": {"batch_size": batch_size}},
        "history": [{}] * 3,
    }
    drawn_in = [
        sum(len(batch) for _, batch in epoch_batches(images, batch_size, updates, 0, "downstream", epoch))
        for epoch in (1, 2, 3)
    ]
    assert views.images_seen(run) == [sum(drawn_in[:epoch]) for epoch in (1, 2, 3)]


def test_tables_hold_the_numbers_of_their_figures() -> None:
    results = uneven(simulated.results(seeds=3, epochs=9, pretext_epochs=5))
    summaries = compare.variants(results)
    labels = variant_labels([summary.variant for summary in summaries])
    made = tables.curve_tables(results, labels)
    assert list(made) == CURVES
    for name, table in made.items():
        columns = {column.series: column.values for column in table.columns if not column.is_place}
        assert list(columns) == ["v0", "v1", "v2", "v3"]
        for place, (_, runs) in enumerate(compare.by_variant(results["runs"], "downstream")):
            measure = MEASURES.get(name, "test_accuracy")
            expected = [sum(run["history"][epoch][measure] for run in runs) / 3 for epoch in range(9)]
            assert columns[f"v{place}"] == pytest.approx(expected)
    (shared,) = [column for column in made["curves-images"].columns if column.is_place]
    assert shared.values == tuple(50000.0 * epoch for epoch in range(1, 10))
    assert [column.is_place for column in made["curves-seconds"].columns] == [True, False] * 4


def test_each_view_has_its_button_its_caption_and_its_table() -> None:
    html = report.render(finished())
    values = re.findall(r'<input type="radio" name="view" value="([^"]+)"', html)
    assert values == CURVES
    assert re.findall(r'data-view="([^"]+)"', html.partition("</style>")[2].partition("<script")[0]) == CURVES
    for name in CURVES:
        own = html.partition(f'<div class="view" data-view="{name}">')[2]
        own = own[: own.index("</table>")]
        assert f'data-figure="{name}"' in own
        assert ("Single seeds are not drawn." in own) == (name != "curves")
        assert re.findall(r'<th [^>]*data-series="(v\d+)"', own) == ["v0", "v1", "v2", "v3"]
        assert f'[value="{name}"]:checked) .view:not([data-view="{name}"])' in html


def test_a_single_view_has_no_buttons() -> None:
    results = simulated.results(seeds=1, epochs=3, pretext_epochs=2)
    for run in results["runs"]:
        del run["provenance"]["updates"]
        for entry in run["history"]:
            entry |= {"seconds": None, "test_loss": None, "train_loss": None, "train_accuracy": None}
    html = report.render(results)
    assert html.count('<div class="view"') == 1
    assert "<fieldset" not in html


@pytest.mark.thorough
def test_a_crowd_of_seeds_is_not_drawn_and_the_caption_says_so() -> None:
    results = simulated.results(seeds=26, epochs=2, pretext_epochs=2)
    html = report.render(results)
    assert "Single seeds are not drawn: there are more than 100 lines of them." in html
    assert not re.search(r'id="curves-v\d+-seed', html)
    fewer = report.render(simulated.results(seeds=25, epochs=2, pretext_epochs=2))
    assert len(re.findall(r'id="curves-v\d+-seed', fewer)) == 100
    assert "more than 100 lines" not in fewer


# Pretext scores and what starts from them


def scored(scores: Sequence[float], accuracies: Sequence[float]) -> Results:
    """One pretext run a score, and one run that starts from each."""
    results = simulated.results(seeds=len(scores), epochs=1, pretext_epochs=1)
    of_pretext = [run for run in results["runs"] if run["kind"] == "pretext"]
    children = [run for run in results["runs"] if run["variant"] == {"init": "rotation", "freeze": "none"}]
    for run, score in zip(of_pretext, scores, strict=True):
        run["final"]["test_accuracy"] = score
    for run, accuracy in zip(children, accuracies, strict=True):
        run["final"]["test_accuracy"] = accuracy
    results["runs"] = [*of_pretext, *children]
    return results


def test_each_mark_is_a_pretext_run_and_what_starts_from_it() -> None:
    scores, accuracies = [0.70, 0.74, 0.71, 0.79], [0.80, 0.86, 0.81, 0.82]
    (found,) = transfer.transfers(scored(scores, accuracies))
    assert found.points == tuple(zip(range(4), scores, accuracies, strict=True))
    node = group(pages(scored(scores, accuracies))["transfer"], "transfer-v0-seeds")
    assert node is not None
    assert against([x for x, _ in marks(node)], scores) < 0.02
    assert against([y for _, y in marks(node)], accuracies) < 0.02


def test_repeats_are_one_mark_at_their_mean_and_need_to_be_complete() -> None:
    results = scored([0.7, 0.8, 0.9], [0.5, 0.6, 0.7])
    results["study"]["repeats"] = 2
    for run in [run for run in results["runs"] if run["kind"] == "downstream" and run["seed"] < 2]:
        results["runs"].append({**run, "id": f"{run['id']}r", "repeat": 1, "final": {"test_accuracy": 0.9}})
    (found,) = transfer.transfers(results)
    assert [seed for seed, _, _ in found.points] == [0, 1]
    assert [accuracy for _, _, accuracy in found.points] == pytest.approx([0.7, 0.75])


@pytest.mark.parametrize("case", ["one pretext run", *thorough("no child", "unfinished", "diverged parent")])
def test_without_two_runs_to_set_side_by_side_there_is_no_such_figure(case: str) -> None:
    results = scored([0.7, 0.8], [0.5, 0.6])
    if case == "one pretext run":
        results = scored([0.7], [0.5])
    elif case == "no child":
        results["runs"] = [run for run in results["runs"] if run["kind"] == "pretext"]
    elif case == "unfinished":
        results["runs"][-1] |= {"status": "missing", "final": None}
    else:
        results["runs"][0] |= {"status": "failed", "diverged": True, "final": None}
    assert transfer.transfers(results) == []
    assert "transfer" not in drawn(results)
    assert "transfer-title" not in report.render(results)


def test_ranks_are_correlated_from_five_runs_on_and_without_a_verdict() -> None:
    scores = [0.70, 0.74, 0.71, 0.79, 0.75, 0.75]
    accuracies = [0.80, 0.86, 0.81, 0.82, 0.79, 0.83]
    (found,) = transfer.transfers(scored(scores, accuracies))
    # Ranks by hand, ties shared: the correlation of ranks is Spearman's.
    ranks = [1, 3, 2, 6, 4.5, 4.5], [2, 6, 3, 4, 1, 5]
    assert found.rank_correlation == pytest.approx(stats.pearsonr(*ranks).statistic)
    html = report.render(scored(scores, accuracies))
    assert f"{found.rank_correlation:+.2f} <small>(n = 6)</small>".replace("-", "\N{MINUS SIGN}") in html
    (four,) = transfer.transfers(scored(scores[:4], accuracies[:4]))
    assert four.rank_correlation is None
    assert "Spearman" not in report.render(scored(scores[:4], accuracies[:4]))
    (flat,) = transfer.transfers(scored([0.7] * 6, accuracies))
    assert flat.rank_correlation is None


def test_the_table_of_transfer_has_the_marks() -> None:
    table = tables.transfer_table(finished())
    assert table.columns == ("none", "below")
    finals = {
        (run["kind"], run["seed"], str(run["variant"].get("freeze"))): run["final"]["test_accuracy"]
        for run in finished()["runs"]
        if run["kind"] == "pretext" or run["variant"]["init"] == "rotation"
    }
    assert [(row.seed, row.score, row.accuracies) for row in table.rows] == [
        (
            seed,
            finals["pretext", seed, "None"],
            (finals["downstream", seed, "none"], finals["downstream", seed, str(simulated.FREEZE_BELOW)]),
        )
        for seed in range(3)
    ]


def test_variants_that_differ_in_their_init_alone_are_told_apart_in_one_panel() -> None:
    results = scored([0.7, 0.8], [0.5, 0.6])
    for run in [run for run in results["runs"] if run["kind"] == "downstream"]:
        variant = {**run["variant"], "init": {"name": "pretext", "pretext": "rotation", "layers": 2}}
        results["runs"].append({**run, "id": f"{run['id']}b", "variant": variant})
    found = transfer.transfers(results)
    assert len({item.besides for item in found}) == len(found) == 2
