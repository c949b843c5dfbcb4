"""What a person sees while a study runs: bars on a terminal, plain lines anywhere else, never silence."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rotbench.matrix import name_of
from rotbench.plan import Run

if TYPE_CHECKING:
    from rotbench.compare import VariantSummary

#: Without a terminal, a run that is in the middle of an epoch says so this often.
LINE_EVERY_SECONDS = 30.0


def variant_words(variants: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Each variant in a few words, by its JSON: ``rotation, below``. What all of them share is left out."""
    variants = list(variants)
    values: dict[str, set[str]] = {}
    for variant in variants:
        for key, value in variant.items():
            values.setdefault(key, set()).add(json.dumps(value))
    told = {key for key in values if len(values[key]) > 1 or key in ("pretext", "init")}
    return {
        json.dumps(variant): ", ".join(_value_words(key, value) for key, value in variant.items() if key in told)
        for variant in variants
    }


def run_words(runs: Iterable[Run]) -> dict[str, str]:
    """Each run in a few words, by its id: ``rotation, below, seed 0``."""
    runs = list(runs)
    words = variant_words(run.variant for run in runs)
    return {run.id: f"{words[json.dumps(run.variant)]}, seed {run.seed}" for run in runs}


def final_lines(summaries: Sequence[VariantSummary]) -> list[str]:
    """A line a variant: its mean test accuracy, the interval and the seeds."""
    words = variant_words(summary.variant for summary in summaries)
    width = max((len(text) for text in words.values()), default=0)
    lines = []
    for summary in summaries:
        estimate, seeds = summary.estimate, f"{summary.n} of {summary.planned} seeds"
        text = f"  {words[json.dumps(summary.variant)]:<{width}}  "
        if estimate is not None:
            text += f"{estimate.mean:6.1%}"
            if estimate.interval is not None:
                text += f"  95 % t interval {estimate.interval[0]:.1%} to {estimate.interval[1]:.1%}"
        lines.append(f"{text}  {seeds}")
    return lines


def _value_words(key: str, value: Any) -> str:
    return name_of(value) if key in ("init", "freeze") else f"{key} {value}"


def row_words(entry: Mapping[str, float]) -> str:
    """An epoch in a few words."""
    return (
        f"test {entry['test_accuracy']:.1%} (loss {entry['test_loss']:.3f}), train {entry['train_accuracy']:.1%}"
        f" (loss {entry['train_loss']:.3f}), {entry['seconds']:.1f} s"
    )


class Lines:
    """A line an epoch, a line when something begins or ends; a line every 30 s within a long epoch."""

    def __init__(self, runs: Iterable[Run], *, quiet: bool = False) -> None:
        self._words = run_words(runs)
        self._quiet = quiet
        self._total = 0
        self._ended = 0
        self._last: dict[str, float] = {}

    def begin(self, todo: int, done: int) -> None:
        self._total = todo
        self._say(f"{todo} runs to train, {done} done before" if done else f"{todo} runs to train")

    def started(self, run: Run) -> None:
        self._last[run.id] = time.monotonic()
        self._say(f"started   {self._words[run.id]}")

    def progress(self, run: Run, entry: Mapping[str, float]) -> None:
        epochs = run.settings["train"]["epochs"]
        if "train_loss" in entry:
            self._last[run.id] = time.monotonic()
            self._say(f"  {self._words[run.id]}: epoch {int(entry['epoch'])}/{epochs}  {row_words(entry)}")
        elif time.monotonic() - self._last[run.id] > LINE_EVERY_SECONDS:
            self._last[run.id] = time.monotonic()
            step = f"step {int(entry['step'])}/{int(entry['steps'])}"
            self._say(f"  {self._words[run.id]}: epoch {int(entry['epoch'])}/{epochs}, {step}")

    def ended(self, run: Run, status: str, message: str) -> None:
        self._ended += 1
        line = f"{status:<9} {self._words[run.id]}  ({self._ended} of {self._total})"
        self._say(f"{line}: {message}" if message else line, always=status != "done")

    def note(self, message: str) -> None:
        self._say(f"note: {message}", always=True)

    def close(self) -> None:
        """Nothing to put away."""

    def _say(self, line: str, *, always: bool = False) -> None:
        if always or not self._quiet:
            click.echo(line, err=True)


class Bars:
    """One bar for the study and one for each run that is being trained."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._words = run_words(runs)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._tasks: dict[str, Any] = {}

    def begin(self, todo: int, done: int) -> None:
        self._study = self._progress.add_task("study", total=todo, words=f"{done} before" if done else "")
        if todo:
            self._progress.start()

    def started(self, run: Run) -> None:
        epochs = run.settings["train"]["epochs"]
        self._tasks[run.id] = self._progress.add_task(self._words[run.id], total=epochs, words="")

    def progress(self, run: Run, entry: Mapping[str, float]) -> None:
        task = self._tasks[run.id]
        if "train_loss" in entry:
            self._progress.update(task, completed=entry["epoch"], words=f"{entry['test_accuracy']:.1%}")
        else:
            self._progress.update(task, completed=entry["epoch"] - 1 + entry["step"] / entry["steps"])

    def ended(self, run: Run, status: str, message: str) -> None:
        task = self._tasks.pop(run.id, None)
        if task is not None:
            self._progress.remove_task(task)
        self._progress.advance(self._study)
        if status != "done":
            self._console.print(f"{status}: {self._words[run.id]}: {message}", markup=False, highlight=False)

    def note(self, message: str) -> None:
        self._console.print(f"note: {message}", markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def watcher(runs: Iterable[Run], *, quiet: bool) -> Lines | Bars:
    """Bars where there is somebody to see them move, on a terminal that can move them."""
    from rich.console import Console

    return Bars(runs) if not quiet and Console(stderr=True).is_interactive else Lines(runs, quiet=quiet)
