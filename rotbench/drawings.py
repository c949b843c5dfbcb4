"""Which figures a study has, and what is drawn in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rotbench import canvas, compare, figures, inference, sweep, trends
from rotbench.compare import Results, as_written
from rotbench.contrast import Contrast, Variant, VariantSummary
from rotbench.curve import final_score, scored_part, views_per_image, views_words
from rotbench.partner import MATCHED, filled, matches_all
from rotbench.probes import probe_rows
from rotbench.transfer import transfers
from rotbench.tuning import tuned_sides
from rotbench.views import View, draws_bands, seed_lines, views
from rotbench.wording import labels_by_axis, variant_labels, varying

#: Every figure that a page can have.
NAMES = (
    "finals",
    "differences",
    "tuning",
    "labels",
    "curves",
    "curves-images",
    "curves-seconds",
    "curves-test-loss",
    "curves-train-accuracy",
    "curves-train-loss",
    "pretexts",
    "transfer",
    "probes",
    "probes-epochs",
)

#: A panel of curves has at most this many variants where an axis is left to part them by.
MOST_IN_A_PANEL = 8

#: What is said beside a contrast's label of the partner that it has.
COMPARISONS = {
    "same settings": "",
    "tuned": " (best)",
    "compute-matched": " (equal epochs)",
    "interaction": "",
}


def drawings(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> dict[str, canvas.Drawing]:
    """Each figure by its name; only those for which there is something to draw."""
    study = results["study"]
    variants = [summary.variant for summary in summaries]
    styles = styles_of(variants)
    keys = {as_written(variant): f"v{place}" for place, variant in enumerate(variants)}
    drawn: dict[str, canvas.Drawing] = {}

    means = {as_written(item.variant): item.estimate.mean for item in summaries if item.estimate is not None}
    partners = {
        as_written(item.variant): means.get(as_written(item.baseline))
        for item in contrasts
        if item.comparison == "same settings"
    }
    rows = [
        figures.Row(
            key=keys[as_written(summary.variant)],
            label=labels[as_written(summary.variant)],
            style=styles[as_written(summary.variant)],
            values=tuple(summary.accuracies.values()),
            estimate=summary.estimate,
            references=_references(study, summary.variant),
            faint=summary.diverged or summary.n < summary.planned,
            baseline=partners.get(as_written(summary.variant)),
            is_baseline=_is_baseline(study, summary.variant),
            predicted=_predicted(study, summary),
            thresholds=_references(study, summary.variant, at_least=True),
        )
        for summary in summaries
        if summary.estimate is not None
    ]
    if rows:
        drawn["finals"] = figures.dots("finals", "Final test accuracy of each variant", rows, study["chance"])

    by_axis = labels_by_axis(variants)
    paired = [
        figures.Row(
            key=keys[as_written(contrast.variant)] if contrast.condition is None else f"i{place}",
            label=_row_label(contrast, labels, by_axis),
            style=styles[as_written(contrast.variant)],
            values=tuple(contrast.differences.values()),
            estimate=inference.mean_interval(list(contrast.differences.values())),
            faint=contrast.verdict is None,
        )
        for place, contrast in enumerate(contrasts)
        if contrast.differences
    ]
    if paired:
        margin = study.get("margin", inference.MARGIN)
        drawn["differences"] = figures.differences("differences", "Paired differences to the baseline", paired, margin)

    tried = trends.sweep_panels(tuned_sides(results, summaries, contrasts))
    if tried:
        drawn["tuning"] = sweep.sweeps("tuning", "Test accuracy by tuned setting", tried)

    labelled = trends.label_panels(results, summaries)
    if labelled:
        title = "Test accuracy by the number of labels"
        drawn["labels"] = sweep.sweeps("labels", title, labelled, alone=False)

    for view in views(results):
        panels = curve_panels(results, variants, styles, keys, view)
        first = view.name == "curves"
        bands = first or draws_bands(results)
        drawn[view.name] = figures.curves(view.name, view.words, panels, seeds=first, bands=bands, x=view.x)
    pretexts = pretext_panels(results, styles)
    if pretexts:
        drawn["pretexts"] = figures.curves("pretexts", "Pretext score by epoch", pretexts, alone=True)
    clouds = transfer_panels(results, styles, keys)
    if clouds:
        title = "Pretext score and the accuracy of what starts from it"
        drawn["transfer"] = figures.clouds("transfer", title, clouds, "test accuracy")
    probed = [row for row in probe_rows(results) if row.stages]
    by_stage = trends.stage_panels(probed)
    if by_stage:
        title = "What probes read off each stage"
        drawn["probes"] = sweep.sweeps("probes", title, by_stage, alone=False)
    grown = trends.pretraining_panels(probed, summaries)
    if grown:
        title = "Probe accuracy over pretraining"
        drawn["probes-epochs"] = sweep.sweeps("probes-epochs", title, grown, alone=False)
    return drawn


def _row_label(contrast: Contrast, labels: Mapping[str, str], by_axis: Mapping[str, Mapping[str, str]]) -> str:
    """The variant and, where that is not the variant of equal settings, what it is compared with."""
    label = labels[as_written(contrast.variant)] + COMPARISONS[contrast.comparison]
    if contrast.condition is None:
        return label
    axis = contrast.condition.axis
    value = as_written(filled(contrast.condition.variant)[axis])
    return f"{label}, minus that at {by_axis.get(axis, {}).get(value, value)}"


def series_of(summaries: Sequence[VariantSummary], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The downstream variants in the study's order: the key that is in the ids of figures, label, colour and dash."""
    variants = [summary.variant for summary in summaries]
    styles = styles_of(variants)
    return [
        {
            "key": f"v{place}",
            "label": labels[as_written(variant)],
            "colour": styles[as_written(variant)] % len(canvas.COLOURS),
            "dash": canvas.dash_words(styles[as_written(variant)]),
        }
        for place, variant in enumerate(variants)
    ]


def facet_axes(variants: Sequence[Variant]) -> tuple[str, ...]:
    """The axes whose values have a panel each: the freeze policy, and where panels would be full further ones.

    Never the init, which is what a panel compares; of the others the one with the fewest values first.
    """
    values = {
        axis: len({as_written(variant[axis]) for variant in variants})
        for axis in varying(variants)
        if axis != "init" and all(axis in variant for variant in variants)
    }
    several = sorted((axis for axis in values if values[axis] > 1), key=lambda axis: (axis != "freeze", values[axis]))
    chosen: tuple[str, ...] = ()
    for axis in several:
        full = max(_panel_sizes(variants, chosen)) > MOST_IN_A_PANEL
        # A panel of one line compares nothing.
        if axis == "freeze" or (full and max(_panel_sizes(variants, (*chosen, axis))) > 1):
            chosen = (*chosen, axis)
    return chosen


def _panel_sizes(variants: Sequence[Variant], axes: Sequence[str]) -> list[int]:
    sizes: dict[str, int] = {}
    for variant in variants:
        panel = as_written([variant[axis] for axis in axes])
        sizes[panel] = sizes.get(panel, 0) + 1
    return list(sizes.values())


def styles_of(variants: Sequence[Variant]) -> dict[str, int]:
    """A style for each variant, the same for those that only the panel tells apart."""
    names = variant_labels(variants, facet_axes(variants))
    order = list(dict.fromkeys(names.values()))
    return {key: order.index(name) for key, name in names.items()}


def pretext_styles(results: Results, styles: Mapping[str, int]) -> dict[str, int]:
    """A style for each pretext run's variant: that of what starts from it, or one that nothing else has."""
    made: dict[str, int] = {}
    by_id = {run["id"]: as_written(run["variant"]) for run in results["runs"] if run["kind"] == "pretext"}
    for run in results["runs"]:
        for needed in run["needs"] if run["kind"] == "downstream" else ():
            if needed in by_id:
                made.setdefault(by_id[needed], styles[as_written(run["variant"])])
    free = max(styles.values(), default=-1) + 1
    for key in dict.fromkeys(by_id.values()):
        if key not in made:
            made[key], free = free, free + 1
    return made


def curve_panels(
    results: Results, variants: Sequence[Variant], styles: Mapping[str, int], keys: Mapping[str, str], view: View
) -> list[figures.Panel]:
    """Curves of the downstream runs: a panel a freeze policy where there is more than one (see ``facet_axes``)."""
    chance = results["study"]["chance"]
    levels = ((chance, "chance"),) if chance is not None and view.is_accuracy else ()
    axes = facet_axes(variants)
    names, by_axis = variant_labels(variants, axes), labels_by_axis(variants)
    panels: dict[str, list[figures.Series]] = {}
    for variant, runs in compare.by_variant(results["runs"], "downstream"):
        key = as_written(variant)
        series = figures.Series(keys[key], names[key], styles[key], seed_lines(runs, view.measure, view.x))
        if series.lines if view.name == "curves" else series.mean:
            title = ", ".join(f"{axis}: {by_axis[axis][as_written(variant[axis])]}" for axis in axes)
            panels.setdefault(title, []).append(series)
    return [
        figures.Panel(title, tuple(series), levels, view.measured, view.is_accuracy) for title, series in panels.items()
    ]


def pretext_panels(results: Results, styles: Mapping[str, int]) -> list[figures.Panel]:
    """Curves of the pretext runs: a panel a kind of score, since only scores of one kind share a scale.

    ``styles`` are those of the downstream variants.
    """
    panels: dict[str, list[figures.Series]] = {}
    levels: dict[str, dict[float, list[str]]] = {}
    part = scored_part(results["runs"])
    own = pretext_styles(results, styles)
    for place, (variant, runs) in enumerate(compare.by_variant(results["runs"], "pretext")):
        name = variant["pretext"]
        about = results["study"]["pretexts"].get(name, {})
        score = about.get("score_name", "accuracy")
        lines = seed_lines(runs, f"{part}_accuracy")
        if not lines:
            continue
        end, words = _end(runs) if part == "test" else (None, "")
        series = figures.Series(f"p{place}", str(name), own[as_written(variant)], lines, end, words)
        panels.setdefault(score, []).append(series)
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


def _end(runs: Sequence[compare.Run]) -> tuple[inference.Estimate | None, str]:
    """The final score of pretext runs and what it is of, where their curves have one of several views of an image."""
    done = [run for run in runs if compare.finished(run)]
    views = views_per_image(done)
    return (inference.mean_interval(list(map(final_score, done))), views_words({views})) if views > 1 else (None, "")


def transfer_panels(results: Results, styles: Mapping[str, int], keys: Mapping[str, str]) -> list[figures.CloudPanel]:
    """Pretext scores against downstream accuracies: a panel a pretext task, in the colour of what starts from it."""
    found = transfers(results)
    kinds = list(dict.fromkeys(item.besides for item in found))
    panels: dict[str, list[figures.Cloud]] = {}
    for item in found:
        key = as_written(item.variant)
        points = tuple((score, accuracy) for _, score, accuracy in item.points)
        cloud = figures.Cloud(keys[key], item.besides, styles[key], kinds.index(item.besides), points)
        panels.setdefault(item.pretext, []).append(cloud)
    scores = {name: results["study"]["pretexts"].get(name, {}).get("score_name", "accuracy") for name in panels}
    return [
        figures.CloudPanel(name, tuple(clouds), f"pretext score ({scores[name]})", scores[name] == "accuracy")
        for name, clouds in panels.items()
    ]


def _chances(names_at: Mapping[float, Sequence[str]]) -> tuple[tuple[float, str], ...]:
    """The scores of guessing with the tasks that have them; from three on their names would cover one another."""
    if len(names_at) == 1:
        return tuple((level, "chance") for level in names_at)
    told = len(names_at) == 2
    return tuple((level, f"chance: {', '.join(names)}" if told else "") for level, names in names_at.items())


def _is_baseline(study: Mapping[str, Any], variant: Variant) -> bool:
    return bool(study["baseline"]) and matches_all(variant, study["baseline"]) and MATCHED not in variant


def _references(study: Mapping[str, Any], variant: Variant, *, at_least: bool = False) -> tuple[tuple[float, str], ...]:
    """The published numbers of a variant, or the thresholds (``at_least``), which are no measurements."""
    return tuple(
        (reference["test_accuracy"], reference["source"])
        for reference in study["references"]
        if reference.get("match")
        and bool(reference.get("at_least")) == at_least
        and matches_all(variant, reference["match"])
    )


def _predicted(study: Mapping[str, Any], summary: VariantSummary) -> tuple[float, float] | None:
    """Where one more run of a variant would lie, where a published run is to be held against it; no mean of several."""
    if not any(
        reference.get("match") and not reference.get("at_least") and matches_all(summary.variant, reference["match"])
        for reference in study["references"]
        if (reference.get("n") or 1) == 1
    ):
        return None
    return inference.prediction_interval(list(summary.accuracies.values()))
