"""What runs recorded of themselves, judged: against their settings, against their parents, against one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torchvision

from rotbench.evidence import proof, proof_summary
from rotbench.models import published_weights
from rotbench.subsets import subset_rows
from tests import simulated


def results() -> dict[str, Any]:
    return simulated.results()


def pretrained(made: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    by_id = {run["id"]: run for run in made["runs"]}
    return next(run for run in made["runs"] if run["needs"]), by_id


def test_weights_that_are_not_those_that_the_pretext_run_ended_with_are_a_failed_proof() -> None:
    run, by_id = pretrained(results())
    parent = by_id[run["needs"][0]]
    parent["provenance"]["backbone_sha256"] = run["provenance"]["start"]["parent_backbone_sha256"] = "a" * 64
    assert proof(run, by_id).failures == ()
    parent["provenance"]["backbone_sha256"] = "b" * 64
    assert proof(run, by_id).failures == ("the weights that were read are not those that its pretext run ended with",)


@pytest.mark.parametrize(
    ("seen", "held", "holds"), [(200, 0, True), (180, 20, True), (5000, 0, False), (190, 0, False)]
)
def test_a_number_of_labels_is_held_against_the_images_that_were_drawn(seen: int, held: int, holds: bool) -> None:
    run, by_id = pretrained(results())
    run["settings"]["train"] = {**run["settings"].get("train", {}), "labels_per_class": 20}
    run["provenance"]["data"] |= {"classes": list("0123456789"), "seen_images": seen, "validation_images": held}
    failures = proof(run, by_id).failures
    assert (failures == ()) == holds
    if not holds:
        assert failures == (f"labels_per_class 20 promises 200 labelled images; {seen:,} were trained on",)


def test_a_file_of_torchvision_is_told_by_its_hash_whatever_it_is_called() -> None:
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    digits = url.rpartition("-")[2].removesuffix(".pth")
    assert published_weights(digits + "0" * (64 - len(digits))) == "ResNet18_Weights.IMAGENET1K_V1"
    assert published_weights("0" * 64) is None
    run, by_id = pretrained(results())
    run["provenance"]["start"]["published"] = "ResNet18_Weights.IMAGENET1K_V1"
    assert any("ResNet18_Weights.IMAGENET1K_V1" in remark for remark in proof(run, by_id).remarks)


def test_tensors_that_are_set_without_a_word_are_told() -> None:
    run, by_id = pretrained(results())
    run["provenance"]["start"]["unclaimed"] = 3
    assert "sets 3 tensors that it does not claim" in proof(run, by_id).remarks


def drawn(run_id: str, seed: int, labels: int, counts: tuple[int, ...]) -> dict[str, Any]:
    return {
        "id": run_id,
        "seed": seed,
        "settings": {"train": {"labels_per_class": labels, "validation": 0.0}},
        "provenance": {"data": {"class_counts": {"labelled": list(counts)}}},
    }


def test_subsets_are_held_against_one_another() -> None:
    runs = [
        drawn("a", 0, 1, (1, 1)),
        drawn("b", 0, 1, (1, 1)),
        drawn("c", 0, 2, (2, 2)),
        drawn("d", 1, 1, (1, 1)),
    ]
    images = {"a": [0, 5], "b": [0, 5], "c": [0, 1, 5, 6], "d": [2, 7]}

    def rows(changes: dict[str, list[int]]) -> list[dict[str, Any]]:
        return subset_rows(runs, {name: np.array(some) for name, some in {**images, **changes}.items()})

    sound = rows({})
    assert [(row["seed"], row["labels_per_class"], row["runs"]) for row in sound] == [(0, 1, 2), (0, 2, 1), (1, 1, 1)]
    assert [row["nested"] for row in sound] == [True, None, None]
    assert [row["own"] for row in sound] == [True, None, True]
    assert all(row["same"] and row["balanced"] for row in sound)
    assert not rows({"b": [0, 6]})[0]["same"]
    assert not rows({"c": [1, 2, 5, 6]})[0]["nested"]
    assert not rows({"d": [0, 5]})[0]["own"]
    assert not rows({"a": [0, 5, 9], "b": [0, 5, 9]})[0]["balanced"]


def test_the_summary_has_every_run_that_recorded_its_start() -> None:
    made = results()
    told = proof_summary(made)
    assert [row["run"] for row in told["proof"]] == [run["id"] for run in made["runs"]]
    assert all(row["holds"] for row in told["proof"])
    assert all(row["same_start"] for row in told["seeds"])
    assert len(told["seeds"]) == len(made["study"]["seeds"])
