"""What a study asks of its report: the baseline, what is primary, the margin, fairness, and published numbers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.errors import Fault
from rotbench.matrix import Variant
from rotbench.options import check_table
from rotbench.partner import DEFAULTS, filled, matches_all
from rotbench.settings import AXES, Reference, ReportSettings
from rotbench.source import StudyPath, quoted, suggestion


@dataclass(frozen=True)
class Reporting:
    """The tables ``[report]`` and ``[[reference]]``, checked against the variants of the study."""

    baseline: Mapping[str, Any]
    primary: Mapping[str, Any]
    margin: float
    tune: tuple[str, ...]
    compute_matched: bool
    interactions: bool
    references: tuple[Mapping[str, Any], ...]


def read_reporting(
    report: Mapping[str, Any],
    references: Sequence[Mapping[str, Any]],
    train: Mapping[str, Any],
    variants: Sequence[Variant],
    pretexts: Collection[str],
    faults: list[Fault],
) -> Reporting:
    """Understand the two tables; ``train`` is ``[train]``, ``pretexts`` are names. Faults are added to ``faults``."""
    settings, found = check_table(ReportSettings, report, ("report",))
    faults += found
    settings = settings or ReportSettings()
    for index, reference in enumerate(references):
        _, found = check_table(Reference, reference, ("reference", index))
        faults += found
        _check_match(reference, ("reference", index), variants, pretexts, faults)
    _check_tune(settings.tune, train, variants, faults)
    baseline = _baseline(settings.baseline, variants, faults)
    _check_primary(settings.primary, baseline, variants, faults)
    return Reporting(
        baseline=baseline,
        primary=settings.primary or {},
        margin=settings.margin,
        tune=settings.tune,
        compute_matched=settings.compute_matched,
        interactions=settings.interactions,
        references=tuple(references),
    )


def _baseline(given: Mapping[str, Any] | None, variants: Sequence[Variant], faults: list[Fault]) -> Mapping[str, Any]:
    if given is None:
        return {"init": filled(variants[0].values)["init"] if variants else DEFAULTS["init"]}
    _check_conditions(given, ("report", "baseline"), variants, faults)
    return given


def _check_conditions(
    conditions: Mapping[str, Any] | None, path: StudyPath, variants: Sequence[Variant], faults: list[Fault]
) -> None:
    if conditions is None:
        return
    known = len(faults)
    for key, value in conditions.items():
        if key not in AXES:
            faults.append(Fault((*path, key), f"unknown key{suggestion(key, AXES)}", at_key=True))
        elif variants and not any(matches_all(variant.values, {key: value}) for variant in variants):
            faults.append(Fault((*path, key), f"no variant has {key} = {json.dumps(value)}"))
    together = any(matches_all(variant.values, conditions) for variant in variants)
    if variants and not together and len(faults) == known:
        words = ", ".join(f"{key} = {json.dumps(value)}" for key, value in conditions.items())
        faults.append(Fault(path, f"no variant has {words}"))


def _check_primary(
    primary: Mapping[str, Any] | None, baseline: Mapping[str, Any], variants: Sequence[Variant], faults: list[Fault]
) -> None:
    known = len(faults)
    _check_conditions(primary, ("report", "primary"), variants, faults)
    asked = [variant.values for variant in variants if primary and matches_all(variant.values, primary)]
    if len(faults) == known and asked and all(matches_all(values, baseline) for values in asked):
        message = "holds for the baseline alone; name what is compared with it"
        faults.append(Fault(("report", "primary"), message))


def _check_tune(
    tune: Sequence[str], train: Mapping[str, Any], variants: Sequence[Variant], faults: list[Fault]
) -> None:
    """Tuned axes must be there, be chosen on validation images, and offer every side the same values."""
    for index, key in enumerate(tune):
        path = ("report", "tune", index)
        if key in tune[:index]:
            faults.append(Fault(path, "stands twice"))
            return
        if key in ("init", "freeze"):
            faults.append(Fault(path, "is what is compared; tune takes settings, such as lr"))
            return
        if not any(key in variant.values for variant in variants):
            known = sorted({axis for variant in variants for axis in variant.values} - {"init", "freeze"})
            faults.append(Fault(path, f"no variant sets {quoted(key)}{suggestion(key, known)}"))
            return
    if not tune:
        return
    if any(not variant.values.get("validation", train.get("validation", 0)) for variant in variants):
        message = "choosing needs validation images: set validation in [train], such as validation = 0.1"
        faults.append(Fault(("report", "tune"), message))
    grids: dict[str, set[str]] = {}
    for variant in variants:
        rest = {key: value for key, value in variant.values.items() if key not in tune}
        tried = json.dumps([variant.values.get(key) for key in tune], sort_keys=True)
        grids.setdefault(json.dumps(rest, sort_keys=True), set()).add(tried)
    if all(len(grid) == 1 for grid in grids.values()):
        faults.append(Fault(("report", "tune"), "has one value to choose from; give the axis several"))
    elif len({frozenset(grid) for grid in grids.values()}) > 1:
        fewest = min(grids, key=lambda rest: len(grids[rest]))
        message = f"every variant must offer the same values to choose from; {fewest} offers {len(grids[fewest])}"
        faults.append(Fault(("report", "tune"), message))


def _check_match(
    reference: Mapping[str, Any],
    path: StudyPath,
    variants: Sequence[Variant],
    pretexts: Collection[str],
    faults: list[Fault],
) -> None:
    match, pretext = reference.get("match"), reference.get("pretext")
    if (match is None) == (pretext is None):
        faults.append(Fault(path, 'needs either "match" (which variant) or "pretext" (which pretext run)'))
    if isinstance(pretext, str) and pretext not in pretexts:
        faults.append(Fault((*path, "pretext"), f"no pretext run {quoted(pretext)}{suggestion(pretext, pretexts)}"))
    if isinstance(match, Mapping):
        _check_conditions(match, (*path, "match"), variants, faults)
