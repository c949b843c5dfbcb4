"""What a run was asked to do, where and with what it was done, and in what two of these differ, in words.

Runs are plain mappings, planned ones as well as those of ``results.json``. What one side does not know is no
difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rotbench.partner import alike
from rotbench.settings import TRAIN_KEYS
from rotbench.trained import listed

Run = Mapping[str, Any]

#: The settings that are one difference, under the name that stands first; all others stand for themselves.
JOINT: Mapping[str, tuple[str, ...]] = {
    "schedule": ("schedule", "step_epochs", "gamma", "milestones", "warmup_epochs"),
    "optimizer": ("optimizer", "momentum", "nesterov"),
    "model": ("name",),
    "updates made": (),
    "labelled images": (),
}
#: The settings of ``[train]`` that are compared one by one. ``test_each_epoch`` changes no weight: it says when the
#: test images are looked at.
PLAIN = tuple(
    key
    for key in TRAIN_KEYS
    if key not in (*JOINT["schedule"], *JOINT["optimizer"], "precision", "updates", "test_each_epoch")
)
#: Where and with what a run was made: nothing that an init names.
SURROUNDINGS = ("device", "threads", "torch", "torchvision", "data", "labelled images", "updates made")


@dataclass(frozen=True)
class Value:
    """A value to compare, and in words."""

    key: Any
    words: str


def value_words(value: Any) -> str:
    """An axis' value in words: ``below (stage layer4, batchnorm train)``."""
    if isinstance(value, Mapping) and "name" in value:
        options = ", ".join(f"{key} {value_words(option)}" for key, option in value.items() if key != "name")
        return f"{value['name']} ({options})" if options else str(value["name"])
    return value if isinstance(value, str) else json.dumps(value)


def part(run: Run, name: str) -> Mapping[str, Any]:
    """A table of a run's settings, empty where it has none."""
    table = run.get("settings", {}).get(name)
    return table if isinstance(table, Mapping) else {}


def kept(run: Run, name: str) -> Mapping[str, Any]:
    """A part of what a run recorded, empty where it recorded none."""
    recorded = (run.get("provenance") or {}).get(name)
    return recorded if isinstance(recorded, Mapping) else {}


def moved_between(one: Mapping[str, Value], other: Mapping[str, Value]) -> dict[str, tuple[str, str]]:
    """Of what both know, what differs: both values in words, where words tell them apart."""
    return {
        name: (value.words, other[name].words if other[name].words != value.words else "another")
        for name, value in one.items()
        if name in other and value.key != other[name].key
    }


def values_of(run: Run, *, own_augmentation: bool = False) -> dict[str, Value]:
    """What a run knows of its settings and surroundings, but for its plugins and its schedule."""
    train, model = part(run, "train"), part(run, "model")
    found = {name: Value(alike(train[name]), _words(name, train[name])) for name in PLAIN if name in train}
    if own_augmentation:
        found["augment"] = Value("own", "by the task itself")
    for name, key in (("model", "name"), ("stem", "stem")):
        if key in model:
            found[name] = Value(model[key], str(model[key]))
    if "updates" in train and train.get("labels_per_class") is not None:
        found["updates"] = Value(train["updates"], str(train["updates"]))
    return found | _surroundings(run)


def _words(name: str, value: Any) -> str:
    if name == "augment":
        return listed(value) if value else "none"
    if name == "labels_per_class" and value is None:
        return "all"
    return f"{value:g}" if isinstance(value, float) else value_words(value)


def optimizer_moved(one: Run, other: Run) -> dict[str, tuple[str, str]]:
    """The optimisers in words where they differ; two of SGD may differ in what both know of their momentum."""
    trains = [part(run, "train") for run in (one, other)]
    if any("optimizer" not in train for train in trains):
        return {}
    names = [train["optimizer"] for train in trains]
    inner = [key for key in ("momentum", "nesterov") if all(key in train for train in trains)]
    if names[0] == names[1] and (
        names[0] != "sgd" or all(alike(trains[0][key]) == alike(trains[1][key]) for key in inner)
    ):
        return {}
    return {"optimizer": (_optimizer_words(trains[0]), _optimizer_words(trains[1]))}


def _optimizer_words(train: Mapping[str, Any]) -> str:
    name, momentum = str(train["optimizer"]), train.get("momentum")
    if name != "sgd" or momentum is None:
        return name
    return f"sgd with {'Nesterov momentum' if train.get('nesterov') else 'momentum'} {momentum:g}"


def _surroundings(run: Run) -> dict[str, Value]:
    """Data, machine, precision and versions.

    Python's version and rotbench's own change no number: what does raises the version of results, and an older run is
    stale.
    """
    provenance, data, versions = run.get("provenance") or {}, kept(run, "data"), run.get("versions") or {}
    dataset, fingerprint = part(run, "dataset"), data.get("fingerprint", run.get("fingerprint"))
    found = {}
    if dataset and fingerprint is not None:
        found["data"] = Value([alike(dataset), fingerprint], f"{value_words(dataset)} {str(fingerprint)[:12]}")
    if data.get("subset_sha256"):
        found["labelled images"] = Value(data["subset_sha256"], "one choice")
    if provenance.get("updates") is not None:
        found["updates made"] = Value(provenance["updates"], f"{provenance['updates']:,}")
    if run.get("device"):
        # Two GPUs of one machine compute alike; which of them was free is chance.
        kind = str(run["device"]).partition(":")[0]
        found["device"] = Value(kind, kind)
    asked = part(run, "train").get("precision")
    precision = run.get("precision") or (asked if asked != "auto" else None)
    if precision:
        found["precision"] = Value(precision, str(precision))
    threads = provenance.get("threads", run.get("settings", {}).get("threads"))
    if threads is not None:
        found["threads"] = Value(threads, str(threads))
    for name in ("torch", "torchvision"):
        if versions.get(name):
            found[name] = Value(versions[name], str(versions[name]))
    return found


def own_plugins(run: Run) -> dict[str, Value]:
    """The freeze policy and, but for the pretext run that it names, the init."""
    return {
        name: Value(alike(table), value_words(table))
        for name in ("freeze", "init")
        if (table := {key: value for key, value in part(run, name).items() if key != "pretext"})
    }


def staleness(run: Run) -> dict[str, Value]:
    """Whether a run was made by other plugin code, or with other data, than are there now."""
    stale = run.get("stale")
    return {"code or data": Value(bool(stale), f"stale: {stale}" if stale else "current")}


def schedules(one: Run, other: Run) -> Literal["unknown", "same", "stretched", "other"]:
    """How the learning rate falls on both sides; stretched: the same in proportion to the epochs."""
    trains = [part(run, "train") for run in (one, other)]
    if any("schedule" not in train or "epochs" not in train for train in trains):
        return "unknown"
    by = trains[1]["epochs"] / trains[0]["epochs"]
    first, second = _falling(trains[0]), _falling(trains[1])
    if _fall_alike(first, second):
        return "same"
    if _fall_alike(_falling(trains[0], by), second) or _fall_alike(first, _falling(trains[1], 1 / by)):
        return "stretched"
    return "other"


def _fall_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what both know of how the learning rate falls is the same."""
    if {"milestones", "step_epochs"} <= set(one) ^ set(other):
        return False
    return all(one[key] == other[key] for key in one if key in other)


def _falling(train: Mapping[str, Any], by: float = 1.0) -> dict[str, Any]:
    """What has an effect of a schedule, its epochs times ``by``."""
    found: dict[str, Any] = {"schedule": train["schedule"], "warmup_epochs": round(train.get("warmup_epochs", 0) * by)}
    if train["schedule"] == "step":
        if train.get("gamma") is not None:
            found["gamma"] = train["gamma"]
        if train.get("milestones"):
            found["milestones"] = [round(epoch * by) for epoch in train["milestones"]]
        elif train.get("step_epochs") is not None:
            found["step_epochs"] = round(train["step_epochs"] * by)
    return found


def schedule_moved(one: Run, other: Run, *, stretched: bool) -> dict[str, tuple[str, str]]:
    """The schedules in words where they differ, and where ``stretched`` asks for it also those that were stretched."""
    told = ("other", "stretched") if stretched else ("other",)
    if schedules(one, other) not in told:
        return {}
    return {"schedule": (_schedule_words(part(one, "train")), _schedule_words(part(other, "train")))}


def _schedule_words(train: Mapping[str, Any]) -> str:
    falling = _falling(train)
    words = str(falling["schedule"])
    if "gamma" in falling:
        words += f" by {falling['gamma']:g}"
    if "milestones" in falling:
        words += f" after epochs {listed([str(epoch) for epoch in falling['milestones']])}"
    elif "step_epochs" in falling:
        words += f" every {falling['step_epochs']} epochs"
    return words + (f" after a warm-up of {falling['warmup_epochs']}" if falling["warmup_epochs"] else "")
