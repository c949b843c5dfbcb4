"""Stored predictions: what was confused with what, and how two runs differ on the same images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sklearn.metrics import accuracy_score, confusion_matrix

from rotbench import report
from rotbench.plan import Plan
from rotbench.predictions import (
    Predictions,
    confusion,
    judged,
    most_confident_errors,
    most_confused,
    pair,
    read_error_images,
    read_predictions,
)
from rotbench.results import collect, describe
from rotbench.store import Damaged, Store, commit, run_record, to_json
from tests.toy_study import toy_plan

pytestmark = pytest.mark.usefixtures("undrawn")

CLASSES = 4
IMAGES = 200

TWO_BY_THREE = """
title = "two variants, three seeds"
seeds = [0, 1, 2]
[train]
epochs = 4
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
"""

TUNED = """
title = "each at its best learning rate"
seeds = [0, 1]
[train]
epochs = 4
validation = 0.1
[report]
tune = ["lr"]
compute_matched = true
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
lr = [0.1, 0.01, 0.001]
"""

REPEATED = """
title = "two repeats a seed"
seeds = [0, 1]
repeats = 2
[train]
epochs = 4
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
"""


def some_predictions(seed: int, images: int = IMAGES, classes: int = CLASSES) -> dict[str, np.ndarray[Any, Any]]:
    """A file of a classifier that is right on some half of the images; labels do not depend on ``seed``."""
    labels = np.random.default_rng(2026).integers(0, classes, images)
    noise = np.random.default_rng(seed)
    predicted = np.where(noise.random(images) < 0.5, labels, noise.integers(0, classes, images))
    return {
        "label": labels.astype(np.int16),
        "predicted": predicted.astype(np.int16),
        # Few values, so that there are ties as near 1 in float16.
        "confidence": (noise.integers(1, 5, images) / 4).astype(np.float16),
    }


def kept(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Predictions:
    return Predictions(arrays["predicted"], arrays["confidence"], arrays.get("label"))


@dataclass
class Stored:
    """A store in which every run of a plan is published with predictions; ``files`` has them by run id."""

    store: Store
    plan: Plan
    files: dict[str, dict[str, np.ndarray[Any, Any]]] = field(default_factory=dict)

    def id_of(self, init: str, seed: int, **values: Any) -> str:
        wanted = {"init": init, **values}
        (found,) = [
            run.id
            for run in self.plan.runs
            if run.kind == "downstream" and run.seed == seed and wanted == {k: run.variant.get(k) for k in wanted}
            if ("compute_matched" in run.variant) == ("compute_matched" in wanted)
        ]
        return found

    def publish(self, number: int, content: bytes | None = None, **changes: Any) -> str:
        """Publish the plan's run of that number; ``content`` takes the place of what its predictions file holds."""
        run = self.plan.runs[number]
        arrays = changes.pop("arrays", some_predictions(number))
        status = changes.pop("status", "done")
        fingerprint = changes.pop("fingerprint", "f1")
        result: dict[str, Any] = {
            "error": None,
            "diverged": False,
            "history": [],
            "final": {"test_accuracy": 0.5, "test_loss": 1.0},
            "provenance": {
                "data": {
                    "fingerprint": fingerprint,
                    "classes": [f"class {c}" for c in range(CLASSES)],
                    "training_images": 100,
                    "test_images": IMAGES,
                    "subset_sha256": "0" * 64,
                }
            },
            **changes,
        }
        files = {"run.json": to_json(run_record(run)), "result.json": to_json(result), "log.txt": b""}
        if run.kind == "downstream" and status == "done":
            files["predictions.safetensors"] = save(arrays) if content is None else content
            self.files[run.id] = arrays
        attempt = self.store.open_attempt(run.id, {})
        commit(attempt, run.id, status, files)
        assert self.store.publish(attempt)
        return run.id

    def publish_all(self) -> None:
        for number in range(len(self.plan.runs)):
            self.publish(number)

    def accuracy(self, run_id: str) -> float:
        arrays = self.files[run_id]
        return float(accuracy_score(arrays["label"], arrays["predicted"]))

    def agreement(self, first: str, second: str) -> float:
        return float(accuracy_score(self.files[first]["predicted"], self.files[second]["predicted"]))


def stored(folder: Path, text: str = TWO_BY_THREE) -> Stored:
    plan, store = toy_plan(text), Store(folder / "results")
    store.create()
    store.write_study(describe(plan, "rotbench run"))
    return Stored(store, plan)


def downstream(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {run["id"]: run for run in results["runs"] if run["kind"] == "downstream"}


def test_confusions_are_those_of_sklearn() -> None:
    cases = absent = 0
    for classes, images in ((2, 1), (2, 50), (3, 7), (10, 40), (10, 2000), (100, 3000), (300, 250)):
        for seed in range(5):
            draw = np.random.default_rng(seed)
            labels, predicted = (draw.integers(0, classes, images).astype(np.int16) for _ in range(2))
            found = confusion(labels, predicted, classes)
            np.testing.assert_array_equal(found, confusion_matrix(labels, predicted, labels=range(classes)))
            absent += len(set(labels.tolist())) < classes
            cases += 1
    assert cases == 35
    assert absent >= 10


def test_the_most_frequent_confusions_are_listed_and_the_others_counted() -> None:
    cases = left = 0
    for classes, images in ((2, 30), (10, 500), (10, 9000), (40, 3000), (300, 2000)):
        file = some_predictions(classes, images, classes)
        pairs = zip(file["label"].tolist(), file["predicted"].tolist(), strict=True)
        counted = Counter((label, said) for label, said in pairs if label != said)
        listed, left_out = most_confused(confusion(file["label"], file["predicted"], classes))
        ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        assert listed == [[label, said, count] for (label, said), count in ordered[:100]]
        assert left_out == sum(count for _, count in ordered[100:])
        assert left_out == 0 or classes > 10
        left += left_out > 0
        cases += 1
    assert (cases, left) == (5, 2)


def test_the_surest_errors_are_in_order_and_ties_in_that_of_the_images() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    predicted = np.array([1, 0, 2, 1, 0, 2, 1, 0])
    confidence = np.array([0.5, 0.9, 0.75, 1, 0.75, np.nan, 0.25, 0.75], np.float16)
    assert most_confident_errors(labels, predicted, confidence).tolist() == [2, 4, 7, 0, 6]
    assert most_confident_errors(labels, predicted, confidence, 2).tolist() == [2, 4]
    assert most_confident_errors(labels, labels, confidence).tolist() == []


def test_two_runs_on_the_same_images_are_counted_as_sklearn_counts_them() -> None:
    cases = 0
    for first, second in combinations(range(8), 2):
        files = some_predictions(first), some_predictions(second)
        counted = pair(kept(files[0]), kept(files[1]))
        assert counted is not None
        right = [file["predicted"] == file["label"] for file in files]
        table = confusion_matrix(*right, labels=[True, False])
        assert [[counted.both, counted.only_first], [counted.only_second, counted.neither]] == table.tolist()
        agree = accuracy_score(files[0]["predicted"], files[1]["predicted"], normalize=False)
        assert (counted.images, counted.agree) == (IMAGES, agree)
        cases += 1
    assert cases == 28


def test_labels_of_one_run_tell_of_both_and_without_any_only_agreement_is_known() -> None:
    first, second = some_predictions(0), some_predictions(1)
    whole = pair(kept(first), kept(second))
    assert whole is not None
    without = {name: array for name, array in second.items() if name != "label"}
    unlabelled = {name: array for name, array in first.items() if name != "label"}
    assert pair(kept(first), kept(without)) == pair(kept(unlabelled), kept(second)) == whole
    counted = pair(kept(unlabelled), kept(without))
    assert counted is not None
    assert (counted.agree, counted.images, counted.both) == (whole.agree, IMAGES, None)
    fewer = {name: array[:-1] for name, array in second.items()}
    others = {**second, "label": second["label"][::-1].copy()}
    assert pair(kept(first), kept(fewer)) is None
    assert pair(kept(first), kept(others)) is None


def test_a_report_has_what_each_run_got_right_and_what_it_confused(tmp_path: Path) -> None:
    study = stored(tmp_path)
    study.publish_all()
    results = collect(study.store)
    assert results["study"]["class_counts"] == np.bincount(some_predictions(0)["label"]).tolist()
    checked = 0
    for run_id, run in downstream(results).items():
        arrays = study.files[run_id]
        matrix = confusion_matrix(arrays["label"], arrays["predicted"])
        assert run["by_class"]["right"] == matrix.diagonal().tolist()
        rebuilt = np.diag(run["by_class"]["right"])
        for label, said, count in run["by_class"]["confused"]:
            rebuilt[label, said] = count
        np.testing.assert_array_equal(rebuilt, matrix)
        assert run["by_class"]["left_out"] == 0
        assert sum(run["by_class"]["right"]) / IMAGES == study.accuracy(run_id)
        assert len(run["errors"]) == 8
        wrong = [
            (-confidence, index, label, said)
            for index, (label, said, confidence) in enumerate(
                zip(*(arrays[name].tolist() for name in ("label", "predicted", "confidence")), strict=True)
            )
            if label != said
        ]
        told = [(-error["confidence"], error["index"], error["label"], error["predicted"]) for error in run["errors"]]
        assert told == sorted(wrong)[:8]
        checked += 1
    assert checked == 6
    assert all("by_class" not in run for run in results["runs"] if run["kind"] == "pretext")


def test_a_report_has_the_pairs_that_contrasts_compare_and_the_agreement_of_seeds(tmp_path: Path) -> None:
    study = stored(tmp_path)
    study.publish_all()
    results = collect(study.store)
    assert [item["seed"] for item in results["pairs"]] == [0, 1, 2]
    for item in results["pairs"]:
        seed = item["seed"]
        assert (item["variant"], item["baseline"]) == (study.id_of("rotation", seed), study.id_of("random", seed))
        assert item["repeat"] == 0
        assert item["agree"] / IMAGES == study.agreement(item["variant"], item["baseline"])
        assert (item["both"] + item["only_variant"]) / IMAGES == study.accuracy(item["variant"])
        assert (item["both"] + item["only_baseline"]) / IMAGES == study.accuracy(item["baseline"])
        assert item["both"] + item["only_variant"] + item["only_baseline"] + item["neither"] == item["images"] == IMAGES
    assert [item["variant"]["init"] for item in results["seed_agreement"]] == ["random", "rotation"]
    for item in results["seed_agreement"]:
        ids = [study.id_of(item["variant"]["init"], seed) for seed in range(3)]
        assert item["pairs"] == 3
        assert item["agreement"] == pytest.approx(
            np.mean([study.agreement(*two) for two in combinations(ids, 2)]), abs=5e-6
        )


def test_every_candidate_of_a_tuned_side_has_its_pairs_and_partners_of_equal_epochs_too(tmp_path: Path) -> None:
    study = stored(tmp_path, TUNED)
    study.publish_all()
    results = collect(study.store)
    assert len(results["study"]["matched"]) == 3
    found = Counter((item["variant"], item["baseline"]) for item in results["pairs"])
    rates = (0.1, 0.01, 0.001)
    expected = {
        (study.id_of("rotation", seed, lr=mine), study.id_of("random", seed, lr=theirs))
        for seed in (0, 1)
        for mine in rates
        for theirs in rates
    } | {
        (study.id_of("rotation", seed, lr=rate), study.id_of("random", seed, lr=rate, compute_matched=8))
        for seed in (0, 1)
        for rate in rates
    }
    assert len(expected) == 24
    assert found == Counter(expected)


def test_repeats_are_paired_with_the_same_repeat_and_agreement_is_between_seeds(tmp_path: Path) -> None:
    study = stored(tmp_path, REPEATED)
    study.publish_all()
    results = collect(study.store)
    runs = downstream(results)
    assert sorted((item["seed"], item["repeat"]) for item in results["pairs"]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for item in results["pairs"]:
        for side in ("variant", "baseline"):
            assert (runs[item[side]]["seed"], runs[item[side]]["repeat"]) == (item["seed"], item["repeat"])
    for item in results["seed_agreement"]:
        mine = [run for run in runs.values() if run["variant"] == item["variant"]]
        shares = [study.agreement(a["id"], b["id"]) for a in mine for b in mine if a["seed"] < b["seed"]]
        assert item["pairs"] == len(shares) == 4
        assert item["agreement"] == pytest.approx(np.mean(shares), abs=5e-6)


def test_an_older_store_without_labels_tells_agreement_alone(tmp_path: Path) -> None:
    study = stored(tmp_path)
    for number in range(len(study.plan.runs)):
        arrays = some_predictions(number)
        del arrays["label"]
        study.publish(number, arrays=arrays)
    results = collect(study.store)
    assert results["study"]["class_counts"] is None
    assert not any("by_class" in run or "errors" in run for run in results["runs"])
    assert len(results["pairs"]) == 3
    for item in results["pairs"]:
        assert item["agree"] / item["images"] == study.agreement(item["variant"], item["baseline"])
        assert item["both"] is item["only_variant"] is item["only_baseline"] is item["neither"] is None
    assert [item["pairs"] for item in results["seed_agreement"]] == [3, 3]


def test_a_file_that_is_damaged_missing_or_nonsense_leaves_its_run_without(tmp_path: Path) -> None:
    whole = some_predictions(0)
    outside = {**whole, "predicted": np.full(IMAGES, CLASSES, np.int16)}
    negative = {**whole, "label": np.full(IMAGES, -1, np.int16)}
    shorter = {**whole, "label": whole["label"][1:]}
    no_classes = {**whole, "predicted": whole["confidence"]}
    without = {"label": whole["label"], "predicted": whole["predicted"]}
    empty = {name: array[:0] for name, array in whole.items()}
    contents: dict[str, bytes] = {
        "classes that are not there": save(outside),
        "negative labels": save(negative),
        "fewer labels": save(shorter),
        "fractions of classes": save(no_classes),
        "no confidence": save(without),
        "no image": save(empty),
        "no tensors": b"{}",
        "nothing": b"",
    }
    checked = 0
    for case, content in {**contents, "flipped bit": None, "deleted": None}.items():
        study = stored(tmp_path / case.replace(" ", "-"))
        numbers = range(len(study.plan.runs))
        victim = study.id_of("rotation", 1)
        for number in numbers:
            study.publish(number, content if study.plan.runs[number].id == victim else None)
        path = study.store.runs / victim / "predictions.safetensors"
        if case == "flipped bit":
            damaged = bytearray(path.read_bytes())
            damaged[-1] ^= 1
            path.write_bytes(damaged)
        if case == "deleted":
            path.unlink()
        with pytest.raises(Damaged):
            read_predictions(path.parent, CLASSES)
        results = collect(study.store)
        with_fields = {run_id for run_id, run in downstream(results).items() if {"by_class", "errors"} & run.keys()}
        assert with_fields == downstream(results).keys() - {victim}, case
        assert downstream(results)[victim]["status"] == "done"
        assert [item["seed"] for item in results["pairs"]] == [0, 2]
        assert [item["pairs"] for item in results["seed_agreement"]] == [3, 1]
        report.render(results)
        checked += 1
    assert checked == 10


def test_runs_on_other_test_images_are_never_paired(tmp_path: Path) -> None:
    study = stored(tmp_path)
    changed = {study.id_of("random", 0), study.id_of("rotation", 0), study.id_of("rotation", 1)}
    for number, run in enumerate(study.plan.runs):
        study.publish(number, fingerprint="f2" if run.id in changed else "f1")
    results = collect(study.store)
    # Seed 0 is of other data on both sides, seed 1 on one.
    assert [item["seed"] for item in results["pairs"]] == [0, 2]
    shares = {item["variant"]["init"]: (item["pairs"], item["agreement"]) for item in results["seed_agreement"]}
    apart = study.agreement(study.id_of("random", 1), study.id_of("random", 2))
    both_changed = study.agreement(study.id_of("rotation", 0), study.id_of("rotation", 1))
    assert shares == {"random": (1, round(apart, 5)), "rotation": (1, round(both_changed, 5))}


def test_counts_of_classes_are_told_where_all_runs_share_them(tmp_path: Path) -> None:
    study = stored(tmp_path)
    for number in range(len(study.plan.runs) - 1):
        study.publish(number)
    assert collect(study.store)["study"]["class_counts"] is not None
    other = some_predictions(1)
    other["label"][0] = (other["label"][0] + 1) % CLASSES
    study.publish(len(study.plan.runs) - 1, arrays=other)
    results = collect(study.store)
    assert results["study"]["class_counts"] is None
    assert [item["seed"] for item in results["pairs"]] == [0, 1]


def test_failed_diverged_and_missing_runs_have_no_pairs(tmp_path: Path) -> None:
    study = stored(tmp_path)
    failed, diverged, missing = study.id_of("random", 0), study.id_of("rotation", 1), study.id_of("random", 2)
    nothing = {**some_predictions(0), "confidence": np.full(IMAGES, np.nan, np.float16)}
    for number, run in enumerate(study.plan.runs):
        if run.id == failed:
            study.publish(number, status="failed", error="it was to fail", final=None, provenance={})
        elif run.id == diverged:
            study.publish(number, diverged=True, arrays=nothing)
        elif run.id != missing:
            study.publish(number)
    results = collect(study.store)
    runs = downstream(results)
    assert [runs[run_id]["status"] for run_id in (failed, diverged, missing)] == ["failed", "done", "missing"]
    assert results["pairs"] == []
    assert results["seed_agreement"] == [
        {"variant": {"init": "rotation"}, "pairs": 1, "agreement": round(
            study.agreement(study.id_of("rotation", 0), study.id_of("rotation", 2)), 5)}
    ]  # fmt: skip
    assert {run_id for run_id, run in runs.items() if "by_class" in run} == {
        study.id_of("random", 1), study.id_of("rotation", 0), study.id_of("rotation", 2),
    }  # fmt: skip
    report.render(results)


def test_a_confidence_that_is_no_number_is_no_error_on_the_page(tmp_path: Path) -> None:
    study = stored(tmp_path)
    for number in range(len(study.plan.runs)):
        arrays = some_predictions(number)
        arrays["confidence"][::2] = np.nan
        study.publish(number, arrays=arrays)
    results = collect(study.store)
    json.dumps(results, allow_nan=False)
    assert all(error["index"] % 2 for run in downstream(results).values() for error in run["errors"])


def test_a_page_carries_it_all_and_grows_little(tmp_path: Path) -> None:
    study = stored(tmp_path)
    study.publish_all()
    results = collect(study.store)
    assert json.loads(to_json(results)) == results
    page = report.render(results)
    carried = report.results_of_page(page)
    for name in ("pairs", "seed_agreement", "study"):
        assert carried[name] == results[name]
    for run, told in zip(carried["runs"], results["runs"], strict=True):
        assert (run.get("by_class"), run.get("errors")) == (told.get("by_class"), told.get("errors"))
    assert report.render(carried) == page
    # Ten classes and a thousand classes, as many images as ImageNet's validation set: below 6 kB a run.
    for classes, images in ((10, 10_000), (1000, 50_000)):
        file = some_predictions(0, images, classes)
        assert len(json.dumps(judged(kept(file), classes), separators=(",", ":"))) < 6000


def test_the_pixels_of_the_surest_errors_are_read_from_the_store_alone(tmp_path: Path) -> None:
    study = stored(tmp_path)
    arrays = some_predictions(3)
    index = most_confident_errors(arrays["label"], arrays["predicted"], arrays["confidence"], 16).astype(np.int32)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 3, 5, 7), np.uint8)
    number = next(n for n, run in enumerate(study.plan.runs) if run.id == study.id_of("rotation", 0))
    run_id = study.publish(number, arrays={**arrays, "error_index": index, "error_pixels": pixels})
    kept_images = read_error_images(study.store.runs / run_id)
    assert kept_images is not None
    np.testing.assert_array_equal(kept_images.index, index)
    np.testing.assert_array_equal(kept_images.pixels, pixels)
    results = collect(study.store)
    # What the page lists are the first of those whose pixels are kept.
    assert [error["index"] for error in downstream(results)[run_id]["errors"]] == index[:8].tolist()
    older = study.publish(next(n for n, run in enumerate(study.plan.runs) if run.id == study.id_of("rotation", 1)))
    assert read_error_images(study.store.runs / older) is None
    cut = {**arrays, "error_index": index[:3], "error_pixels": pixels}
    other = next(n for n, run in enumerate(study.plan.runs) if run.id == study.id_of("random", 2))
    broken = study.publish(other, arrays=cut)
    with pytest.raises(Damaged, match="pixels"):
        read_error_images(study.store.runs / broken)
