"""The answer of a study: a sentence a contrast, which claims what its numbers carry and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotbench import compare
from rotbench.compare import Contrast, Results, Run, VariantSummary, as_written
from rotbench.hookspecs import STAGES
from rotbench.inference import ROUNDING
from rotbench.trained import listed
from rotbench.wording import (
    axes_of,
    labels_by_axis,
    p_value,
    points,
    span,
    varying,
)


@dataclass(frozen=True)
class Sentence:
    """One sentence of the answer: a mark (the verdict) and a text; ``tone`` is the mark as one word for its style."""

    tone: str
    mark: str
    text: str
    contrast: Contrast
    notes: tuple[str, ...]


def sentences(results: Results, contrasts: Sequence[Contrast]) -> list[Sentence]:
    """One sentence a contrast, in the study's order."""
    summaries = compare.variants(results)
    variants = [summary.variant for summary in summaries]
    runs_of = {as_written(variant): runs for variant, runs in compare.by_variant(results["runs"], "downstream")}
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
        said.append(Sentence(tone, mark, text, contrast, tuple(_notes(contrast, tune, summaries, runs_of))))
    return said


def _tone(contrast: Contrast) -> tuple[str, str]:
    if contrast.verdict is None:
        return "none", "exploratory" if contrast.exploratory else "no verdict"
    return contrast.verdict.split(",")[0].replace(" ", "-"), contrast.verdict


def _sentence(contrast: Contrast, variant: str, baseline: str, when: str, family: int, test_images: int | None) -> str:
    if contrast.difference is None:
        return f"{variant} against {baseline}{when}: {contrast.reason or 'nothing to compare yet'}."
    apart = f"{points(abs(contrast.difference), sign=False)} points {'above' if contrast.difference > 0 else 'below'}"
    if abs(contrast.difference) < ROUNDING:
        apart = "level with"
    if contrast.reason == "one seed":
        error = ""
        if contrast.standard_error is not None:
            error = (
                f" The test set's binomial standard error of this difference is {100 * contrast.standard_error:.2f} "
                f"points ({test_images:,} images); it says nothing about other seeds."
            )
        return f"{variant} is {apart} {baseline}{when}, from one seed.{error}"
    because = ", but a run diverged" if contrast.reason == "diverged" else ""
    if contrast.reason == "more labels":
        because = "; no verdict, since the pretraining of one side used labels that the other side did not have"
    because += "; exploratory: not what the study asks first" if contrast.exploratory else ""
    if contrast.interval is None:
        return f"{variant} is {apart} {baseline}{when}, from {contrast.n} of {contrast.planned} seeds{because}."
    seeds = f"n = {contrast.n} seeds" if contrast.n == contrast.planned else f"{contrast.n} of {contrast.planned} seeds"
    interval = f"95 % t interval {span(contrast.interval)}, {seeds}"
    if contrast.verdict is None:
        return f"{variant} against {baseline}{when}: {points(contrast.difference)} points ({interval}){because}."
    holm = f" after Holm over {family} contrasts" if family > 1 else ""
    numbers = f"{interval}, p {_equals(contrast.p_holm)}{holm}"
    if contrast.verdict == "not resolved":
        return f"{variant} against {baseline}{when}: {points(contrast.difference)} points ({numbers})."
    if contrast.verdict == "equivalent":
        apart = points(contrast.difference)
        return f"{variant} and {baseline} lie within the margin of each other{when}: {apart} points ({numbers})."
    less = ", by less than the margin" if "," in contrast.verdict else ""
    normal = "; assuming normal differences" if contrast.assumes_normality else ""
    return f"{variant} is {apart} {baseline}{when}{less} ({numbers}{normal})."


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


def _notes(
    contrast: Contrast,
    tune: Sequence[str],
    summaries: Sequence[VariantSummary],
    runs_of: Mapping[str, Sequence[Run]],
) -> list[str]:
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
    if any(summary.more_labels and as_written(summary.variant) in sides for summary in summaries):
        notes.append("The pretraining of one side used the labels of all images: an upper bound, no fair comparison.")
    for run in (run for side in sides for run in runs_of.get(side, ())):
        kept = run["provenance"]
        if "freeze" in kept:
            untouched = kept["start"]["backbone_sha256"] == kept["start"]["seed_backbone_sha256"]
            body = [
                stage for stage, count in kept["freeze"]["trainable_by_stage"].items() if not count and stage != "fc"
            ]
            if untouched and body and kept["freeze"]["batchnorm"] == "eval":
                notes.append("The frozen BatchNorm of the random side keeps mean 0 and variance 1, as it was built.")
    return list(dict.fromkeys(notes))
