"""Accuracy by epoch: the curve of each seed, the mean of its repeats."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

Run = dict[str, Any]


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
