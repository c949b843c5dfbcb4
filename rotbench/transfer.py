"""Pretext scores beside the accuracies of what was trained from them, within one pretext task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from rotbench import compare
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Variant
from rotbench.curve import final_score
from rotbench.wording import variant_labels

#: Below this number of runs no rank correlation is given: of four runs one in twelve orders is perfect by chance.
FEWEST_FOR_RANKS = 5


@dataclass(frozen=True)
class Transfer:
    """One pretext task and one downstream variant that starts from its runs.

    ``besides`` is what the variant sets besides its init, in words. ``points`` are, for each finished pretext run
    with finished runs that start from it, its seed, its final score, and their final accuracy (the mean of repeats).
    """

    pretext: str
    variant: Variant
    besides: str
    points: tuple[tuple[int, float, float], ...]

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's; None for fewer than five runs and where all scores or all accuracies are equal."""
        scores, accuracies = [score for _, score, _ in self.points], [accuracy for _, _, accuracy in self.points]
        if len(self.points) < FEWEST_FOR_RANKS or min(len(set(scores)), len(set(accuracies))) < 2:
            return None
        return float(stats.spearmanr(scores, accuracies).statistic)


def transfers(results: Results) -> list[Transfer]:
    """By pretext task, in the order of its runs, and by variant, of tasks with two or more runs to set side by side."""
    repeats = results["study"].get("repeats", 1) or 1
    parents = {run["id"]: run for run in results["runs"] if run["kind"] == "pretext" and compare.finished(run)}
    groups = compare.by_variant(results["runs"], "downstream")
    found: dict[str, list[tuple[Variant, tuple[tuple[int, float, float], ...]]]] = {}
    for variant, runs in groups:
        children: dict[str, list[Run]] = {}
        for run in runs:
            for needed in run["needs"] if compare.finished(run) else ():
                children.setdefault(needed, []).append(run)
        names = dict.fromkeys(str(parents[parent]["variant"]["pretext"]) for parent in children if parent in parents)
        for name in names:
            points = tuple(
                (parent["seed"], final_score(parent), _accuracy(children[identity]))
                for identity, parent in parents.items()
                if str(parent["variant"]["pretext"]) == name and len(children.get(identity, [])) >= repeats
            )
            if points:
                found.setdefault(name, []).append((variant, points))
    order = dict.fromkeys(str(parent["variant"]["pretext"]) for parent in parents.values())
    enough = {name: found[name] for name in order if name in found and _runs(found[name]) > 1}
    besides = _besides([variant for of in enough.values() for variant, _ in of], enough)
    return [
        Transfer(name, variant, besides[as_written(variant)], points)
        for name, of in enough.items()
        for variant, points in of
    ]


def _accuracy(runs: Sequence[Run]) -> float:
    return math.fsum(map(final_score, runs)) / len(runs)


def _runs(of: Sequence[tuple[Variant, tuple[tuple[int, float, float], ...]]]) -> int:
    """How many pretext runs have a point."""
    return len({seed for _, points in of for seed, _, _ in points})


def _besides(variants: Sequence[Variant], by_task: Mapping[str, Sequence[tuple[Variant, object]]]) -> dict[str, str]:
    """What variants set besides their init; with it where two of one task differ in nothing else."""
    labels = variant_labels(variants, ("init",))
    for of in by_task.values():
        own = [labels[as_written(variant)] for variant, _ in of]
        if len(set(own)) < len(own):
            return variant_labels(variants)
    return labels
