"""The curves that a study has: what was measured, against what it is drawn, and the lines of each seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rotbench import compare
from rotbench.compare import Results, Run
from rotbench.curve import scored_part
from rotbench.figures import MOST_SEED_LINES, Line

#: With more variants than this the views beyond the first have means alone.
MOST_BANDS = 8

X = Literal["epoch", "images", "seconds"]


@dataclass(frozen=True)
class View:
    """One figure of curves: its name, a key of the history, what it is drawn against, and how that is said."""

    name: str
    measure: str
    x: X
    words: str
    button: str

    @property
    def is_accuracy(self) -> bool:
        """Whether fractions are drawn, not losses."""
        return self.measure.endswith("accuracy")

    @property
    def measured(self) -> str:
        """The measure in words: ``test accuracy``."""
        return self.measure.replace("_", " ")


def views(results: Results) -> list[View]:
    """The views for which some finished downstream run has numbers; the first also where only unfinished ones have."""
    part = scored_part(results["runs"])
    scored = part.capitalize()
    accuracy = f"{part}_accuracy"
    groups = [runs for _, runs in compare.by_variant(results["runs"], "downstream")]
    possible = [
        View("curves", accuracy, "epoch", f"{scored} accuracy by epoch", f"{scored} accuracy by epoch"),
        View("curves-images", accuracy, "images", f"{scored} accuracy by training images seen", "by images seen"),
        View("curves-seconds", accuracy, "seconds", f"{scored} accuracy by time", "by time"),
        View("curves-test-loss", f"{part}_loss", "epoch", f"{scored} loss by epoch", f"{scored} loss"),
        View("curves-train-accuracy", "train_accuracy", "epoch", "Train accuracy by epoch", "Train accuracy"),
        View("curves-train-loss", "train_loss", "epoch", "Train loss by epoch", "Train loss"),
    ]
    return [
        view
        for view in possible
        if any(
            lines if view.name == "curves" else any(line.finished for line in lines)
            for lines in (seed_lines(runs, view.measure, view.x) for runs in groups)
        )
    ]


def draws_bands(results: Results) -> bool:
    """Whether the further views have bands and marks, which of many variants would be most of a page's bytes."""
    return len(compare.by_variant(results["runs"], "downstream")) <= MOST_BANDS


def draws_seeds(results: Results, kind: str = "downstream") -> bool:
    """Whether the figure of all runs of ``kind`` has a line a seed, or too many seeds for that."""
    measure = f"{scored_part(results['runs'])}_accuracy"
    return sum(len(seed_lines(runs, measure)) for _, runs in compare.by_variant(results["runs"], kind)) <= (
        MOST_SEED_LINES
    )


def seed_lines(runs: Sequence[Run], measure: str, x: X = "epoch") -> tuple[Line, ...]:
    """The curve of each seed that has one, the mean of its repeats, up to the first epoch without a finite number."""
    by_seed: dict[int, list[Run]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], []).append(run)
    lines = []
    for seed, group in by_seed.items():
        values = _mean_of([list(_while_finite(entry.get(measure) for entry in run["history"])) for run in group])
        places = () if x == "epoch" else _mean_of([PLACES[x](run) for run in group])
        if x != "epoch":
            values = values[: len(places)]
            places = places[: len(values)]
        if values:
            lines.append(Line(seed, values, all(compare.finished(run) for run in group), places))
    return tuple(lines)


def images_seen(run: Run) -> list[float]:
    """Training images seen by the end of each epoch, every pass counted; empty for a run that does not say.

    An epoch is a number of batches: whole passes over the training images, and of the last pass as many full batches
    as are left. A last batch of one image is joined to the one before it.
    """
    provenance, settings = run["provenance"], run["settings"]
    images = provenance.get("data", {}).get("training_images")
    batch_size = settings.get("train", {}).get("batch_size")
    if not (images and batch_size and provenance.get("updates") and provenance.get("epochs")):
        return []
    updates = provenance["updates"] // provenance["epochs"]
    whole, rest = divmod(images, batch_size)
    passes, left = divmod(updates, max(1, whole + (rest > 1)))
    return [float(epoch * (passes * images + left * batch_size)) for epoch in range(1, len(run["history"]) + 1)]


def seconds_spent(run: Run) -> list[float]:
    """Seconds of training and scoring by the end of each epoch, up to the first that was not timed."""
    return list(itertools.accumulate(_while_finite(entry.get("seconds") for entry in run["history"])))


PLACES: dict[str, Callable[[Run], list[float]]] = {"images": images_seen, "seconds": seconds_spent}


def _while_finite(values: Any) -> list[float]:
    return list(itertools.takewhile(lambda value: value is not None and math.isfinite(value), values))


def _mean_of(lists: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(values) / len(values) for values in zip(*lists, strict=False))
