"""What the course of training says beside the end: the start, the epochs to one accuracy, and what these are worth.

These are descriptions, with their intervals or ranges over seeds. No verdict rests on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rotbench.contrast import Contrast
from rotbench.inference import Estimate
from rotbench.saving import Saving, middle
from rotbench.wording import points, span


@dataclass(frozen=True)
class Remark:
    """One thing that is told beside a contrast: what it is about, and what is known."""

    about: str
    text: str


def course(contrast: Contrast, variant: str, baseline: str, part: str = "test") -> tuple[Remark, ...]:
    """What the curves of a contrast tell; ``variant`` and ``baseline`` are the names of its sides.

    ``part`` is what the curves are of: ``"test"`` or ``"validation"`` images.
    """
    accuracy = "accuracy" if part == "test" else f"{part} accuracy"
    told = []
    if contrast.at_start is not None:
        told.append(Remark("At the start", _start(contrast.at_start, accuracy)))
    if contrast.saving is not None:
        told.append(Remark("On the way", _way(contrast.saving, variant, baseline, accuracy)))
        if worth := _worth(contrast.saving):
            told.append(Remark("Compute", worth))
    return tuple(told)


def _start(estimate: Estimate, accuracy: str) -> str:
    seeds = f"n = {estimate.n} seeds" if estimate.n > 1 else "one seed"
    interval = f"95 % t interval {span(estimate.interval)}, " if estimate.interval else ""
    of = "" if accuracy == "accuracy" else f" of {accuracy}"
    return f"{points(estimate.mean)} points{of} after epoch 1 ({interval}{seeds})."


def _way(saving: Saving, variant: str, baseline: str, accuracy: str) -> str:
    """How soon both sides are where the baseline ends."""
    own, other = (_epochs(side.values()) for side in (saving.variant, saving.baseline))
    if middle(saving.variant.values()) is None:
        missed = sum(epoch is None for epoch in saving.variant.values())
        seeds = f"In {missed} of {len(saving.variant)} seeds " if len(saving.variant) > 1 else ""
        told = f"{variant} does not come to stay at or above the {accuracy} at which {baseline} ends"
        return f"{seeds}{told}, within {saving.epochs} epochs; {baseline} itself does from epoch {other} on."
    return (
        f"From epoch {own} of {saving.epochs} on {variant} stays at or above the {accuracy} at which {baseline} ends, "
        f"{baseline} itself from epoch {other} on."
    )


def _epochs(epochs: Iterable[int | None]) -> str:
    """A median epoch, with the range over seeds where they differ: ``11 (9 to 14)``."""
    given = sorted(epochs, key=lambda epoch: (epoch is None, epoch))
    central = middle(given)
    text = "never" if central is None else f"{central:g}"
    if given[0] == given[-1]:
        return text
    last = "never" if given[-1] is None else str(given[-1])
    return f"{text} ({given[0]} to {last})"


def _worth(saving: Saving) -> str:
    """What the saved epochs are worth beside what pretraining cost; nothing where the question does not arise."""
    if saving.saved_epochs is None:
        return ""
    paid = _cost(saving.pretraining_epochs, saving.pretraining_flops)
    if saving.saved_epochs <= 0 or (saving.saved_flops is not None and saving.saved_flops <= 0):
        spent = f" Pretraining cost {paid}." if saving.pretraining_epochs > 0 else ""
        return f"Nothing is saved on the way to that accuracy.{spent}"
    saved = f"saves {_cost(saving.saved_epochs, saving.saved_flops, of=saving.epochs)} a training{_over(saving)}"
    if saving.pretraining_epochs <= 0:
        return f"That {saved}."
    if not saving.in_every_seed:
        return f"That {saved}; pretraining cost {paid}. From how many trainings on it pays cannot be told."
    if saving.pays_from is None:
        return f"That {saved}; pretraining cost {paid}."
    trainings = "the first training" if saving.pays_from == 1 else f"{saving.pays_from:,} downstream trainings"
    counted = "" if saving.saved_flops is not None else ", counted in epochs"
    return f"That {saved}; pretraining cost {paid}: it pays from {trainings} on{counted}."


def _over(saving: Saving) -> str:
    """How far seeds agree on the saving: `` (2 to 5 over 3 seeds)``."""
    by_seed = list(saving.by_seed.values())
    if len(by_seed) == 1:
        return " in this one seed"
    without = sum(saved is None or saved <= 0 for saved in by_seed)
    if without:
        return f" in the median, but none in {without} of {len(by_seed)} seeds"
    low, high = min(filter(None, by_seed)), max(filter(None, by_seed))
    return f" (in all {len(by_seed)} seeds)" if low == high else f" ({low} to {high} over {len(by_seed)} seeds)"


def _cost(epochs: float, flops: float | None, of: int | None = None) -> str:
    """``9 of 20 epochs (12.3 TFLOP)``."""
    text = f"{epochs:g} of {of} epochs" if of else f"{epochs:g} {'epoch' if epochs == 1 else 'epochs'}"
    return text if flops is None else f"{text} ({flops / 1e12:.3g} TFLOP)"
