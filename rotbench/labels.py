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
    labels = _labels(results)
    lines = []
    for group in groups.values():
        placed = sorted(
            ((at, item) for item in group if (at := labels.get(as_written(item.variant))) is not None),
            key=lambda place: place[0],
        )
        points = tuple((at, item.estimate) for at, item in placed if item.estimate is not None)
        if len(points) > 1:
            lines.append(LabelLine(placed[0][1].variant, points, _published(results, placed)))
    return tuple(lines)


def _labels(results: Results) -> dict[str, float]:
    """How many labels a class each variant had, validation images included; of all labels it is the mean."""
    classes = len(results["study"]["classes"])
    found: dict[str, float] = {}
    for run in results["runs"]:
        given, data = part(run, "train").get(AXIS), run["provenance"].get("data", {})
        if given is not None:
            found[as_written(run["variant"])] = float(given)
        elif classes and data.get("training_images"):
            found[as_written(run["variant"])] = (data["training_images"] + data.get("validation_images", 0)) / classes
    return found


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
            # A number that names no labels is of all of them.
            named = AXIS in reference["match"] or AXIS not in item.variant
            if named and matches_all(item.variant, reference["match"]):
                found.setdefault(who, {})[at] = reference["test_accuracy"]
    return tuple((who, tuple(sorted(curve.items()))) for who, curve in found.items() if len(curve) > 1)
