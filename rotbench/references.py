"""Published numbers beside measured ones.

A single published run is no mean: it is held against the interval in which one more run of this study would lie. It
may lie outside for its recipe alone, so nothing here is a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.compare import Results, as_written, by_variant, finished
from rotbench.contrast import VariantSummary
from rotbench.curve import final_score
from rotbench.inference import prediction_interval
from rotbench.partner import matches_all
from rotbench.wording import percent


@dataclass(frozen=True)
class ReferenceRow:
    """One published number and what was measured where it belongs; ``mean`` and ``interval`` are fractions.

    ``interval`` is where as many more runs as were published would lie; ``standing`` says how the two stand; ``values``
    are the measured accuracies, one a seed of a variant and one a pretext run.
    """

    label: str
    accuracy: float
    at_least: bool
    source: str
    recipe: str
    n: int | None
    sd: float | None
    mean: float | None
    interval: tuple[float, float] | None
    standing: str
    values: tuple[float, ...]


def reference_rows(
    results: Results, summaries: Sequence[VariantSummary], labels: Mapping[str, str]
) -> tuple[ReferenceRow, ...]:
    """One row a published number and variant or pretext run that it is of, in the study's order."""
    rows = []
    pretexts = by_variant(results["runs"], "pretext")
    for reference in results["study"]["references"]:
        match = reference.get("match")
        if match is not None:
            measured = [
                (labels[as_written(summary.variant)], list(summary.accuracies.values()))
                for summary in summaries
                if matches_all(summary.variant, match)
            ]
        else:
            measured = [
                (f"pretext {variant['pretext']}", [final_score(run) for run in runs if finished(run)])
                for variant, runs in pretexts
                if variant["pretext"] == reference.get("pretext")
            ]
        rows += [_row(reference, label, values) for label, values in measured]
    return tuple(rows)


def _row(reference: Mapping[str, Any], label: str, values: Sequence[float]) -> ReferenceRow:
    accuracy, at_least = reference["test_accuracy"], bool(reference.get("at_least"))
    interval = None if at_least else prediction_interval(values, reference.get("n") or 1)
    return ReferenceRow(
        label=label,
        accuracy=accuracy,
        at_least=at_least,
        source=reference["source"],
        recipe=reference.get("recipe") or "",
        n=reference.get("n"),
        sd=reference.get("sd"),
        mean=sum(values) / len(values) if values else None,
        interval=interval,
        standing=_standing(accuracy, at_least, values, interval),
        values=tuple(values),
    )


def _standing(accuracy: float, at_least: bool, values: Sequence[float], interval: tuple[float, float] | None) -> str:
    if not values:
        return "not measured yet"
    if at_least:
        return f"{sum(value >= accuracy for value in values)} of {len(values)} seeds reach it"
    if interval is None:
        return f"one seed here: {percent(values[0])}"
    return "inside" if interval[0] <= accuracy <= interval[1] else "below" if accuracy < interval[0] else "above"
