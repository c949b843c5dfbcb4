"""Comparisons at equal cost: the other start trains for the epochs of pretraining and training together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotbench.compare import as_written
from rotbench.contrast import Contrast, Variant, VariantSummary
from rotbench.partner import MATCHED


@dataclass(frozen=True)
class EqualCost:
    """One pretrained side against the other start, as long in training alone (``plain``) and in all (``matched``).

    ``epochs`` is what the longer training lasted. ``ratio`` is what it cost of what the pretrained side cost with its
    pretraining, in FLOPs; None where these were not counted.
    """

    variant: str
    against: str
    plain: Contrast
    matched: Contrast
    epochs: int
    ratio: float | None

    @property
    def pays_from(self) -> int | None:
        """From how many trainings on pretraining pays, on the way to the accuracy at which the other start ends."""
        return self.plain.saving.pays_from if self.plain.saving else None


def equal_costs(
    summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> tuple[EqualCost, ...]:
    """A row for each contrast at equal cost whose plain contrast is there, in the study's order."""
    of = {as_written(summary.variant): summary for summary in summaries}
    plain = {
        as_written([item.variant, item.baseline]): item for item in contrasts if item.comparison == "same settings"
    }
    rows = []
    for item in contrasts:
        if item.comparison != "compute-matched":
            continue
        sides = [_unmatched(side) for side in (item.variant, item.baseline)]
        beside = plain.get(as_written(sides))
        longer, other = (item.variant, item.baseline) if MATCHED in item.variant else (item.baseline, item.variant)
        if beside is not None:
            rows.append(
                EqualCost(
                    variant=labels[as_written(sides[0])],
                    against=labels[as_written(sides[1])],
                    plain=beside,
                    matched=item,
                    epochs=longer[MATCHED],
                    ratio=cost_ratio(of[as_written(longer)], of[as_written(other)]),
                )
            )
    return tuple(rows)


def cost_ratio(longer: VariantSummary, pretrained: VariantSummary) -> float | None:
    """What the longer training cost of what the other cost with its pretraining; None where it was not counted."""
    if longer.training_flops is None or pretrained.training_flops is None or pretrained.pretraining_flops is None:
        return None
    return longer.training_flops / (pretrained.training_flops + pretrained.pretraining_flops)


def _unmatched(variant: Variant) -> Variant:
    return {key: value for key, value in variant.items() if key != MATCHED}
