"""``rotbench collate``: a class of hand-ins, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rotbench.errors import BadInput
from rotbench.spoken import counted
from rotbench.terminal import console

if TYPE_CHECKING:
    from rotbench.gradebook import Gradebook


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV and nothing else on standard output.")
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="Write it as a page to this file, too.")
def collate(files: Sequence[Path], as_csv: bool, to: Path | None) -> None:
    """Read many hand-ins, a row each: what they found, what is wrong with them, and what several have alike.

    FILES are pages (report.html), results.json files, results folders, and folders that hold any of these. What cannot
    be read is listed with the reason.
    """
    from rotbench.gradebook import gradebook, gradebook_csv, write_page  # late: they import scipy
    from rotbench.handins import may_be_written

    if not files:
        raise BadInput("no hand-ins are given", "Give pages, results folders, or a folder that holds them.")
    if to is not None:
        may_be_written(to)
    book = gradebook(files)
    if as_csv:
        click.echo(gradebook_csv(book), nl=False)
    else:
        show(book)
    if not book.entries:
        what = f"none of {counted(len(book.rows), 'hand-in')} can be read"
        raise BadInput(what, "Give pages or results that rotbench wrote.")
    if to is not None:
        write_page(book, to)
        if not as_csv:
            click.echo(to.resolve().as_uri())


def show(book: Gradebook) -> None:
    """Print the table, then what is to be said of each hand-in, then what holds for many."""
    from rotbench.gradebook import LEGEND, gradebook_table, remarks_table

    screen = console()
    if book.title is not None:
        screen.print(book.title, style="bold", soft_wrap=True)
        screen.print()
    screen.print(gradebook_table(book, screen.width))
    screen.print()
    screen.print(LEGEND)
    remarks = remarks_table(book)
    if remarks.row_count:
        screen.print()
        screen.print(remarks)
    screen.print()
    for note in book.notes:
        screen.print(f"note: {note}", soft_wrap=True)
    screen.print(book.in_sum)
