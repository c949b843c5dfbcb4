"""Simulated results as the store of a finished study: what commands read from a folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from rotbench._version import RESULTS_VERSION
from rotbench.predictions import FILE
from rotbench.store import Store, commit, to_json
from tests.simulated import digest

Results = dict[str, Any]

#: What a run was asked for, and what came of it, by their keys in results.json.
RECORD = ("kind", "variant", "seed", "repeat", "needs", "settings")
RESULT = ("history", "final", "provenance", "error", "diverged", "train_seconds", "images_per_second", "device")
RESULT_TOO = ("precision", "versions", "pictures")


def write_store(folder: Path, results: Results, *, predictions: bool = False) -> Store:
    """Write the store whose results these would be; runs that are missing are planned alone.

    With ``predictions`` a downstream run keeps what it said of each test image, right as often as its accuracy is.
    """
    results = copy.deepcopy(results)
    store = Store(folder)
    store.create()
    named = {run["id"]: f"{run['id'].rpartition('-')[0]}-{digest(run['id'])[:12]}" for run in results["runs"]}
    records = []
    for run in results["runs"]:
        record: dict[str, Any] = {"id": named[run["id"]], "repeat": 0} | {key: run[key] for key in RECORD if key in run}
        record |= {"needs": [named[parent] for parent in run["needs"]], "settings_sha256": digest(run["id"])}
        record |= {"plugins": [], "fingerprint": "", "results_version": RESULTS_VERSION}
        records.append(record)
        if run["status"] not in ("done", "failed"):
            continue
        if "start" in run["provenance"] and run["provenance"]["start"]["parent"]:
            run["provenance"]["start"]["parent"] = named[run["provenance"]["start"]["parent"]]
        if "data" in run["provenance"]:
            run["provenance"]["data"]["classes"] = results["study"]["classes"]
        result = {key: run[key] for key in (*RESULT, *RESULT_TOO) if key in run}
        files = {"run.json": to_json(record), "result.json": to_json(result), "log.txt": run["log"].encode()}
        if predictions and run["kind"] == "downstream" and run["status"] == "done":
            files[FILE] = save(_predictions(run, results["study"]))
        attempt = store.open_attempt(record["id"], {})
        commit(attempt, record["id"], run["status"], files)
        store.publish(attempt)
    store.write_study({"study": results["study"], "runs": records})
    return store


def _predictions(run: dict[str, Any], study: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(int(digest(run["id"])[:12], 16))
    count, classes = study["test_images"], len(study["classes"])
    label = np.arange(count) % classes
    wrong = draw.permutation(count)[: count - round(count * run["final"]["test_accuracy"])]
    predicted = label.copy()
    predicted[wrong] = (label[wrong] + draw.integers(1, classes, len(wrong))) % classes
    confidence = draw.uniform(1 / classes, 1, count).astype(np.float16)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:8]
    return {
        "predicted": predicted.astype(np.int16),
        "confidence": confidence,
        "label": label.astype(np.int16),
        "error_index": surest.astype(np.int32),
        "error_pixels": draw.integers(0, 256, (len(surest), 3, 32, 32), dtype=np.uint8),
    }
