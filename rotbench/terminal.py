"""What a person sees while a study runs: bars on a terminal, plain lines anywhere else, never silence."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rotbench.plan import Run
from rotbench.price import Paces, wall_seconds
from rotbench.spoken import counted, duration, run_words, scored, variant_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rotbench.contrast import VariantSummary

#: Without a terminal, a run that is in the middle of an epoch says so this often.
LINE_EVERY_SECONDS = 30.0

#: A study of thousands of runs is added up no more often than this.
STUDY_EVERY_SECONDS = 1.0

#: What a bar says of a run fits beside a name of so many characters into 80 columns.
NAME_CHARACTERS = 28

#: What goes on between the beginning and the first run.
LOADING = "loading PyTorch and data"

Entry = Mapping[str, float | None]


class ReaderGone(Exception):
    """Whoever read the output has gone, as in ``rotbench plan | head``; nothing is wrong."""


def console(*, stderr: bool = False) -> Console:
    """Where tables are printed: as wide as the terminal, or as the table where nobody looks at it."""
    from rich.console import Console

    class Passing(Console):
        """Rich ends the process with code 1 when nobody reads any more; here that is no failed run."""

        def on_broken_pipe(self) -> None:
            raise ReaderGone

    made = Passing(stderr=stderr, highlight=False, markup=False)
    return made if made.is_terminal else Passing(stderr=stderr, highlight=False, markup=False, width=10_000)


class Outlook:
    """How far the study is, and what is left of it: from what is known of runs alike, and from what it sees."""

    def __init__(self, runs: Iterable[Run], paces: Paces, jobs: int, threads: int = 1) -> None:
        self._runs = {run.id: run for run in runs}
        self._paces = paces
        self._jobs = max(1, jobs)  # there may be no room yet
        self._threads = threads
        self._waiting: dict[str, Run] = {}
        self._share: dict[str, float] = {}  # of the epochs of the runs that are being trained
        self._began: dict[str, float] = {}
        self._trained: dict[str, float] = {}  # seconds of the epochs that were seen

    def begin(self, waiting: Sequence[Run]) -> None:
        self._waiting = {run.id: run for run in waiting}

    def started(self, run: Run) -> None:
        self._share[run.id] = 0.0
        self._began[run.id] = time.monotonic()

    def progress(self, run: Run, entry: Entry) -> None:
        epochs = epochs_of(run)
        if "train_loss" in entry:
            self._share[run.id] = (entry["epoch"] or 0) / epochs
            self._trained[run.id] = self._trained.get(run.id, 0.0) + (entry["seconds"] or 0.0)
            self._paces.add_epoch(run.settings, entry["seconds"] or 0.0)
        elif entry.get("steps"):
            self._share[run.id] = ((entry["epoch"] or 1) - 1 + (entry["step"] or 0) / (entry["steps"] or 1)) / epochs

    def ended(self, run: Run) -> None:
        self._waiting.pop(run.id, None)
        self._share.pop(run.id, None)
        if run.kind == "probe" and run.id in self._began:
            self._paces.add_probe(run.settings, time.monotonic() - self._began[run.id])
        if run.id in self._trained:
            # Starting a worker takes seconds too, which a study of many short runs feels.
            self._paces.add_start(time.monotonic() - self._began[run.id] - self._trained.pop(run.id))

    def run_seconds(self, run: Run) -> float | None:
        """Seconds that a run will still take, or None before anything is known."""
        share = self._share.get(run.id, 0.0)
        if run.kind == "probe":
            price = self._paces.price(run)
            if price is None:  # the first: by how far it is, and before it begins as if it were nothing
                return (time.monotonic() - self._began[run.id]) * (1 - share) / share if share else 0.0
            return price.seconds * (1 - share)
        pace = self._paces.of(run.settings)
        if pace is not None and (pace.basis == "finished" or run.id not in self._share):
            started = 0.0 if run.id in self._share else pace.start_seconds
            epochs = int(run.settings["train"]["epochs"])
            return started + pace.epoch_seconds * epochs * (1 - share)
        if share > 0:
            return (time.monotonic() - self._began[run.id]) * (1 - share) / share
        return None

    def study_seconds(self) -> float | None:
        """Seconds until all runs are done, or None while one of them cannot be told."""
        left = {run_id: self.run_seconds(run) for run_id, run in self._waiting.items()}
        known = {run_id: seconds for run_id, seconds in left.items() if seconds is not None}
        if len(known) < len(left) or not left:
            return None
        # What is being trained goes first: it holds its worker already.
        order = sorted(self._waiting.values(), key=lambda run: run.id not in self._share)
        return wall_seconds(order, known, self._jobs, self._threads)


def final_table(summaries: Sequence[VariantSummary]) -> Table:
    """A row a variant: its mean test accuracy, the interval over seeds, and the seeds."""
    from rich.table import Table
    from rich.text import Text

    words = variant_words(summary.variant for summary in summaries)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("variant", overflow="fold")
    for name in ("test accuracy", "95 % t interval", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for summary in summaries:
        estimate = summary.estimate
        mean = f"{estimate.mean:.1%}" if estimate else "-"
        interval = (
            f"{estimate.interval[0]:.1%} to {estimate.interval[1]:.1%}" if estimate and estimate.interval else "-"
        )
        seeds = f"{summary.n} of {summary.planned}"
        table.add_row(Text(words[json.dumps(summary.variant)]), mean, interval, seeds)
    return table


def row_words(entry: Entry, score_name: str = "accuracy") -> str:
    """An epoch in a few words."""
    parts = [
        f"{part} {scored(entry[f'{part}_accuracy'] or 0.0, score_name)} (loss {entry[f'{part}_loss']:.3f})"
        for part in ("test", "validation", "train")
        if entry.get(f"{part}_loss") is not None
    ]
    return ", ".join([*parts, f"{entry['seconds']:.1f} s"])


def score_of(entry: Entry) -> float | None:
    """The score of an epoch: on the test images, else on those kept for validation, else none yet."""
    return next(
        (score for part in ("test", "validation") if (score := entry.get(f"{part}_accuracy")) is not None), None
    )


def epochs_of(run: Run) -> int:
    """The epochs of a training; a probe is one step after another, as if in one epoch."""
    return int(run.settings["train"].get("epochs", 1))


class Lines:
    """A line an epoch, a line when something begins or ends; a line every 30 s within a long epoch."""

    def __init__(self, runs: Iterable[Run], outlook: Outlook, *, quiet: bool = False) -> None:
        self._words = run_words(runs)
        self._outlook = outlook
        self._quiet = quiet
        self._total = 0
        self._ended = 0
        self._last: dict[str, float] = {}
        self._rate: dict[str, float] = {}

    def begin(self, waiting: Sequence[Run], done: int) -> None:
        self._outlook.begin(waiting)
        self._total = len(waiting)
        self._say(f"{counted(self._total)} to train" + (f", {done} done before" if done else ""))
        if waiting:
            self._say(LOADING)

    def started(self, run: Run) -> None:
        self._outlook.started(run)
        self._last[run.id] = time.monotonic()
        self._say(f"started   {self._words[run.id]}")

    def progress(self, run: Run, entry: Entry) -> None:
        self._outlook.progress(run, entry)
        if entry.get("images_per_second"):
            self._rate[run.id] = entry["images_per_second"] or 0.0
        epoch = f"  {self._words[run.id]}: epoch {entry['epoch']}/{epochs_of(run)}"
        if run.kind == "probe":
            return
        if "train_loss" in entry:
            self._last[run.id] = time.monotonic()
            self._say(f"{epoch}  {row_words(entry, run.score_name)}{self._pace(run)}")
        elif time.monotonic() - self._last[run.id] > LINE_EVERY_SECONDS:
            self._last[run.id] = time.monotonic()
            self._say(f"{epoch}, step {entry['step']}/{entry['steps']}{self._pace(run)}")

    def ended(self, run: Run, status: str, message: str) -> None:
        self._outlook.ended(run)
        self._ended += 1
        left = self._outlook.study_seconds()
        told = f", {duration(left)} left" if left is not None and left >= 1 else ""
        line = f"{status:<9} {self._words[run.id]}  ({self._ended} of {self._total}{told})"
        self._say(f"{line}: {message}" if message else line, always=status != "done")

    def note(self, message: str) -> None:
        self._say(f"note: {message}", always=True)

    def close(self) -> None:
        """Nothing to put away."""

    def _pace(self, run: Run) -> str:
        rate, left = self._rate.get(run.id), self._outlook.run_seconds(run)
        told = f", {rate:,.0f} images/s" if rate else ""
        return f"{told}, {duration(left)} left" if left is not None and left >= 1 else told

    def _say(self, line: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            click.echo(line, err=True)


class Bars:
    """One bar for the study and one for each run that is being trained."""

    def __init__(self, runs: Iterable[Run], outlook: Outlook, console: Console) -> None:
        self._words = run_words(runs)
        self._outlook = outlook
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self._console = console

        def told(field: str, column: Column) -> TextColumn:
            return TextColumn(f"{{task.fields[{field}]}}", markup=False, table_column=column)

        self._progress = Progress(
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(
                    no_wrap=True, overflow="ellipsis", max_width=max(NAME_CHARACTERS, console.width // 3)
                ),
            ),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
            *(told(name, Column(no_wrap=True, justify="right")) for name in ("count", "score", "rate", "left")),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, Any] = {}
        self._ended = self._failed = self._total = 0
        self._shown = 0.0

    def begin(self, waiting: Sequence[Run], done: int) -> None:
        self._outlook.begin(waiting)
        self._total = len(waiting)
        name = f"study, {counted(done)} done before" if done else "study"
        self._study = self._progress.add_task(
            name, total=self._total, count=f"0/{self._total}", score="", rate="", left=LOADING if waiting else ""
        )
        if waiting:
            self._progress.start()

    def started(self, run: Run) -> None:
        self._outlook.started(run)
        epochs = epochs_of(run)
        if run.id in self._tasks:  # a second attempt
            self._progress.remove_task(self._tasks[run.id])
        self._tasks[run.id] = self._progress.add_task(
            self._words[run.id], total=epochs, count=f"0/{epochs}", score="", rate="", left="starting"
        )
        self._show_study(now=True)

    def progress(self, run: Run, entry: Entry) -> None:
        self._outlook.progress(run, entry)
        task, epochs = self._tasks[run.id], epochs_of(run)
        epoch = int(entry["epoch"] or 0)
        changes: dict[str, Any] = {"count": f"{epoch}/{epochs}", "completed": epoch}
        if "train_loss" in entry:
            score = score_of(entry)
            changes["score"] = scored(score, run.score_name) if score is not None else ""
        elif entry.get("steps"):
            changes["completed"] = epoch - 1 + (entry["step"] or 0) / (entry["steps"] or 1)
            if entry.get("images_per_second"):
                changes["rate"] = f"{entry['images_per_second']:,.0f} img/s"
        left = self._outlook.run_seconds(run)
        changes["left"] = f"{clock(left)} left" if left is not None else ""
        self._progress.update(task, **changes)
        self._show_study()

    def ended(self, run: Run, status: str, message: str) -> None:
        self._outlook.ended(run)
        task = self._tasks.pop(run.id, None)
        if task is not None:
            self._progress.remove_task(task)
        self._ended += 1
        self._failed += status != "done"
        self._show_study(now=True)
        if status != "done":
            self.note(f"{status}: {self._words[run.id]}: {message}")

    def note(self, message: str) -> None:
        self._console.print(f"note: {message}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()

    def _show_study(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._shown < STUDY_EVERY_SECONDS:
            return
        self._shown = time.monotonic()
        left = self._outlook.study_seconds()
        self._progress.update(
            self._study,
            completed=self._ended,
            count=f"{self._ended}/{self._total}",
            score=f"{self._failed} failed" if self._failed else "",
            left=f"{clock(left)} left" if left is not None else "",
        )


def clock(seconds: float) -> str:
    """``0:42``, ``12:05``, ``3:02:10``: a time that keeps its width while it runs down."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def watcher(runs: Sequence[Run], outlook: Outlook, *, quiet: bool, verbose: bool) -> Lines | Bars:
    """Bars where there is somebody to see them move, on a terminal that can move them; else lines, and in CI."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or verbose or os.environ.get("CI") or not console.is_interactive:
        return Lines(runs, outlook, quiet=quiet)
    return Bars(runs, outlook, console)
