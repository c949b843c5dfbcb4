"""What a finished run said of each test image, and what two runs said of the same ones.

A downstream run keeps ``predictions.safetensors`` over the test images in their order: ``predicted`` int16 (N,) and
``confidence`` float16 (N,), the probability of the predicted class; since labels are kept too, ``label`` int16 (N,);
and of the most confident errors, K of them, ``error_index`` int32 (K,) and ``error_pixels`` uint8 (K, 3, H, W).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from rotbench.partner import Variant, alike, pair_up
from rotbench.store import Damaged, read_manifest, read_verified

FILE = "predictions.safetensors"

#: Entries that are listed of a confusion: all that ten classes can have, and the first of more.
MOST_CONFUSED = 100
MOST_ERRORS = 8

Run = dict[str, Any]
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of N test images in their order: predicted classes, integers (N,); their probabilities, float16 (N,), of which a
    diverged run has NaN; and labels, integers (N,), which older runs did not keep. ``seen`` are the numbers of the
    training images that a run with few labels really drew, integers, ascending.
    """

    predicted: Array
    confidence: Array
    labels: Array | None = None
    seen: Array | None = None


@dataclass(frozen=True, eq=False)
class ErrorImages:
    """Images that a run got wrong with most confidence: where they stand among the test images, int32 (K,), and their
    pixels, uint8 (K, 3, H, W).
    """

    index: Array
    pixels: Array


@dataclass(frozen=True)
class Pair:
    """On how many of the same ``images`` two runs gave the same class (``agree``), and on how many both were right,
    only one, or neither; these are None where neither run kept its labels.
    """

    images: int
    agree: int
    both: int | None = None
    only_first: int | None = None
    only_second: int | None = None
    neither: int | None = None


def read_predictions(folder: Path, classes: int) -> Predictions:
    """The predictions of a published run that tells ``classes`` classes apart.

    Raises :class:`~rotbench.store.Damaged` where there are none to trust.
    """
    arrays = _read(folder)
    try:
        read = Predictions(arrays["predicted"], arrays["confidence"], arrays.get("label"), arrays.get("seen"))
    except KeyError as missing:
        raise Damaged(f"{folder / FILE} has no {missing}") from None
    for given in (read.predicted, *([] if read.labels is None else [read.labels])):
        whole = given.size and given.shape == read.confidence.shape == (given.size,)
        if not whole or not np.issubdtype(given.dtype, np.integer) or not 0 <= given.min() <= given.max() < classes:
            raise Damaged(f"{folder / FILE} does not have one of {classes} classes for each image")
    return read


def read_error_images(folder: Path) -> ErrorImages | None:
    """The pixels of a published run's most confident errors, or None for a run that kept none.

    Raises :class:`~rotbench.store.Damaged` where the file is not what the run wrote.
    """
    arrays = _read(folder)
    if "error_index" not in arrays or "error_pixels" not in arrays:
        return None
    kept = ErrorImages(arrays["error_index"], arrays["error_pixels"])
    if kept.pixels.dtype != np.uint8 or kept.pixels.shape[:2] != (kept.index.size, 3) or kept.pixels.ndim != 4:
        raise Damaged(f"{folder / FILE} does not have the pixels of one image for each error")
    return kept


def _read(folder: Path) -> Mapping[str, Array]:
    content = read_verified(folder, FILE, read_manifest(folder))
    try:
        arrays: dict[str, Array] = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{folder / FILE} is no file of tensors: {error}") from None
    return arrays


def confusion(labels: Array, predicted: Array, classes: int) -> Array:
    """How many images of each class (rows) were given each class (columns), int64 (classes, classes).

    Both are integers (N,) in 0 .. classes - 1.
    """
    cells = labels.astype(np.int64) * classes + predicted
    counts: Array = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    return counts


def most_confused(counts: Array, most: int = MOST_CONFUSED) -> tuple[list[list[int]], int]:
    """The entries off the diagonal of a confusion as [label, predicted, images], those with most images first and at
    most ``most`` of them, and how many images stand in the entries that are left out.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)  # in the order of label and predicted class, which settles ties
    images = wrong[rows, columns]
    order = np.argsort(-images, kind="stable")
    listed = np.stack([rows, columns, images], axis=1)[order[:most]]
    return listed.tolist(), int(images[order[most:]].sum())


def most_confident_errors(labels: Array, predicted: Array, confidence: Array, most: int = MOST_ERRORS) -> Array:
    """Where the wrongly classified images stand of which the run was surest: int64, at most (most,), surest first.

    Equal confidences, of which float16 has many near 1, stand in the order of the images; a confidence that is no
    number makes no confident error.
    """
    wrong = np.flatnonzero((predicted != labels) & np.isfinite(confidence))
    order = np.argsort(-confidence[wrong], kind="stable")
    found: Array = wrong[order[:most]]
    return found


def pair(first: Predictions, second: Predictions) -> Pair | None:
    """Two runs on the same images, whose labels either of them may have kept; None where the images are not the same.

    Images are the same as far as their number and their labels tell: the caller knows which data they are of.
    """
    if first.predicted.size != second.predicted.size:
        return None
    labels = second.labels if first.labels is None else first.labels
    images, agree = first.predicted.size, int(np.count_nonzero(first.predicted == second.predicted))
    if labels is None:
        return Pair(images, agree)
    if second.labels is not None and not np.array_equal(labels, second.labels):
        return None
    right, right_too = first.predicted == labels, second.predicted == labels
    both = int(np.count_nonzero(right & right_too))
    only_first, only_second = int(np.count_nonzero(right)) - both, int(np.count_nonzero(right_too)) - both
    return Pair(images, agree, both, only_first, only_second, images - both - only_first - only_second)


def usable(run: Run) -> bool:
    """Whether predictions of a run are worth reading: it classifies, is done, and its weights are numbers."""
    finished = run["status"] == "done" and not run["diverged"]
    return finished and run["kind"] == "downstream" and "data" in run["provenance"]


def read_if_intact(folder: Path, classes: int) -> Predictions | None:
    """:func:`read_predictions`, or None where there are none to trust: a report does without."""
    try:
        return read_predictions(folder, classes)
    except Damaged:
        return None


def judged(said: Predictions, classes: int) -> dict[str, Any]:
    """What a run got right and wrong, as plain JSON; nothing where its labels are not known.

    ``by_class`` has the number of test images of each class that it got right, and :func:`most_confused`; ``errors``
    are the :func:`most_confident_errors`, ``index`` being the place among the test images.
    """
    if said.labels is None:
        return {}
    counts = confusion(said.labels, said.predicted, classes)
    listed, left_out = most_confused(counts)
    return {
        "by_class": {"right": counts.diagonal().tolist(), "confused": listed, "left_out": left_out},
        "errors": [
            {
                "index": int(index),
                "label": int(said.labels[index]),
                "predicted": int(said.predicted[index]),
                "confidence": round(float(said.confidence[index]), 4),
            }
            for index in most_confident_errors(said.labels, said.predicted, said.confidence)
        ],
    }


def class_counts(predictions: Collection[Predictions], classes: int) -> list[int] | None:
    """The test images of each class; None where no run kept its labels, or two were tested on other ones."""
    counted = {
        tuple(np.bincount(said.labels, minlength=classes).tolist()) for said in predictions if said.labels is not None
    }
    return list(counted.pop()) if len(counted) == 1 else None


def compared(study: Mapping[str, Any], runs: Sequence[Run], predicted: Mapping[str, Predictions]) -> list[Run]:
    """Each pair of runs that a contrast compares, of equal seed and repeat and on the same test images, as plain JSON.

    ``predicted`` has the predictions of the finished runs by their id. ``both``, ``only_variant``, ``only_baseline``
    and ``neither`` count the images that these got right, null where no labels are known; ``agree`` counts those of
    ``images`` that both gave the same class.
    """
    groups = _by_variant(runs)
    told = []
    for variant, baseline in _partners(study, [group[0]["variant"] for group in groups.values()]):
        partners = {(run["seed"], run["repeat"]): run for run in groups.get(alike(baseline), [])}
        for run in groups.get(alike(variant), []):
            partner = partners.get((run["seed"], run["repeat"]))
            counted = partner and _counted(run, partner, predicted)
            if partner and counted:
                told.append(
                    {
                        "variant": run["id"],
                        "baseline": partner["id"],
                        "seed": run["seed"],
                        "repeat": run["repeat"],
                        "images": counted.images,
                        "both": counted.both,
                        "only_variant": counted.only_first,
                        "only_baseline": counted.only_second,
                        "neither": counted.neither,
                        "agree": counted.agree,
                    }
                )
    return told


def seed_agreement(runs: Sequence[Run], predicted: Mapping[str, Predictions]) -> list[dict[str, Any]]:
    """How much another seed alone changes what a variant says, as plain JSON: the share of the same test images that
    two of its runs gave the same class, as the mean over all ``pairs`` of its finished runs of different seeds.
    """
    told = []
    for group in _by_variant(runs).values():
        pairs = [_counted(*two, predicted) for two in combinations(group, 2) if two[0]["seed"] != two[1]["seed"]]
        shares = [counted.agree / counted.images for counted in pairs if counted]
        if shares:
            told.append({"variant": group[0]["variant"], "pairs": len(shares), "agreement": round(fmean(shares), 5)})
    return told


def first_of_each(runs: Sequence[Run], among: Collection[str]) -> list[Run]:
    """Of each variant the run of the lowest seed and repeat whose id is ``among`` those given."""
    found = []
    for group in _by_variant(runs).values():
        there = [run for run in group if run["id"] in among]
        if there:
            found.append(min(there, key=lambda run: (run["seed"], run.get("repeat", 0))))
    return found


def _partners(study: Mapping[str, Any], variants: Sequence[Variant]) -> list[tuple[Variant, Variant]]:
    """The variants that contrasts compare, the baseline second: those at other values of the tuned axes too, since any
    of these may turn out the best of its side, and those of as many epochs.
    """
    tune = study.get("tune", [])
    found = []
    for variant, partners in pair_up(variants, study["baseline"], ignoring=tune):
        sides = {alike({key: value for key, value in partner.items() if key not in tune}) for partner in partners}
        if len(sides) == 1:
            found += [(variant, partner) for partner in partners]
    return found + [(pair["variant"], pair["partner"]) for pair in study.get("matched", [])]


def _counted(run: Run, other: Run, predicted: Mapping[str, Predictions]) -> Pair | None:
    """What two runs said of the same images; None where one has not finished, or their data differ."""
    if run["id"] not in predicted or other["id"] not in predicted:
        return None
    if run["provenance"]["data"]["fingerprint"] != other["provenance"]["data"]["fingerprint"]:
        return None
    return pair(predicted[run["id"]], predicted[other["id"]])


def _by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run["kind"] == "downstream":
            groups.setdefault(alike(run["variant"]), []).append(run)
    return groups
