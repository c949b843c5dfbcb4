"""A class of hand-ins, without any training: simulated studies, each of somebody's own, and the known mistakes."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from rotbench.embedded import embedded, tidied
from rotbench.report import environment, render
from rotbench.resources import plugins_folder
from tests import simulated
from tests.simulated import digest

Results = dict[str, Any]
Run = dict[str, Any]

NAMES = ("ann", "ben", "cleo", "dora", "emil", "fay", "gus", "hana", "ivo", "june")
#: What the class was asked to reach; the simulated runs do.
THRESHOLD = {"match": {"init": "rotation", "freeze": "below"}, "test_accuracy": 0.6, "source": "the assignment"}


@functools.cache
def plain() -> Results:
    """A study of three seeds as the assignment asks for it, in order, of nobody yet."""
    results = simulated.results(seeds=3, epochs=4, pretext_epochs=4)
    for part in ("pairs", "seed_agreement", "error_images"):
        results[part] = []
    for run in results["runs"]:
        run.pop("by_class", None)
        run.pop("errors", None)
    results["study"]["references"].append({**THRESHOLD, "at_least": True})
    for plugin, file in zip(results["study"]["plugins"], ("rotation.py", "freeze_below.py"), strict=True):
        plugin["sha256"] = hashlib.sha256((plugins_folder() / file).read_bytes()).hexdigest()
    return results


def hand_in(name: str) -> Results:
    """The study as somebody else's machine would have run it: other bits, other times, accuracies a little apart."""
    results = deepcopy(plain())
    for run in results["runs"]:
        trained_anew(run, name)
    return results


def trained_anew(run: Run, name: str) -> None:
    """Give a run the weights, losses and times of another training."""
    place = int(digest(name, run["id"])[:6], 16) / 16**6
    made, start = run["provenance"], run["provenance"]["start"]
    made["backbone_sha256"] = digest(name, made["backbone_sha256"])
    if start["parent_backbone_sha256"]:
        start["parent_backbone_sha256"] = digest(name, start["parent_backbone_sha256"])
        start["backbone_sha256"] = start["parent_backbone_sha256"]
    for entry in run["history"]:
        entry["train_loss"] += 0.01 * place
        entry["test_loss"] += 0.01 * place
    run["history"][-1]["test_accuracy"] += round(0.004 * (place - 0.5), 4)
    run["final"] = {key: run["history"][-1][key] for key in ("test_accuracy", "test_loss")}
    timed_anew(run, name)


def timed_anew(run: Run, name: str) -> None:
    """The same training on another day: the same bits, and another time."""
    place = int(digest(name, run["id"], "time")[:6], 16) / 16**6
    run["train_seconds"] += place
    run["images_per_second"] -= place
    for entry in run["history"]:
        entry["seconds"] = run["train_seconds"] / len(run["history"])


def chosen(results: Results, **variant: Any) -> list[Run]:
    """The runs whose variants have these values; a freeze policy by its name."""
    return [
        run for run in results["runs"] if all(named(run["variant"].get(key)) == value for key, value in variant.items())
    ]


def named(value: Any) -> Any:
    return value["name"] if isinstance(value, dict) else value


def never_applied(results: Results) -> None:
    """The weights of the pretext run were read and never applied."""
    for run in chosen(results, init="rotation", freeze="below"):
        start = run["provenance"]["start"]
        start |= {"equals_parent": False, "changed": 0, "backbone_sha256": start["seed_backbone_sha256"]}


def other_learning_rate(results: Results) -> None:
    """Rotation was given another learning rate than what it is compared with."""
    for run in chosen(results, init="rotation", freeze="none"):
        run["settings"]["train"]["lr"] = 0.001


def seeds_after_a_look(results: Results) -> None:
    """The third seed was added once the first two could be seen."""
    results["study"]["looks"] = [[0, 1]]


def write_page(folder: Path, name: str, results: Results) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.html"
    before, _, after = drawn()
    carried = environment().from_string("{{ results|tojson }}").render(results=embedded(tidied(results), []))
    path.write_text(before + carried + after, encoding="utf-8")
    return path


@functools.cache
def drawn() -> tuple[str, str, str]:
    """The page of the plain study, before, within and after what it carries of its results.

    To draw a page takes a second, and who reads it looks at nothing else.
    """
    before, opening, rest = render(plain()).partition('id="results">')
    carried, closing, after = rest.partition("</script>")
    return before + opening, carried, closing + after


def write_json(folder: Path, name: str, results: Results) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


#: Who of the class made which mistake, and whose page is cut off.
MISTAKES: dict[str, Callable[[Results], None]] = {
    "ben": never_applied,
    "cleo": other_learning_rate,
    "dora": seeds_after_a_look,
}
DAMAGED = "emil"


def write_class(folder: Path) -> Path:
    """Ten pages, of which three have a mistake each and one is cut off; returns ``folder``."""
    for name in NAMES:
        results = hand_in(name)
        if name in MISTAKES:
            MISTAKES[name](results)
        path = write_page(folder, name, results)
        if name == DAMAGED:
            text = path.read_text()
            path.write_text(text[: len(text) // 2])
    return folder
