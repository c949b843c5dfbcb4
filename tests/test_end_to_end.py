"""A small real study through the command line: trained by workers, proven, reported, and the same when repeated."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from scipy import stats

from tests.few_images import CLASSES, DATASET, TEST_LABELS, TRAINING, few_digits, write_images
from tests.program import command
from tests.shared_studies import made_once

STUDY = (
    """
title = "End to end"
seeds = [0, 1]
[train]
epochs = 2
lr = 0.001
batch_size = 64
[pretext.rotation]
task = "rotation"
epochs = 1
[[matrix]]
init = ["random", "rotation"]
freeze = [{ name = "below", stage = "layer4", batchnorm = "train" }]
labels_per_class = 3
updates = "epochs"
"""
    + DATASET
)

MEASURED_BY_CLOCK = ("train_seconds", "images_per_second", "log")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(made: Path) -> None:
        (made / "study.toml").write_text(STUDY)
        write_images(made)
        done = command(made, "run", "study.toml")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == (made / "results" / "report.html").as_uri()

    return made_once(tmp_path_factory, "end-to-end", make)


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "results" / "results.json").read_text())
    return loaded


def runs_of(results: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The three runs of one seed: pretext, from random weights, from rotation."""
    return {run["variant"].get("init", "pretext"): run for run in results["runs"] if run["seed"] == seed}


def test_results_json_holds_what_was_promised(results: dict[str, Any]) -> None:
    assert results["format"] == 1
    assert len(results["runs"]) == 6
    for run in results["runs"]:
        assert run["status"] == "done"
        assert run["error"] is None
        epochs = 1 if run["kind"] == "pretext" else 2
        assert [row["epoch"] for row in run["history"]] == list(range(1, epochs + 1))
        assert set(run["history"][0]) == {
            "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "seconds",
        }  # fmt: skip
        assert run["final"]["test_accuracy"] == run["history"][-1]["test_accuracy"]
        assert 0 <= run["final"]["test_accuracy"] <= 1
        assert {"python", "torch", "torchvision", "rotbench"} <= set(run["versions"])
    assert results["runs"][1]["variant"] == {
        "init": "random",
        "freeze": {"name": "below", "stage": "layer4", "batchnorm": "train"},
        "labels_per_class": 3,
        "updates": "epochs",
    }


def test_every_run_is_proven_to_start_where_it_says(results: dict[str, Any]) -> None:
    backbones = set()
    for seed in (0, 1):
        runs = runs_of(results, seed)
        start = {name: run["provenance"]["start"] for name, run in runs.items()}
        assert len({proof["seed_backbone_sha256"] for proof in start.values()}) == 1
        assert start["pretext"]["backbone_sha256"] == start["random"]["backbone_sha256"]
        assert start["random"]["claimed"] == start["random"]["changed"] == 0
        assert start["rotation"]["backbone_sha256"] == runs["pretext"]["provenance"]["backbone_sha256"]
        assert start["rotation"]["parent"] == runs["pretext"]["id"] == runs["rotation"]["needs"][0]
        assert start["rotation"]["equals_parent"] is True
        assert start["rotation"]["claimed"] == start["rotation"]["changed"] == 120
        assert start["rotation"]["missing"] == start["rotation"]["unexpected"] == []
        assert start["random"]["head_sha256"] == start["rotation"]["head_sha256"] != start["pretext"]["head_sha256"]
        backbones.add(start["random"]["backbone_sha256"])
    assert len(backbones) == 2


def test_what_was_frozen_stayed_and_the_labels_are_shared(results: dict[str, Any]) -> None:
    subsets = []
    for seed in (0, 1):
        runs = runs_of(results, seed)
        for name in ("random", "rotation"):
            freeze = runs[name]["provenance"]["freeze"]
            assert freeze["largest_change_of_frozen_parameter"] == 0
            assert freeze["largest_change_of_frozen_buffer"] > 0
            assert freeze["trainable_by_stage"]["layer3"] == 0
            assert freeze["trainable_by_stage"]["layer4"] > 0
        data = [runs[name]["provenance"]["data"] for name in ("random", "rotation")]
        assert data[0] == data[1]
        assert data[0]["training_images"] == 30
        assert runs["pretext"]["provenance"]["data"]["training_images"] == CLASSES * TRAINING
        subsets.append(data[0]["subset_sha256"])
    assert subsets[0] != subsets[1]


def test_kept_predictions_have_the_reported_accuracy(folder: Path, results: dict[str, Any]) -> None:
    checked = 0
    for run in results["runs"]:
        if run["kind"] == "downstream":
            kept = load_file(folder / "results" / "runs" / run["id"] / "predictions.safetensors")
            assert np.mean(kept["predicted"] == TEST_LABELS) == run["final"]["test_accuracy"]
            checked += 1
    assert checked == 4


def test_what_is_told_by_class_is_what_was_predicted_and_errors_are_shown_as_they_are(
    folder: Path, results: dict[str, Any]
) -> None:
    from sklearn.metrics import confusion_matrix

    checked = 0
    for run in results["runs"]:
        if run["kind"] == "downstream":
            kept = load_file(folder / "results" / "runs" / run["id"] / "predictions.safetensors")
            matrix = confusion_matrix(TEST_LABELS, kept["predicted"], labels=range(CLASSES))
            assert run["by_class"]["right"] == matrix.diagonal().tolist()
            assert sorted(entry[2] for entry in run["by_class"]["confused"]) == sorted(
                count for count in (matrix - np.diag(matrix.diagonal())).ravel().tolist() if count
            )
            checked += 1
    assert checked == 4
    # One seed of each of the two variants, its eight surest errors, from the images as they were written.
    shown, (_, images) = results["error_images"], few_digits()
    assert [item["run"] for item in shown] == [run["id"] for run in results["runs"][1:3] for _ in range(8)]
    for item in shown:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["png"]))).convert("L"))
        np.testing.assert_array_equal(picture, images[item["index"]])
    page = (folder / "results" / "report.html").read_text()
    assert len(re.findall("<img [^>]*data-error=", page)) == len(shown)


class FinalTable(HTMLParser):
    """The numbers of the page's table of final accuracies, by variant."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, float]] = {}
        self._row: dict[str, float] | None = None
        self._cell = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            variant = given.get("data-variant")
            self._row = self.rows.setdefault(json.dumps(json.loads(variant)), {}) if variant else None
        elif tag == "td" and self._row is not None and given.get("data-value"):
            self._cell = (given.get("class") or "").split()[-1]
            self._row[self._cell] = float(given["data-value"] or "nan")
        elif self._row is not None and "data-low" in given:
            self._row[f"{self._cell} low"] = float(given["data-low"] or "nan")
            self._row[f"{self._cell} high"] = float(given["data-high"] or "nan")


def test_the_numbers_on_the_page_are_those_of_results_json(folder: Path, results: dict[str, Any]) -> None:
    table = FinalTable((folder / "results" / "report.html").read_text()).rows
    finals: dict[str, list[float]] = {}
    for run in results["runs"]:
        if run["kind"] == "downstream":
            finals.setdefault(json.dumps(run["variant"]), []).append(run["final"]["test_accuracy"])
    assert table.keys() == finals.keys()
    assert len(table) == 2
    for variant, values in finals.items():
        row = table[variant]
        assert row["mean"] == pytest.approx(np.mean(values), abs=1e-12)
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (row["mean low"], row["mean high"]) == pytest.approx((low, high), abs=1e-9)


def test_results_csv_has_a_row_a_run_and_epoch(folder: Path, results: dict[str, Any]) -> None:
    with (folder / "results" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = "id,kind,seed,repeat,epoch,train_loss,train_accuracy,test_loss,test_accuracy,lr,seconds"
    assert list(rows[0]) == columns.split(",")
    expected = [(run["id"], row["epoch"], row["test_accuracy"]) for run in results["runs"] for row in run["history"]]
    assert [(row["id"], int(row["epoch"]), float(row["test_accuracy"])) for row in rows] == expected


def test_report_as_json_says_what_the_page_says(folder: Path, results: dict[str, Any]) -> None:
    page = (folder / "results" / "report.html").read_bytes()
    done = command(folder, "report", "--json")
    said = json.loads(done.stdout)
    assert [(v["n"], v["planned"]) for v in said["variants"]] == [(2, 2), (2, 2)]
    (contrast,) = said["contrasts"]
    by_init = {init: [runs_of(results, seed)[init]["final"]["test_accuracy"] for seed in (0, 1)] for init in
               ("random", "rotation")}  # fmt: skip
    assert contrast["difference"] == pytest.approx(np.mean(np.subtract(by_init["rotation"], by_init["random"])))
    assert (folder / "results" / "report.html").read_bytes() == page


def test_a_finished_study_is_not_trained_again(folder: Path) -> None:
    runs = folder / "results" / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    page = (folder / "results" / "report.html").read_bytes()
    done = command(folder, "run", "study.toml")
    assert done.returncode == 0
    assert "0 runs to train, 6 done before" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before
    assert (folder / "results" / "report.html").read_bytes() == page


def test_a_finished_run_holds_hashed_files_and_logs_alone(folder: Path, results: dict[str, Any]) -> None:
    for run in results["runs"]:
        place = folder / "results" / "runs" / run["id"]
        hashed = set(json.loads((place / "manifest.json").read_text())["files"])
        assert {path.name for path in place.iterdir() if path.suffix != ".log"} == hashed | {"manifest.json"}
        assert len((place / "log.txt").read_text().splitlines()) == len(run["history"])
    assert command(folder, "verify").returncode == 0


def test_verify_finds_one_flipped_byte_in_the_weights(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "results", copy)
    (weights, *_) = sorted(copy.glob("runs/*/backbone.safetensors"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    done = command(folder, "verify", "--out", str(copy))
    assert done.returncode == 3
    assert str(weights) in done.stderr


@pytest.mark.thorough
def test_another_number_of_jobs_and_another_folder_give_the_same_bits(
    folder: Path, results: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copy(folder / "study.toml", tmp_path)
    write_images(tmp_path)
    done = command(tmp_path, "run", "study.toml", "--jobs", "1", "-k", "init=rotation", "--out", "elsewhere")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "elsewhere" / "results.json").read_text())
    compared = 0
    for one, other in zip(results["runs"], again["runs"], strict=True):
        if other["status"] == "missing":
            assert other["variant"]["init"] == "random"
            continue
        for run in (one, other):
            for row in run["history"]:
                row["seconds"] = 0
        assert {key: one[key] for key in one if key not in MEASURED_BY_CLOCK} == {
            key: other[key] for key in other if key not in MEASURED_BY_CLOCK
        }
        compared += 1
    assert compared == 4


BROKEN_TASK = '''
"""A task that fails when it is used."""
from dataclasses import dataclass
from typing import ClassVar
from rotbench import hookimpl

@dataclass(frozen=True)
class Broken:
    """Fails in its first batch."""

    name: ClassVar[str] = "broken"

    def head(self, features):
        from torch import nn
        return nn.Linear(features, 2)

    def make_batch(self, images, generator):
        raise ValueError("<script>no luck</script>")

@hookimpl
def register_pretext_tasks():
    return [Broken]
'''

FAILING = (
    """
title = "Some of it fails"
seeds = [0]
[train]
epochs = 6
[pretext.broken]
task = "broken"
[[matrix]]
init = ["random", "broken"]
freeze = "head-only"
labels_per_class = 3
updates = "epochs"
[[run]]
init = "random"
optimizer = "sgd"
lr = 1000.0
labels_per_class = 3
updates = "epochs"
"""
    + DATASET
)


def test_what_fails_is_named_and_the_rest_is_finished(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "broken.py").write_text(BROKEN_TASK)
    (tmp_path / "study.toml").write_text(FAILING)
    write_images(tmp_path)
    done = command(tmp_path, "run", "study.toml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    pretext, random, broken, wild = results["runs"]
    assert random["status"] == "done"
    assert (pretext["status"], pretext["diverged"]) == ("failed", False)
    assert pretext["error"] == "ValueError: <script>no luck</script> (in make_batch, broken.py:18)"
    assert (broken["status"], broken["final"]) == ("skipped", None)
    assert pretext["id"] in broken["error"]
    assert (wild["status"], wild["diverged"]) == ("failed", True)
    assert re.match(r"(test )?loss is (nan|inf) at epoch \d", wild["error"])
    page = (tmp_path / "results" / "report.html").read_text()
    assert "&lt;script&gt;no luck" in page
    assert "<script>no luck" not in page
    assert command(tmp_path, "run", "study.toml").returncode == 1  # failed runs are not trained again unasked


REHEARSED = (
    """
title = "Rehearsed"
seeds = 3
repeats = 3
[train]
validation = 0.2
epochs = 30
batch_size = 64
[pretext.rotation]
task = "rotation"
epochs = 45
[[matrix]]
init = ["random", "rotation"]
freeze = "head-only"
labels_per_class = 10
"""
    + DATASET
)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(made: Path) -> None:
        (made / "study.toml").write_text(REHEARSED)
        write_images(made)
        done = command(made, "run", "study.toml", "--quick")
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "rehearsal", make)


def test_a_rehearsal_goes_through_the_matrix_into_a_folder_of_its_own_and_says_what_it_is(rehearsal: Path) -> None:
    assert sorted(path.name for path in rehearsal.iterdir()) == ["images", "results-quick", "study.toml"]
    page = (rehearsal / "results-quick" / "report.html").read_text()
    assert "<title>Rehearsal: Rehearsed</title>" in page
    assert "No number on this page means anything" in page
    loaded = json.loads((rehearsal / "results-quick" / "results.json").read_text())
    assert (loaded["study"]["rehearsal"], loaded["study"]["seeds"]) == (True, [0])
    # One seed, and two of the three repeats: enough to go through their averaging.
    assert [(run["kind"], run["repeat"]) for run in loaded["runs"]] == [
        ("pretext", 0), ("downstream", 0), ("downstream", 0), ("downstream", 1), ("downstream", 1),
    ]  # fmt: skip
    for run in loaded["runs"]:
        assert run["provenance"]["data"]["training_images"] <= 256
        assert len(run["history"]) == 2
        assert run["provenance"]["updates"] <= 2 * 2
    assert command(rehearsal, "run", "study.toml", "--quick").stdout.splitlines()[-1].endswith("/report.html")


def test_validation_is_scored_every_epoch_and_the_test_images_once(rehearsal: Path) -> None:
    loaded = json.loads((rehearsal / "results-quick" / "results.json").read_text())
    for run in loaded["runs"]:
        assert [row["test_accuracy"] is None for row in run["history"]] == [True, False]
        assert all(0 <= row["validation_accuracy"] <= 1 for row in run["history"])
        data = run["provenance"]["data"]
        if run["kind"] == "downstream":
            # Eight labels in each of ten classes, of which a fifth, rounded down, is one.
            assert (data["training_images"], data["validation_images"]) == (10 * 7, 10 * 1)
    rows = list(csv.DictReader((rehearsal / "results-quick" / "results.csv").read_text().splitlines()))
    assert list(rows[0])[:6] == ["id", "kind", "seed", "repeat", "epoch", "train_loss"]
    assert {row["test_accuracy"] for row in rows if row["epoch"] == "1"} == {""}
    assert all(row["validation_accuracy"] for row in rows)


def test_repeats_share_weights_and_labels_and_differ_in_head_and_order(rehearsal: Path) -> None:
    loaded = json.loads((rehearsal / "results-quick" / "results.json").read_text())
    by = {(run["variant"].get("init"), run["repeat"]): run for run in loaded["runs"]}
    for init in ("random", "rotation"):
        first, second = by[init, 0], by[init, 1]
        for proof in ("backbone_sha256", "seed_backbone_sha256"):
            assert first["provenance"]["start"][proof] == second["provenance"]["start"][proof]
        assert first["provenance"]["data"] == second["provenance"]["data"]
        assert first["provenance"]["start"]["head_sha256"] != second["provenance"]["start"]["head_sha256"]
        assert first["history"] != second["history"]
    for repeat in (0, 1):
        heads = {by[init, repeat]["provenance"]["start"]["head_sha256"] for init in ("random", "rotation")}
        assert len(heads) == 1
    reported = json.loads(command(rehearsal, "report", "--out", "results-quick", "--json").stdout)
    for variant in reported["variants"]:
        scores = [by[variant["variant"]["init"], repeat]["final"]["test_accuracy"] for repeat in (0, 1)]
        assert variant["mean"] == pytest.approx(sum(scores) / 2)
        assert variant["n"] == 1
