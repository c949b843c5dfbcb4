"""What the networks of a study say class by class: how often they are right, what they take for what, where they err.

All of it describes the test images and the seeds that there are. No number here has a verdict or a p value: a study
asks about its contrasts, and ten classes of each would be ten further questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from rotbench.compare import Results, Run, as_written, by_variant, finished
from rotbench.contrast import Contrast, VariantSummary
from rotbench.partner import alike
from rotbench.predictions import Array
from rotbench.thumbnails import in_few_colours

#: Beyond so many classes a matrix cannot be read, and a table of classes has those alone that are hardest.
MOST_CLASSES = 20
#: Numbers of a table at most: a hundred classes of a few variants are still one.
MOST_CELLS = 1200
#: Variants that a matrix is drawn of.
MOST_MATRICES = 8
#: Confusions that are listed of a variant, and of a contrast the classes that gain and lose most.
MOST_PAIRS = 5
#: Variants that stand side by side as columns; of more each has a row.
MOST_COLUMNS = 6
MOST_CONTRASTS = 4

KINDS = {"same settings": "", "tuned": "each at its best", "compute-matched": "equal epochs in all"}


@dataclass(frozen=True)
class Confusion:
    """Two classes by number, the second said of images of the first: ``share`` of the images of the first."""

    label: int
    predicted: int
    share: float


@dataclass(frozen=True)
class SureError:
    """A wrong answer; ``place`` is that of its picture in ``error_images``, None without one."""

    index: int
    label: int
    predicted: int
    confidence: float
    place: int | None
    png: str


@dataclass(frozen=True)
class VariantClasses:
    """One variant over its ``n`` finished seeds of ``planned``; everything is a share, None of a class without images.

    ``accuracies`` are means over seeds, a seed being the mean of its repeats; ``matrix`` has a row a class, its images
    over all runs, and a column a class that was said. ``agreement`` is the share of images of which two seeds say the
    same. ``errors`` are those of the run of seed ``errors_of``.
    """

    label: str
    n: int
    planned: int
    accuracies: tuple[float | None, ...]
    overall: float
    matrix: tuple[tuple[float | None, ...], ...] | None
    confused: tuple[Confusion, ...]
    agreement: float | None
    errors: tuple[SureError, ...]
    errors_of: int | None


@dataclass(frozen=True)
class ClassDifference:
    """A variant minus its partner on one class, paired by seed: the mean, the smallest and the largest difference."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ContrastClasses:
    """The differences of one contrast by class, over ``n`` seeds, None for a class without images.

    ``kind`` and ``remark`` say what is compared where that is not two variants of equal settings, and why it should
    not be; ``gains`` and ``losses`` are the classes with the largest differences by number, largest first.
    """

    variant: str
    baseline: str
    kind: str
    remark: str
    n: int
    differences: tuple[ClassDifference | None, ...]
    gains: tuple[int, ...]
    losses: tuple[int, ...]


@dataclass(frozen=True)
class Classes:
    """All that the page says by class.

    ``listed`` are the numbers of the classes that the tables have; ``by_row``: a variant is a row of them, not a
    column. ``cut``: a run lists its most frequent confusions alone. ``few_colours``: so are the pictures.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    listed: tuple[int, ...]
    by_row: bool
    variants: tuple[VariantClasses, ...]
    contrasts: tuple[ContrastClasses, ...]
    cut: bool
    few_colours: bool

    @property
    def many(self) -> bool:
        """Whether there are more classes than a matrix can be read of."""
        return len(self.names) > MOST_CLASSES

    @property
    def pictured(self) -> frozenset[int]:
        """The places in ``error_images`` of the pictures that are shown."""
        return frozenset(error.place for item in self.variants for error in item.errors if error.place is not None)

    @property
    def contrast_by_row(self) -> bool:
        """Whether a contrast is a row of its table, not a column."""
        return not self.many and len(self.contrasts) > MOST_CONTRASTS

    @property
    def seeds(self) -> int | None:
        """The seeds of every variant, None where they differ or some are missing."""
        said = {(item.n, item.planned) for item in self.variants}
        n, planned = next(iter(said))
        return n if len(said) == 1 and n == planned else None

    @property
    def seeds_compared(self) -> int | None:
        """The seeds of every contrast, None where they differ."""
        said = {item.n for item in self.contrasts}
        return said.pop() if len(said) == 1 else None


def classes(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> Classes | None:
    """The study by class; None where no finished run says what it got right, or runs were tested on other images."""
    study = results["study"]
    counts = study.get("class_counts")
    groups = {as_written(variant): _judged(runs, counts) for variant, runs in by_variant(results["runs"], "downstream")}
    repeats = study.get("repeats", 1)
    by_seed = {key: seeds for key, runs in groups.items() if (seeds := _by_seed(runs, repeats))}
    if not counts or not by_seed:
        return None
    matrices = _with_matrix(by_seed, counts)
    pictures = {
        (item["run"], item["index"]): (place, item["png"])
        for place, item in enumerate(results.get("error_images", []))
        if item.get("png")
    }
    agreement = {alike(item["variant"]): item["agreement"] for item in results.get("seed_agreement", [])}
    variants = tuple(
        _variant(
            labels[key],
            summary.planned,
            by_seed[key],
            counts,
            key in matrices,
            agreement.get(alike(summary.variant)),
            pictures,
        )
        for summary in summaries
        if (key := as_written(summary.variant)) in by_seed
    )
    return Classes(
        names=tuple(str(name) for name in study["classes"]),
        counts=tuple(counts),
        listed=_listed(variants, len(counts)),
        by_row=len(counts) <= MOST_CLASSES and len(variants) > MOST_COLUMNS,
        variants=variants,
        contrasts=tuple(
            told
            for item in contrasts
            if item.condition is None and (told := _contrast(item, by_seed, counts, labels)) is not None
        ),
        cut=any(run["by_class"]["left_out"] for runs in groups.values() for run in runs),
        few_colours=any(in_few_colours(png) for _, png in pictures.values()),
    )


def agreements(results: Results, labels: Mapping[str, str]) -> list[tuple[str, float, int]]:
    """By variant, whose label comes first, of what share of the test images two seeds say the same, and of how many
    pairs of seeds that is the mean.
    """
    of = {alike(item["variant"]): (item["agreement"], item["pairs"]) for item in results.get("seed_agreement", [])}
    groups = by_variant(results["runs"], "downstream")
    return [(labels[as_written(variant)], *of[alike(variant)]) for variant, _ in groups if alike(variant) in of]


def _judged(runs: Sequence[Run], counts: Sequence[int] | None) -> list[Run]:
    """The finished runs that say what they got right of each class, in the order of their seeds."""
    there = [run for run in runs if finished(run) and _has_classes(run, len(counts or ()))]
    return sorted(there, key=lambda run: (run["seed"], run.get("repeat", 0)))


def _has_classes(run: Run, classes: int) -> bool:
    """Whether a run tells of just these classes, as none of an old store or of another data set does."""
    told = run.get("by_class")
    if not told or len(told["right"]) != classes:
        return False
    numbers = [number for label, predicted, _ in told["confused"] for number in (label, predicted)]
    numbers += [error[side] for error in run.get("errors", ()) for side in ("label", "predicted")]
    return all(0 <= number < classes for number in numbers)


def _by_seed(runs: Sequence[Run], repeats: int) -> dict[int, list[Run]]:
    """The runs by seed; a seed counts once all of its repeats are there."""
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["seed"], []).append(run)
    return {seed: group for seed, group in groups.items() if len(group) >= repeats}


def _accuracies(runs: Sequence[Run], counts: Sequence[int]) -> list[float | None]:
    """By class the share that ``runs`` get right, as their mean; None of a class without images."""
    right = np.mean([run["by_class"]["right"] for run in runs], axis=0)
    return [float(share) / count if count else None for share, count in zip(right, counts, strict=True)]


def confusions(runs: Sequence[Run], classes: int) -> Array:
    """How often ``runs`` said each class (columns) of the images of each class (rows), float64 (classes, classes).

    Confusions that a run does not list are not counted.
    """
    counts = np.zeros((classes, classes))
    for run in runs:
        counts[np.arange(classes), np.arange(classes)] += run["by_class"]["right"]
        for label, predicted, images in run["by_class"]["confused"]:
            counts[label, predicted] += images
    return counts


def _with_matrix(by_seed: Mapping[str, Mapping[int, Sequence[Run]]], counts: Sequence[int]) -> set[str]:
    """The variants that a matrix is drawn of: few classes, every confusion told, and the best where there are many."""
    if len(counts) > MOST_CLASSES:
        return set()
    whole = {key: [run for group in seeds.values() for run in group] for key, seeds in by_seed.items()}
    whole = {key: runs for key, runs in whole.items() if not any(run["by_class"]["left_out"] for run in runs)}
    best = sorted(whole, key=lambda key: -fmean(sum(run["by_class"]["right"]) for run in whole[key]))
    return set(best[:MOST_MATRICES])


def _variant(
    label: str,
    planned: int,
    by_seed: Mapping[int, Sequence[Run]],
    counts: Sequence[int],
    with_matrix: bool,
    agreement: float | None,
    pictures: Mapping[tuple[str, int], tuple[int, str]],
) -> VariantClasses:
    runs = [run for group in by_seed.values() for run in group]
    seeds = [_accuracies(group, counts) for group in by_seed.values()]
    said = confusions(runs, len(counts))
    images = np.asarray(counts) * len(runs)
    first = next((run for run in runs if run.get("errors")), None)
    return VariantClasses(
        label=label,
        n=len(by_seed),
        planned=planned,
        accuracies=tuple(_mean(values) for values in zip(*seeds, strict=True)),
        overall=fmean(sum(run["by_class"]["right"]) for run in runs) / sum(counts),
        matrix=tuple(
            tuple(float(count) / total if total else None for count in row)
            for row, total in zip(said, images.tolist(), strict=True)
        )
        if with_matrix
        else None,
        confused=_confused(said, images),
        agreement=agreement,
        errors=_errors(first, pictures) if first else (),
        errors_of=first["seed"] if first else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _confused(said: Array, images: Array) -> tuple[Confusion, ...]:
    """The most frequent confusions as shares of the images of their class."""
    wrong = said / np.maximum(images, 1)[:, None]
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = [np.unravel_index(place, wrong.shape) for place in order]
    return tuple(
        Confusion(int(label), int(predicted), float(wrong[label, predicted]))
        for label, predicted in places
        if wrong[label, predicted] > 0
    )


def _errors(run: Run, pictures: Mapping[tuple[str, int], tuple[int, str]]) -> tuple[SureError, ...]:
    found = []
    for error in run["errors"]:
        place, png = pictures.get((run["id"], error["index"]), (None, ""))
        found.append(SureError(error["index"], error["label"], error["predicted"], error["confidence"], place, png))
    return tuple(found)


def _contrast(
    contrast: Contrast,
    by_seed: Mapping[str, Mapping[int, Sequence[Run]]],
    counts: Sequence[int],
    labels: Mapping[str, str],
) -> ContrastClasses | None:
    """A contrast by class over the seeds that both sides have; None where there is none."""
    sides = [by_seed.get(as_written(side), {}) for side in (contrast.variant, contrast.baseline)]
    seeds = [seed for seed in sides[0] if seed in sides[1]]
    if not seeds:
        return None
    both = [[_accuracies(side[seed], counts) for side in sides] for seed in seeds]
    differences: list[ClassDifference | None] = []
    for number in range(len(counts)):
        values = [mine[number] - theirs[number] for mine, theirs in both if mine[number] is not None]  # type: ignore[operator]
        differences.append(ClassDifference(fmean(values), min(values), max(values)) if values else None)
    known = {number: item.mean for number, item in enumerate(differences) if item is not None}
    order = sorted(known, key=lambda number: -known[number])
    return ContrastClasses(
        variant=labels[as_written(contrast.variant)],
        baseline=labels[as_written(contrast.baseline)],
        kind=KINDS[contrast.comparison],
        remark={"confounded": "not comparable", "same start": "same start"}.get(contrast.reason or "", ""),
        n=len(seeds),
        differences=tuple(differences),
        gains=tuple(number for number in order[:MOST_PAIRS] if known[number] > 0),
        losses=tuple(number for number in order[: -MOST_PAIRS - 1 : -1] if known[number] < 0),
    )


def _listed(variants: Sequence[VariantClasses], classes: int) -> tuple[int, ...]:
    """The classes that the tables have, in their order: all, or of too many those that are right least often."""
    if classes <= MOST_CLASSES or classes * len(variants) <= MOST_CELLS:
        return tuple(range(classes))
    means = [_mean([item.accuracies[number] for item in variants]) for number in range(classes)]
    hardest = sorted((number for number in range(classes) if means[number] is not None), key=lambda n: means[n] or 0.0)
    return tuple(sorted(hardest[:MOST_CLASSES]))
