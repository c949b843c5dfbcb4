"""A study: what one TOML file asks for, before any plugin is looked at.

Reading yields a :class:`Study` together with every fault found, so that the faults of plugin names and options, which
only the plan can find, are shown in the same list.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rotbench.errors import BadInput, Fault
from rotbench.matrix import MAX_RUNS, Variant, Written, expand, is_written, too_many
from rotbench.options import check_table
from rotbench.reporting import Reporting, read_reporting
from rotbench.settings import TRAIN_KEYS, ModelSettings, PretextSettings, ProbeSettings, Resources, TrainSettings
from rotbench.source import (
    MAX_KEY_PARTS,
    Source,
    StudyPath,
    parse_value,
    read_source,
    shown,
    spell_path,
    suggestion,
)


@dataclass(frozen=True)
class Pretext:
    """A pretraining: ``[pretext.NAME]``. ``train`` holds just the settings that it gives itself.

    ``threads`` are None for those of every run.
    """

    name: str
    task: Written
    init: Written
    train: Mapping[str, Any]
    threads: int | None
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
    probes: ProbeSettings | None  # None: nothing is probed
    changed: tuple[str, ...]  # settings given on the command line, as written there


#: Of so many unknown keys at the top it is guessed what was meant.
SUGGESTED = 50

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
    "probes",
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
    faults += _unknown_keys(data)

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
        faults.extend(replace(fault, message=_belongs(fault)) for fault in found)
        return instance

    title = _title(data.get("title", Path(source.name).stem), faults)
    seeds = _seeds(data.get("seeds", [0]), faults)
    repeats = _repeats(data.get("repeats", 1), faults)
    dataset, root = _dataset(table("dataset"), faults)
    model = checked(ModelSettings, table("model"), "model") or ModelSettings()
    train = table("train")
    if checked(TrainSettings, train, "train") is None:
        train = {}
    pretexts = _pretexts(table("pretext"), paths, faults)
    matrices = tables("matrix")
    if len(seeds) * len(pretexts) > MAX_RUNS:
        faults.append(Fault(("seeds",), too_many(len(seeds), 1)))
    variants = expand(matrices, tables("run"), len(seeds), repeats, faults)
    if not variants and not pretexts and not faults:
        faults.append(Fault((), "nothing to run: add a [[matrix]], a [[run]] or a [pretext.NAME]"))
    _refuse_changed_axes(paths, variants, faults)
    report = read_reporting(table("report"), tables("reference"), train, variants, pretexts, faults)
    resources = checked(Resources, table("resources"), "resources") or Resources()
    probes = checked(ProbeSettings, table("probes"), "probes") if "probes" in data else None
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
        probes=probes,
        changed=tuple(changes),
    )
    return study, faults


def _unknown_keys(data: Mapping[str, Any]) -> list[Fault]:
    """The keys of the file's top that mean nothing, with where they belong or what they may have been meant for."""
    known = set(_TOP) - set(data)
    faults = []
    for number, key in enumerate(key for key in data if key not in _TOP):
        if key in TRAIN_KEYS:
            words = "; it belongs in [train], a [pretext.NAME], a [[matrix]] or a [[run]]"
        elif number < SUGGESTED:
            words = suggestion(key, known)
        else:
            words = ""
        faults.append(Fault((key,), f"unknown key{words}", at_key=True))
    return faults


def _belongs(fault: Fault) -> str:
    """What is said of a fault in a table; a key of the file's top that stands in one is an easy mistake in TOML."""
    if fault.message.startswith("unknown key") and fault.path[-1] in _TOP:
        return "unknown key; it belongs at the top of the file, before the first [table]"
    return fault.message


def _dataset(given: dict[str, Any], faults: list[Fault]) -> tuple[dict[str, Any], str | None]:
    """The data set as a plugin is written, and the folder where it lies."""
    rest = dict(given)
    name, root = rest.pop("name", "digits"), rest.pop("root", None)
    if not isinstance(name, str):
        faults.append(Fault(("dataset", "name"), "should be the name of a data set, as text"))
        name, rest = "digits", {}
    if root is not None and (not isinstance(root, str) or "\0" in root):
        faults.append(Fault(("dataset", "root"), "should be a folder, as text"))
        root = None
    return {"name": name, **rest}, root


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


_NOT_OF_PRETEXTS = {
    "labels_per_class": "a pretext run sees all training images",
    "updates": "an epoch of a pretext run is one pass over all training images",
}


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
        for key, why in _NOT_OF_PRETEXTS.items():
            if key in rest:
                faults.append(Fault((*path, key), f"{why}; set it in the matrix", at_key=True))
                del rest[key]
        _, found = check_table(PretextSettings, rest, path, also=("task", "init"))
        faults.extend(found)
        rest = {} if found else rest
        threads = rest.pop("threads", None)
        # What --set gives for [train] beats what a pretext gives itself, unless --set names the pretext too.
        train = {k: v for k, v in rest.items() if k not in everywhere or f"pretext.{name}.{k}" in changed}
        pretexts[name] = Pretext(name, task, init, train, threads, path)
    return pretexts


def _apply_changes(data: dict[str, Any], changes: Sequence[str]) -> dict[str, str]:
    """Lay ``PATH=VALUE`` changes over the file's values; returns each change by the dotted path that it sets."""
    paths = {}
    for change in changes:
        path, equals, text = change.partition("=")
        parts = path.strip().split(".")
        told = f"--set {shown(change)}"
        if not equals or not all(parts):
            raise BadInput(f"{told}: not KEY=VALUE", "Write it as --set train.lr=0.1")
        if len(parts) > MAX_KEY_PARTS:
            raise BadInput(f"{told}: a key of more than {MAX_KEY_PARTS} parts", "Write it as --set train.lr=0.1")
        if parts[0] in ("matrix", "run"):
            raise BadInput(f"{told}: an axis is changed in the file", "--set takes train, model, pretext, ..")
        pretexts = data.get("pretext", {})
        if parts[0] == "pretext" and parts[1:] and isinstance(pretexts, dict) and parts[1] not in pretexts:
            raise BadInput(f"{told}: the study has no [pretext.{parts[1]}]", "Give the name of one that it has.")
        table = data
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise BadInput(f"{told}: {part} is not a table", "Give a dotted path such as train.lr")
        table[parts[-1]] = value = _value(text, told)
        for path in _leaves(value, ".".join(parts)):
            paths[path] = change
    return paths


def _leaves(value: Any, path: str) -> Iterator[str]:
    """The dotted paths that a value sets: of a table, those of its values too."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}")


def _value(text: str, told: str) -> Any:
    """A TOML value, or a bare word, since a shell eats the quotes of ``train.optimizer="sgd"``."""
    try:
        text.encode()
        return parse_value(text)
    except tomllib.TOMLDecodeError:
        return text.strip()
    except UnicodeEncodeError:
        raise BadInput(f"{told}: not UTF-8", "Write it as --set train.lr=0.1") from None
    except ValueError as error:
        raise BadInput(f"{told}: {error}", "Write it as --set train.lr=0.1") from None


def _refuse_changed_axes(paths: Mapping[str, str], variants: Sequence[Variant], faults: list[Fault]) -> None:
    axes = {key: variant for variant in reversed(variants) for key in variant.values}
    for path in sorted(paths):
        table, _, key = path.partition(".")
        if table in ("train", "model") and key in axes:
            where = spell_path(axes[key].path)
            message = f"has no effect: {key} is set in {where}"
            faults.append(Fault((table, key), message))
