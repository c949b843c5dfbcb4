"""The rows of the page's tables, and the frame of all histories that results.csv is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from rotbench import compare, figures, inference, recipe
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Contrast, VariantSummary
from rotbench.curve import final_score, scored_part, views_per_image, views_words
from rotbench.partner import MATCHED, matches_all
from rotbench.saving import middle
from rotbench.transfer import transfers
from rotbench.views import seed_lines, views
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
class Reached:
    """From which epoch on a variant is where its baseline ends; ``epoch`` sorts, "never" being later than any."""

    epoch: float
    words: str


@dataclass(frozen=True)
class FinalRow:
    """One row of the table of final accuracies; ``axes`` are the values on which variants differ, in words."""

    label: str
    axes: tuple[str, ...]
    summary: VariantSummary
    contrast: Contrast | None
    is_baseline: bool
    remark: str
    reached: Reached | None

    @property
    def faint(self) -> bool:
        """Whether the mean is not that of all planned seeds."""
        return self.summary.diverged or self.summary.n < self.summary.planned

    @property
    def pretrained(self) -> bool:
        """Whether it paid for pretraining that its baseline did without, and it is known what that saved."""
        saving = self.contrast.saving if self.contrast else None
        return saving is not None and saving.pretraining_epochs > 0

    @property
    def pays_from(self) -> int | None:
        """From how many trainings on that pays."""
        return self.contrast.saving.pays_from if self.contrast and self.contrast.saving else None


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
    views: int  # of each test image, of which the curve has one; 1 where it has all
    uses_labels: bool
    notice: str
    shown: Run | None  # the run that has pictures, or says why it has none


@dataclass(frozen=True)
class CurveColumn:
    """One column of a table of curves: the means of one series by epoch, or where they are drawn.

    ``series`` is the key in the figure's ids, empty for places that all series share; None stands after the last mean.
    """

    series: str
    label: str
    values: tuple[float | None, ...]
    per_cent: bool
    is_place: bool = False


@dataclass(frozen=True)
class CurveTable:
    """What a figure of curves shows, as numbers: a row an epoch; ``places`` says what the places are, if not epochs.

    ``ends``, one a column or none at all, are marks of their own after the last epoch, of what ``end_words`` says.
    """

    figure: str
    title: str
    places: str
    columns: tuple[CurveColumn, ...]
    ends: tuple[float | None, ...] = ()
    end_words: str = ""

    @property
    def rows(self) -> list[tuple[float | None, ...]]:
        return list(zip(*(column.values for column in self.columns), strict=True))


@dataclass(frozen=True)
class TransferRow:
    """One pretext run's score, and under the table's columns the accuracies of what started from it."""

    pretext: str
    seed: int
    score: float
    per_cent: bool
    accuracies: tuple[float | None, ...]


@dataclass(frozen=True)
class RankRow:
    """Spearman's rank correlation of one pretext task under the table's columns, with the number of runs in each."""

    pretext: str
    correlations: tuple[tuple[float, int] | None, ...]


@dataclass(frozen=True)
class TransferTable:
    """What the figure of transfer shows, as numbers; columns are what variants set besides their init."""

    columns: tuple[str, ...]
    rows: tuple[TransferRow, ...]
    ranks: tuple[RankRow, ...]
    least: int
    most: int


def final_rows(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> list[FinalRow]:
    """One row a variant, in the study's order."""
    axes = varying([summary.variant for summary in summaries])
    by_axis = labels_by_axis([summary.variant for summary in summaries])
    of = {as_written(item.variant): item for item in contrasts if item.comparison == "same settings"}
    unpaired = {as_written(variant) for variant in compare.without_partner(results)}
    baseline = results["study"]["baseline"]
    reached = _reached(contrasts)
    rows = []
    for summary in summaries:
        key = as_written(summary.variant)
        cells = tuple(
            by_axis[axis][as_written(summary.variant[axis])] if axis in summary.variant else "" for axis in axes
        )
        equal_cost = MATCHED in summary.variant
        is_baseline = bool(baseline) and matches_all(summary.variant, baseline) and not equal_cost
        remark = "no partner" if key in unpaired else "trained for the epochs of both" if equal_cost else ""
        rows.append(FinalRow(labels[key], cells, summary, of.get(key), is_baseline, remark, reached.get(key)))
    return rows


def _reached(contrasts: Sequence[Contrast]) -> dict[str, Reached]:
    """By variant, the epoch from which it stays where its baseline ends; a baseline's is the same in each contrast."""
    found: dict[str, Reached] = {}
    for contrast in contrasts:
        if contrast.saving is not None:
            for side, epochs in (
                (contrast.variant, contrast.saving.variant),
                (contrast.baseline, contrast.saving.baseline),
            ):
                epoch = middle(epochs.values())
                never = Reached(contrast.saving.epochs + 1, "never")
                told = never if epoch is None else Reached(epoch, f"epoch {epoch:g}")
                found.setdefault(as_written(side), told)
    return found


def pretext_rows(results: Results) -> list[PretextRow]:
    """One row a pretext task, with the final scores of its finished runs."""
    rows = []
    for variant, runs in compare.by_variant(results["runs"], "pretext"):
        about = results["study"]["pretexts"].get(variant["pretext"], {})
        scores = [final_score(run) for run in runs if compare.finished(run)]
        rows.append(
            PretextRow(
                name=str(variant["pretext"]),
                summary=about.get("summary", ""),
                score_name=about.get("score_name", "accuracy"),
                n=len(scores),
                planned=len({*results["study"]["seeds"], *(run["seed"] for run in runs)}),
                estimate=inference.mean_interval(scores) if scores else None,
                chance=about.get("chance"),
                views=views_per_image([run for run in runs if compare.finished(run)]),
                uses_labels=about.get("uses_labels", False),
                notice=about.get("notice", ""),
                shown=next(
                    (run for part in ("pictures", "no_pictures") for run in runs if run.get(part)),
                    None,
                ),
            )
        )
    return rows


def curve_tables(results: Results, labels: Mapping[str, str]) -> dict[str, CurveTable]:
    """The numbers of each view of the downstream curves: the means of finished seeds by epoch."""
    return {
        view.name: curve_table(
            view.name,
            view.words,
            [
                (f"v{place}", labels[as_written(variant)], seed_lines(runs, view.measure, view.x), view.is_accuracy)
                for place, (variant, runs) in enumerate(compare.by_variant(results["runs"], "downstream"))
            ],
            {"epoch": "", "images": "training images seen", "seconds": "seconds"}[view.x],
        )
        for view in views(results)
    }


def pretext_table(results: Results) -> CurveTable:
    """The numbers of the curves of pretext scores."""
    measure = f"{scored_part(results['runs'])}_accuracy"
    about = results["study"]["pretexts"]
    series = [
        (
            f"p{place}",
            str(variant["pretext"]),
            seed_lines(runs, measure),
            about.get(variant["pretext"], {}).get("score_name", "accuracy") == "accuracy",
        )
        for place, (variant, runs) in enumerate(compare.by_variant(results["runs"], "pretext"))
    ]
    table = curve_table("pretexts", "Pretext score by epoch", series, "")
    rows = pretext_rows(results) if measure == "test_accuracy" else []
    ends = tuple(row.estimate.mean if row.estimate and row.views > 1 else None for row in rows)
    if not any(end is not None for end in ends):
        return table
    return replace(table, ends=ends, end_words=views_words({row.views for row in rows}))


def curve_table(
    figure: str, title: str, series: Sequence[tuple[str, str, Sequence[figures.Line], bool]], places: str
) -> CurveTable:
    means = [[point.mean for point in figures.mean_curve(lines)] for _, _, lines, _ in series]
    epochs = max(map(len, means), default=0)

    def padded(values: Sequence[float]) -> tuple[float | None, ...]:
        return (*values, *[None] * (epochs - len(values)))

    columns = [
        CurveColumn(key, label, padded(mean), per_cent)
        for (key, label, _, per_cent), mean in zip(series, means, strict=True)
    ]
    if not places:
        return CurveTable(figure, title, places, tuple(columns))
    stood = [padded(figures.mean_places(lines)) for _, _, lines, _ in series]
    longest = max(stood, key=lambda at: sum(place is not None for place in at))
    if all(own in (None, shared) for at in stood for own, shared in zip(at, longest, strict=True)):
        return CurveTable(figure, title, places, (CurveColumn("", places, longest, False, True), *columns))
    paired = [
        pair
        for column, at in zip(columns, stood, strict=True)
        for pair in (CurveColumn(column.series, column.label, at, False, True), column)
    ]
    return CurveTable(figure, title, places, tuple(paired))


def transfer_table(results: Results) -> TransferTable:
    """Each pretext run with the accuracies of what starts from it, and rank correlations where there are enough."""
    found = transfers(results)
    columns = tuple(dict.fromkeys(item.besides for item in found))
    about = results["study"]["pretexts"]
    rows, ranks = [], []
    for name in dict.fromkeys(item.pretext for item in found):
        of = {item.besides: item for item in found if item.pretext == name}
        scores = {seed: score for item in of.values() for seed, score, _ in item.points}
        accuracies = {key: {seed: accuracy for seed, _, accuracy in item.points} for key, item in of.items()}
        per_cent = about.get(name, {}).get("score_name", "accuracy") == "accuracy"
        rows += [
            TransferRow(name, seed, scores[seed], per_cent, tuple(accuracies.get(c, {}).get(seed) for c in columns))
            for seed in sorted(scores)
        ]
        told = [of[column].rank_correlation if column in of else None for column in columns]
        if any(rank is not None for rank in told):
            pairs = zip(columns, told, strict=True)
            ranks.append(RankRow(name, tuple(None if r is None else (r, len(of[c].points)) for c, r in pairs)))
    counts = [len(item.points) for item in found]
    return TransferTable(columns, tuple(rows), tuple(ranks), min(counts, default=0), max(counts, default=0))


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


def own_settings(runs: Sequence[Run]) -> dict[str, str]:
    """By the id of each run, its settings of which :func:`settings_table` has several values, in a line."""
    several = {name for name, values in settings_table(runs) if len(values) > 1}
    return {
        run["id"]: ", ".join(
            f"{name} {recipe.value_words(value)}" for name, value in _flat(run["settings"]) if name in several
        )
        for run in runs
    }


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


def data_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What runs recorded of their data, told once for those that differ in the choice of labelled images alone.

    ``subsets`` are the hashes of these choices, in order of first appearance.
    """
    rows: dict[str, dict[str, Any]] = {}
    for data in distinct([run["provenance"] for run in runs], "data"):
        shared = {key: value for key, value in data.items() if key not in ("subset_sha256", "seen_sha256")}
        row = rows.setdefault(as_written(shared), {**shared, "subsets": []})
        if data.get("subset_sha256") and data["subset_sha256"] not in row["subsets"]:
            row["subsets"].append(data["subset_sha256"])
    return list(rows.values())
