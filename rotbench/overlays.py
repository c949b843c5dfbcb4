"""What is drawn of two studies: their differences, and the curves of both in one panel a variant."""

from __future__ import annotations

from collections.abc import Mapping

from rotbench import figures
from rotbench.canvas import Drawing
from rotbench.compare import Run, as_written, by_variant
from rotbench.contrast import VariantSummary
from rotbench.curve import scored_part
from rotbench.inference import Estimate
from rotbench.outcome import Outcome
from rotbench.tables import CurveTable, curve_table
from rotbench.versus import SAME, margin_of
from rotbench.views import seed_lines

#: Every figure that a page can have.
NAMES = ("differences", "curves")
#: Curves are drawn where there are at most so many variants.
MOST_PANELS = 8


def drawings(found: Outcome) -> dict[str, Drawing]:
    """The differences, and where variants are few the curves of both; only those for which there is something."""
    drawn = {}
    rows = [
        figures.Row(
            key=f"v{place}",
            label=found.label(item),
            style=0 if item.method == "paired" else 1,
            values=tuple(item.differences.values()),
            estimate=Estimate(item.n, item.difference, *(item.interval or (None, None))),
            faint=item.verdict is None and item.reason != SAME,
        )
        for place, item in enumerate(found.contrasts)
        if item.difference is not None
    ]
    if rows:
        drawn["differences"] = figures.differences("differences", "B minus A", rows, margin_of(found.a))
    panels = [
        figures.Panel(title, tuple(series), (), f"{part} accuracy", True)
        for title, series, part in _series(found)
        if series
    ]
    if panels:
        # Each on a scale of its own: what is compared stands in one panel.
        drawn["curves"] = figures.curves("curves", "Accuracy by epoch in A and B", panels, alone=True)
    return drawn


def curves_table(found: Outcome) -> CurveTable | None:
    """The means that the curves show, as numbers."""
    columns = [
        (series.key, f"{title}, {series.label}", series.lines, True)
        for title, drawn, _ in _series(found)
        for series in drawn
    ]
    return curve_table("curves", "Accuracy by epoch in A and B", columns, "") if columns else None


def _series(found: Outcome) -> list[tuple[str, list[figures.Series], str]]:
    """Of each variant the curves of A, solid, and of B, dashed; none where they are many, or are not of one kind."""
    parts = [scored_part(side["runs"]) for side in found.sides]
    if len(found.contrasts) > MOST_PANELS or parts[0] != parts[1]:
        return []
    runs = [{as_written(variant): of for variant, of in by_variant(side["runs"], "downstream")} for side in found.sides]
    told = []
    for place, item in enumerate(found.contrasts):
        series = []
        for side, summary in enumerate((item.a, item.b)):
            lines = seed_lines(_of(runs[side], summary), f"{parts[0]}_accuracy")
            if lines:
                series.append(figures.Series(f"v{2 * place + side}", "AB"[side], side, lines))
        told.append((found.label(item), series, parts[0]))
    return told


def _of(runs: Mapping[str, list[Run]], summary: VariantSummary) -> list[Run]:
    return runs.get(as_written(summary.variant), [])
