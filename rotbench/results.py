"""All that a report needs, as one dictionary: what the study asks for, and how each of its runs stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotbench import __version__
from rotbench.notice import notices
from rotbench.plan import Plan
from rotbench.store import FORMAT, Outcome, Standing, Store, run_record, standings

if TYPE_CHECKING:
    from rotbench.predictions import Predictions

Results = dict[str, Any]


def describe(plan: Plan, command: str) -> dict[str, Any]:
    """What ``study.json`` holds: the study, and its planned runs as :func:`~rotbench.store.run_record` has them."""
    study = plan.study
    tasks = {plugin.name: plugin for plugin in plan.plugins if plugin.kind == "pretext task"}
    pretexts = {
        run.variant["pretext"]: tasks[run.settings["task"]["name"]] for run in plan.runs if run.kind == "pretext"
    }
    said = notices(plan)
    return {
        "study": {
            "title": study.title,
            "file": Path(study.source.name).name,
            "text": study.source.text,
            "changed": list(study.changed),
            "command": command,
            "seeds": list(plan.seeds),
            "repeats": plan.repeats,
            "rehearsal": plan.rehearsal,
            "dataset": plan.runs[0].settings["dataset"],
            "notice": getattr(plan.dataset.cls, "notice", ""),
            "baseline": dict(study.report.baseline),
            "primary": dict(study.report.primary),
            "margin": study.report.margin,
            "tune": list(study.report.tune),
            "interactions": study.report.interactions,
            "matched": [asdict(matched) for matched in plan.matched],
            "references": [dict(reference) for reference in study.report.references],
            "pretexts": {
                name: {
                    "task": task.name,
                    "summary": task.summary,
                    "score_name": getattr(task.cls, "score_name", "accuracy"),
                    "uses_labels": bool(getattr(task.cls, "uses_labels", False)),
                    "augments": bool(getattr(task.cls, "augments", False)),
                    # Labels that were dealt out at random tell nothing of an image.
                    "learns_labels": getattr(task.cls, "uses_labels", False) and not hasattr(task.cls, "relabel"),
                    "notice": said.get(name, ""),
                }
                for name, task in pretexts.items()
            },
            "plugins": [
                {
                    "kind": plugin.kind,
                    "name": plugin.name,
                    "summary": plugin.summary,
                    "origin": plugin.origin,
                    "sha256": plugin.reference.sha256,
                    "cite": cite if isinstance(cite := getattr(plugin.cls, "cite", ""), str) else "",
                }
                for plugin in plan.plugins
            ],
        },
        "runs": [run_record(run) for run in plan.runs],
        "probes": [run_record(run) for run in plan.probes],
    }


def collect(store: Store) -> Results:
    """The results of a store as they stand now.

    Raises :class:`~rotbench.errors.StoreUnusable` for a damaged or newer store; a folder that is no store gives a
    :class:`FileNotFoundError`.
    """
    from rotbench import predictions, subsets, thumbnails  # late: planning needs neither arrays nor what was predicted

    described = store.read_study()
    if described is None:
        raise FileNotFoundError(store.folder)
    records = described["runs"]
    probes = described.get("probes", [])
    standing = standings(store, [*records, *probes])
    outcomes = dict(store.outcomes())
    runs: list[dict[str, Any]] = []
    failed: set[str] = set()
    pictured: set[str] = set()
    shared: dict[str, int] = {}
    predicted: dict[str, Predictions] = {}
    folders: dict[str, Path] = {}
    for record in records:
        stands = standing[record["id"]]
        outcome = outcomes.get(stands.stored or "")
        failed_parent = next((parent for parent in record["needs"] if parent in failed), None)
        run = _run(record, outcome, stands.reason if stands.state == "stale" else None)
        if outcome is None and stands.state == "done":  # deleted
            run["error"] = stands.reason
        if outcome is None and failed_parent is not None:
            run |= {"status": "skipped", "error": f"{failed_parent} failed, which it starts from"}
        if run["status"] in ("failed", "skipped"):
            failed.add(record["id"])
        if run["kind"] == "pretext" and outcome is not None and run["variant"]["pretext"] not in pictured:
            # Of the first seed that has some: the other seeds see the same images.
            run["pictures"] = outcome.result.get("pictures", [])
            run["no_pictures"] = outcome.result.get("no_pictures")
            if run["pictures"]:
                pictured.add(run["variant"]["pretext"])
        if outcome is not None and predictions.usable(run):
            said = predictions.read_if_intact(outcome.folder, len(run["provenance"]["data"]["classes"]))
            if said is not None:
                predicted[run["id"]] = said
                run |= predictions.judged(said, len(run["provenance"]["data"]["classes"]))
                if "errors" in run:
                    folders[run["id"]] = outcome.folder
        if outcome is not None and outcome.result.get("seconds_shared_by") is not None:
            shared[run["id"]] = outcome.result["seconds_shared_by"]
        runs.append(run)
    study = _study(described["study"], runs)
    return {
        "format": FORMAT,
        "rotbench": __version__,
        "study": {**study, "class_counts": predictions.class_counts(predicted.values(), len(study["classes"]))},
        "runs": runs,
        "probes": [
            _probe(record, standing[record["id"]], outcomes.get(standing[record["id"]].stored or ""), failed)
            for record in probes
        ],
        "pairs": predictions.compared(study, runs, predicted),
        "subsets": subsets.subset_rows(
            runs, {name: said.seen for name, said in predicted.items() if said.seen is not None}
        ),
        "seed_agreement": predictions.seed_agreement(runs, predicted),
        "error_images": thumbnails.error_images(
            [(run, folders[run["id"]]) for run in predictions.first_of_each(runs, folders)]
        ),
        # Apart from the runs, which are the same however many of them are trained side by side.
        "seconds_shared_by": shared,
    }


def _run(record: Mapping[str, Any], outcome: Outcome | None, stale: str | None) -> dict[str, Any]:
    """One run of results.json. A stale run is shown as what it is: the result of the code that made it."""
    shown = outcome.record if outcome else record
    result = outcome.result if outcome else {}
    return {
        "id": shown["id"],
        "kind": record["kind"],
        "variant": record["variant"],
        "seed": record["seed"],
        "repeat": record.get("repeat", 0),
        "status": outcome.status if outcome else "missing",
        "error": result.get("error"),
        "diverged": result.get("diverged", False),
        "stale": stale,
        "needs": shown["needs"],
        "history": result.get("history", []),
        "final": result.get("final"),
        "provenance": result.get("provenance", {}),
        "settings": shown["settings"],
        "log": outcome.log if outcome else "",
        "train_seconds": result.get("train_seconds"),
        "images_per_second": result.get("images_per_second"),
        "device": result.get("device"),
        "precision": result.get("precision"),
        "versions": result.get("versions", {}),
    }


def _probe(
    record: Mapping[str, Any], stands: Standing, outcome: Outcome | None, failed: Collection[str]
) -> dict[str, Any]:
    """One probe of results.json: what it is of, and by stage the accuracies that were read off its features.

    ``failed`` are the ids of trainings that failed. ``epoch`` is that of the pretext run, None for its last and for
    what is no pretext run.
    """
    shown = outcome.record if outcome else record
    result = outcome.result if outcome else {}
    orphaned = outcome is None and any(parent in failed for parent in record["needs"])
    return {
        "id": shown["id"],
        "variant": record["variant"],
        "init": record["variant"]["probe"],
        "epoch": record["settings"]["probe"]["epoch"],
        "seed": record["seed"],
        "status": outcome.status if outcome else "skipped" if orphaned else "missing",
        "error": "what it is of failed" if orphaned else result.get("error"),
        "stale": stands.reason if stands.state == "stale" else None,
        "needs": shown["needs"],
        "stages": result.get("stages", []),
        "provenance": result.get("provenance", {}),
        "settings": shown["settings"],
        "versions": result.get("versions", {}),
    }


def _study(study: Mapping[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The study with what only its finished runs know: classes, test images, the chance of each pretext task."""
    data = next((run["provenance"]["data"] for run in runs if run["provenance"]), None)
    chances = {
        run["variant"]["pretext"]: run["provenance"].get("chance")
        for run in runs
        if run["kind"] == "pretext" and run["provenance"]
    }
    return {
        **study,
        "classes": data["classes"] if data else [],
        "test_images": data["test_images"] if data else None,
        "chance": 1 / len(data["classes"]) if data else None,
        "pretexts": {name: {**about, "chance": chances.get(name)} for name, about in study["pretexts"].items()},
    }
