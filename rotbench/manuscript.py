"""The tables of final accuracies and of contrasts as a paper has them: Markdown, LaTeX, and CSV with all digits."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd

from rotbench.comparability import also_differs
from rotbench.compare import as_written
from rotbench.contrast import Contrast, VariantSummary, family_size
from rotbench.inference import Estimate
from rotbench.power import MOST_SEEDS
from rotbench.probes import KINDS, ProbeRow
from rotbench.resources import templates_folder
from rotbench.saving import middle
from rotbench.tables import FinalRow
from rotbench.wording import millions, p_value, points, span

#: What Markdown takes for more than a letter.
_MARKUP = re.compile(r"([\\`*_\[\]<>|$~])")
#: What LaTeX's usual fonts lack or show as something else; pandas escapes the rest.
_IN_LATEX = {
    "\N{MINUS SIGN}": "$-$",
    "\N{NO-BREAK SPACE}": "~",
    "<": "$<$",
    ">": "$>$",
    "\N{EN DASH}": "--",
    "\N{DAGGER}": "$\\dagger$",
}

_NONE = "\N{EN DASH}"
#: Marks a verdict that a test without normality cannot confirm at this number of seeds.
ASSUMING = "\N{DAGGER}"


@dataclass(frozen=True)
class Column:
    """A column as it is read: a cell a row, in words."""

    head: str
    cells: tuple[str, ...]
    is_number: bool = True


@dataclass(frozen=True)
class TextTable:
    """A table in words, and ``exact``: the same rows as plain values, fractions at full precision."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    exact: tuple[Mapping[str, Any], ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        return list(zip(*(column.cells for column in self.columns), strict=True))


def paper_tables(
    axes: Sequence[str], finals: Sequence[FinalRow], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> tuple[TextTable, ...]:
    """The tables of a study, each narrow enough for a page: what was found, then what it cost and how it came about.

    ``axes`` name what :attr:`FinalRow.axes` tells, ``labels`` name variants by ``as_written``. Tables without rows, and
    those of which nothing is known, are left out.
    """
    tables = (final_table(axes, finals), cost_table(axes, finals), contrast_table(contrasts, labels))
    made = (*tables, course_table(contrasts, labels))
    return tuple(table for table in made if table.columns and table.rows)


def final_table(axes: Sequence[str], finals: Sequence[FinalRow]) -> TextTable:
    """The final accuracies, a row a variant."""
    summaries = [row.summary for row in finals]
    columns = _filled(
        [
            *_named(axes, finals),
            Column("seeds", tuple(f"{item.n} of {item.planned}" for item in summaries)),
            Column("accuracy (%)", tuple(_accuracy(item) for item in summaries)),
            Column("difference (points)", tuple(_difference(row.contrast, row.is_baseline) for row in finals)),
            Column("p (Holm)", tuple(_holm(row.contrast) for row in finals)),
            Column("verdict", tuple(_verdict(row) for row in finals), False),
        ],
        len(axes),
    )
    heads = {column.head for column in columns}
    seeds = any(item.estimate and item.estimate.interval for item in summaries)
    paired = any(row.contrast and row.contrast.interval for row in finals)
    told = [f"Final test accuracy{': mean over seeds and its 95 % t interval' if seeds else ''}."]
    if "difference (points)" in heads:
        interval = ": mean of the paired differences and its 95 % t interval" if paired else ""
        told.append(f"Difference to the baseline in percentage points{interval}.")
    if "p (Holm)" in heads:
        told.append("p of the paired t test after Holm.")
    told += _marked(row.contrast for row in finals)
    return TextTable("final", " ".join(told), columns, tuple(_final_values(axes, row) for row in finals))


def cost_table(axes: Sequence[str], finals: Sequence[FinalRow]) -> TextTable:
    """What the variants cost and how soon they got there, a row each."""
    summaries = [row.summary for row in finals]
    columns = _filled(
        [
            *_named(axes, finals),
            Column("after epoch 1 (%)", tuple(_points(item.first_epoch) for item in summaries)),
            Column("level reached", tuple(row.reached.words if row.reached else _NONE for row in finals), False),
            Column("trainable", tuple(_told(millions, item.trainable_parameters) for item in summaries)),
            Column("training (s)", tuple(_significant(item.train_seconds) for item in summaries)),
            Column("TFLOP", tuple(_flops(item.training_flops) for item in summaries)),
            Column("with pretraining", tuple(_flops(_with_pretraining(item)) for item in summaries)),
            Column("pays from", tuple(_pays(row) for row in finals)),
        ],
        len(axes),
    )
    meant = {
        "level reached": "Level reached: the epoch from which the curve stays at or above the accuracy at which the "
        "baseline ends, median over seeds.",
        "TFLOP": "TFLOP: of all training steps of one run, and with the pretraining that it rests on.",
        "pays from": "Pays from: the number of downstream trainings whose savings on the way to that accuracy exceed "
        "the cost of pretraining.",
    }
    heads = [column.head for column in columns]
    told = [words for head, words in meant.items() if head in heads]
    known = len(columns) > len(axes)
    return TextTable("cost", " ".join(["Start and cost of the variants.", *told]), columns if known else (), ())


def contrast_table(contrasts: Sequence[Contrast], labels: Mapping[str, str]) -> TextTable:
    """The paired contrasts, a row each."""
    family = family_size(contrasts)
    plain = all(item.comparison == "same settings" for item in contrasts)
    columns = _filled(
        [
            *_sides(contrasts, labels),
            Column("compared", tuple(_NONE if plain else _compared(item) for item in contrasts), False),
            Column("seeds", tuple(f"{item.n} of {item.planned}" for item in contrasts)),
            Column("difference (points)", tuple(_difference(item, False) for item in contrasts)),
            Column("p (Holm)", tuple(_holm(item) for item in contrasts)),
            Column("verdict", tuple(_judged(item) for item in contrasts), False),
            Column("why none", tuple(_reason(item) for item in contrasts), False),
        ],
        2,
    )
    told = ["Paired contrasts: difference in percentage points."]
    if any(item.interval for item in contrasts):
        told = ["Paired contrasts: mean difference in percentage points and its 95 % t interval."]
    if any(column.head == "p (Holm)" for column in columns):
        told.append(f"p of the paired t test{f' after Holm over {family} contrasts' if family > 1 else ''}.")
    told += _marked(contrasts)
    return TextTable("contrasts", " ".join(told), columns, tuple(_contrast_values(item, labels) for item in contrasts))


def course_table(contrasts: Sequence[Contrast], labels: Mapping[str, str]) -> TextTable:
    """What the curves of the contrasts tell and what else was computed of them, a row each."""
    columns = _filled(
        [
            *_sides(contrasts, labels),
            Column("p (sign flip)", tuple(_p(item.p) for item in contrasts)),
            Column("seeds for the margin", tuple(_seeds(item) for item in contrasts)),
            Column("after epoch 1 (points)", tuple(_estimate(item.at_start) for item in contrasts)),
            Column("level reached", tuple(_reached(item) for item in contrasts)),
            Column("epochs saved", tuple(_told("{:g}".format, _saved(item)) for item in contrasts)),
            Column("pays from", tuple(_told("{:,}".format, _pays_from(item)) for item in contrasts)),
        ],
        2,
    )
    meant = {
        "p (sign flip)": "p of the exact sign-flip test, uncorrected.",
        "seeds for the margin": "Seeds for the margin: the number at which a paired t test at 5 % would see a "
        "difference of the margin with 80 % power, for the observed spread and for the limits between which the true "
        "one lies with 80 % confidence.",
        "level reached": "Level reached: the epoch from which a curve stays at or above the accuracy at which the "
        "baseline ends, median over seeds.",
        "pays from": "Pays from: the number of downstream trainings from which on what is saved exceeds what "
        "pretraining cost.",
    }
    heads = [column.head for column in columns]
    told = [words for head, words in meant.items() if head in heads]
    known = len(columns) > 2
    return TextTable("course", " ".join(["Beside the contrasts.", *told]), columns if known else (), ())


def _named(axes: Sequence[str], finals: Sequence[FinalRow]) -> list[Column]:
    return [Column(axis, tuple(row.axes[place] for row in finals), False) for place, axis in enumerate(axes)]


def probe_table(probes: Sequence[ProbeRow]) -> TextTable:
    """What probes read off each stage, two rows a probe; none where nothing was probed."""
    rows = [(row, kind) for row in probes if row.stages for kind in KINDS]
    stages = [stage.stage for stage in rows[0][0].stages] if rows else []
    columns = [
        Column("init", tuple(row.init for row, _ in rows), False),
        Column("probe", tuple(KINDS[kind] for _, kind in rows), False),
        Column("bank", tuple(row.condition or _NONE for row, _ in rows), False),
        Column("after epoch", tuple(_told(str, row.at) for row, _ in rows)),
        Column("seeds", tuple(f"{row.n} of {row.planned}" for row, _ in rows)),
        *(
            Column(f"{stage} (%)", tuple(_level(getattr(row.stages[place], kind)) for row, kind in rows))
            for place, stage in enumerate(stages)
        ),
    ]
    exact = tuple(
        {
            "init": row.init,
            "condition": row.condition,
            "epoch": row.at,
            "probe": kind,
            "stage": stage.stage,
            "n": row.n,
            "mean": getattr(stage, kind).mean,
            "low": getattr(stage, kind).low,
            "high": getattr(stage, kind).high,
        }
        for row, kind in rows
        for stage in row.stages
    )
    interval = any(row.stages[0].linear.interval for row, _ in rows)
    over_seeds = ": mean over seeds and its 95 % t interval" if interval else ""
    told = f"Test accuracy of probes of frozen features by stage{over_seeds}."
    return TextTable("probes", told, _filled(columns, 2) if rows else (), exact)


def _sides(contrasts: Sequence[Contrast], labels: Mapping[str, str]) -> list[Column]:
    return [
        Column("variant", tuple(labels[as_written(item.variant)] for item in contrasts), False),
        Column("against", tuple(labels[as_written(item.baseline)] for item in contrasts), False),
    ]


def _marked(contrasts: Iterable[Contrast | None]) -> list[str]:
    """What the mark of a verdict means, where there is one."""
    return [f"{ASSUMING}: assuming normal differences."] if any(c and c.assumes_normality for c in contrasts) else []


def _filled(columns: Sequence[Column], always: int) -> tuple[Column, ...]:
    """The columns that say something of some row; the first ``always`` in any case."""
    return tuple(
        column for place, column in enumerate(columns) if place < always or any(cell != _NONE for cell in column.cells)
    )


def copies(tables: Sequence[TextTable]) -> dict[str, dict[str, str]]:
    """Each table as text, by its name and by the name of the language."""
    return {
        table.name: {
            "markdown": markdown(table),
            "latex": latex(table),
            **({"csv": comma_separated(table)} if table.exact else {}),
        }
        for table in tables
    }


def markdown(table: TextTable) -> str:
    """A pipe table below its caption."""
    return (
        text_environment()
        .get_template("export/table.md.j2")
        .render(caption=table.caption, columns=table.columns, rows=table.rows)
    )


def latex(table: TextTable) -> str:
    """A ``table`` with booktabs rules and plain columns."""
    frame = pd.DataFrame([[_one_line(cell) for cell in row] for row in table.rows])
    frame.columns = pd.Index([column.head for column in table.columns][: frame.shape[1]])
    layout = "".join("r" if column.is_number else "l" for column in table.columns)
    tabular = frame.to_latex(index=False, escape=True, column_format=layout) if len(frame) else ""
    text = (
        text_environment()
        .get_template("export/table.tex.j2")
        .render(name=table.name, caption=table.caption, tabular=tabular)
    )
    for sign, told in _IN_LATEX.items():
        text = text.replace(sign, told)
    # After the end of a row LaTeX takes a bracket or a star for an argument.
    return re.sub(r"(?m)^([\[*])", r"{\1}", text)


def comma_separated(table: TextTable) -> str:
    """CSV with the shortest digits that read back as the same numbers; what is not known is empty."""
    text: str = pd.DataFrame(table.exact, dtype=object).to_csv(index=False, lineterminator="\n")
    return text


@functools.cache
def text_environment() -> jinja2.Environment:
    """Templates of plain text: what a study or plugin may have named goes through the filter ``md``."""
    made = jinja2.Environment(  # noqa: S701 -- nothing of this is HTML; the page escapes it once more
        loader=jinja2.FileSystemLoader(templates_folder()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "md": lambda text: _MARKUP.sub(r"\\\1", _one_line(text)),
        "percents": lambda text: text.replace("%", "\\%"),
        "points": lambda fraction: points(fraction, sign=False),
        "grouped": "{:,}".format,
    }
    return made


def _one_line(text: str) -> str:
    """Without ends of lines, which would end a row; spaces that do not break stay."""
    return re.sub(r"[^\S\xa0]+", " ", text).strip()


def _told(words: Any, value: Any) -> str:
    return _NONE if value is None else str(words(value))


def _points(fraction: float | None) -> str:
    return _NONE if fraction is None else points(fraction, sign=False)


def _p(p: float | None) -> str:
    return _told(p_value, p)


def _significant(number: float | None) -> str:
    return _told("{:.3g}".format, number)


def _flops(flops: float | None) -> str:
    return _NONE if flops is None else f"{flops / 1e12:.3g}"


def _with_pretraining(item: VariantSummary) -> float | None:
    if item.training_flops is None or not item.pretraining_flops:
        return None
    return item.training_flops + item.pretraining_flops


def _accuracy(item: VariantSummary) -> str:
    if item.estimate is None:
        return _NONE
    mean = points(item.estimate.mean, sign=False)
    if item.estimate.interval is not None:
        return f"{mean} ({span(item.estimate.interval)})"
    if item.standard_error is None:
        return mean
    return f"{mean} (one seed; binomial standard error {100 * item.standard_error:.2f})"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return _NONE
    mean = points(estimate.mean)
    return mean if estimate.interval is None else f"{mean} ({span(estimate.interval)})"


def _level(estimate: Estimate) -> str:
    mean = points(estimate.mean, sign=False)
    return f"{mean} ({span(estimate.interval)})" if estimate.interval else mean


def _difference(item: Contrast | None, is_baseline: bool) -> str:
    if item is None or item.difference is None:
        return "baseline" if is_baseline else _NONE
    return points(item.difference) + (f" ({span(item.interval)})" if item.interval else "")


def _verdict(row: FinalRow) -> str:
    told = _judged(row.contrast) if row.contrast and row.contrast.verdict else ""
    if row.contrast and not told:
        told = f"none: {row.contrast.reason}"
    diverged = row.summary.diverged and not (row.contrast and row.contrast.reason == "diverged")
    return ", ".join(filter(None, (told or row.remark, "diverged" if diverged else ""))) or _NONE


def _judged(item: Contrast) -> str:
    if item.verdict is None:
        return _NONE
    return f"{item.verdict}{ASSUMING}" if item.assumes_normality else item.verdict


def _holm(item: Contrast | None) -> str:
    """p where there is a verdict: without one it would be read as one."""
    return _p(item.p_holm) if item is not None and item.verdict is not None else _NONE


def _reason(item: Contrast) -> str:
    if item.verdict is not None or item.reason is None:
        return _NONE
    return f"{item.reason}: {also_differs(item.confounds)}" if item.confounds else item.reason


def _compared(item: Contrast) -> str:
    if item.comparison == "tuned":
        return f"each at its own best of {item.chosen_from}"
    if item.condition is not None:
        return f"minus the same at another {item.condition.axis}"
    return "as many epochs" if item.comparison == "compute-matched" else item.comparison


def _reached(item: Contrast) -> str:
    if item.saving is None:
        return _NONE
    sides = [middle(side.values()) for side in (item.saving.variant, item.saving.baseline)]
    told = ["never" if epoch is None else f"{epoch:g}" for epoch in sides]
    return f"{told[0]}, baseline {told[1]}"


def _saved(item: Contrast) -> float | None:
    return item.saving.saved_epochs if item.saving else None


def _pays(row: FinalRow) -> str:
    if row.pays_from is not None:
        return f"{row.pays_from:,}"
    return "never" if row.pretrained else _NONE


def _pays_from(item: Contrast) -> int | None:
    return item.saving.pays_from if item.saving else None


def _seeds(item: Contrast) -> str:
    needed = item.seeds_needed
    if needed is None:
        return _NONE
    told = [f"more than {MOST_SEEDS:,}" if n is None else f"{n:,}" for n in (needed.seeds, needed.fewest, needed.most)]
    return told[0] if told[1] == told[2] else f"{told[0]} ({told[1]} to {told[2]})"


def _final_values(axes: Sequence[str], row: FinalRow) -> dict[str, Any]:
    item, contrast = row.summary, row.contrast
    low, high = (item.estimate.interval if item.estimate else None) or (None, None)
    return {
        **dict(zip(axes, row.axes, strict=True)),
        "n": item.n,
        "planned": item.planned,
        "mean": item.estimate.mean if item.estimate else None,
        "low": low,
        "high": high,
        "standard_error": item.standard_error,
        "spread_between": item.spread_between,
        "spread_within": item.spread_within,
        **_difference_values(contrast),
        "diverged": item.diverged,
        "first_epoch": item.first_epoch,
        "level_reached": row.reached.words if row.reached else None,
        "trainable_parameters": item.trainable_parameters,
        "train_seconds": item.train_seconds,
        "training_flops": item.training_flops,
        "pretraining_flops": item.pretraining_flops,
        "pays_from": row.pays_from,
    }


def _contrast_values(item: Contrast, labels: Mapping[str, str]) -> dict[str, Any]:
    saving, needed, start = item.saving, item.seeds_needed, item.at_start
    low, high = (start.interval if start else None) or (None, None)
    return {
        "variant": labels[as_written(item.variant)],
        "baseline": labels[as_written(item.baseline)],
        "comparison": item.comparison,
        "minus_variant": labels[as_written(item.condition.variant)] if item.condition else None,
        "minus_baseline": labels[as_written(item.condition.baseline)] if item.condition else None,
        "n": item.n,
        "planned": item.planned,
        **_difference_values(item),
        "exploratory": item.exploratory,
        "confounds": also_differs(item.confounds) if item.confounds else None,
        "start_difference": start.mean if start else None,
        "start_difference_low": low,
        "start_difference_high": high,
        "variant_reaches": middle(saving.variant.values()) if saving else None,
        "baseline_reaches": middle(saving.baseline.values()) if saving else None,
        "saved_epochs": saving.saved_epochs if saving else None,
        "saved_flops": saving.saved_flops if saving else None,
        "pays_from": saving.pays_from if saving else None,
        "seeds_needed": needed.seeds if needed else None,
        "seeds_needed_fewest": needed.fewest if needed else None,
        "seeds_needed_most": needed.most if needed else None,
    }


def _difference_values(item: Contrast | None) -> dict[str, Any]:
    low, high = (item.interval if item else None) or (None, None)
    return {
        "difference": item.difference if item else None,
        "difference_low": low,
        "difference_high": high,
        "p_t": item.p_t if item else None,
        "p_holm": item.p_holm if item else None,
        "p_sign_flip": item.p if item else None,
        "verdict": item.verdict if item else None,
        "assumes_normality": item.assumes_normality if item else None,
        "reason": item.reason if item else None,
    }
