"""From the runs of a study to means, intervals, contrasts and verdicts.

A contrast is a variant against the variant that differs from it in the baseline's keys alone, seed by seed. What is
random in it are the seeds: pretraining, order, augmentation and label subset, never the test images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rotbench import comparability
from rotbench.comparability import Comparison, Difference, Known, confounds, same_start
from rotbench.curve import scored_part, seed_curves
from rotbench.inference import (
    MARGIN,
    SEEDS_WITHOUT_NORMALITY,
    Estimate,
    binomial_standard_error,
    holm,
    mcnemar,
    mean_interval,
    paired_t,
    sign_flip,
    verdict,
)
from rotbench.partner import MATCHED, matches, matches_all, pair_up
from rotbench.power import SeedsNeeded, seeds_needed
from rotbench.recipe import value_words
from rotbench.saving import Saving, Training, saving

Variant = dict[str, Any]
Run = dict[str, Any]
Results = dict[str, Any]


@dataclass(frozen=True)
class VariantSummary:
    """What the finished seeds of one variant say.

    ``accuracies`` are the final test accuracies by seed, the mean of its repeats; ``validation`` is the mean final
    validation accuracy; ``spread_between`` is the standard deviation of the seeds' means, ``spread_within`` that of
    repeats within a seed, pooled; ``first_epoch`` is the mean test accuracy after epoch 1; ``standard_error`` is the
    binomial one of the mean accuracy of a single run on the test images.
    """

    variant: Variant
    n: int
    planned: int
    estimate: Estimate | None
    accuracies: dict[int, float]
    validation: float | None
    spread_between: float | None
    spread_within: float | None
    first_epoch: float | None
    trainable_parameters: int | None
    train_seconds: float | None
    standard_error: float | None
    diverged: bool
    one_set_of_weights: bool
    training_flops: float | None = None
    pretraining_flops: float | None = None
    seconds_shared_by: int | None = None


@dataclass(frozen=True)
class ImagePair:
    """Two runs of one seed, image by image: how many test images both get right, one alone, neither; same answer."""

    seed: int
    repeat: int
    images: int
    both: int
    only_variant: int
    only_baseline: int
    neither: int
    agree: int

    @property
    def mcnemar(self) -> float:
        """The exact p of these two networks being equally accurate; it says nothing of other seeds."""
        return mcnemar(self.only_variant, self.only_baseline)


@dataclass(frozen=True)
class Contrast:
    """A variant minus its baseline, paired by seed; accuracies and differences are fractions.

    ``comparison`` says what the two share: all other settings; or all but the tuned ones, of which each has its own
    best; or the epochs of training in all. ``chosen_from`` is the number of settings that a tuned side had the choice
    of; ``exploratory`` contrasts are not those that the study was made for. ``p_t`` is the paired t test's, ``p_holm``
    the same after Holm over the study's primary contrasts that have an interval, ``p`` the exact two-sided sign-flip
    test's, uncorrected. ``verdict`` is None where ``reason`` says why. ``standard_error`` is the binomial one of a
    difference of two runs on the test images. ``comparability`` is all that the sides differ in besides their
    accuracies; where that is more than the axis and what follows from it, the contrast is confounded. ``same_start``:
    at each seed both sides start from the same weights, though the init is what they are compared for.

    Beside the final accuracies, and never part of the verdict: ``at_start`` is the paired difference after epoch 1,
    ``saving`` how much sooner the baseline's final accuracy is reached, ``seeds_needed`` the number of seeds that would
    show a difference of the margin, where this one is not resolved.
    """

    variant: Variant
    baseline: Variant
    n: int
    planned: int
    differences: dict[int, float]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    interval_90: tuple[float, float] | None = None
    p_t: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str | None = None
    reason: str | None = None
    standard_error: float | None = None
    comparison: Comparison = "same settings"
    chosen_from: int | None = None
    exploratory: bool = False
    pairs: tuple[ImagePair, ...] = ()
    comparability: tuple[Difference, ...] = ()
    same_start: bool = False
    at_start: Estimate | None = None
    saving: Saving | None = None
    seeds_needed: SeedsNeeded | None = None

    @property
    def confounds(self) -> tuple[Difference, ...]:
        """What the sides differ in and the contrast does not name."""
        return confounds(self.comparability)

    @property
    def assumes_normality(self) -> bool:
        """Whether the verdict claims a difference that a sign-flip test cannot confirm at this number of seeds."""
        claims = self.verdict is not None and self.verdict.startswith(("higher", "lower"))
        return claims and self.n < SEEDS_WITHOUT_NORMALITY


def contrast(
    variant: VariantSummary, baseline: VariantSummary, known: Known, comparison: Comparison = "same settings"
) -> Contrast:
    """``variant`` minus ``baseline`` over the seeds that both have finished; verdict and ``p_holm`` are left open."""
    seeds = [seed for seed in variant.accuracies if seed in baseline.accuracies]
    differences = {seed: variant.accuracies[seed] - baseline.accuracies[seed] for seed in seeds}
    planned = max(variant.planned, baseline.planned)
    differing = comparability.differences(variant.variant, baseline.variant, known, comparison)
    plain = Contrast(
        variant.variant,
        baseline.variant,
        len(seeds),
        planned,
        differences,
        comparison=comparison,
        comparability=differing,
        same_start=same_start(variant.variant, baseline.variant, known),
    )
    if variant.diverged or baseline.diverged:
        plain = replace(plain, reason="diverged")
    elif not seeds:
        plain = replace(plain, reason="nothing to compare yet")
    elif len(seeds) < planned:
        plain = replace(plain, reason=f"{len(seeds)} of {planned} seeds")
    elif len(seeds) == 1:
        plain = replace(plain, reason="one seed")
    elif plain.same_start:
        plain = replace(plain, reason="same start")
    elif plain.confounds:
        plain = replace(plain, reason="confounded")
    if not seeds:
        return plain
    values = list(differences.values())
    estimate = mean_interval(values)
    errors = [error for error in (variant.standard_error, baseline.standard_error) if error is not None]
    plain = replace(plain, difference=estimate.mean, standard_error=math.hypot(*errors) if len(errors) == 2 else None)
    if estimate.n < 2:
        return plain
    return replace(
        plain,
        interval=estimate.interval,
        interval_90=mean_interval(values, level=0.90).interval,
        p_t=paired_t(values),
        p=sign_flip(values),
    )


def judge(
    family: Sequence[Contrast], margin: float = MARGIN, primary: Mapping[str, Any] | None = None
) -> tuple[Contrast, ...]:
    """``family`` with ``p_holm`` over its primary contrasts that have an interval, and a verdict for the complete ones.

    ``primary`` holds what a variant must have for its contrast to be one that the study was made for; the others are
    exploratory and get neither. A contrast that is confounded, or that has another reason for no verdict, counts in the
    family all the same: the family is what the study file asks for, and no p value may fall because another contrast
    turned out to compare nothing.
    """
    asked = [
        item
        if not primary or matches_all(item.variant, primary)
        else replace(item, exploratory=True, reason=item.reason or "exploratory")
        for item in family
    ]
    adjusted = iter(holm([item.p_t for item in asked if item.p_t is not None and not item.exploratory]))
    judged = []
    for item in asked:
        if item.p_t is None or item.exploratory or item.difference is None or item.interval_90 is None:
            judged.append(item)
            continue
        p_holm = next(adjusted)
        word = None if item.reason else verdict(item.difference, p_holm, item.interval_90, margin)
        judged.append(replace(item, p_holm=p_holm, verdict=word))
    return tuple(judged)


def as_written(value: Any) -> str:
    """A value of the study file as one string; two values are the same if and only if they are written the same."""
    return json.dumps(value, sort_keys=True)


def finished(run: Run) -> bool:
    """Whether a run is done and its final accuracy a number."""
    final = run["final"]
    if run["status"] != "done" or run["diverged"] or final is None:
        return False
    return final["test_accuracy"] is not None and math.isfinite(final["test_accuracy"])


def by_variant(runs: Sequence[Run], kind: str) -> list[tuple[Variant, list[Run]]]:
    """The runs of one kind grouped by variant, in order of first appearance."""
    groups: dict[str, tuple[Variant, list[Run]]] = {}
    for run in runs:
        if run["kind"] == kind:
            groups.setdefault(as_written(run["variant"]), (run["variant"], []))[1].append(run)
    return list(groups.values())


def summarise(
    variant: Variant, runs: Sequence[Run], seeds: Sequence[int], test_images: int | None, repeats: int = 1
) -> VariantSummary:
    """One variant's runs, ``repeats`` a seed; a seed counts once all of them are done. ``seeds`` are the study's."""
    by_seed: dict[int, list[Run]] = {}
    for run in sorted((run for run in runs if finished(run)), key=lambda run: run["seed"]):
        by_seed.setdefault(run["seed"], []).append(run)
    by_seed = {seed: group for seed, group in by_seed.items() if len(group) >= repeats}
    done = [run for group in by_seed.values() for run in group]
    accuracies = {
        seed: float(np.mean([run["final"]["test_accuracy"] for run in group])) for seed, group in by_seed.items()
    }
    validations = [run["final"].get("validation_accuracy") for run in done]
    first = [run["history"][0]["test_accuracy"] for run in done if run["history"]]
    trainable = {run["provenance"]["freeze"]["trainable_parameters"] for run in done if "freeze" in run["provenance"]}
    seconds = [run["train_seconds"] for run in done if run.get("train_seconds") is not None]
    starts = {
        run["seed"]: run["provenance"]["start"]["backbone_sha256"] for run in done if "start" in run["provenance"]
    }
    estimate = mean_interval(list(accuracies.values())) if accuracies else None
    error = binomial_standard_error(estimate.mean, test_images) if estimate and test_images else None
    return VariantSummary(
        variant=variant,
        n=len(accuracies),
        planned=len({*seeds, *(run["seed"] for run in runs)}),
        estimate=estimate,
        accuracies=accuracies,
        spread_between=float(np.std(list(accuracies.values()), ddof=1)) if len(accuracies) > 1 else None,
        spread_within=_within([[run["final"]["test_accuracy"] for run in group] for group in by_seed.values()]),
        validation=float(np.mean(validations)) if validations and None not in validations else None,
        first_epoch=float(np.mean(first)) if first and None not in first else None,
        trainable_parameters=trainable.pop() if len(trainable) == 1 else None,
        train_seconds=float(np.mean(seconds)) if seconds else None,
        standard_error=error,
        diverged=any(run["diverged"] for run in runs),
        one_set_of_weights=len(starts) > 1 and len(set(starts.values())) == 1,
    )


def _within(groups: Sequence[Sequence[float]]) -> float | None:
    """The pooled standard deviation of repeats within seeds; None without repeats."""
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    return math.sqrt(sum(float(np.var(group)) * len(group) for group in groups) / freedom)


def variants(results: Results) -> tuple[VariantSummary, ...]:
    """Every downstream variant of the study, in the order of its runs."""
    study = results["study"]
    groups = by_variant(results["runs"], "downstream")
    repeats = study.get("repeats", 1)
    by_id = {run["id"]: run for run in results["runs"]}
    shared = results.get("seconds_shared_by", {})
    return tuple(
        replace(
            summarise(variant, runs, study["seeds"], study["test_images"], repeats),
            training_flops=_mean([flops(run) for run in runs if finished(run)]),
            pretraining_flops=_mean([pretraining_flops(run, by_id) for run in runs if finished(run)]),
            seconds_shared_by=max((shared[run["id"]] for run in runs if run["id"] in shared), default=None),
        )
        for variant, runs in groups
    )


def flops(run: Run) -> int | None:
    """Counted FLOPs of a run's training, calibration included; None where they were not counted."""
    cost = run["provenance"].get("cost")
    return int(cost["training_flops"] + cost["calibration_flops"]) if cost else None


def pretraining_flops(run: Run, by_id: Mapping[str, Run]) -> int | None:
    """Counted FLOPs of the pretext runs that a run rests on, 0 without any; None where some were not counted."""
    total = 0
    while run["needs"]:
        parent = by_id.get(run["needs"][0])
        counted = flops(parent) if parent else None
        if parent is None or counted is None:
            return None
        total, run = total + counted, parent
    return total


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def contrasts(results: Results) -> tuple[Contrast, ...]:
    """Every variant that has exactly one partner against it, with verdicts; the baseline variants have none.

    After them, where the study asks for it, each side at its own best setting, and partners of as many epochs.
    """
    study = results["study"]
    summaries = variants(results)
    of = {as_written(summary.variant): summary for summary in summaries}
    tune = study.get("tune", [])
    known = comparability.known(results["runs"], study["pretexts"], study["baseline"], tune)
    family = [
        contrast(of[as_written(variant)], of[as_written(found[0])], known)
        for variant, found in pair_up([summary.variant for summary in summaries], study["baseline"])
        if len(found) == 1
    ]
    if tune:
        family += _tuned(summaries, tune, study["baseline"], known)
    for pair in study.get("matched", []):
        sides = [of.get(as_written(pair[side])) for side in ("variant", "partner")]
        if sides[0] is not None and sides[1] is not None:
            family.append(contrast(sides[0], sides[1], known, "compute-matched"))
    runs_of = {as_written(variant): runs for variant, runs in by_variant(results["runs"], "downstream")}
    family = [replace(item, pairs=_pairs(item, runs_of, results.get("pairs", []))) for item in family]
    margin = study.get("margin", MARGIN)
    trainings = {key: _training(of[key], runs, results["runs"]) for key, runs in runs_of.items()}
    return tuple(_with_course(item, trainings, margin) for item in judge(family, margin, study.get("primary")))


def _training(summary: VariantSummary, runs: Sequence[Run], all_runs: Sequence[Run]) -> Training | None:
    """How the finished runs of a variant were trained; None where they were not trained alike, or none has finished."""
    by_id = {run["id"]: run for run in all_runs}
    done = [run for run in runs if finished(run) and run["seed"] in summary.accuracies]
    lengths = {len(run["history"]) for run in done}
    pretraining = {_pretraining_epochs(run, by_id) for run in done}
    if len(lengths) != 1 or len(pretraining) != 1:
        return None
    schedules = {run["settings"].get("train", {}).get("schedule") for run in done}
    return Training(
        curves=seed_curves(done, scored_part(all_runs)),
        epochs=lengths.pop(),
        pretraining_epochs=pretraining.pop(),
        flops=summary.training_flops,
        pretraining_flops=summary.pretraining_flops,
        to_the_end="cosine" in schedules,
    )


def _pretraining_epochs(run: Run, by_id: Mapping[str, Run]) -> int:
    """Epochs of the pretext runs that a run rests on; those of a run that is not known are not counted."""
    epochs = 0
    while run["needs"] and run["needs"][0] in by_id:
        run = by_id[run["needs"][0]]
        epochs += len(run["history"])
    return epochs


def _with_course(item: Contrast, trainings: Mapping[str, Training | None], margin: float) -> Contrast:
    """``item`` with what its curves tell, and with the seeds that it lacks where it is not resolved."""
    if item.verdict == "not resolved":
        values = list(item.differences.values())
        item = replace(item, seeds_needed=seeds_needed(float(np.std(values, ddof=1)), len(values), margin))
    sides = trainings.get(as_written(item.variant)), trainings.get(as_written(item.baseline))
    variant, baseline = sides
    if variant is None or baseline is None or item.comparison != "same settings":
        return item
    if item.same_start or item.confounds or item.reason == "diverged":
        return item
    starts = [
        variant.curves[seed][0] - baseline.curves[seed][0]
        for seed in item.differences
        if seed in variant.curves and seed in baseline.curves
    ]
    return replace(
        item,
        at_start=mean_interval(starts) if starts and min(variant.epochs, baseline.epochs) > 1 else None,
        saving=saving(variant, baseline),
    )


def _pairs(item: Contrast, runs_of: Mapping[str, Sequence[Run]], pairs: Sequence[Run]) -> tuple[ImagePair, ...]:
    """The pairs of runs of a contrast, image by image."""
    sides = [{run["id"] for run in runs_of.get(as_written(side), ())} for side in (item.variant, item.baseline)]
    return tuple(
        ImagePair(
            seed=pair["seed"],
            repeat=pair["repeat"],
            images=pair["images"],
            both=pair["both"],
            only_variant=pair["only_variant"],
            only_baseline=pair["only_baseline"],
            neither=pair["neither"],
            agree=pair["agree"],
        )
        for pair in pairs
        if pair["variant"] in sides[0] and pair["baseline"] in sides[1] and pair["both"] is not None
    )


def _tuned(
    summaries: Sequence[VariantSummary], tune: Sequence[str], baseline: Mapping[str, Any], known: Known
) -> list[Contrast]:
    """Each side at the value of the tuned axes with its best mean validation accuracy, once all have been tried.

    A value at which a run diverged has been tried, and is not chosen.
    """
    groups: dict[str, list[VariantSummary]] = {}
    for summary in summaries:
        if MATCHED not in summary.variant:
            rest = {key: value for key, value in summary.variant.items() if key not in tune}
            groups.setdefault(as_written(rest), []).append(summary)
    best = {}
    for group in groups.values():
        standing = [item for item in group if not item.diverged]
        if standing and all(item.validation is not None and item.n == item.planned for item in standing):
            chosen = max(standing, key=lambda item: item.validation or 0.0)
            best[as_written(chosen.variant)] = (chosen, len(group))
    found = []
    for variant, partner in pair_up([item.variant for item, _ in best.values()], baseline, ignoring=tune):
        if len(partner) == 1:
            item, tried = best[as_written(variant)]
            plain = contrast(item, best[as_written(partner[0])][0], known, "tuned")
            found.append(replace(plain, chosen_from=tried))
    return found


def without_partner(results: Results) -> tuple[Variant, ...]:
    """The variants that are not a baseline and have no partner, or more than one."""
    all_variants = [variant for variant, _ in by_variant(results["runs"], "downstream")]
    return tuple(
        dict(variant) for variant, found in pair_up(all_variants, results["study"]["baseline"]) if len(found) != 1
    )


def axis_labels(values: Sequence[Any]) -> dict[str, str]:
    """A label for each value of one axis, by ``as_written``: its name and the options that set it apart."""
    distinct = {as_written(value): value for value in values}
    labels = {}
    for key, value in distinct.items():
        if not (isinstance(value, dict) and "name" in value):
            labels[key] = value_words(value)
            continue
        namesakes = [other for other in distinct.values() if matches(other, value["name"])]
        labels[key] = value_words(
            {option: value[option] for option in value if option == "name" or not _shared(option, namesakes)}
        )
    return labels


def _shared(option: str, tables: Sequence[Any]) -> bool:
    """Whether all ``tables`` give ``option`` the same value; a plain name gives none."""
    return len({as_written(table.get(option)) if isinstance(table, dict) else "" for table in tables}) == 1
