"""A class of hand-ins, a row each: on a terminal, as CSV and as a page."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotbench import __version__
from rotbench.company import in_company
from rotbench.compare import as_written
from rotbench.contrast import Variant
from rotbench.entry import Accuracy, Entry, Verdict, entry_of
from rotbench.errors import RotbenchError
from rotbench.handins import GENERATOR, HandIn, Unread, hand_ins, read_hand_in, reason_of
from rotbench.redraw import drawable
from rotbench.source import quoted
from rotbench.spoken import counted
from rotbench.system import lacking, write_durably
from rotbench.wording import percent, variant_labels

if TYPE_CHECKING:
    from rich.table import Table

#: A verdict beside an accuracy, by its tone, and the words for it.
SIGNS = {"higher": "↑", "lower": "↓", "equivalent": "=", "not-resolved": "~", "none": "?"}
LEGEND = "↑ higher than its baseline, ↓ lower, = equivalent, ~ not resolved, ? no verdict; (n): seeds, where some lack"

#: Variants that a class shares have a column each, up to so many.
MOST_COLUMNS = 8

#: The most characters of a name before it is folded, and what other columns take; of what to look at it is the least.
_NAME, _ACCURACY, _LOOK, _SEEDS, _MET = 24, 8, 16, 7, 5

#: The columns of the CSV before those of the variants.
CSV_COLUMNS = (
    "file",
    "error",
    "title",
    "dataset",
    "seeds",
    "runs",
    "done",
    "verdicts",
    "failed_proofs",
    "confounded",
    "thresholds",
    "thresholds_met",
    "plugins",
    "equal_runs",
    "equal_to",
    "one_training_with",
    "impossible",
    "to_look_at",
    "remarks",
)


@dataclass(frozen=True)
class Gradebook:
    """All hand-ins in order; ``notes`` are what holds for many of them."""

    rows: tuple[Entry | Unread, ...]
    notes: tuple[str, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(row for row in self.rows if isinstance(row, Entry))

    @property
    def unread(self) -> tuple[Unread, ...]:
        return tuple(row for row in self.rows if isinstance(row, Unread))

    @property
    def columns(self) -> dict[str, str]:
        """A label for each variant of the class, by its key: what several studies have is one."""
        variants: dict[str, Variant] = {}
        for entry in self.entries:
            for accuracy in entry.accuracies:
                variants.setdefault(accuracy.key, accuracy.variant)
        labels = variant_labels(list(variants.values()))
        return {key: labels[as_written(variant)] for key, variant in variants.items()}

    @property
    def title(self) -> str | None:
        """The title that more than half of the studies have, or None."""
        most = Counter(entry.title for entry in self.entries).most_common(1)
        return most[0][0] if most and 2 * most[0][1] > len(self.entries) else None

    @property
    def in_sum(self) -> str:
        """``10 hand-ins: 6 in order, 3 to look at, 1 not read; 1 misses a threshold``."""
        grave = sum(entry.to_look_at for entry in self.entries)
        told = [f"{len(self.entries) - grave} in order", f"{grave} to look at"]
        told += [f"{len(self.unread)} not read"] if self.unread else []
        short = sum(entry.met < len(entry.thresholds) for entry in self.entries)
        missing = f"; {short} {'misses' if short == 1 else 'miss'} a threshold" if short else ""
        return f"{counted(len(self.rows), 'hand-in')}: {', '.join(told)}{missing}"


def gradebook(given: Sequence[Path]) -> Gradebook:
    """The hand-ins among files and folders, read one by one; what cannot be read is a row all the same."""
    rows = [_row(hand_in) for hand_in in hand_ins(given)]
    entries, notes = in_company([row for row in rows if isinstance(row, Entry)])
    whole = iter(entries)
    return Gradebook(tuple(next(whole) if isinstance(row, Entry) else row for row in rows), tuple(notes))


def _row(hand_in: HandIn) -> Entry | Unread:
    try:
        with drawable(hand_in.path, "summed up"):
            return entry_of(hand_in.name, read_hand_in(hand_in))
    except RotbenchError as error:
        return Unread(hand_in.name, reason_of(error, hand_in))


# On a terminal


def gradebook_table(book: Gradebook, width: int) -> Table:
    """A row a hand-in, in ``width`` characters: accuracies with the sign of their verdict, and what to look at.

    Variants have a column each where these have room; else a cell holds them all.
    """
    from rich.table import Table
    from rich.text import Text

    columns = book.columns
    heads = [label.replace(" / ", "\n") for label in columns.values()]
    with_thresholds = any(entry.thresholds for entry in book.entries)
    name_width = min(_NAME, max((len(row.name) for row in book.rows), default=_NAME))
    taken = name_width + _LOOK + _SEEDS + _MET * with_thresholds
    taken += sum(max(_ACCURACY, *map(len, head.split("\n"))) + 2 for head in heads)
    apart = len(columns) <= MOST_COLUMNS and taken <= width
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("hand-in", overflow="fold", max_width=max(name_width, width // 4))
    table.add_column("seeds", no_wrap=True, justify="right")
    for head in heads if apart else ():
        table.add_column(Text(head), no_wrap=True, justify="right")
    if not apart:
        table.add_column("accuracies", overflow="fold")
    if with_thresholds:
        table.add_column("met", no_wrap=True, justify="right")
    table.add_column("look at", overflow="fold")
    for row in book.rows:
        if isinstance(row, Unread):
            blank = [""] * (len(columns) if apart else 1) + [""] * with_thresholds
            table.add_row(Text(row.name), "", *blank, Text("not read", "red"))
            continue
        of = row.by_variant
        if apart:
            cells = [_accuracy(*of[key]) if key in of else "" for key in columns]
        else:
            cells = ["\n".join(f"{one.label} {_accuracy(one, verdict).strip()}" for one, verdict in of.values())]
        met = [f"{row.met}/{len(row.thresholds)}" if row.thresholds else ""] if with_thresholds else []
        look = Text(", ").join(Text(short, "red" if grave else "") for short, grave in row.in_short)
        table.add_row(Text(row.name), str(len(row.seeds)), *map(Text, cells), *met, look)
    return table


def _accuracy(accuracy: Accuracy, verdict: Verdict | None) -> str:
    mean = percent(accuracy.mean) if accuracy.mean is not None else "-"
    lacking = f" ({accuracy.n})" if accuracy.n < accuracy.planned else ""
    return f"{mean}{lacking} {SIGNS[verdict.tone] if verdict else ' '}"


def remarks_table(book: Gradebook) -> Table:
    """What is to be said of each hand-in, in whole sentences; hand-ins of which nothing is are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(overflow="fold", max_width=_NAME)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in book.rows:
        told = [*_remarks(row)]
        if isinstance(row, Entry) and row.title != book.title:
            told.insert(0, (f"titled {quoted(row.title)}", False))
        for place, (text, grave) in enumerate(told):
            table.add_row(Text("" if place else row.name), "-", Text(text, "" if grave else "dim"))
    return table


def _remarks(row: Entry | Unread) -> Iterator[tuple[str, bool]]:
    """What is to be said of one hand-in, and whether it is grave."""
    if isinstance(row, Unread):
        yield row.reason, True
        return
    yield from ((finding.text, finding.grave) for finding in row.findings)
    yield from ((threshold.text, True) for threshold in row.thresholds if not threshold.met)


# As CSV


def gradebook_csv(book: Gradebook) -> str:
    """A row a hand-in and the columns of :data:`CSV_COLUMNS`; then for each variant its mean and its seeds."""
    columns = book.columns
    file = io.StringIO()
    names = [*CSV_COLUMNS, *(f"{told}: {label}" for label in columns.values() for told in ("mean", "n"))]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    for row in book.rows:
        values = _values(row, columns)
        writer.writerow([_cell(value) for value in values] + [""] * (len(names) - len(values)))
    return file.getvalue()


def _values(row: Entry | Unread, columns: Mapping[str, str]) -> list[Any]:
    """The fields of one row in the order of the columns; of a hand-in that was not read the first two."""
    if isinstance(row, Unread):
        return [row.name, row.reason]
    of = row.by_variant
    return [
        row.name,
        "",
        row.title,
        row.dataset,
        " ".join(map(str, row.seeds)),
        row.runs,
        row.done,
        "; ".join(verdict.text for verdict in row.verdicts),
        row.count("proof"),
        row.count("confounded"),
        len(row.thresholds),
        row.met,
        "; ".join(finding.short for finding in row.findings if finding.kind == "plugin"),
        row.equal_runs,
        "; ".join(row.equal_to),
        "; ".join(row.one_training_with),
        row.count("impossible"),
        sum(finding.grave for finding in row.findings),
        "; ".join(text for text, _ in _remarks(row)),
        *(value for key in columns for value in ((of[key][0].mean, of[key][0].n) if key in of else (None, None))),
    ]


def _cell(value: Any) -> str:
    """A field: numbers with all their digits; a text that a spreadsheet would compute begins with an apostrophe."""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in tuple("=+-@") else value
    return "" if value is None else repr(value)


# As a page


def gradebook_page(book: Gradebook) -> str:
    """The class as one HTML document that loads nothing. The same hand-ins give the same text."""
    from rotbench.report import dressed, environment  # late: it imports matplotlib, which a table does without

    columns = book.columns
    return (
        environment()
        .get_template("gradebook.html.j2")
        .render(
            book=book,
            columns=columns if len(columns) <= MOST_COLUMNS else {},
            rotbench=__version__,
            generator=GENERATOR,
            **dressed("report.js"),
        )
    )


def write_page(book: Gradebook, path: Path) -> None:
    """Write the page of a class; the folder that it is to lie in is made."""
    content = gradebook_page(book).encode()
    with lacking(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, content)
