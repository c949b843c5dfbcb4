"""What each side of a contrast had to choose from where settings are tuned, and what it chose.

The same learning rate for every init favours the init that it suits. Each value is tried by each side; the best is
taken by its mean validation accuracy, and the test images have no part in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.compare import Results, as_written
from rotbench.contrast import Contrast, VariantSummary
from rotbench.partner import MATCHED
from rotbench.wording import labels_by_axis, variant_labels, varying


@dataclass(frozen=True)
class Tried:
    """One value that one side tried; ``chosen`` by validation, ``edge``: no value beyond it was tried."""

    value: float
    summary: VariantSummary
    chosen: bool
    edge: bool


@dataclass(frozen=True)
class Side:
    """All values of ``axis`` that one variant tried, rising.

    ``label`` is what it is but for that axis, ``name`` what sets it apart under the same ``condition``.
    """

    axis: str
    label: str
    name: str
    condition: str
    variant: Mapping[str, Any]
    tried: tuple[Tried, ...]


def tuned_sides(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast]
) -> tuple[Side, ...]:
    """A side for each tuned axis of numbers and each variant but for its value there, in the study's order."""
    tune = results["study"].get("tune", [])
    plain = [item for item in summaries if MATCHED not in item.variant]
    tuned = [item for item in contrasts if item.comparison == "tuned"]
    chosen = {as_written(side) for item in tuned for side in (item.variant, item.baseline)}
    sides = []
    for axis in tune:
        groups: dict[str, list[VariantSummary]] = {}
        for item in plain:
            if _is_number(item.variant.get(axis)):
                rest = {key: value for key, value in item.variant.items() if key != axis}
                groups.setdefault(as_written(rest), []).append(item)
        variants = [{k: v for k, v in group[0].variant.items() if k != axis} for group in groups.values()]
        labels = variant_labels(variants)
        by_axis = labels_by_axis(variants)
        told = [name for name in varying(variants) if name not in results["study"]["baseline"]]
        names = variant_labels(variants, told)
        for variant, group in zip(variants, groups.values(), strict=True):
            if len(group) < 2:
                continue
            key = as_written(variant)
            condition = [f"{name}: {by_axis[name][as_written(variant[name])]}" for name in told if name in variant]
            sides.append(
                Side(axis, labels[key], names[key], ", ".join(condition), variant, _tried(group, axis, chosen))
            )
    return tuple(sides)


def _tried(group: Sequence[VariantSummary], axis: str, chosen: Collection[str]) -> tuple[Tried, ...]:
    """The values of one side, rising; ``chosen`` are the variants that validation chose, by ``as_written``."""
    ordered = sorted(group, key=lambda item: float(item.variant[axis]))
    return tuple(
        Tried(
            value=float(item.variant[axis]),
            summary=item,
            chosen=as_written(item.variant) in chosen,
            edge=item in (ordered[0], ordered[-1]),
        )
        for item in ordered
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
