"""What the page says, as plain JSON: ``rotbench report --json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rotbench.comparability import Difference
from rotbench.compare import Results, contrasts, variants, without_partner
from rotbench.inference import Estimate
from rotbench.probes import ProbeRow, probe_rows
from rotbench.saving import Saving
from rotbench.spread import Components


def summary(results: Results) -> dict[str, Any]:
    """What the page says, as plain JSON: fractions at full precision, null where there is no number."""
    return {
        "variants": [
            {
                "variant": item.variant,
                "n": item.n,
                "planned": item.planned,
                "validation": item.validation,
                "spread_between": item.spread_between,
                "spread_within": item.spread_within,
                "mean": item.estimate.mean if item.estimate else None,
                "interval": _pair(item.estimate.interval if item.estimate else None),
                "accuracies": [{"seed": seed, "test_accuracy": value} for seed, value in item.accuracies.items()],
                "first_epoch": item.first_epoch,
                "trainable_parameters": item.trainable_parameters,
                "training_flops": item.training_flops,
                "pretraining_flops": item.pretraining_flops,
                "standard_error": item.standard_error,
                "diverged": item.diverged,
                "one_set_of_weights": item.one_set_of_weights,
            }
            for item in variants(results)
        ],
        "contrasts": [
            {
                "variant": item.variant,
                "baseline": item.baseline,
                "comparison": item.comparison,
                "condition": asdict(item.condition) if item.condition else None,
                "chosen_from": item.chosen_from,
                "exploratory": item.exploratory,
                "n": item.n,
                "planned": item.planned,
                "difference": item.difference,
                "interval": _pair(item.interval),
                "p": item.p,
                "p_t": item.p_t,
                "p_holm": item.p_holm,
                "verdict": item.verdict,
                "reason": item.reason,
                "assumes_normality": item.assumes_normality,
                "standard_error": item.standard_error,
                "differences": [{"seed": seed, "difference": value} for seed, value in item.differences.items()],
                "at_start": _estimate(item.at_start),
                "saving": _saving(item.saving),
                "seeds_needed": asdict(item.seeds_needed) if item.seeds_needed else None,
                "components": _components(item.components),
                "pairs": [{**asdict(pair), "mcnemar": pair.mcnemar} for pair in item.pairs],
                "comparability": {
                    told: [_differing(difference) for difference in item.comparability if difference.role == role]
                    for told, role in (("axis", "axis"), ("consequences", "consequence"), ("confounds", "confound"))
                },
            }
            for item in contrasts(results)
        ],
        "without_partner": list(without_partner(results)),
        "probes": [_probe(row) for row in probe_rows(results)],
    }


def _probe(row: ProbeRow) -> dict[str, Any]:
    return {
        "init": row.written,
        "condition": row.condition,
        "epoch": row.at,
        "n": row.n,
        "planned": row.planned,
        "pretext_score": _mean(row.score),
        "pretext_scored_on": row.scored_on if row.score else None,
        "bank_images": row.bank_images,
        "stages": [
            {
                "stage": stage.stage,
                "features": stage.features,
                "knn": _mean(stage.knn),
                "linear": _mean(stage.linear),
                "knn_minus_random": _mean(stage.knn_gain),
                "linear_minus_random": _mean(stage.linear_gain),
            }
            for stage in row.stages
        ],
    }


def _mean(estimate: Estimate | None) -> dict[str, Any] | None:
    return {"n": estimate.n, "mean": estimate.mean, "interval": _pair(estimate.interval)} if estimate else None


def _differing(difference: Difference) -> dict[str, Any]:
    return {
        "setting": difference.setting,
        "variant": difference.variant,
        "baseline": difference.baseline,
        "seeds": list(difference.seeds),
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"n": estimate.n, "difference": estimate.mean, "interval": _pair(estimate.interval)}


def _saving(saving: Saving | None) -> dict[str, Any] | None:
    if saving is None:
        return None
    return {
        "epochs": saving.epochs,
        "reached": [
            {"seed": seed, "variant": epoch, "baseline": saving.baseline[seed]}
            for seed, epoch in saving.variant.items()
        ],
        "saved_epochs": saving.saved_epochs,
        "saved_flops": saving.saved_flops,
        "pretraining_epochs": saving.pretraining_epochs,
        "pretraining_flops": saving.pretraining_flops,
        "pays_from": saving.pays_from,
    }


def _components(parts: Components | None) -> dict[str, Any] | None:
    return {**asdict(parts), "buy": parts.buy} if parts else None


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
