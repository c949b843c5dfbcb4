"""The variants of a study: the products of its ``[[matrix]]`` blocks and its single ``[[run]]``s."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rotbench.errors import Fault
from rotbench.options import check_table
from rotbench.partner import alike, filled, matches_all
from rotbench.settings import AXES, TRAIN_KEYS, ModelSettings, TrainSettings
from rotbench.source import StudyPath, spell_path, suggestion

MAX_RUNS = 100_000
MAX_RULES = 1_000

Written = str | Mapping[str, Any]  # a plugin as a study file writes it: its name, or a table with name and options

_LIST_KEYS = ("augment", "milestones")  # their values are lists, so an axis of them is a list of lists


@dataclass(frozen=True)
class Variant:
    """One cell of the matrix: what its block sets, as the file writes it, and where the block stands."""

    values: Mapping[str, Any]
    path: StudyPath
    value_paths: Mapping[str, StudyPath]


def name_of(written: Written) -> str:
    """The plugin's name in what a study file writes for it."""
    return written if isinstance(written, str) else str(written.get("name", ""))


def is_written(value: object) -> bool:
    """Whether a value can name a plugin: its name, or a table with one."""
    name = value.get("name") if isinstance(value, dict) else value
    return isinstance(name, str) and bool(name)


def too_many(seeds: int, repeats: int) -> str:
    """What is said of a study of more runs than a study holds."""
    with_ = f"{seeds} {'seed' if seeds == 1 else 'seeds'}" + (f" and {repeats} repeats" if repeats > 1 else "")
    return f"more than {MAX_RUNS:,} runs with {with_}; a study holds {MAX_RUNS:,}"


def expand(
    matrices: list[dict[str, Any]], runs: list[dict[str, Any]], seeds: int, repeats: int, faults: list[Fault]
) -> tuple[Variant, ...]:
    """The variants of all blocks in the file's order; what is wrong with them is added to ``faults``."""
    total = len(runs) * seeds * repeats
    if total > MAX_RUNS:
        faults.append(Fault(("run", 0), too_many(seeds, repeats)))
        return ()
    variants: list[Variant] = []
    for index, matrix in enumerate(matrices):
        path: StudyPath = ("matrix", index)
        rest = dict(matrix)
        found = len(faults)
        exclude = _exclude(rest.pop("exclude", []), (*path, "exclude"), faults)
        together = _list_of_tables(rest.pop("together", []), (*path, "together"), faults)
        axes: list[list[_Choice]] = [
            axis for key, value in rest.items() if (axis := _axis(key, value, path, ("exclude", "together"), faults))
        ]
        if together:
            axes.append(_joint_axis(together, path, rest, faults))
        size = math.prod(len(axis) for axis in axes)  # counted before anything is expanded
        total += size * seeds * repeats
        if total > MAX_RUNS:
            faults.append(Fault(path, too_many(seeds, repeats)))
            return tuple(variants)
        if axes:
            # Where an axis could not be read, an exclude that matches nothing is no second mistake.
            variants += _product(axes, path, exclude, faults if len(faults) == found else [])
        elif not rest:
            faults.append(Fault(path, "sets no axis: give at least init or freeze"))
    for index, run in enumerate(runs):
        path = ("run", index)
        axes = []
        for key, value in run.items():
            if _check_key(key, (*path, key), (), faults) and _check_setting(key, value, (*path, key), faults):
                axes.append([_Choice({key: value}, {key: (*path, key)})])
        variants += _product(axes, path, [], faults)
    _refuse_twins(variants, faults)
    return tuple(variants)


@dataclass(frozen=True)
class _Choice:
    """One place on an axis: the keys that it sets, and where each value stands in the file."""

    values: Mapping[str, Any]
    paths: Mapping[str, StudyPath]


def _axis(key: str, value: Any, path: StudyPath, others: Sequence[str], faults: list[Fault]) -> list[_Choice]:
    """The choices that ``key = value`` of a matrix stands for; every list is an axis."""
    if not _check_key(key, (*path, key), others, faults):
        return []
    is_axis = isinstance(value, list) and (key not in _LIST_KEYS or any(isinstance(v, list) for v in value))
    if is_axis and not value:
        faults.append(Fault((*path, key), "an empty list gives no variant"))
    values = value if is_axis else [value]
    choices: dict[str, _Choice] = {}
    for index, element in enumerate(values):
        place = (*path, key, index) if is_axis else (*path, key)
        if not _check_setting(key, element, place, faults):
            continue
        if alike(element) in choices:
            faults.append(Fault(place, "stands twice on its axis"))
            continue
        choices[alike(element)] = _Choice({key: element}, {key: place})
    return list(choices.values())


def _check_key(key: str, path: StudyPath, others: Sequence[str], faults: list[Fault]) -> bool:
    if key in AXES:
        return True
    faults.append(Fault(path, f"unknown key{suggestion(key, (*AXES, *others))}", at_key=True))
    return False


def _check_setting(key: str, value: Any, place: StudyPath, faults: list[Fault]) -> bool:
    if key in ("init", "freeze"):
        if is_written(value):
            return True
        faults.append(Fault(place, "should be a name, or a table with a name and options"))
        return False
    _, found = check_table(TrainSettings if key in TRAIN_KEYS else ModelSettings, {key: value}, place[:-1])
    faults.extend(replace(fault, path=place) for fault in found[:1])
    return not found


def _joint_axis(
    together: list[dict[str, Any]], path: StudyPath, others: Mapping[str, Any], faults: list[Fault]
) -> list[_Choice]:
    """Keys that change together: each table of ``together`` is one place on one axis."""
    choices: list[_Choice] = []
    for index, joint in enumerate(together):
        place = (*path, "together", index)
        if set(joint) != set(together[0]):
            faults.append(Fault(place, f"should set the same keys as the first: {', '.join(together[0])}"))
        for key in set(joint) & set(others):
            faults.append(Fault((*place, key), "is an axis of this matrix already", at_key=True))
        values: dict[str, Any] = {}
        for key, value in joint.items():
            if _check_key(key, (*place, key), (), faults) and _check_setting(key, value, (*place, key), faults):
                values[key] = value
        if any(alike(values) == alike(choice.values) for choice in choices):
            faults.append(Fault(place, "stands twice on its axis"))
            continue
        choices.append(_Choice(values, {key: (*place, key) for key in values}))
    return choices


def _product(
    axes: list[list[_Choice]], path: StudyPath, exclude: list[dict[str, Any]], faults: list[Fault]
) -> Iterator[Variant]:
    unused = set(range(len(exclude)))
    kept = 0
    for choices in itertools.product(*axes):
        values = {key: value for choice in choices for key, value in choice.values.items()}
        matching = {index for index, rule in enumerate(exclude) if rule and matches_all(values, rule)}
        unused -= matching
        if not matching:
            kept += 1
            yield Variant(values, path, {k: p for choice in choices for k, p in choice.paths.items()})
    for index in sorted(unused):
        faults.append(Fault((*path, "exclude", index), "excludes nothing: no variant of this matrix matches"))
    if exclude and not kept:
        faults.append(Fault((*path, "exclude"), "excludes every variant of this matrix"))


def written_alike(one: Variant, other: Variant) -> bool:
    """Whether two variants say the same, the defaults of init and freeze filled in."""
    return alike(filled(one.values)) == alike(filled(other.values))


def _refuse_twins(variants: list[Variant], faults: list[Fault]) -> None:
    seen: dict[str, StudyPath] = {}
    for variant in variants:
        key = alike(filled(variant.values))
        if key in seen and seen[key] != variant.path:
            words = ", ".join(f"{name} = {json.dumps(value)}" for name, value in variant.values.items())
            faults.append(Fault(variant.path, f"the variant {words} is in {spell_path(seen[key])} already"))
        seen.setdefault(key, variant.path)


def _exclude(value: object, path: StudyPath, faults: list[Fault]) -> list[dict[str, Any]]:
    """The rules of an ``exclude``, but for those with a key that no variant can have."""
    rules = _list_of_tables(value, path, faults)
    if len(rules) > MAX_RULES:
        faults.append(Fault(path, f"more than {MAX_RULES:,} rules; a list of [[run]] says the same in fewer"))
        return []
    kept = []
    for index, rule in enumerate(rules):
        found = len(faults)
        for key in rule:
            _check_key(key, (*path, index, key), (), faults)
        if len(faults) == found:
            kept.append(rule)
    return kept


def _list_of_tables(value: object, path: StudyPath, faults: list[Fault]) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(element, dict) for element in value):
        return value
    faults.append(Fault(path, "should be a list of tables, [{ .. }, { .. }]"))
    return []
