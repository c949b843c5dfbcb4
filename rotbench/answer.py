"""The answer of a study: a sentence a contrast, which claims what its numbers carry and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotbench import compare
from rotbench.comparability import LABELS, REMEDY, STATISTICS, also_differs
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Contrast, VariantSummary
from rotbench.course import Remark, course
from rotbench.hookspecs import STAGES
from rotbench.inference import ROUNDING
from rotbench.power import MOST_SEEDS, SeedsNeeded
from rotbench.trained import listed
from rotbench.wording import (
    axes_of,
    labels_by_axis,
    p_value,
    points,
    span,
    variant_labels,
    varying,
)

#: What a contrast compares, where that is not two variants of equal settings.
_KINDS = {"same settings": "", "tuned": "each at its own best", "compute-matched": "of as many epochs"}


@dataclass(frozen=True)
class Sentence:
    """One sentence of the answer: a mark (the verdict) and a text; ``tone`` is the mark as one word for its style.

    ``notes`` are what a reader must know to take it for what it is, ``course`` what the curves tell beside the end.
    """

    tone: str
    mark: str
    text: str
    contrast: Contrast
    notes: tuple[str, ...]
    course: tuple[Remark, ...]


@dataclass(frozen=True)
class ComparabilityRow:
    """What one contrast differs in, in words: the axis that it names, what follows from it, and what else.

    ``kind`` says what is compared where that is not two variants of equal settings; ``same_start``: nothing is, since
    both start from the same weights.
    """

    variant: str
    baseline: str
    kind: str
    axis: tuple[str, ...]
    consequences: tuple[str, ...]
    confounds: tuple[str, ...]
    same_start: bool


def comparability_rows(results: Results, contrasts: Sequence[Contrast]) -> list[ComparabilityRow]:
    """One row a contrast, in the study's order."""
    labels = variant_labels([summary.variant for summary in compare.variants(results)])

    def told(contrast: Contrast, role: str) -> tuple[str, ...]:
        return tuple(also_differs([item]) for item in contrast.comparability if item.role == role)

    return [
        ComparabilityRow(
            variant=labels[as_written(contrast.variant)],
            baseline=labels[as_written(contrast.baseline)],
            kind=_KINDS[contrast.comparison],
            axis=told(contrast, "axis"),
            consequences=told(contrast, "consequence"),
            confounds=told(contrast, "confound"),
            same_start=contrast.same_start,
        )
        for contrast in contrasts
    ]


def sentences(results: Results, contrasts: Sequence[Contrast]) -> list[Sentence]:
    """One sentence a contrast, in the study's order."""
    summaries = compare.variants(results)
    variants = [summary.variant for summary in summaries]
    by_axis = labels_by_axis(variants)
    trained = _trained_words(results["runs"])
    family = sum(contrast.p_holm is not None for contrast in contrasts)
    tune = results["study"].get("tune", [])
    baseline_keys = list(results["study"]["baseline"])
    condition_axes = [
        axis
        for axis in axes_of(variants)
        if axis not in baseline_keys and (axis == "freeze" or axis in varying(variants))
    ]
    said = []
    for contrast in contrasts:
        sides = [
            " / ".join(by_axis[axis][as_written(side[axis])] for axis in baseline_keys if axis in side) or "the rest"
            for side in (contrast.variant, contrast.baseline)
        ]
        tuned = contrast.comparison == "tuned"
        if tuned:
            best = [
                ", ".join(f"{axis} {by_axis[axis][as_written(side[axis])]}" for axis in tune if axis in side)
                for side in (contrast.variant, contrast.baseline)
            ]
            sides = [f"{side} (best of {contrast.chosen_from}: {own})" for side, own in zip(sides, best, strict=True)]
        if contrast.comparison == "compute-matched":
            sides[1] = (
                f"{sides[1]} trained for {contrast.baseline['compute_matched']} epochs, as many as both together,"
            )
        conditions = []
        for axis in condition_axes:
            if axis in contrast.variant and not (tuned and axis in tune):
                value = as_written(contrast.variant[axis])
                plain = f"{axis} is {by_axis[axis][value]}"
                conditions.append(trained.get(value, plain) if axis == "freeze" else plain)
        when = f" when {' and '.join(conditions)}" if conditions else ""
        tone, mark = _tone(contrast)
        text = _sentence(contrast, sides[0], sides[1], when, family, results["study"]["test_images"])
        notes = tuple(_notes(contrast, tune, summaries))
        said.append(Sentence(tone, mark, text, contrast, notes, course(contrast, sides[0], sides[1])))
    return said


def _tone(contrast: Contrast) -> tuple[str, str]:
    if contrast.verdict is None:
        return "none", "exploratory" if contrast.exploratory else "no verdict"
    return contrast.verdict.split(",")[0].replace(" ", "-"), contrast.verdict


def _sentence(contrast: Contrast, variant: str, baseline: str, when: str, family: int, test_images: int | None) -> str:
    against = f"{variant} against {baseline}{when}"
    also = f"they also differ in {also_differs(contrast.confounds)}" if contrast.confounds else ""
    if contrast.difference is None:
        return f"{against}: {contrast.reason or 'nothing to compare yet'}{f'; {also}' if also else ''}."
    if contrast.same_start:
        return (
            f"{against}: nothing is compared, since both start from the very same weights, seed by seed "
            f"({_numbers(contrast)}); the weights that one of them names were not applied, or are the other's"
            f"{f'; {also}' if also else ''}."
        )
    if contrast.verdict is None:
        return _without_verdict(contrast, variant, baseline, when, also, test_images)
    apart = _apart(contrast.difference)
    holm = f" after Holm over {family} contrasts" if family > 1 else ""
    numbers = f"{_interval(contrast)}, p {_equals(contrast.p_holm)}{holm}"
    if contrast.verdict == "not resolved":
        return f"{against}: {points(contrast.difference)} points ({numbers}){_lacking(contrast.seeds_needed)}."
    if contrast.verdict == "equivalent":
        apart = points(contrast.difference)
        return f"{variant} and {baseline} lie within the margin of each other{when}: {apart} points ({numbers})."
    less = ", by less than the margin" if "," in contrast.verdict else ""
    normal = "; assuming normal differences" if contrast.assumes_normality else ""
    return f"{variant} is {apart} {baseline}{when}{less} ({numbers}{normal})."


def _without_verdict(
    contrast: Contrast, variant: str, baseline: str, when: str, also: str, test_images: int | None
) -> str:
    """What is said of a difference that the axis may or may not have made: with ``also``, no side is above."""
    difference = contrast.difference or 0.0
    plain = f"{variant} against {baseline}{when}: {points(difference)} points"
    if contrast.n == 1 and contrast.planned == 1 and contrast.reason != "diverged":
        error = ""
        if contrast.standard_error is not None:
            error = (
                f" The test set's binomial standard error of this difference is {100 * contrast.standard_error:.2f} "
                f"points ({test_images:,} images); it says nothing about other seeds."
            )
        if len(contrast.pairs) == 1:
            (pair,) = contrast.pairs
            error += (
                f" Of the images {pair.only_variant:,} are right with {variant} alone and {pair.only_baseline:,} with "
                f"{baseline} alone: McNemar's exact p {_equals(pair.mcnemar)} for these two networks."
            )
        if also:
            return f"{plain}, from one seed; {also}.{error}"
        return f"{variant} is {_apart(difference)} {baseline}{when}, from one seed.{error}"
    because = ", but a run diverged" if contrast.reason == "diverged" else ""
    if also:
        because += f"; no verdict, since {also}" if contrast.reason == "confounded" else f"; {also}"
    because += "; exploratory: not what the study asks first" if contrast.exploratory else ""
    if contrast.interval is None:
        seeds = f"from {contrast.n} of {contrast.planned} seeds{because}"
        return f"{plain}, {seeds}." if also else f"{variant} is {_apart(difference)} {baseline}{when}, {seeds}."
    return f"{plain} ({_interval(contrast)}){because}."


def _lacking(needed: SeedsNeeded | None) -> str:
    """How many seeds would see a difference of the margin."""
    if needed is None:
        return ""
    told = [f"more than {MOST_SEEDS:,}" if n is None else f"{n:,}" for n in (needed.seeds, needed.fewest, needed.most)]
    about = told[0] if needed.seeds is None else f"about {told[0]}"
    limits = f" ({told[1]} to {told[2]})" if told[1] != told[2] else ""
    margin = points(needed.margin, sign=False)
    return f"; to see a difference of {margin} points with {100 * needed.power:.0f} % power: {about} seeds{limits}"


def _apart(difference: float) -> str:
    if abs(difference) < ROUNDING:
        return "level with"
    return f"{points(abs(difference), sign=False)} points {'above' if difference > 0 else 'below'}"


def _numbers(contrast: Contrast) -> str:
    """The difference and how sure it is, as far as that is known."""
    told = f"{points(contrast.difference or 0.0)} points"
    return f"{told}, {_interval(contrast)}" if contrast.interval else f"{told}, n = {contrast.n} seed"


def _interval(contrast: Contrast) -> str:
    seeds = f"n = {contrast.n} seeds" if contrast.n == contrast.planned else f"{contrast.n} of {contrast.planned} seeds"
    return f"95 % t interval {span(contrast.interval)}, {seeds}" if contrast.interval else seeds


def _equals(p: float | None) -> str:
    text = p_value(1.0 if p is None else p)
    return text if text.startswith("<") else f"= {text}"


def _trained_words(runs: Sequence[Run]) -> dict[str, str]:
    """What each freeze policy trained, in words, where that tells the policies apart and is one thing all along."""
    words: dict[str, str] = {}
    for run in runs:
        phases = run["provenance"].get("freeze", {}).get("phases", [])
        if run["kind"] == "downstream" and "freeze" in run["variant"] and len(phases) == 1:
            parts = phases[0]["parts"]
            one = len(parts) < 2 or tuple(parts) == STAGES
            words[as_written(run["variant"]["freeze"])] = f"{listed(parts)} {'is' if one else 'are'} trained"
    told = list(words.values())
    return {value: text for value, text in words.items() if told.count(text) == 1}


def _chosen(contrast: Contrast, tune: Sequence[str], summaries: Sequence[VariantSummary]) -> str:
    """How the tuned settings were chosen, and whether a better one may lie outside of what was tried."""
    told = ["Chosen by mean validation accuracy; the test images had no part in it."]
    for side in (contrast.variant, contrast.baseline):
        for axis in tune:
            rest = {key: value for key, value in side.items() if key != axis}
            tried = [
                summary
                for summary in summaries
                if axis in summary.variant and rest == {k: v for k, v in summary.variant.items() if k != axis}
            ]
            told += [
                f"{axis} {summary.variant[axis]} diverged and could not be chosen."
                for summary in tried
                if summary.diverged
            ]
            numbers = [summary.variant[axis] for summary in tried if isinstance(summary.variant[axis], int | float)]
            if len(numbers) == len(tried) > 1 and side[axis] in (min(numbers), max(numbers)):
                told.append(f"{axis} {side[axis]} lies at the edge of what was tried: a better one may lie beyond.")
    return " ".join(dict.fromkeys(told))


def _notes(contrast: Contrast, tune: Sequence[str], summaries: Sequence[VariantSummary]) -> list[str]:
    """What a reader must know to take a contrast for what it is."""
    notes = []
    if contrast.comparison == "tuned":
        notes.append(_chosen(contrast, tune, summaries))
    if contrast.interval is not None and contrast.interval[0] == contrast.interval[1]:
        notes.append("All seeds differ by the same amount, so the interval has no width; more seeds would show one.")
    sides = (as_written(contrast.variant), as_written(contrast.baseline))
    if any(summary.one_set_of_weights and as_written(summary.variant) in sides for summary in summaries):
        notes.append(
            "One side starts from one set of weights: the interval holds for these weights, not for the method."
        )
    confounds = {difference.setting for difference in contrast.confounds}
    if LABELS in confounds:
        notes.append("The pretraining of one side used the labels of all images: an upper bound, no fair comparison.")
    if STATISTICS in confounds:
        notes.append(
            f"A frozen BatchNorm keeps the statistics of its start, and these are not of one kind here: {REMEDY}."
        )
    return notes
