"""What is drawn of accuracy against what was set or reached: a tuned value, labels, a stage, a pretext score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rotbench.compare import Results, as_written
from rotbench.contrast import Variant, VariantSummary
from rotbench.inference import mean_interval
from rotbench.labels import AXIS as LABELS
from rotbench.labels import label_lines
from rotbench.partner import MATCHED
from rotbench.probes import KINDS, ProbeRow
from rotbench.sweep import Point, SweepLine, SweepPanel
from rotbench.tuning import Side
from rotbench.wording import variant_labels

#: Beside what probes tell over pretraining, so many variants that were trained from its end are shown at most.
MOST_TRAINED = 6


def sweep_panels(sides: Sequence[Side]) -> list[SweepPanel]:
    """Accuracies by tuned value: a panel a condition and tuned axis, a line a side in the style of its variants."""
    panels: dict[tuple[str, str], list[SweepLine]] = {}
    for place, side in enumerate(sides):
        points = tuple(
            Point(tried.value, tried.summary.estimate, tried.chosen)
            for tried in side.tried
            if tried.summary.estimate is not None
        )
        if points:
            # The keys of the page's series are those of single values, so a line has one of its own.
            line = SweepLine(f"t{place}", side.name, 0, points)
            panels.setdefault((side.axis, side.condition), []).append(line)
    names = list(dict.fromkeys(line.label for lines in panels.values() for line in lines))
    return [
        SweepPanel(condition, axis, tuple(replace(line, style=names.index(line.label)) for line in lines))
        for (axis, condition), lines in panels.items()
    ]


def label_panels(results: Results, summaries: Sequence[VariantSummary]) -> list[SweepPanel]:
    """Accuracies by labels: a panel what variants set besides their init, a line an init, published ones beside it."""
    lines = label_lines(results, summaries)
    if not lines:
        return []
    variants = [{key: value for key, value in line.variant.items() if key != LABELS} for line in lines]
    inits, conditions = variant_labels(variants, _besides_init(variants)), variant_labels(variants, ("init",))
    names = list(dict.fromkeys(inits.values()))
    panels: dict[str, list[SweepLine]] = {}
    for place, (line, variant) in enumerate(zip(lines, variants, strict=True)):
        name = inits[as_written(variant)]
        own = panels.setdefault(conditions[as_written(variant)], [])
        own.append(SweepLine(f"l{place}", name, names.index(name), tuple(Point(*at) for at in line.points)))
        for number, (who, curve) in enumerate(line.published):
            points = tuple(Point(at, mean_interval([accuracy])) for at, accuracy in curve)
            label = f"published: {who}" if who not in {other.label for other in own} else who
            own.append(SweepLine(f"l{place}-published{number}", label, names.index(name), points, True))
    return [
        SweepPanel("" if len(panels) == 1 else title, "labelled images a class", tuple(own))
        for title, own in panels.items()
    ]


def _besides_init(variants: Sequence[Variant]) -> tuple[str, ...]:
    """The axes of variants but for the init."""
    return tuple(dict.fromkeys(key for variant in variants for key in variant if key != "init"))


def stage_panels(rows: Sequence[ProbeRow]) -> list[SweepPanel]:
    """What the last weights tell at each stage: a panel a kind of probe and condition, a line an init."""
    last = [row for row in rows if row.epoch is None]
    names = list(dict.fromkeys(row.init for row in last))
    stages = tuple(stage.stage for stage in last[0].stages) if last else ()
    panels: list[SweepPanel] = []
    for condition in dict.fromkeys(row.condition for row in last):
        for kind, name in KINDS.items():
            words = f"{name[:1].upper()}{name[1:]}"
            lines = tuple(
                SweepLine(
                    f"{kind}{place}",
                    row.init,
                    names.index(row.init),
                    tuple(Point(at, getattr(stage, kind)) for at, stage in enumerate(row.stages)),
                )
                for place, row in enumerate(last)
                if row.condition == condition
            )
            title = f"{words}, {condition}" if condition else words
            panels.append(SweepPanel(title, "stage", lines, stages))
    return panels


def pretraining_panels(rows: Sequence[ProbeRow], summaries: Sequence[VariantSummary]) -> list[SweepPanel]:
    """Linear probes against the pretext score as pretraining went on, and at its end what was trained from it."""
    panels: list[SweepPanel] = []
    for name, condition in dict.fromkeys((row.init, row.condition) for row in rows if row.epoch is not None):
        own = [row for row in rows if (row.init, row.condition) == (name, condition) and row.score is not None]
        own.sort(key=lambda row: row.at or 0)
        if len(own) < 2:
            continue
        lines = [
            SweepLine(
                f"e{len(panels)}-{place}",
                f"linear probe, {stage.stage}",
                place,
                tuple(
                    Point(row.score.mean, row.stages[place].linear, said=f"epoch {row.at}")
                    for row in own
                    if row.score is not None
                ),
            )
            for place, stage in enumerate(own[0].stages)
        ]
        end = own[-1]
        if end.epoch is None and end.score is not None:
            started = [item for item in summaries if end.is_of(item.variant) and MATCHED not in item.variant]
            besides = variant_labels([item.variant for item in started], ("init",))
            lines += [
                SweepLine(
                    f"e{len(panels)}-d{place}",
                    "trained" if len(started) == 1 else f"trained, {besides[as_written(item.variant)]}",
                    len(own[0].stages) + place,
                    (Point(end.score.mean, item.estimate, said="the end"),),
                )
                for place, item in enumerate(started[:MOST_TRAINED])
                if item.estimate is not None
            ]
        title = f"{name}, {condition}" if condition else name
        label = "pretext score" if end.scored_on == "test" else "pretext score on validation images"
        panels.append(SweepPanel(title, label, tuple(lines), per_cent=own[0].per_cent))
    return panels
