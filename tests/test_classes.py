"""By class: accuracies, differences, confusions and pictures of errors against numpy, sklearn and the very pixels."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save
from sklearn.metrics import confusion_matrix, recall_score

from rotbench import compare, report
from rotbench.classes import Classes, classes
from rotbench.predictions import MOST_ERRORS, judged, most_confident_errors
from rotbench.results import collect
from rotbench.store import Store, commit
from rotbench.thumbnails import BUDGET, SHOWN, error_images, in_few_colours, png
from rotbench.wording import variant_labels
from tests import simulated
from tests.program import thorough
from tests.test_predictions import CLASSES, IMAGES, REPEATED, kept, some_predictions, stored
from tests.test_report import HOSTILE, Page

pytestmark = pytest.mark.usefixtures("undrawn")

#: What a table has where there is no number.
NOTHING = "\N{EN DASH}"

Results = dict[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]


def by_class(results: Results) -> Classes:
    summaries = compare.variants(results)
    labels = variant_labels([summary.variant for summary in summaries])
    found = classes(results, summaries, compare.contrasts(results), labels)
    assert found is not None
    return found


def numbers(values: Sequence[float | None]) -> list[float]:
    """``values``, none of which is missing."""
    found = [value for value in values if value is not None]
    assert len(found) == len(values)
    return found


def section(html: str) -> str:
    """The page's section; empty where there is none."""
    found = re.search(r'<section id="classes".*?</section>', html, re.DOTALL)
    return found.group() if found else ""


class Table(HTMLParser):
    """The rows of the table with that id, a text a cell."""

    def __init__(self, html: str, identity: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        found = re.search(rf'<table[^>]* id="{identity}">.*?</table>', html, re.DOTALL)
        assert found
        self.feed(found.group())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = f"{self.rows[-1][-1]}{data}".strip()


def with_errors(arrays: Arrays, pixels: np.ndarray[Any, Any], kept_errors: int = 16) -> Arrays:
    """A predictions file as a run writes it, ``pixels`` uint8 (N, 3, H, W) being those of all test images."""
    surest = most_confident_errors(arrays["label"], arrays["predicted"], arrays["confidence"], kept_errors)
    return {**arrays, "error_index": surest.astype(np.int32), "error_pixels": pixels[surest]}


def photographs(count: int, seed: int = 0, side: int = 32) -> np.ndarray[Any, Any]:
    """Images about as smooth as photographs, uint8 (count, 3, side, side)."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (count, 3, side // 4, side // 4)).repeat(4, axis=2).repeat(4, axis=3)
    return np.clip(coarse + draw.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


def decoded(content: str) -> np.ndarray[Any, Any]:
    """A PNG in base64 as uint8 (3, H, W)."""
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def test_accuracies_and_confusions_are_those_of_sklearn(tmp_path: Path) -> None:
    study = stored(tmp_path)
    study.publish_all()
    results = collect(study.store)
    found = by_class(results)
    assert [item.n for item in found.variants] == [3, 3]
    for item, init in zip(found.variants, ("random", "rotation"), strict=True):
        files = [study.files[study.id_of(init, seed)] for seed in range(3)]
        recalls = [recall_score(file["label"], file["predicted"], average=None) for file in files]
        np.testing.assert_allclose(numbers(item.accuracies), np.mean(recalls, axis=0))
        label, predicted = (np.concatenate([file[name] for file in files]) for name in ("label", "predicted"))
        matrix = confusion_matrix(label, predicted, normalize="true")
        np.testing.assert_allclose([numbers(row) for row in item.matrix or ()], matrix)
        np.testing.assert_allclose(item.overall, np.mean(label == predicted))
        wrong = matrix - np.diag(matrix.diagonal())
        assert [pair.share for pair in item.confused] == pytest.approx(sorted(wrong.ravel(), reverse=True)[:5])
        assert all(matrix[pair.label, pair.predicted] == pytest.approx(pair.share) for pair in item.confused)
        (agreement,) = [told for told in results["seed_agreement"] if told["variant"] == {"init": init}]
        assert item.agreement == agreement["agreement"]


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    study = stored(tmp_path)
    missing = study.id_of("random", 1)
    for number, run in enumerate(study.plan.runs):
        if run.id != missing:
            study.publish(number)
    found = by_class(collect(study.store))
    assert [(item.n, item.planned) for item in found.variants] == [(2, 3), (3, 3)]
    assert found.seeds is None
    (contrast,) = found.contrasts
    assert contrast.n == 2
    recalls = {
        init: [
            recall_score(file["label"], file["predicted"], average=None)
            for seed in (0, 2)
            for file in [study.files[study.id_of(init, seed)]]
        ]
        for init in ("random", "rotation")
    }
    expected = np.subtract(recalls["rotation"], recalls["random"])
    told = [(item.mean, item.low, item.high) for item in contrast.differences if item]
    np.testing.assert_allclose(told, np.stack([expected.mean(0), expected.min(0), expected.max(0)], axis=1))
    assert [expected.mean(0)[number] for number in contrast.gains] == sorted(
        (value for value in expected.mean(0) if value > 0), reverse=True
    )
    page = report.render(collect(study.store))
    assert "2 of 3 seeds" in Table(page, "table-classes").rows[0][-2]


def test_a_single_seed_has_no_range(tmp_path: Path) -> None:
    html = report.render(simulated.results(seeds=1, epochs=2, pretext_epochs=2))
    rows = Table(html, "table-class-differences").rows
    assert len(rows) == 11
    number = r"[+\N{MINUS SIGN}]?\d+\.\d"
    assert all(re.fullmatch(number, cell) for row in rows[1:] for cell in row[1:])
    assert "seeds agree" not in [row[0] for row in Table(html, "table-classes").rows]
    several = Table(report.render(simulated.results(epochs=2, pretext_epochs=2)), "table-class-differences").rows
    assert all(re.fullmatch(rf"{number} *{number} to {number}", cell) for row in several[1:] for cell in row[1:])


def test_repeats_count_as_their_mean_and_a_seed_only_when_whole(tmp_path: Path) -> None:
    study = stored(tmp_path, REPEATED)
    left_out = next(
        run.id
        for run in study.plan.runs
        if run.kind == "downstream" and (run.variant["init"], run.seed, run.repeat) == ("rotation", 1, 1)
    )
    for number, run in enumerate(study.plan.runs):
        if run.id != left_out:
            study.publish(number)
    found = by_class(collect(study.store))
    assert [item.n for item in found.variants] == [2, 1]
    files = [
        study.files[run.id]
        for run in study.plan.runs
        if run.kind == "downstream" and run.variant["init"] == "rotation" and run.seed == 0
    ]
    assert len(files) == 2
    expected = np.mean([recall_score(file["label"], file["predicted"], average=None) for file in files], axis=0)
    np.testing.assert_allclose(numbers(found.variants[1].accuracies), expected)


def test_a_class_without_test_images_has_no_accuracy(tmp_path: Path) -> None:
    study = stored(tmp_path)
    for number in range(len(study.plan.runs)):
        arrays = some_predictions(number)
        study.publish(number, arrays={**arrays, "label": arrays["label"] % (CLASSES - 1)})
    results = collect(study.store)
    assert results["study"]["class_counts"][-1] == 0
    found = by_class(results)
    for item in found.variants:
        assert item.accuracies[-1] is None
        assert item.matrix is not None
        assert set(item.matrix[-1]) == {None}
        assert None not in item.accuracies[:-1]
    assert found.contrasts[0].differences[-1] is None
    html = report.render(results)
    assert Table(html, "table-classes").rows[CLASSES] == ["class 3", "0", NOTHING, NOTHING]
    assert Table(html, "table-class-differences").rows[CLASSES] == ["class 3", NOTHING]


def test_the_pictures_are_the_very_pixels_of_the_listed_errors(tmp_path: Path) -> None:
    study, pixels = stored(tmp_path), photographs(IMAGES)
    for number in range(len(study.plan.runs)):
        study.publish(number, arrays=with_errors(some_predictions(number), pixels))
    results = collect(study.store)
    runs = {run["id"]: run for run in results["runs"]}
    shown = Counter(item["run"] for item in results["error_images"])
    assert shown == {study.id_of("random", 0): 8, study.id_of("rotation", 0): 8}
    for run_id in shown:
        listed = [error["index"] for error in runs[run_id]["errors"]]
        assert [item["index"] for item in results["error_images"] if item["run"] == run_id] == listed
    for item in results["error_images"]:
        np.testing.assert_array_equal(decoded(item["png"]), pixels[item["index"]])
        assert not in_few_colours(item["png"])
    assert collect(study.store) == results
    html = report.render(results)
    images = [image for image in Page(html).all("img") if "data-error" in image]
    assert [int(image["data-error"] or "") for image in images] == list(range(16))
    for place, image in enumerate(images):
        assert (image["src"] or "").endswith("," + results["error_images"][place]["png"])
    # Each of them stands in the page once, and is read back from where it stands.
    often = Counter(item["png"] for item in results["error_images"])
    assert {content: html.count(content) for content in often} == often
    assert report.results_of_page(html) == report.tidied(results)
    assert report.render(report.results_of_page(html)) == html
    assert "Surest errors, seed 0" in Page(section(html)).text


def test_pixels_of_other_images_than_those_listed_are_not_shown(tmp_path: Path) -> None:
    study, pixels = stored(tmp_path), photographs(IMAGES)
    for number in range(len(study.plan.runs)):
        arrays = with_errors(some_predictions(number), pixels)
        # Half of the indices name other images than the errors that the predictions tell.
        right = set(np.flatnonzero(arrays["predicted"] == arrays["label"]).tolist())
        arrays["error_index"][::2] = sorted(right)[: len(arrays["error_index"][::2])]
        study.publish(number, arrays=arrays)
    results = collect(study.store)
    runs = {run["id"]: run for run in results["runs"]}
    assert len(results["error_images"]) == MOST_ERRORS
    for item in results["error_images"]:
        assert item["index"] in [error["index"] for error in runs[item["run"]]["errors"][1::2]]
        np.testing.assert_array_equal(decoded(item["png"]), pixels[item["index"]])


def test_damaged_and_older_files_give_no_pictures_and_the_report_is_made(tmp_path: Path) -> None:
    pixels = photographs(IMAGES)
    whole = with_errors(some_predictions(0), pixels)
    cut = {**whole, "error_index": whole["error_index"][:3]}
    floats = {**whole, "error_pixels": whole["error_pixels"].astype(np.float32)}
    old = some_predictions(0)
    checked = 0
    for case, content in {"cut": save(cut), "floats": save(floats), "old": save(old)}.items():
        study = stored(tmp_path / case)
        victim = study.id_of("rotation", 0)
        for number, run in enumerate(study.plan.runs):
            arrays = with_errors(some_predictions(number), pixels)
            study.publish(number, content if run.id == victim else None, arrays=arrays)
        results = collect(study.store)
        assert {item["run"] for item in results["error_images"]} == {study.id_of("random", 0)}, case
        assert "(no pictures are kept of them)" in report.render(results)
        checked += 1
    assert checked == 3
    study = stored(tmp_path / "flipped")
    for number in range(len(study.plan.runs)):
        study.publish(number, arrays=with_errors(some_predictions(number), pixels))
    path = study.store.runs / study.id_of("rotation", 0) / "predictions.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    # What that run said is not known at all, so the next seed shows its errors.
    results = collect(study.store)
    assert {item["run"] for item in results["error_images"]} == {study.id_of("random", 0), study.id_of("rotation", 1)}
    assert "Surest errors, seed 1" in Page(section(report.render(results))).text


def published(folder: Path, variants: int) -> list[tuple[dict[str, Any], Path]]:
    """A run with its folder for each of ``variants``, none of which share an image."""
    store = Store(folder / "results")
    store.create()
    found = []
    for number in range(variants):
        arrays = with_errors(some_predictions(number), photographs(IMAGES, seed=number))
        run = {"id": f"variant-s0-{number:012x}", **judged(kept(arrays), CLASSES)}
        attempt = store.open_attempt(run["id"], {})
        commit(attempt, run["id"], "done", {"predictions.safetensors": save(arrays)})
        assert store.publish(attempt)
        found.append((run, store.runs / run["id"]))
    return found


@pytest.mark.parametrize("variants", [1, 8, 24, *thorough(4, 60)])
def test_pictures_of_all_variants_share_the_room_fairly(tmp_path: Path, variants: int) -> None:
    runs = published(tmp_path, variants)
    shown = error_images(runs)
    assert sum(len(item["png"]) for item in shown) <= BUDGET == 60_000
    counts = Counter(item["run"] for item in shown)
    assert len(counts) == variants or len(shown) >= 40
    assert max(counts.values()) - min(counts[run["id"]] for run, _ in runs) <= 1
    for run, _ in runs:
        listed = [error["index"] for error in run["errors"]]
        mine = [item["index"] for item in shown if item["run"] == run["id"]]
        assert mine == listed[: len(mine)]
    # Without loss as long as that shows a few of each; the next picture would not have fitted.
    few = [in_few_colours(item["png"]) for item in shown]
    assert any(few) == all(few) == (variants > 4)
    if not all(few):
        assert min(counts.values()) >= SHOWN
    if variants == 24:
        assert min(counts.values()) >= 2
    if len(shown) < variants * MOST_ERRORS:
        assert sum(len(item["png"]) for item in shown) > BUDGET - 4500


def test_large_images_are_made_small_and_small_ones_left_alone() -> None:
    large = decoded(png(photographs(1, side=96)[0]))
    assert large.shape == (3, 32, 32)
    wide = np.zeros((3, 40, 160), np.uint8)
    assert decoded(png(wide)).shape == (3, 8, 32)
    small = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    np.testing.assert_array_equal(decoded(png(small)), small)
    reduced = png(photographs(1)[0], 32)
    assert len(reduced) < len(png(photographs(1)[0])) / 1.5
    assert len({tuple(pixel) for pixel in decoded(reduced).reshape(3, -1).T.tolist()}) <= 32


def test_the_section_says_that_nothing_is_tested_and_has_no_verdict() -> None:
    html = report.render(simulated.results())
    text = Page(section(html)).text
    assert "Nothing of it is tested" in text
    assert "not corrected for the number of classes" in text
    assert not re.search(r"\bp [<=]|higher:|lower:|significan|resolved|\bbeats\b|interval \d", text)
    rows = Table(html, "table-classes").rows
    assert rows[0] == ["class", "random / none", "random / below", "rotation / none", "rotation / below"]
    assert [row[0] for row in rows[1:]] == [*simulated.CLASSES, "all classes", "seeds agree"]
    finals = [
        f"{100 * summary.estimate.mean:.1f}" for summary in compare.variants(simulated.results()) if summary.estimate
    ]
    assert rows[-2][1:] == finals
    assert '<a href="#classes">By class</a>' in html


def test_a_matrix_costs_less_than_four_kilobytes_and_only_the_best_of_many_variants_have_one() -> None:
    results = many_variants(27)
    found = by_class(results)
    assert found.by_row
    assert found.contrast_by_row
    html = report.render(results)
    matrices = re.findall(r'<table class="matrix.*?</table>', html, re.DOTALL)
    assert len(matrices) == 8
    assert max(map(len, matrices)) < 4000
    drawn = [item.overall for item in found.variants if item.matrix is not None]
    assert min(drawn) >= max(item.overall for item in found.variants if item.matrix is None)
    assert "Matrices are drawn of the 8 variants" in Page(html).text
    assert len(Table(html, "table-classes").rows) == 28
    pictured = deepcopy(results) | {"error_images": []}
    assert len(html) - len(report.render(pictured)) < 30_000


def many_variants(number: int) -> Results:
    results = simulated.results(seeds=1, epochs=2, pretext_epochs=2)
    results["runs"] = [
        simulated.run("downstream", {"init": init, "freeze": freeze, "lr": 0.01}, 0, 0.5 + place / 100, 0.3, 2)
        for place, (init, freeze) in enumerate((f"init{n // 3}", f"policy{n % 3}") for n in range(number))
    ]
    results["study"] |= {"baseline": {"init": "init0"}, "references": []}
    results |= {"pairs": [], "seed_agreement": [], "error_images": simulated.error_images(results["runs"])}
    return results


def of_a_hundred_classes(results: Results) -> None:
    """Give every run what a classifier of CIFAR-100 would say."""
    names = [f"a class of some name {number}" for number in range(100)]
    labels = np.arange(10_000) % 100
    for number, run in enumerate(results["runs"]):
        if run["kind"] == "downstream":
            draw = np.random.default_rng(number)
            sure = draw.random(10_000) < run["final"]["test_accuracy"]
            predicted = np.where(sure, labels, draw.integers(0, 100, 10_000))
            said = kept({"label": labels, "predicted": predicted, "confidence": draw.random(10_000).astype(np.float16)})
            run.update(judged(said, 100))
    results["study"] |= {"classes": names, "class_counts": [100] * 100, "chance": 0.01}
    results["error_images"] = simulated.error_images(results["runs"])


def test_a_hundred_classes_have_no_matrix_and_a_page_of_less_than_a_megabyte() -> None:
    results = simulated.results(seeds=12, epochs=45)
    of_a_hundred_classes(results)
    found = by_class(results)
    assert found.cut
    assert found.listed == tuple(range(100))
    assert all(item.matrix is None for item in found.variants)
    for item in found.contrasts:
        means = [difference.mean for difference in item.differences if difference]
        assert [means[number] for number in item.gains] == sorted((v for v in means if v > 0), reverse=True)[:5]
        assert [means[number] for number in item.losses] == sorted(v for v in means if v < 0)[:5]
    html = report.render(results)
    assert len(html.encode()) < 1_000_000
    assert len(section(html)) < 60_000
    text = Page(section(html)).text
    assert "gain most" in text
    assert "on other seeds they would mostly be smaller" in text
    assert "A run lists its most frequent confusions alone" in text
    assert len(Table(html, "table-classes").rows) == 102 + 1
    assert "table-class-differences" not in section(html)


def test_of_too_many_classes_the_hardest_are_listed() -> None:
    results = many_variants(27)
    of_a_hundred_classes(results)
    found = by_class(results)
    assert len(found.listed) == 20
    means = np.mean([numbers(item.accuracies) for item in found.variants], axis=0)
    assert set(found.listed) == set(np.argsort(means, kind="stable")[:20].tolist())
    html = report.render(results)
    assert "The 20 hardest of 100 classes" in Page(html).text
    assert len(Table(html, "table-classes").rows) == 22


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_and_long_class_names_are_text(text: str) -> None:
    results = simulated.results(seeds=2, epochs=2, pretext_epochs=2)
    long = text * 40
    results["study"]["classes"][3:5] = [text, long]
    html = report.render(results)
    part = Page(section(html))
    assert part.open == []
    assert not part.all("script")
    assert not part.all("b")
    assert not [name for _, attrs in part.elements for name in attrs if name.startswith("on")]
    rows = Table(html, "table-classes").rows
    assert [row[0] for row in rows[4:6]] == [text, long]
    assert {attrs["title"] for attrs in part.all("span") if "title" in attrs} >= {long}
    assert report.results_of_page(html)["study"]["classes"][3:5] == [text, long]


def without(results: Results, *keys: str) -> Results:
    for run in results["runs"]:
        for key in keys:
            run.pop(key, None)
    return results


def test_where_labels_are_not_known_only_the_agreement_of_seeds_is_told() -> None:
    results = without(simulated.results(epochs=2, pretext_epochs=2), "by_class", "errors")
    results["study"]["class_counts"] = None
    results["error_images"] = []
    html = report.render(results)
    rows = Table(html, "table-agreement").rows
    assert [row[1:] for row in rows[1:]] == [
        [f"{100 * item['agreement']:.1f}", "3"] for item in results["seed_agreement"]
    ]
    assert "table-classes" not in section(html)
    assert "is not known" in Page(section(html)).text
    del results["seed_agreement"], results["error_images"], results["study"]["class_counts"]
    html = report.render(results)
    assert section(html) == ""
    assert 'href="#classes"' not in html


def test_runs_that_do_not_fit_the_classes_are_left_out_and_the_page_is_made() -> None:
    def fewer(run: dict[str, Any]) -> None:
        run["by_class"]["right"].pop()

    def beyond(run: dict[str, Any]) -> None:
        run["by_class"]["confused"][0][1] = 10

    def negative(run: dict[str, Any]) -> None:
        run["errors"][0]["label"] = -1

    def diverged(run: dict[str, Any]) -> None:
        run |= {"diverged": True, "final": None}

    checked = 0
    for spoil in (fewer, beyond, negative, diverged):
        results = simulated.results(epochs=1, pretext_epochs=1)
        spoil(next(run for run in results["runs"] if run["kind"] == "downstream"))
        assert [item.n for item in by_class(results).variants] == [2, 3, 3, 3]
        assert report.results_of_page(report.render(results)) == report.tidied(results)
        checked += 1
    assert checked == 4


def test_simulated_runs_agree_with_themselves() -> None:
    results = simulated.results(seeds=4)
    runs: Mapping[str, Any] = {run["id"]: run for run in results["runs"] if run["kind"] == "downstream"}
    assert len(runs) == 16
    for run in runs.values():
        told = run["by_class"]
        assert sum(told["right"]) == round(run["final"]["test_accuracy"] * 10_000)
        wrong = Counter[int]()
        for label, predicted, images in told["confused"]:
            assert label != predicted
            wrong[label] += images
        assert [right + wrong[label] for label, right in enumerate(told["right"])] == results["study"]["class_counts"]
        assert all(before[2] >= after[2] for before, after in pairwise(told["confused"]))
        confused = {(label, predicted) for label, predicted, _ in told["confused"]}
        assert {(error["label"], error["predicted"]) for error in run["errors"]} <= confused
        assert len({error["index"] for error in run["errors"]}) == 8
    assert len(results["pairs"]) == 8
    for pair in results["pairs"]:
        assert pair["both"] + pair["only_variant"] == sum(runs[pair["variant"]]["by_class"]["right"])
        assert pair["both"] + pair["only_baseline"] == sum(runs[pair["baseline"]]["by_class"]["right"])
        assert pair["both"] + pair["only_variant"] + pair["only_baseline"] + pair["neither"] == pair["images"]
        assert pair["both"] <= pair["agree"] <= pair["both"] + pair["neither"]
