"""The answer of a study: a sentence a contrast, which claims what its numbers carry and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotbench import compare
from rotbench.comparability import LABELS, REMEDY, STATISTICS, also_differs
from rotbench.compare import Results, as_written
from rotbench.contrast import EQUAL, Condition, Contrast, VariantSummary, family_size
from rotbench.course import Remark, course
from rotbench.curve import scored_part
from rotbench.equal_cost import cost_ratio
from rotbench.inference import ALPHA, MARGIN, ROUNDING
from rotbench.partner import MATCHED
from rotbench.phrases import Phrases, phrases
from rotbench.power import MOST_SEEDS, SeedsNeeded
from rotbench.trained import listed
from rotbench.wording import p_value, points, span, variant_labels

#: What a contrast compares, where that is not two variants of equal settings.
KINDS = {
    "same settings": "",
    "tuned": "each at its own best",
    "compute-matched": "of as many epochs",
    "interaction": "difference of differences",
}


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
    """One row a contrast, in the study's order; an interaction has what its contrasts have."""
    labels = variant_labels([summary.variant for summary in compare.variants(results)])

    def told(contrast: Contrast, role: str) -> tuple[str, ...]:
        return tuple(also_differs([item]) for item in contrast.comparability if item.role == role)

    return [
        ComparabilityRow(
            variant=labels[as_written(contrast.variant)],
            baseline=labels[as_written(contrast.baseline)],
            kind=KINDS[contrast.comparison],
            axis=told(contrast, "axis"),
            consequences=told(contrast, "consequence"),
            confounds=told(contrast, "confound"),
            same_start=contrast.same_start,
        )
        for contrast in contrasts
        if contrast.condition is None
    ]


def sentences(results: Results, contrasts: Sequence[Contrast]) -> list[Sentence]:
    """One sentence a contrast, in the study's order."""
    summaries = compare.variants(results)
    called = phrases(results)
    family = family_size(contrasts)
    test_images = results["study"]["test_images"]
    margin = f"{points(results['study'].get('margin', MARGIN), sign=False)} points"
    part = scored_part(results["runs"])
    said = []
    for contrast in contrasts:
        variant, baseline = called.sides(contrast)
        tone, mark = _tone(contrast)
        if contrast.condition is None:
            text = _sentence(contrast, variant, baseline, called.when(contrast), family, margin, test_images)
        else:
            text = _interaction(contrast, contrast.condition, called, family, margin, test_images)
        notes = tuple(_notes(contrast, called.tune, summaries))
        said.append(Sentence(tone, mark, text, contrast, notes, course(contrast, variant, baseline, part)))
    return said


def _tone(contrast: Contrast) -> tuple[str, str]:
    if contrast.verdict is None:
        return "none", "exploratory" if contrast.exploratory else "no verdict"
    return contrast.verdict.split(",")[0].replace(" ", "-"), contrast.verdict


def _sentence(
    contrast: Contrast, variant: str, baseline: str, when: str, family: int, margin: str, test_images: int | None
) -> str:
    against = f"{variant} against {baseline}{when}"
    also = f"they also differ in {also_differs(contrast.confounds)}" if contrast.confounds else ""
    if contrast.difference is None:
        return f"{against}: {_nothing(contrast)}{f'; {also}' if also else ''}."
    if contrast.same_start:
        return (
            f"{against}: nothing is compared, since both start from the very same weights, seed by seed "
            f"({_numbers(contrast)}); the weights that one of them names were not applied, or are the other's"
            f"{f'; {also}' if also else ''}."
        )
    if contrast.verdict is None:
        return _without_verdict(contrast, variant, baseline, when, also, test_images)
    apart = _apart(contrast.difference)
    numbers = f"{_interval(contrast)}, p {_equals(contrast.p_holm)}{_corrected(family)}"
    if contrast.verdict == "not resolved":
        return f"{against}: {points(contrast.difference)} points ({numbers}){_lacking(contrast, family)}."
    if contrast.verdict == "equivalent":
        return f"{variant} and {baseline} differ by less than the margin of {margin}{when}: {_within(contrast)}."
    less = f", by less than the margin of {margin}" if "," in contrast.verdict else ""
    normal = "; assuming normal differences" if contrast.assumes_normality else ""
    return f"{variant} is {apart} {baseline}{when}{less} ({numbers}{normal})."


def _nothing(contrast: Contrast) -> str:
    """Why there is no difference to tell."""
    return "a run diverged" if contrast.reason == "diverged" else contrast.reason or "nothing to compare yet"


def _without_verdict(
    contrast: Contrast, variant: str, baseline: str, when: str, also: str, test_images: int | None
) -> str:
    """What is said of a difference that the axis may or may not have made: with ``also``, no side is above."""
    difference = contrast.difference or 0.0
    plain = f"{variant} against {baseline}{when}: {points(difference)} points"
    if contrast.n == 1 and contrast.planned == 1 and contrast.reason != "diverged":
        error = ""
        if contrast.standard_error is not None:
            alone = "" if contrast.pairs else ", were the two right on different images"
            error = (
                f" The test set's binomial standard error of this difference is {100 * contrast.standard_error:.2f} "
                f"points ({test_images:,} images{alone}); it says nothing about other seeds."
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
    because = _because(contrast)
    if contrast.interval is None:
        seeds = f"from {contrast.n} of {contrast.planned} seeds{because}"
        return f"{plain}, {seeds}." if also else f"{variant} is {_apart(difference)} {baseline}{when}, {seeds}."
    return f"{plain} ({_interval(contrast)}){because}."


def _interaction(
    contrast: Contrast, condition: Condition, called: Phrases, family: int, margin: str, test_images: int | None
) -> str:
    """What is said of a difference of differences: of the verdict's direction only where it has one."""
    variant, baseline = called.sides(contrast)
    best = f", each at its own best {listed(called.tune)}," if contrast.chosen_from else ""
    here, there = (called.condition(condition.axis, side) for side in (contrast.variant, condition.variant))
    under = called.when(contrast, without=[condition.axis]).replace(" when ", ", where ", 1)
    what = f"{variant} minus {baseline}{best}"
    difference = contrast.difference
    if difference is None:
        return f"{what} when {here}, against when {there}{under}: {_nothing(contrast)}."
    apart = f"{points(abs(difference), sign=False)} points {'higher' if difference > 0 else 'lower'}"
    if abs(difference) < ROUNDING:
        apart = "the same"
    moved = f"when {here} {'and' if apart == 'the same' else 'than'} when {there}{under}"
    plain = f"{what} when {here}, against when {there}{under}: {points(difference)} points"
    if contrast.verdict is None:
        if contrast.n == 1 and contrast.planned == 1 and contrast.reason == "one seed":
            error = ""
            if contrast.standard_error is not None:
                error = (
                    f" The test set's binomial standard error of it is {100 * contrast.standard_error:.2f} points "
                    f"({test_images:,} images); it says nothing about other seeds."
                )
            return f"{what} is {apart} {moved}, from one seed.{error}"
        return f"{plain} ({_interval(contrast)}){_because(contrast)}."
    numbers = f"{_interval(contrast)}, p {_equals(contrast.p_holm)}{_corrected(family)}"
    if contrast.verdict == "not resolved":
        return f"{plain} ({numbers}){_lacking(contrast, family)}."
    if contrast.verdict == "equivalent":
        alike = f"{what} changes by less than the margin of {margin} from when {there} to when {here}{under}"
        return f"{alike}: {_within(contrast)}."
    less = f", by less than the margin of {margin}" if "," in contrast.verdict else ""
    normal = "; assuming normal differences" if contrast.assumes_normality else ""
    return f"{what} is {apart} {moved}{less} ({numbers}{normal})."


def _because(contrast: Contrast) -> str:
    """Why there is no verdict, where seeds are not the reason."""
    also = f"they also differ in {also_differs(contrast.confounds)}" if contrast.confounds else ""
    told = ", but a run diverged" if contrast.reason == "diverged" else ""
    told += "; all differ by the same amount, which leaves no spread to judge it by" if contrast.reason == EQUAL else ""
    told += ", but both sides of one contrast start from the very same weights" if contrast.same_start else ""
    if also:
        told += f"; no verdict, since {also}" if contrast.reason == "confounded" else f"; {also}"
    return told + ("; exploratory: not what the study asks first" if contrast.exploratory else "")


def _corrected(family: int) -> str:
    return f" after Holm over {family} contrasts" if family > 1 else ""


def _within(contrast: Contrast) -> str:
    """What equivalence rests on: an interval of its own, of this contrast alone."""
    interval = f"90 % t interval {span(contrast.interval_90)}, " if contrast.interval_90 else ""
    return f"{points(contrast.difference or 0.0)} points ({interval}n = {contrast.n} seeds)"


def _lacking(contrast: Contrast, family: int) -> str:
    return seeds_lacking(contrast.seeds_needed, contrast.n, contrast.p_t, family)


def seeds_lacking(needed: SeedsNeeded | None, n: int, p: float | None, family: int) -> str:
    """How many seeds would see a difference of the margin, or why these ``n``, which would, see none.

    ``p`` is that of the t test by itself.
    """
    if needed is None:
        return ""
    told = [f"more than {MOST_SEEDS:,}" if n is None else f"{n:,}" for n in (needed.seeds, needed.fewest, needed.most)]
    about = told[0] if needed.seeds is None else f"about {told[0]}"
    limits = f" ({told[1]} to {told[2]})" if told[1] != told[2] else ""
    margin = points(needed.margin, sign=False)
    power = f"{100 * needed.power:.0f} % power"
    holm = ""
    if family > 1 and p is not None and p < ALPHA:
        holm = f"; by itself (p {_equals(p)}) it would be resolved, among {family} contrasts it is not"
    if needed.seeds is not None and needed.seeds <= n:
        return (
            holm or f"; as many seeds would see a difference of {margin} points with {power}, so it is likely smaller"
        )
    return f"{holm}; to see a difference of {margin} points with {power}: {about} seeds{limits}"


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
    if contrast.comparison == "compute-matched":
        of = {as_written(summary.variant): summary for summary in summaries}
        longer, other = sorted((contrast.variant, contrast.baseline), key=lambda side: MATCHED not in side)
        ratio = cost_ratio(of[as_written(longer)], of[as_written(other)])
        if ratio is not None:
            notes.append(f"In FLOPs the longer training cost {ratio:.2f} of pretraining and training together.")
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
