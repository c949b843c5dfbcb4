"""Which figures a study has, and what is drawn in each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rotbench import compare, figures, inference
from rotbench.compare import Contrast, Results, Run, Variant, VariantSummary, as_written
from rotbench.partner import matches_all
from rotbench.wording import (
    variant_labels,
)

#: Every figure that a page can have.
NAMES = (
    "finals",
    "differences",
    "curves",
    "curves-images",
    "curves-seconds",
    "curves-test-loss",
    "curves-train-accuracy",
    "curves-train-loss",
    "pretexts",
    "transfer",
)

#: What is said beside a contrast's label of the partner that it has.
COMPARISONS = {"same settings": "", "tuned": ", each at its best", "compute-matched": ", with as many epochs"}


def drawings(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> dict[str, figures.Drawing]:
    """Each figure by its name; only those for which there is something to draw."""
    study = results["study"]
    variants = [summary.variant for summary in summaries]
    styles = styles_of(variants)
    keys = {as_written(variant): f"v{place}" for place, variant in enumerate(variants)}
    drawn: dict[str, figures.Drawing] = {}

    rows = [
        figures.Row(
            key=keys[as_written(summary.variant)],
            label=labels[as_written(summary.variant)],
            style=styles[as_written(summary.variant)],
            values=tuple(summary.accuracies.values()),
            estimate=summary.estimate,
            references=_references(study, summary.variant),
            faint=summary.diverged or summary.n < summary.planned,
        )
        for summary in summaries
        if summary.estimate is not None
    ]
    if rows:
        drawn["finals"] = figures.dots("finals", "Final test accuracy of each variant", rows, study["chance"])

    paired = [
        figures.Row(
            key=keys[as_written(contrast.variant)],
            label=labels[as_written(contrast.variant)] + COMPARISONS[contrast.comparison],
            style=styles[as_written(contrast.variant)],
            values=tuple(contrast.differences.values()),
            estimate=inference.mean_interval(list(contrast.differences.values())),
            faint=contrast.verdict is None,
        )
        for contrast in contrasts
        if contrast.differences
    ]
    if paired:
        margin = study.get("margin", inference.MARGIN)
        drawn["differences"] = figures.differences("differences", "Paired differences to the baseline", paired, margin)

    panels = curve_panels(results, variants, styles, keys)
    if panels:
        part = scored_part(results["runs"])
        drawn["curves"] = figures.curves("curves", f"{part.capitalize()} accuracy by epoch", panels)
    pretexts = pretext_panels(results)
    if pretexts:
        drawn["pretexts"] = figures.curves("pretexts", "Pretext score by epoch", pretexts, alone=True)
    return drawn


def series_of(summaries: Sequence[VariantSummary], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The downstream variants in the study's order: the key that is in the ids of figures, label and style of each."""
    variants = [summary.variant for summary in summaries]
    styles = styles_of(variants)
    return [
        {"key": f"v{place}", "label": labels[as_written(variant)], "style": styles[as_written(variant)]}
        for place, variant in enumerate(variants)
    ]


def styles_of(variants: Sequence[Variant]) -> dict[str, int]:
    """A style for each variant, the same for variants that differ in the freeze policy alone."""
    without = ("freeze",) if len({as_written(v.get("freeze")) for v in variants}) < len(variants) else ()
    names = variant_labels(variants, without)
    order = list(dict.fromkeys(names.values()))
    return {key: order.index(name) for key, name in names.items()}


def curve_panels(
    results: Results, variants: Sequence[Variant], styles: Mapping[str, int], keys: Mapping[str, str]
) -> list[figures.Panel]:
    """Curves of the downstream runs: a panel a freeze policy where there is more than one."""
    chance = results["study"]["chance"]
    levels = ((chance, "chance"),) if chance is not None else ()
    policies = compare.axis_labels([variant["freeze"] for variant in variants if "freeze" in variant])
    faceted = len(policies) > 1 and all("freeze" in variant for variant in variants)
    names = variant_labels(variants, ("freeze",) if faceted else ())
    panels: dict[str, list[figures.Series]] = {}
    part = scored_part(results["runs"])
    for variant, runs in compare.by_variant(results["runs"], "downstream"):
        key = as_written(variant)
        series = figures.Series(keys[key], names[key], styles[key], seed_lines(runs, part))
        if series.lines:
            title = f"freeze: {policies[as_written(variant['freeze'])]}" if faceted else ""
            panels.setdefault(title, []).append(series)
    return [figures.Panel(title, tuple(series), levels, f"{part} accuracy", True) for title, series in panels.items()]


def pretext_panels(results: Results) -> list[figures.Panel]:
    """Curves of the pretext runs: a panel a kind of score, since only scores of one kind share a scale."""
    panels: dict[str, list[figures.Series]] = {}
    levels: dict[str, dict[float, list[str]]] = {}
    part = scored_part(results["runs"])
    for place, (variant, runs) in enumerate(compare.by_variant(results["runs"], "pretext")):
        name = variant["pretext"]
        about = results["study"]["pretexts"].get(name, {})
        score = about.get("score_name", "accuracy")
        lines = seed_lines(runs, part)
        if not lines:
            continue
        panels.setdefault(score, []).append(figures.Series(f"p{place}", str(name), place, lines))
        if about.get("chance") is not None:
            levels.setdefault(score, {}).setdefault(about["chance"], []).append(str(name))
    return [
        figures.Panel(
            title="" if len(panels) == 1 else score,
            series=tuple(series),
            levels=_chances(levels.get(score, {})),
            label=f"score on {part} images" if len(panels) > 1 else f"score on {part} images ({score})",
            per_cent=score == "accuracy",
        )
        for score, series in panels.items()
    ]


def _chances(names_at: Mapping[float, Sequence[str]]) -> tuple[tuple[float, str], ...]:
    """The scores of guessing with the tasks that have them; from three on their names would cover one another."""
    if len(names_at) == 1:
        return tuple((level, "chance") for level in names_at)
    told = len(names_at) == 2
    return tuple((level, f"chance: {', '.join(names)}" if told else "") for level, names in names_at.items())


def seed_lines(runs: Sequence[Run], part: str = "test") -> tuple[figures.Line, ...]:
    """The curve of each seed that has one, the mean of its repeats, up to the first epoch that was not scored.

    ``part`` is what was scored: ``"test"`` or ``"validation"``.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], []).append(run)
    lines = []
    for seed, group in by_seed.items():
        curves = [[entry.get(f"{part}_accuracy") for entry in run["history"]] for run in group]
        scored = [list(itertools.takewhile(lambda score: score is not None, curve)) for curve in curves]
        values = tuple(sum(scores) / len(scores) for scores in zip(*scored, strict=False))
        if values:
            lines.append(figures.Line(seed, values, all(compare.finished(run) for run in group)))
    return tuple(lines)


def scored_part(runs: Sequence[Run]) -> str:
    """What the curves of these runs can show: validation images where the test images were kept for the last epoch."""
    seen = any(len(run["history"]) > 1 and run["history"][0]["test_accuracy"] is None for run in runs)
    return (
        "validation"
        if seen and any("validation_accuracy" in run["history"][0] for run in runs if run["history"])
        else "test"
    )


def _references(study: Mapping[str, Any], variant: Variant) -> tuple[tuple[float, str], ...]:
    """The published numbers of a variant; a threshold (``at_least``) is no measurement: the table tells it."""
    return tuple(
        (reference["test_accuracy"], reference["source"])
        for reference in study["references"]
        if reference.get("match") and not reference.get("at_least") and matches_all(variant, reference["match"])
    )
