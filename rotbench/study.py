"""A study: what one TOML file asks for, before any plugin is looked at.

Reading yields a :class:`Study` together with every fault found, so that the faults of plugin names and options, which
only the plan can find, are shown in the same list.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rotbench.errors import BadInput, Fault
from rotbench.matrix import MAX_RUNS, Variant, Written, expand, is_written
from rotbench.options import check_table
from rotbench.reporting import Reporting, read_reporting
from rotbench.settings import ModelSettings, Resources, TrainSettings
from rotbench.source import Source, StudyPath, read_source, spell_path, suggestion


@dataclass(frozen=True)
class Pretext:
    """A pretraining: ``[pretext.NAME]``. ``train`` holds just the settings that it gives itself."""

    name: str
    task: Written
    init: Written
    train: Mapping[str, Any]
    path: StudyPath


@dataclass(frozen=True)
class Study:
    """A study file as understood: names of plugins are not yet looked up."""

    source: Source
    folder: Path
    title: str
    seeds: tuple[int, ...]
    dataset: Written
    root: str | None
    model: ModelSettings
    train: Mapping[str, Any]
    pretexts: Mapping[str, Pretext]
    variants: tuple[Variant, ...]
    repeats: int  # downstream runs from each pretext run
    report: Reporting
    resources: Resources
    changed: tuple[str, ...]  # settings given on the command line, as written there


_TOP = (
    "title",
    "seeds",
    "repeats",
    "dataset",
    "model",
    "train",
    "pretext",
    "matrix",
    "run",
    "report",
    "reference",
    "resources",
)


def read_study(path: Path, changes: Sequence[str] = ()) -> tuple[Study, list[Fault]]:
    """Read a study file, with ``--set`` changes such as ``"train.lr=0.1"`` laid over it.

    Returns the study and its faults; where there are faults the study holds what could be understood.
    """
    return understand(read_source(path), path.resolve().parent, changes)


def understand(source: Source, folder: Path, changes: Sequence[str] = ()) -> tuple[Study, list[Fault]]:
    """The study that a source describes; relative paths in it start from ``folder``."""
    faults: list[Fault] = []
    data = json.loads(json.dumps(source.data, default=str))  # a copy of plain values: dates become text
    paths = _apply_changes(data, changes)
    faults += [
        Fault((key,), f"unknown key{suggestion(key, set(_TOP) - set(data))}", at_key=True)
        for key in data
        if key not in _TOP
    ]

    def table(key: str) -> dict[str, Any]:
        value = data.get(key, {})
        if isinstance(value, dict):
            return value
        faults.append(Fault((key,), f"should be a table, [{key}]"))
        return {}

    def tables(key: str) -> list[dict[str, Any]]:
        value = data.get(key, [])
        if isinstance(value, list) and all(isinstance(element, dict) for element in value):
            return value
        faults.append(Fault((key,), f"should be an array of tables, [[{key}]]"))
        return []

    def checked(cls: type, given: dict[str, Any], *path: str | int) -> Any:
        instance, found = check_table(cls, given, path)
        faults.extend(found)
        return instance

    title = _title(data.get("title", Path(source.name).stem), faults)
    seeds = _seeds(data.get("seeds", [0]), faults)
    repeats = _repeats(data.get("repeats", 1), faults)
    given_dataset = table("dataset")
    root = given_dataset.pop("root", None)
    if root is not None and not isinstance(root, str):
        faults.append(Fault(("dataset", "root"), "should be a folder, as text"))
        root = None
    dataset = {"name": "digits", **given_dataset}
    model = checked(ModelSettings, table("model"), "model") or ModelSettings()
    train = table("train")
    if checked(TrainSettings, train, "train") is None:
        train = {}
    pretexts = _pretexts(table("pretext"), paths, faults)
    matrices = tables("matrix")
    variants = expand(matrices, tables("run"), len(seeds) * repeats, faults)
    if "matrix" not in data and "run" not in data and not pretexts:
        faults.append(Fault((), "nothing to run: add a [[matrix]], a [[run]] or a [pretext.NAME]"))
    _refuse_changed_axes(paths, variants, faults)
    report = read_reporting(table("report"), tables("reference"), train, variants, pretexts, faults)
    resources = checked(Resources, table("resources"), "resources") or Resources()
    study = Study(
        source=replace(source, given=paths),
        folder=folder,
        title=title,
        seeds=seeds,
        dataset=dataset,
        root=root,
        model=model,
        train=train,
        pretexts=pretexts,
        variants=variants,
        repeats=repeats,
        report=report,
        resources=resources,
        changed=tuple(changes),
    )
    return study, faults


def _title(value: object, faults: list[Fault]) -> str:
    if isinstance(value, str) and value.strip():
        return value
    faults.append(Fault(("title",), "should be some text"))
    return "untitled"


def _seeds(value: object, faults: list[Fault]) -> tuple[int, ...]:
    def whole(number: object) -> bool:
        return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**31

    if whole(value) and isinstance(value, int) and 1 <= value <= MAX_RUNS:
        return tuple(range(value))
    if isinstance(value, list) and value and all(whole(seed) for seed in value):
        if len(set(value)) == len(value):
            return tuple(value)
        faults.append(Fault(("seeds",), "a seed stands twice; each seed is one repetition"))
    else:
        faults.append(Fault(("seeds",), "should be a list of whole numbers from 0 on, or how many seeds"))
    return (0,)


def _repeats(value: object, faults: list[Fault]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RUNS:
        return value
    faults.append(Fault(("repeats",), "should be how many downstream runs start from each pretext run, 1 or more"))
    return 1


def _pretexts(table: dict[str, Any], changed: Iterable[str], faults: list[Fault]) -> dict[str, Pretext]:
    everywhere = {path.removeprefix("train.") for path in changed if path.startswith("train.")}
    pretexts = {}
    for name, entry in table.items():
        path: StudyPath = ("pretext", name)
        if not isinstance(entry, dict):
            faults.append(Fault(path, f"should be a table, [pretext.{name}]"))
            continue
        rest = dict(entry)
        task, init = rest.pop("task", None), rest.pop("init", "random")
        if not is_written(task):
            faults.append(Fault((*path, "task"), "should name a pretext task, or be a table with its name"))
            task = ""
        if not is_written(init):
            faults.append(Fault((*path, "init"), "should name an init or a pretext, or be a table with its name"))
            init = "random"
        if "labels_per_class" in rest:
            faults.append(
                Fault((*path, "labels_per_class"), "a pretext run sees all training images; set it in the matrix", True)
            )
            del rest["labels_per_class"]
        _, found = check_table(TrainSettings, rest, path)
        faults.extend(found)
        rest = {} if found else rest
        # What --set gives for [train] beats what a pretext gives itself, unless --set names the pretext too.
        train = {k: v for k, v in rest.items() if k not in everywhere or f"pretext.{name}.{k}" in changed}
        pretexts[name] = Pretext(name, task, init, train, path)
    return pretexts


def _apply_changes(data: dict[str, Any], changes: Sequence[str]) -> dict[str, str]:
    """Lay ``PATH=VALUE`` changes over the file's values; returns each change by the dotted path that it sets."""
    paths = {}
    for change in changes:
        path, equals, text = change.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            raise BadInput(f"--set {change}: not KEY=VALUE", "Write it as --set train.lr=0.1")
        if parts[0] in ("matrix", "run"):
            raise BadInput(f"--set {change}: an axis is changed in the file", "--set takes train, model, pretext, ..")
        if parts[0] == "pretext" and parts[1:2] and parts[1] not in data.get("pretext", {}):
            raise BadInput(
                f"--set {change}: the study has no [pretext.{parts[1]}]", "Give the name of one that it has."
            )
        table = data
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise BadInput(f"--set {change}: {part} is not a table", "Give a dotted path such as train.lr")
        table[parts[-1]] = _value(text)
        paths[".".join(parts)] = change
    return paths


def _value(text: str) -> Any:
    """A TOML value, or a bare word, since a shell eats the quotes of ``train.optimizer="sgd"``."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _refuse_changed_axes(paths: Mapping[str, str], variants: Sequence[Variant], faults: list[Fault]) -> None:
    axes = {key: variant for variant in reversed(variants) for key in variant.values}
    for path in sorted(paths):
        table, _, key = path.partition(".")
        if table in ("train", "model") and key in axes:
            where = spell_path(axes[key].path)
            message = f"has no effect: {key} is set in {where}"
            faults.append(Fault((table, key), message))
