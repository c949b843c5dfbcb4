"""The rows of the page's tables, and the frame of all histories that results.csv is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rotbench import compare, figures, inference, recipe
from rotbench.compare import Contrast, Results, Run, VariantSummary, as_written
from rotbench.drawings import scored_part, seed_lines
from rotbench.partner import MATCHED, matches_all
from rotbench.wording import labels_by_axis, varying

MEASURED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "seconds")
CSV_COLUMNS = ("id", "kind", "seed", "repeat", "epoch", *MEASURED)
#: Further columns of a study that keeps images for validation.
VALIDATION_COLUMNS = ("validation_loss", "validation_accuracy")


def results_frame(results: Results) -> pd.DataFrame:
    """The histories as a tidy frame: a row a run and epoch, in the order of the runs; accuracies are fractions."""
    rows = [
        {**{key: run[key] for key in ("id", "kind", "seed")}, "repeat": run.get("repeat", 0), **entry}
        for run in results["runs"]
        for entry in run["history"]
    ]
    validated = any(VALIDATION_COLUMNS[0] in row for row in rows)
    return pd.DataFrame(rows, columns=[*CSV_COLUMNS, *(VALIDATION_COLUMNS if validated else ())])


@dataclass(frozen=True)
class FinalRow:
    """One row of the table of final accuracies; ``axes`` are the values on which variants differ, in words."""

    label: str
    axes: tuple[str, ...]
    summary: VariantSummary
    contrast: Contrast | None
    is_baseline: bool
    remark: str

    @property
    def faint(self) -> bool:
        """Whether the mean is not that of all planned seeds."""
        return self.summary.diverged or self.summary.n < self.summary.planned


@dataclass(frozen=True)
class PretextRow:
    """The final scores of one pretext task's runs."""

    name: str
    summary: str
    score_name: str
    n: int
    planned: int
    estimate: inference.Estimate | None
    chance: float | None
    uses_labels: bool
    notice: str
    shown: Run | None  # the run that has pictures, or says why it has none


@dataclass(frozen=True)
class CurveTable:
    """Mean values by epoch: a column a variant, None where a variant has no mean at that epoch."""

    columns: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]


def final_rows(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> list[FinalRow]:
    """One row a variant, in the study's order."""
    axes = varying([summary.variant for summary in summaries])
    by_axis = labels_by_axis([summary.variant for summary in summaries])
    of = {as_written(item.variant): item for item in contrasts if item.comparison == "same settings"}
    unpaired = {as_written(variant) for variant in compare.without_partner(results)}
    baseline = results["study"]["baseline"]
    rows = []
    for summary in summaries:
        key = as_written(summary.variant)
        cells = tuple(
            by_axis[axis][as_written(summary.variant[axis])] if axis in summary.variant else "" for axis in axes
        )
        equal_cost = MATCHED in summary.variant
        is_baseline = bool(baseline) and matches_all(summary.variant, baseline) and not equal_cost
        remark = "no partner" if key in unpaired else "trained for the epochs of both" if equal_cost else ""
        rows.append(FinalRow(labels[key], cells, summary, of.get(key), is_baseline, remark))
    return rows


def pretext_rows(results: Results) -> list[PretextRow]:
    """One row a pretext task, with the final scores of its finished runs."""
    rows = []
    for variant, runs in compare.by_variant(results["runs"], "pretext"):
        about = results["study"]["pretexts"].get(variant["pretext"], {})
        scores = [run["final"]["test_accuracy"] for run in runs if compare.finished(run)]
        rows.append(
            PretextRow(
                name=str(variant["pretext"]),
                summary=about.get("summary", ""),
                score_name=about.get("score_name", "accuracy"),
                n=len(scores),
                planned=len({*results["study"]["seeds"], *(run["seed"] for run in runs)}),
                estimate=inference.mean_interval(scores) if scores else None,
                chance=about.get("chance"),
                uses_labels=about.get("uses_labels", False),
                notice=about.get("notice", ""),
                shown=next(
                    (run for part in ("pictures", "no_pictures") for run in runs if run.get(part)),
                    None,
                ),
            )
        )
    return rows


def curve_table(results: Results, kind: str, labels: Mapping[str, str]) -> CurveTable:
    """What the curves show, as numbers: the mean accuracy (or score) of finished seeds by epoch."""
    groups = compare.by_variant(results["runs"], kind)
    part = scored_part(results["runs"])
    means = [figures.mean_curve(seed_lines(runs, part)) for _, runs in groups]
    epochs = max((len(mean) for mean in means), default=0)
    rows = [tuple(mean[epoch].mean if epoch < len(mean) else None for mean in means) for epoch in range(epochs)]
    return CurveTable(tuple(labels[as_written(variant)] for variant, _ in groups), tuple(rows))


def troubled(runs: Sequence[Run]) -> list[tuple[str, Run, str]]:
    """Runs that are not simply done, each with its state and what is known about it, the worst first."""
    found = []
    for run in runs:
        if run["diverged"]:
            found.append(("diverged", run, run["error"] or "the loss is not a number"))
        elif run["status"] != "done":
            found.append((run["status"], run, run["error"] or ""))
        elif run["stale"]:
            found.append(("stale", run, run["stale"]))
    order = ("failed", "diverged", "skipped", "stale", "missing")
    return sorted(found, key=lambda item: order.index(item[0]))


def settings_table(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Each resolved setting by its dotted name, with its values and how many runs have each."""
    table: dict[str, dict[str, int]] = {}
    for run in runs:
        for name, value in _flat(run["settings"]):
            words = recipe.value_words(value)
            values = table.setdefault(name, {})
            values[words] = values.get(words, 0) + 1
    return [(name, list(values.items())) for name, values in table.items()]


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and key not in ("init", "freeze", "task"):
            flat += _flat(value, f"{name}.")
        else:
            flat.append((name, value))
    return flat


def distinct(items: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """The different values that ``items`` have under ``key``, in order of first appearance."""
    return list({as_written(item[key]): item[key] for item in items if item.get(key)}.values())
