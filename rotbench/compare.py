"""From the runs of a study to means, intervals, contrasts and verdicts.

A contrast is a variant against the variant that differs from it in the baseline's keys alone, seed by seed. What is
random in it are the seeds: pretraining, order, augmentation and label subset, never the test images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rotbench import comparability
from rotbench.comparability import Known
from rotbench.contrast import Contrast, ImagePair, Variant, VariantSummary, contrast, judge
from rotbench.curve import final_score, scored_part, seed_curves
from rotbench.inference import MARGIN, binomial_standard_error, mean_interval
from rotbench.interaction import interactions
from rotbench.partner import MATCHED, matches, pair_up
from rotbench.power import seeds_needed
from rotbench.recipe import value_words
from rotbench.saving import Training, saving
from rotbench.spread import components

Run = dict[str, Any]
Results = dict[str, Any]


def as_written(value: Any) -> str:
    """A value of the study file as one string; two values are the same if and only if they are written the same."""
    return json.dumps(value, sort_keys=True)


def finished(run: Run) -> bool:
    """Whether a run is done and its final accuracy a number."""
    final = run["final"]
    if run["status"] != "done" or run["diverged"] or final is None:
        return False
    return final["test_accuracy"] is not None and math.isfinite(final_score(run))


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
    accuracies = {seed: float(np.mean([final_score(run) for run in group])) for seed, group in by_seed.items()}
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
        spread_within=_within([[final_score(run) for run in group] for group in by_seed.values()]),
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

    After them, where the study asks for it, each side at its own best setting, partners of as many epochs, and
    interactions: of the contrasts of tuned sides where there are such.
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
    family = [_imagewise(item, _pairs(item, runs_of, results.get("pairs", []))) for item in family]
    if study.get("interactions"):
        asked = [item for item in family if item.comparison == ("tuned" if tune else "same settings")]
        every = [summary.variant for summary in summaries if MATCHED not in summary.variant]
        family += interactions(asked, every, study["baseline"], tune)
    margin = study.get("margin", MARGIN)
    trainings = {key: _training(of[key], runs, results["runs"]) for key, runs in runs_of.items()}
    judged = judge(family, margin, study.get("primary"))
    if study.get("repeats", 1) > 1:
        judged = tuple(_with_components(item, runs_of, trainings) for item in judged)
    return tuple(_with_course(item, trainings, margin) for item in judged)


def _with_components(
    item: Contrast, runs_of: Mapping[str, Sequence[Run]], trainings: Mapping[str, Training | None]
) -> Contrast:
    """``item`` with what its spread comes from: the differences of single repeats, seed by seed."""
    if item.condition is not None:
        return item
    sides = []
    for side in (item.variant, item.baseline):
        done = [run for run in runs_of.get(as_written(side), ()) if finished(run)]
        sides.append({(run["seed"], run.get("repeat", 0)): final_score(run) for run in done})
    by_seed: dict[int, list[float]] = {}
    for place in sorted(sides[0].keys() & sides[1].keys()):
        if place[0] in item.differences:
            by_seed.setdefault(place[0], []).append(sides[0][place] - sides[1][place])
    trained = [trainings.get(as_written(side)) for side in (item.variant, item.baseline)]
    return replace(item, components=components(by_seed, _pretraining_cost(trained)))


def _pretraining_cost(trained: Sequence[Training | None]) -> float | None:
    """What the pretraining of one seed costs in trainings of all sides: FLOPs, or epochs where these are unknown."""
    known = [side for side in trained if side is not None]
    if len(known) < len(trained):
        return None
    paid = [side.pretraining_flops for side in known]
    spent = [side.flops for side in known]
    if None in paid or None in spent or not all(spent):
        return sum(side.pretraining_epochs for side in known) / sum(side.epochs for side in known)
    return sum(filter(None, paid)) / sum(filter(None, spent))


def _training(summary: VariantSummary, runs: Sequence[Run], all_runs: Sequence[Run]) -> Training | None:
    """How the finished runs of a variant were trained; None where they were not trained alike, or none has finished."""
    by_id = {run["id"]: run for run in all_runs}
    done = [run for run in runs if finished(run) and run["seed"] in summary.accuracies]
    lengths = {len(run["history"]) for run in done}
    pretraining = {_pretraining_epochs(run, by_id) for run in done}
    if len(lengths) != 1 or len(pretraining) != 1 or None in pretraining:
        return None
    schedules = {run["settings"].get("train", {}).get("schedule") for run in done}
    return Training(
        curves=seed_curves(done, scored_part(all_runs)),
        epochs=lengths.pop(),
        pretraining_epochs=pretraining.pop() or 0,
        flops=summary.training_flops,
        pretraining_flops=summary.pretraining_flops,
        to_the_end="cosine" in schedules,
    )


def _pretraining_epochs(run: Run, by_id: Mapping[str, Run]) -> int | None:
    """Epochs of the pretext runs that a run rests on, 0 without any; None where one is not there to be counted."""
    epochs = 0
    while run["needs"]:
        parent = by_id.get(run["needs"][0])
        if parent is None or not parent["history"]:
            return None
        run, epochs = parent, epochs + len(parent["history"])
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


def _imagewise(item: Contrast, pairs: tuple[ImagePair, ...]) -> Contrast:
    """``item`` with its pairs; for one pair the standard error is that of the images on which the two are not alike."""
    error = pairs[0].standard_error if len(pairs) == 1 else item.standard_error
    return replace(item, pairs=pairs, standard_error=error)


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
            labels[key] = "none" if value == [] else value_words(value)
            continue
        namesakes = [other for other in distinct.values() if matches(other, value["name"])]
        labels[key] = value_words(
            {option: value[option] for option in value if option == "name" or not _shared(option, namesakes)}
        )
    return labels


def _shared(option: str, tables: Sequence[Any]) -> bool:
    """Whether all ``tables`` give ``option`` the same value; a plain name gives none."""
    return len({as_written(table.get(option)) if isinstance(table, dict) else "" for table in tables}) == 1
