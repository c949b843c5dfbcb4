"""The training images that each run really drew, held against one another: is a subset what it is said to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rotbench.predictions import Array


def subset_rows(runs: Sequence[Mapping[str, Any]], seen: Mapping[str, Array]) -> list[dict[str, Any]]:
    """For each seed and number of labels: how many images, and whether they are balanced, shared, nested and its own.

    ``seen`` has the images of runs with few labels, by run id. ``same``: all runs drew the same images. ``balanced``:
    as many of each class. ``nested``: they are part of those of the next larger number at this seed. ``own``: another
    seed has others. The latter two are None where there is nothing to compare with.
    """
    groups: dict[tuple[float, int, int], list[Mapping[str, Any]]] = {}
    for run in runs:
        train = run["settings"].get("train", {})
        if run["id"] in seen:
            key = (float(train.get("validation", 0.0)), run["seed"], train["labels_per_class"])
            groups.setdefault(key, []).append(run)
    drawn = {key: [seen[run["id"]] for run in group] for key, group in groups.items()}
    rows = []
    for (validation, seed, labels), group in sorted(groups.items(), key=lambda item: item[0]):
        images = drawn[(validation, seed, labels)]
        larger = [drawn[key][0] for key in sorted(drawn) if key[:2] == (validation, seed) and key[2] > labels]
        others = [drawn[key][0] for key in drawn if key[0] == validation and key[1] != seed and key[2] == labels]
        counts = [run["provenance"]["data"]["class_counts"]["labelled"] for run in group]
        rows.append(
            {
                "seed": seed,
                "labels_per_class": labels,
                "images": len(images[0]),
                "runs": len(group),
                "same": all(np.array_equal(images[0], other) for other in images),
                "balanced": all(len(set(count)) == 1 and sum(count) == len(images[0]) for count in counts),
                "nested": bool(np.isin(images[0], larger[0]).all()) if larger else None,
                "own": not any(np.array_equal(images[0], other) for other in others) if others else None,
            }
        )
    return rows
