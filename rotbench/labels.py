"""Label efficiency: accuracy by the number of labelled images a class, and published curves of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotbench.compare import Results, as_written
from rotbench.contrast import Variant, VariantSummary
from rotbench.inference import Estimate
from rotbench.partner import MATCHED, matches_all
from rotbench.recipe import part

AXIS = "labels_per_class"


@dataclass(frozen=True)
class LabelLine:
    """What one variant comes to with each number of labels, rising; ``variant`` is the first of those it is made of.

    ``points`` are (labels a class, accuracy over seeds), all labels being as many as a class has on average.
    ``published`` are curves that others published of it: whose, and (labels a class, accuracy).
    """

    variant: Variant
    points: tuple[tuple[float, Estimate], ...]
    published: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


def label_lines(results: Results, summaries: Sequence[VariantSummary]) -> tuple[LabelLine, ...]:
    """A line for each variant but for its labels that was trained with two numbers of labels or more."""
    groups: dict[str, list[VariantSummary]] = {}
    for item in summaries:
        if MATCHED not in item.variant:
            rest = {key: value for key, value in item.variant.items() if key != AXIS}
            groups.setdefault(as_written(rest), []).append(item)
    everything = _all_labels(results)
    lines = []
    for group in groups.values():
        placed = sorted(
            ((at, item) for item in group if (at := _labels(item.variant, everything)) is not None),
            key=lambda place: place[0],
        )
        points = tuple((at, item.estimate) for at, item in placed if item.estimate is not None)
        if len(points) > 1:
            lines.append(LabelLine(placed[0][1].variant, points, _published(results, placed)))
    return tuple(lines)


def _labels(variant: Variant, everything: float | None) -> float | None:
    """How many labels a class a variant has; one that does not say has all."""
    labels = variant.get(AXIS)
    return everything if labels is None else float(labels)


def _all_labels(results: Results) -> float | None:
    """How many labels a class there are in all; None before a run that has them is done."""
    classes = len(results["study"]["classes"])
    for run in results["runs"]:
        images = run["provenance"].get("data", {}).get("training_images")
        if part(run, "train").get(AXIS) is None and images and classes:
            return float(images / classes)
    return None


def _published(
    results: Results, placed: Sequence[tuple[float, VariantSummary]]
) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
    """Curves of two points or more, by source and recipe; thresholds are no measurements."""
    found: dict[str, dict[float, float]] = {}
    for reference in results["study"]["references"]:
        if reference.get("match") is None or reference.get("at_least"):
            continue
        who = ", ".join(part for part in (reference.get("recipe"), reference["source"]) if part)
        for at, item in placed:
            if matches_all(item.variant, reference["match"]):
                found.setdefault(who, {})[at] = reference["test_accuracy"]
    return tuple((who, tuple(sorted(curve.items()))) for who, curve in found.items() if len(curve) > 1)
