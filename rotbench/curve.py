"""Accuracy by epoch, the curve of each seed as the mean of its repeats; and the score after the last epoch."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from typing import Any

Run = dict[str, Any]


def final_score(run: Run) -> float:
    """The score of a finished run on the test images after its last epoch; of a pretext run on all views of each.

    The curve of a pretext run has one view of each image. Runs of earlier versions have all views at every epoch.
    """
    final = run["final"]
    score = final.get("score_all_views")
    return float(final["test_accuracy"] if score is None else score)


def views_per_image(runs: Sequence[Run]) -> int:
    """Views of each test image in the final score of pretext runs whose curves have one of them; else 1."""
    return max((run["provenance"].get("views_per_image") or 1 for run in runs), default=1)


def views_words(views: Collection[int]) -> str:
    """Numbers of views in words: ``all 4 views of each test image``."""
    several = {count for count in views if count > 1}
    return f"all {several.pop()} views of each test image" if len(several) == 1 else "all views of each test image"


def scored_part(runs: Sequence[Run]) -> str:
    """What the curves of these runs can show: validation images where the test images were kept for the last epoch."""
    seen = any(len(run["history"]) > 1 and run["history"][0]["test_accuracy"] is None for run in runs)
    return (
        "validation"
        if seen and any("validation_accuracy" in run["history"][0] for run in runs if run["history"])
        else "test"
    )


def seed_curves(runs: Sequence[Run], part: str = "test") -> dict[int, tuple[float, ...]]:
    """By seed, the accuracy after each epoch from the first on, up to the first that some repeat was not scored at.

    ``part`` is what was scored: ``"test"`` or ``"validation"``. A seed that has no such epoch is left out.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], []).append(run)
    curves = {}
    for seed, group in by_seed.items():
        scores = [[entry.get(f"{part}_accuracy") for entry in run["history"]] for run in group]
        scored = [list(itertools.takewhile(lambda score: score is not None, curve)) for curve in scores]
        if values := tuple(sum(epoch) / len(epoch) for epoch in zip(*scored, strict=False)):
            curves[seed] = values
    return curves
