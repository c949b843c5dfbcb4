"""How the sides of a contrast are called in a sentence, and the conditions that both are under."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rotbench import compare
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Contrast, Variant
from rotbench.hookspecs import STAGES
from rotbench.partner import MATCHED, filled
from rotbench.trained import listed
from rotbench.wording import axes_of, labels_by_axis, varying


@dataclass(frozen=True)
class Phrases:
    """The words of one study.

    ``baseline`` and ``tune`` are keys; ``by_axis`` has the label of each value of each axis, ``trained`` what a freeze
    policy trains, in words, where that tells the policies apart; ``conditions`` are the axes to be told of both sides.
    """

    baseline: tuple[str, ...]
    tune: tuple[str, ...]
    by_axis: Mapping[str, Mapping[str, str]]
    trained: Mapping[str, str]
    conditions: tuple[str, ...]

    def sides(self, contrast: Contrast) -> tuple[str, str]:
        """What the variant and what it is compared with are called."""
        variant, baseline = (self._side(side) for side in (contrast.variant, contrast.baseline))
        if contrast.comparison == "tuned":
            return (
                f"{variant} (best of {contrast.chosen_from}: {self._best(contrast.variant)})",
                f"{baseline} (best of {contrast.chosen_from}: {self._best(contrast.baseline)})",
            )
        if contrast.comparison == "compute-matched":
            # Either side may be the one that was pretrained.
            told = [
                f"{side} (trained for {of[MATCHED]} epochs, as many as both together)" if MATCHED in of else side
                for side, of in ((variant, contrast.variant), (baseline, contrast.baseline))
            ]
            return told[0], told[1]
        return variant, baseline

    def when(self, contrast: Contrast, without: Collection[str] = ()) -> str:
        """The conditions of both sides: `` when layer4 and fc are trained and labels_per_class is 100``, or nothing."""
        chosen = self.tune if contrast.chosen_from else ()
        axes = [axis for axis in self.conditions if axis in contrast.variant and axis not in (*without, *chosen)]
        told = [self.condition(axis, contrast.variant) for axis in axes]
        return f" when {' and '.join(told)}" if told else ""

    def condition(self, axis: str, variant: Variant) -> str:
        """One condition of a variant: ``layer4 and fc are trained``, ``labels_per_class is 100``."""
        value = as_written(filled(variant)[axis])
        plain = f"{axis} is {self.by_axis.get(axis, {}).get(value, value.strip(chr(34)))}"
        return self.trained.get(value, plain) if axis == "freeze" else plain

    def _side(self, variant: Variant) -> str:
        axes = [axis for axis in self.baseline if axis in variant]
        values = {axis: self.by_axis[axis][as_written(variant[axis])] for axis in axes}
        # A number or a switch says nothing without its name.
        told = [value if axis in ("init", "freeze") else f"{axis} {value}" for axis, value in values.items()]
        return " / ".join(told) or "the rest"

    def _best(self, variant: Variant) -> str:
        return ", ".join(
            f"{axis} {self.by_axis[axis][as_written(variant[axis])]}" for axis in self.tune if axis in variant
        )


def phrases(results: Results) -> Phrases:
    """The words of the study whose results these are."""
    variants = [summary.variant for summary in compare.variants(results)]
    baseline = tuple(results["study"]["baseline"])
    return Phrases(
        baseline=baseline,
        tune=tuple(results["study"].get("tune", ())),
        by_axis=labels_by_axis(variants),
        trained=_trained_words(results["runs"]),
        conditions=tuple(
            axis
            for axis in axes_of(variants)
            if axis not in (*baseline, MATCHED) and (axis == "freeze" or axis in varying(variants))
        ),
    )


def _trained_words(runs: Sequence[Run]) -> dict[str, str]:
    """What each freeze policy trained, in words, where that tells the policies apart and is one thing all along."""
    words: dict[str, str] = {}
    for run in runs:
        phases = run["provenance"].get("freeze", {}).get("phases", [])
        if run["kind"] == "downstream" and "freeze" in run["variant"] and len(phases) == 1:
            parts = phases[0]["parts"]
            one = len(parts) < 2 or tuple(parts) == STAGES
            words[as_written(run["variant"]["freeze"])] = f"{listed(parts)} {'is' if one else 'are'} trained"
    told = list(words.values())
    return {value: text for value, text in words.items() if told.count(text) == 1}
