"""A contrast: a variant minus its baseline, seed by seed, and the verdict over the study's family of contrasts.

What is random in it are the seeds: pretraining, order, augmentation and label subset, never the test images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rotbench import comparability
from rotbench.comparability import Comparison, Difference, Known, confounds, same_start
from rotbench.inference import (
    MARGIN,
    SEEDS_WITHOUT_NORMALITY,
    Estimate,
    holm,
    mcnemar,
    mean_interval,
    paired_t,
    sign_flip,
    spread,
    verdict,
)
from rotbench.partner import alike, matches_all
from rotbench.power import SeedsNeeded
from rotbench.saving import Saving
from rotbench.spread import Components

Variant = dict[str, Any]
#: Why there is no verdict where there is no spread.
EQUAL = "all seeds differ by the same amount"

Kind = Comparison | Literal["interaction"]


@dataclass(frozen=True)
class VariantSummary:
    """What the finished seeds of one variant say.

    ``accuracies`` are the final test accuracies by seed, the mean of its repeats; ``validation`` is the mean final
    validation accuracy; ``spread_between`` is the standard deviation of the seeds' means, ``spread_within`` that of
    repeats within a seed, pooled; ``first_epoch`` is the mean test accuracy after epoch 1; ``standard_error`` is the
    binomial one of the mean accuracy of a single run on the test images.
    """

    variant: Variant
    n: int
    planned: int
    estimate: Estimate | None
    accuracies: dict[int, float]
    validation: float | None
    spread_between: float | None
    spread_within: float | None
    first_epoch: float | None
    trainable_parameters: int | None
    train_seconds: float | None
    standard_error: float | None
    diverged: bool
    one_set_of_weights: bool
    training_flops: float | None = None
    pretraining_flops: float | None = None
    seconds_shared_by: int | None = None


@dataclass(frozen=True)
class ImagePair:
    """Two runs of one seed, image by image: how many test images both get right, one alone, neither; same answer."""

    seed: int
    repeat: int
    images: int
    both: int
    only_variant: int
    only_baseline: int
    neither: int
    agree: int

    @property
    def standard_error(self) -> float:
        """Of the difference of their accuracies (a fraction), both being scored on the same images."""
        apart, lead = self.only_variant + self.only_baseline, self.only_variant - self.only_baseline
        return math.sqrt(apart - lead**2 / self.images) / self.images

    @property
    def mcnemar(self) -> float:
        """The exact p of these two networks being equally accurate; it says nothing of other seeds."""
        return mcnemar(self.only_variant, self.only_baseline)


@dataclass(frozen=True)
class Condition:
    """What an interaction subtracts: the contrast of these two sides, which differs from its own in ``axis`` alone."""

    axis: str
    variant: Variant
    baseline: Variant


@dataclass(frozen=True)
class Contrast:
    """A variant minus its baseline, paired by seed; accuracies and differences are fractions.

    ``comparison`` says what the two share: all other settings; or all but the tuned ones, of which each has its own
    best; or the epochs of training in all. An interaction is such a difference minus the one under ``condition``.
    ``chosen_from`` is the number of settings that a tuned side had the choice of; ``exploratory`` contrasts are not
    those that the study was made for. ``p_t`` is the paired t test's, ``p_holm`` the same after Holm over the study's
    primary contrasts of two seeds or more, ``p`` the exact two-sided sign-flip test's, uncorrected. ``verdict`` is None
    where ``reason`` says why. ``standard_error`` is the binomial one of a difference of two runs on the test images, of
    one seed that of the very images where these are known. ``comparability`` is all that the sides differ in besides
    their accuracies; where that is more than the axis and what follows from it, the contrast is confounded.
    ``same_start``: at each seed both sides start from the same weights, though the init is what they are compared for.

    Beside the final accuracies, and never part of the verdict: ``at_start`` is the paired difference after epoch 1,
    ``saving`` how much sooner the baseline's final accuracy is reached, ``seeds_needed`` the number of seeds that would
    show a difference of the margin, where this one is not resolved, ``components`` what its spread comes from, where
    there are repeats.
    """

    variant: Variant
    baseline: Variant
    n: int
    planned: int
    differences: dict[int, float]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    interval_90: tuple[float, float] | None = None
    p_t: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str | None = None
    reason: str | None = None
    standard_error: float | None = None
    comparison: Kind = "same settings"
    chosen_from: int | None = None
    exploratory: bool = False
    pairs: tuple[ImagePair, ...] = ()
    comparability: tuple[Difference, ...] = ()
    same_start: bool = False
    at_start: Estimate | None = None
    saving: Saving | None = None
    seeds_needed: SeedsNeeded | None = None
    condition: Condition | None = None
    components: Components | None = None

    @property
    def confounds(self) -> tuple[Difference, ...]:
        """What the sides differ in and the contrast does not name."""
        return confounds(self.comparability)

    @property
    def assumes_normality(self) -> bool:
        """Whether the verdict claims a difference that a sign-flip test cannot confirm at this number of seeds."""
        claims = self.verdict is not None and self.verdict.startswith(("higher", "lower"))
        return claims and self.n < SEEDS_WITHOUT_NORMALITY


def contrast(
    variant: VariantSummary, baseline: VariantSummary, known: Known, comparison: Comparison = "same settings"
) -> Contrast:
    """``variant`` minus ``baseline`` over the seeds that both have finished; verdict and ``p_holm`` are left open."""
    seeds = [seed for seed in variant.accuracies if seed in baseline.accuracies]
    differences = {seed: variant.accuracies[seed] - baseline.accuracies[seed] for seed in seeds}
    planned = max(variant.planned, baseline.planned)
    differing = comparability.differences(variant.variant, baseline.variant, known, comparison)
    plain = Contrast(
        variant.variant,
        baseline.variant,
        len(seeds),
        planned,
        differences,
        comparison=comparison,
        comparability=differing,
        same_start=same_start(variant.variant, baseline.variant, known),
    )
    if variant.diverged or baseline.diverged:
        plain = replace(plain, reason="diverged")
    elif not seeds:
        plain = replace(plain, reason="nothing to compare yet")
    elif len(seeds) < planned:
        plain = replace(plain, reason=f"{len(seeds)} of {planned} seeds")
    elif len(seeds) == 1:
        plain = replace(plain, reason="one seed")
    elif plain.same_start:
        plain = replace(plain, reason="same start")
    elif plain.confounds:
        plain = replace(plain, reason="confounded")
    errors = [error for error in (variant.standard_error, baseline.standard_error) if error is not None]
    return replace(with_interval(plain), standard_error=math.hypot(*errors) if len(errors) == 2 else None)


def with_interval(plain: Contrast) -> Contrast:
    """``plain`` with the mean of its differences and, from two seeds on, intervals and uncorrected p values.

    Where all seeds differ by the same amount there is no spread to judge the mean by, so no interval and no verdict.
    """
    values = list(plain.differences.values())
    if not values:
        return plain
    estimate = mean_interval(values)
    plain = replace(plain, difference=estimate.mean)
    if estimate.n < 2:
        return plain
    if not spread(values):
        return replace(plain, p=sign_flip(values), reason=plain.reason or EQUAL)
    return replace(
        plain,
        interval=estimate.interval,
        interval_90=mean_interval(values, level=0.90).interval,
        p_t=paired_t(values),
        p=sign_flip(values),
    )


def family_size(contrasts: Sequence[Contrast]) -> int:
    """Over how many contrasts Holm's correction goes: those with two seeds or more that are not exploratory.

    Two sides that are each at their best at one value are compared at that value anyway; that is asked once.
    """
    return len({_question(item) for item in contrasts if item.n > 1 and not item.exploratory})


def judge(
    family: Sequence[Contrast], margin: float = MARGIN, primary: Mapping[str, Any] | None = None
) -> tuple[Contrast, ...]:
    """``family`` with ``p_holm`` over its primary contrasts of two seeds or more, and a verdict for the complete ones.

    ``primary`` holds what a variant must have for its contrast to be one that the study was made for, and both variants
    of an interaction; the others are exploratory and get neither. A contrast that is confounded, or that has another
    reason for no verdict, counts in the family all the same: the family is what the study file asks for, and no p value
    may fall because another contrast turned out to compare nothing.
    """
    asked = [
        item
        if not primary or all(matches_all(side, primary) for side in _judged_sides(item))
        else replace(item, exploratory=True, reason=item.reason or "exploratory")
        for item in family
    ]
    # Without spread there is no p, but the contrast was asked for: it counts as one that shows nothing.
    p_values = {
        _question(item): 1.0 if item.p_t is None else item.p_t for item in asked if item.n > 1 and not item.exploratory
    }
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    judged = []
    for item in asked:
        p_holm = adjusted.get(_question(item))
        if p_holm is None or item.exploratory or item.difference is None or item.interval_90 is None:
            judged.append(item)
            continue
        word = None if item.reason else verdict(item.difference, p_holm, item.interval_90, margin)
        judged.append(replace(item, p_holm=p_holm, verdict=word))
    return tuple(judged)


def _question(item: Contrast) -> str:
    """The same text for contrasts of the same variants, whatever led to them."""
    first = item.condition.variant if item.condition else None
    return alike({"variant": item.variant, "baseline": item.baseline, "minus that of": first})


def _judged_sides(item: Contrast) -> list[Variant]:
    return [item.variant, *([item.condition.variant] if item.condition else [])]
