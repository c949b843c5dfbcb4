"""A study on the toy worker, in a process of its own: ``python -m tests.toy_study STORE [JOBS [small]]``.

Tests of faults kill, stop and start it again. It holds the store's lock as the command line does. The page is drawn
only where TOY_PAGE is set, and without figures: it takes longer than the training, and is made of results.json alone.

Workers are processes of their own, which those tests find and kill. What is run within a test has them forked.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

from rotbench.driver import Ended, Orders, report_writer, run_study
from rotbench.engine import Engine, ProcessEngine
from rotbench.errors import RotbenchError
from rotbench.plan import Plan, make_plan
from rotbench.price import Paces
from rotbench.registry import load_registry
from rotbench.results import collect
from rotbench.source import parse_source
from rotbench.store import Store, to_json
from rotbench.study import understand
from rotbench.system import store_lock, write_durably
from rotbench.terminal import Lines, Outlook
from rotbench.warm_engine import WarmEngine

STUDY = """
title = "toy"
seeds = [0, 1]
[train]
epochs = 4
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
"""


#: For what is done at every operation on the store: a parent and a child, two epochs each.
SMALL = """
title = "toy"
[train]
epochs = 2
[pretext.rotation]
task = "rotation"
[[run]]
init = "rotation"
"""


def toy_command(store: Path, run_id: str, number: str) -> Sequence[str]:
    return [sys.executable, str(Path(__file__).parent / "toy_worker.py"), str(store), run_id, number]


def nothing(folder: Path) -> Sequence[str]:
    return [sys.executable, "-c", ""]


def toy_plan(text: str = STUDY) -> Plan:
    study, faults = understand(parse_source(text, "toy.toml"), Path())
    return make_plan(study, faults, load_registry(shipped_only=True), Path())


def writer(store: Store) -> Callable[[], None]:
    """What the command line writes of a store, but for the figures; or results.json alone."""

    def write_json() -> None:
        write_durably(store.folder / "results.json", to_json(collect(store)))

    def write_undrawn() -> None:
        with patch("rotbench.report.drawings", lambda *_: {}):
            report_writer(store)()

    return write_undrawn if os.environ.get("TOY_PAGE") else write_json


#: Toy workers that are processes of their own.
STARTED = ProcessEngine(toy_command, nothing)


@functools.cache
def forked_toys() -> WarmEngine:
    """The engine of all toy studies within this process: six workers are forked in the time that one takes to start."""
    toys = ("tests.toy_worker", "tests.toy_nothing")
    made = WarmEngine(toys, *toys)
    atexit.register(made.close)
    return made


#: Toy workers end sooner than a driver of real ones would look.
impatient = patch("rotbench.driver.POLL_SECONDS", 0.01)


@impatient
def toy_run(folder: Path, orders: Orders, text: str = STUDY, engine: Engine | None = None) -> Ended:
    """One command, from taking the lock to the report."""
    plan, store = toy_plan(text), Store(folder)
    store.create()
    screen = Lines(plan.runs, Outlook(plan.runs, Paces(), orders.jobs or 1))
    with store_lock(folder) as left:
        if left:
            screen.note(left)
        return run_study(plan, store, engine or forked_toys(), orders, screen, "rotbench run", writer(store))


def main(arguments: Sequence[str], engine: Engine | None = None) -> int:
    try:
        orders = Orders(jobs=int(arguments[1]) if arguments[1:] else 2)
        ended = toy_run(Path(arguments[0]), orders, SMALL if arguments[2:] else STUDY, engine)
    except RotbenchError as error:
        print(error.what, error.todo, sep="\n", file=sys.stderr)
        return error.exit_code
    return 128 + ended.signal if ended.signal else int(bool(ended.failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], STARTED))
