"""How numbers, variants and runs are written on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rotbench import compare
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Variant
from rotbench.inference import ALPHA, ROUNDING


def percent(fraction: float, digits: int = 1) -> str:
    """0.641 -> ``64.1 %``, with a space that does not break."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float, sign: bool = True) -> str:
    """A difference of accuracies in percentage points, one digit: 0.176 -> ``+17.6``.

    What one digit would make zero keeps its first: an interval that ends at -0.01 is not one that ends at 0.0.
    """
    number = 0.0 if abs(fraction) < ROUNDING else 100 * fraction
    if number and abs(number) < 0.05:
        text = f"{number:+.1g}" if sign else f"{number:.1g}"
        text = text if "e" not in text else f"{number:+.0e}" if sign else f"{number:.0e}"
    else:
        text = f"{number:+.1f}" if sign and number else f"{number:.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


def span(interval: tuple[float, float]) -> str:
    """An interval in percentage points: ``16.9 to 18.3``."""
    return f"{points(interval[0], sign=False)} to {points(interval[1], sign=False)}"


def p_value(p: float) -> str:
    """A p value to two or three digits, ``< 0.001`` where smaller; never rounded up to the level of a test."""
    if p < 0.001:
        return "<\N{NO-BREAK SPACE}0.001"
    if 0.0495 <= p < ALPHA:
        return f"{math.floor(10000 * p) / 10000:.4f}"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def millions(count: int) -> str:
    """A number of parameters: ``11.18 M``; below a tenth of a million as it is."""
    return f"{count / 1e6:.2f}\N{NO-BREAK SPACE}M" if count >= 100_000 else f"{count:,}"


def exact(number: float | None) -> str:
    """The shortest text that reads back as the same float; empty for None."""
    return "" if number is None else repr(float(number))


def axes_of(variants: Sequence[Variant]) -> list[str]:
    """Every key that some variant sets, in order of first appearance."""
    return list(dict.fromkeys(key for variant in variants for key in variant))


def labels_by_axis(variants: Sequence[Variant]) -> dict[str, dict[str, str]]:
    """For each axis the label of each of its values, by ``as_written``."""
    return {
        axis: compare.axis_labels([variant[axis] for variant in variants if axis in variant])
        for axis in axes_of(variants)
    }


def varying(variants: Sequence[Variant]) -> list[str]:
    """The axes on which the variants differ; the first one alone where they do not."""
    axes = axes_of(variants)
    differing = [axis for axis in axes if len({as_written(variant.get(axis)) for variant in variants}) > 1]
    return differing or axes[:1]


def shared_values(variants: Sequence[Variant]) -> dict[str, str]:
    """What all variants set to the same value and no label tells, axis by axis in words."""
    differing, by_axis = varying(variants), labels_by_axis(variants)
    return {
        axis: next(iter(by_axis[axis].values()))
        for axis in axes_of(variants)
        if axis not in differing and all(axis in variant for variant in variants)
    }


def variant_labels(variants: Sequence[Variant], without: Sequence[str] = ()) -> dict[str, str]:
    """A label for each variant, by ``as_written``: its values on the axes that vary, ``rotation / below``.

    ``without`` are axes to leave out. Numbers and switches carry their axis' name: ``rotation / lr 0.1``.
    """
    by_axis = labels_by_axis(variants)
    shown = [axis for axis in varying(variants) if axis not in without]

    def part(axis: str, value: Any) -> str:
        label = by_axis[axis][as_written(value)]
        return label if axis in ("init", "freeze") else f"{axis} {label}"

    return {
        as_written(variant): " / ".join(part(axis, variant[axis]) for axis in shown if axis in variant) or "all"
        for variant in variants
    }


def pretext_labels(results: Results) -> dict[str, str]:
    """The names of the pretext runs, by ``as_written`` of their variant."""
    return {
        as_written(variant): str(variant["pretext"]) for variant, _ in compare.by_variant(results["runs"], "pretext")
    }


def run_label(run: Run, labels: Mapping[str, str]) -> str:
    """A run in words: ``rotation / below, seed 0``."""
    variant, seed = variant_and_seed(run, labels)
    return f"{variant}, seed {seed}"


def variant_and_seed(run: Run, labels: Mapping[str, str]) -> tuple[str, str]:
    """A run's variant or pretext run in words, and its seed with its repeat: ``0, repeat 1``."""
    name = f"pretext {run['variant']['pretext']}" if run["kind"] == "pretext" else labels[as_written(run["variant"])]
    return name, f"{run['seed']}" + (f", repeat {run['repeat']}" if run.get("repeat") else "")


def some_runs(runs: Iterable[tuple[str, str]]) -> str:
    """Several runs, those of one variant together: ``rotation / below, seeds 0, 1; pretext rotation, seed 0``.

    ``runs`` as :func:`variant_and_seed` tells them.
    """
    seeds: dict[str, list[str]] = {}
    for variant, seed in runs:
        seeds.setdefault(variant, []).append(seed)
    told = (f"{variant}, {'seed' if len(some) == 1 else 'seeds'} {enumerated(some)}" for variant, some in seeds.items())
    return enumerated(told, "; ")


def enumerated(names: Iterable[str], between: str = ", ", most: int = 3) -> str:
    """The first few names, and how many more there are: ``ann, ben, cleo and 4 more``."""
    told = list(names)
    # One more is told in no more room than its name takes.
    if len(told) <= most + 1:
        return between.join(told)
    return f"{between.join(told[:most])} and {len(told) - most} more"
