"""A study on the toy worker and a Ray cluster, in a process of its own: ``python -m tests.ray_study STORE ADDRESS``.

What the tests of clusters kill and start again. TOY_ variables are given to the workers; SILENT_SECONDS is how
long a node may give no sign of life, STALL_SECONDS how long a worker may say nothing, JOBS
how many runs are trained side by side at most.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rotbench.driver import Ended, Orders, run_study, side_by_side
from rotbench.errors import RotbenchError
from rotbench.price import Paces
from rotbench.ray_engine import ray_engine
from rotbench.store import Store
from rotbench.system import store_lock
from rotbench.terminal import Lines, Outlook
from tests.toy_study import STUDY, toy_plan, writer


def ray_run(folder: Path, address: str, orders: Orders) -> Ended:
    """One command, from taking the lock to the report."""
    plan, store = toy_plan(os.environ.get("TOY_STUDY", STUDY)), Store(folder)
    store.create()
    toys = {name: value for name, value in os.environ.items() if name.startswith("TOY_")}
    with (
        store_lock(folder) as left,
        ray_engine(
            address,
            plan.study.resources,
            "cpu",
            folder,
            [reference for run in plan.everything for reference in run.plugins],
            environment=toys,
            module="tests.toy_worker",
            preparation="tests.toy_nothing",
            silent_seconds=float(os.environ.get("SILENT_SECONDS", "60")),
        ) as engine,
    ):
        screen = Lines(plan.everything, Outlook(plan.everything, Paces(), side_by_side(engine, orders)))
        if left:
            screen.note(left)
        return run_study(plan, store, engine, orders, screen, "rotbench run", writer(store))


def main(arguments: list[str]) -> int:
    orders = Orders(
        jobs=int(os.environ["JOBS"]) if "JOBS" in os.environ else None,
        stall_seconds=float(os.environ.get("STALL_SECONDS", "60")),
    )
    try:
        ended = ray_run(Path(arguments[0]), arguments[1], orders)
    except RotbenchError as error:
        print(error.what, error.todo, sep="\n", file=sys.stderr)
        return error.exit_code
    return 128 + ended.signal if ended.signal else int(bool(ended.failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
