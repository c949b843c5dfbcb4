"""How things are said on a terminal: variants, runs, times and sizes in a few words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rotbench.matrix import name_of
from rotbench.plan import Run


def variant_words(variants: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Each variant in a few words, by its JSON: ``rotation, below``. What all of them share is left out."""
    variants = list(variants)
    values: dict[str, dict[str, Any]] = {}
    for variant in variants:
        for key, value in variant.items():
            values.setdefault(key, {})[json.dumps(value)] = value
    lacked = {key for key in values for variant in variants if key not in variant and "pretext" not in variant}
    told = {key for key in values if len(values[key]) > 1 or key in ("pretext", "init") or key in lacked}
    words = {key: _axis_words(key, list(choices.values())) for key, choices in values.items()}
    return {
        json.dumps(variant): ", ".join(
            f"pretext {value}" if key == "pretext" else words[key][json.dumps(value)]
            for key, value in variant.items()
            if key in told
        )
        for variant in variants
    }


def run_words(runs: Iterable[Run]) -> dict[str, str]:
    """Each run in a few words, by its id: ``rotation, below, seed 0``."""
    runs = list(runs)
    words = variant_words(run.variant for run in runs if run.kind != "probe")
    words |= {json.dumps(run.variant): probe_words(run.variant) for run in runs if run.kind == "probe"}
    repeated = any(run.repeat for run in runs)
    return {
        run.id: f"{words[json.dumps(run.variant)]}, seed {run.seed}"
        + (f"/{run.repeat}" if repeated and run.kind == "downstream" else "")
        for run in runs
    }


def probe_words(variant: Mapping[str, Any]) -> str:
    """What is probed: ``probe rotation, epoch 5, labels_per_class 100``."""
    rest = [f"{key} {value}" for key, value in variant.items() if key != "probe"]
    written = variant["probe"]
    return ", ".join([f"probe {written if isinstance(written, str) else _with_options(written)}", *rest])


def _axis_words(key: str, values: list[Any]) -> dict[str, str]:
    """The values of one axis, each by its JSON; a plugin's options are told where its name alone is not enough."""
    if key not in ("init", "freeze"):
        return {
            json.dumps(value): f"{key} {value if isinstance(value, str) else json.dumps(value)}" for value in values
        }
    names = [name_of(value) for value in values]
    return {
        json.dumps(value): name if names.count(name) == 1 or isinstance(value, str) else _with_options(value)
        for value, name in zip(values, names, strict=True)
    }


def _with_options(value: Mapping[str, Any]) -> str:
    options = " ".join(str(option) for key, option in value.items() if key != "name")
    return f"{value['name']} {options}".strip()


def duration(seconds: float) -> str:
    """``45 s``, ``4 min 30 s``, ``2 h 05 min``, ``3 d 4 h``: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def about(seconds: float) -> str:
    """A duration in one unit: ``45 s``, ``4 min``, ``2.1 h``, ``3.2 d``."""
    for unit, length, digits in (("s", 1, 0), ("min", 60, 0), ("h", 3600, 1)):
        limit = {"s": 90, "min": 90 * 60, "h": 48 * 3600}[unit]
        if seconds < limit:
            return f"{seconds / length:.{digits}f} {unit}"
    return f"{seconds / 86400:.1f} d"


def megabytes(count: float) -> str:
    """``1.6 MB``, ``45 MB``, ``1.2 GB``."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def amount(count: int) -> str:
    """A number of parameters: ``980``, ``5.1 k``, ``11.2 M``."""
    if count < 1000:
        return str(count)
    return f"{count / 1e3:.1f} k" if count < 1e6 else f"{count / 1e6:.1f} M"


def counted(count: int, noun: str = "run") -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def scored(score: float, score_name: str = "accuracy") -> str:
    """``81.2%``; a score that is no accuracy is no percentage: ``0.555``."""
    return f"{score:.1%}" if score_name == "accuracy" else f"{score:.3f}"
