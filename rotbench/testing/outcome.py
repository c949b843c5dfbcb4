"""A check, what it comes to, and how a fault is told: in words, with the plugin's line, never as a traceback."""

from __future__ import annotations

import inspect
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from rotbench.errors import EnvironmentLacking


class Faulty(Exception):
    """The plugin breaks the contract; the words name the fault and say what to do."""


class Skipped(Exception):
    """The check means nothing for this plugin, or what it needs is not there; the words say which."""


@dataclass(frozen=True)
class Outcome:
    """What one check came to. ``message`` is empty where it passed."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""


S = TypeVar("S", bound="Subject")


@dataclass(frozen=True, eq=False)
class Subject:
    """A plugin under test. ``folder``: where relative paths of its options start; ``data_dir``: where data sets lie.

    It is compared by identity, so that what is computed once for a subject can be kept by it. ``outcomes`` are those
    of the checks that ran, by name.
    """

    plugin: Any
    folder: Path
    data_dir: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule(Generic[S]):
    """One thing that the contract asks of a kind of plugin, and the rules without which it cannot be looked at."""

    name: str
    function: Callable[[S], None]
    needs: tuple[str, ...]

    @property
    def says(self) -> str:
        """What holds where the rule is kept: the first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0].replace("``", "")


class Rules(Generic[S]):
    """The rules of one kind of plugin, in the order in which they are written."""

    def __init__(self, rules: Sequence[Rule[S]] = ()) -> None:
        self.all: list[Rule[S]] = list(rules)

    def rule(self, *needs: str) -> Callable[[Callable[[S], None]], Callable[[S], None]]:
        """Make a function a rule called by its name in kebab-case."""

        def add(function: Callable[[S], None]) -> Callable[[S], None]:
            self.all.append(Rule(function.__name__.replace("_", "-"), function, needs))
            return function

        return add


@dataclass(frozen=True)
class Check:
    """A rule held against one plugin."""

    rule: Rule[Any]
    rules: Sequence[Rule[Any]]
    subject: Subject

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def says(self) -> str:
        return self.rule.says

    def run(self) -> Outcome:
        """Run the check, and before it those that it needs; each runs once for a subject."""
        done = self.subject.outcomes
        if self.name not in done:
            done[self.name] = self._run()
        return done[self.name]

    def _run(self) -> Outcome:
        for need in self.rule.needs:
            rule = next(rule for rule in self.rules if rule.name == need)
            before = Check(rule, self.rules, self.subject).run()
            if before.status == "failed":
                return Outcome(self.name, "skipped", f"{need} failed, which this needs")
            if before.status == "skipped":
                return Outcome(self.name, "skipped", before.message)
        try:
            with _undisturbed():
                self.rule.function(self.subject)
        except Faulty as fault:
            return Outcome(self.name, "failed", str(fault))
        except Skipped as skipped:
            return Outcome(self.name, "skipped", str(skipped))
        except EnvironmentLacking as lacking:
            return Outcome(self.name, "skipped", f"{lacking.what}; {lacking.todo}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit included
            return Outcome(self.name, "failed", told(error, self.subject.plugin))
        return Outcome(self.name, "passed")


def told(error: BaseException, plugin: Any) -> str:
    """Type and words of an exception and, where it came by the plugin's file, the innermost line there."""
    words = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    file = getattr(sys.modules.get(type(plugin).__module__), "__file__", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not frames:
        return words
    return f"{words} (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})"


def hold(condition: bool, words: str) -> None:
    """Raise :class:`Faulty` with ``words`` unless ``condition`` holds."""
    if not condition:
        raise Faulty(words)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """One thread, and all global generators as they were before: whatever a plugin does to them stays inside."""
    import numpy as np
    import torch

    threads, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(python)
        np.random.set_state(numpy)
