"""What a run costs beside its training: ``python benchmarks/engines.py [--runs 1000] [--rounds 3] [--json FILE]``.

The toy trainer of the tests hashes instead of training, so that what is left is the work of driver, engine and store.
The same study goes through the local engine, two runs side by side, and through a real Ray cluster on this machine of
a head without processors and two nodes with room for one run each. Engines take turns; each round is a new process and
a new store. The table has the median over the rounds and the range.

Seconds a run are those of one of two slots. The worker alone is the toy trainer started by hand, one after the other,
in a store of its own: what an engine adds is the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

JOBS = 2
STUDY = """
title = "toy"
seeds = {runs}
[train]
epochs = 1
[[matrix]]
init = ["random"]
"""
ENGINES = ("local", "ray")


def driven(engine: str, runs: int, store: Path, address: str) -> dict[str, float]:
    """Train a study in this process, and tell what that took of it. Times are seconds, memory is in MB."""
    from rotbench.driver import Orders, report_writer, run_study
    from rotbench.engine import ProcessEngine
    from rotbench.store import Store
    from rotbench.system import store_lock
    from tests.test_driver import Heard
    from tests.toy_study import nothing, toy_command, toy_plan

    began = time.perf_counter()
    plan = toy_plan(STUDY.format(runs=runs))
    planned = time.perf_counter() - began
    made = Store(store)
    made.create()
    writing: list[float] = []
    told: dict[str, float] = {"plan_seconds": planned}

    def write() -> None:
        now = time.perf_counter()
        told.setdefault("memory_before_report", peak())
        report_writer(made)()
        writing.append(time.perf_counter() - now)

    def train(with_engine: Any) -> None:
        told["engine_seconds"] = time.perf_counter() - began - planned
        now, cpu = time.perf_counter(), time.process_time()
        ended = run_study(plan, made, with_engine, Orders(jobs=JOBS), Heard(), "rotbench run", write)
        assert ended.done == runs
        told["seconds"] = time.perf_counter() - now - sum(writing)
        told["cpu_seconds"] = time.process_time() - cpu

    with store_lock(store):
        if engine == "local":
            train(ProcessEngine(toy_command, nothing))
        else:
            from rotbench.ray_engine import ray_engine

            worker, nothing_to_prepare = "tests.toy_worker", "tests.toy_nothing"
            with ray_engine(
                address, plan.study.resources, "cpu", store, (), module=worker, preparation=nothing_to_prepare
            ) as on_ray:
                train(on_ray)
    told |= {
        "report_seconds": writing[-1],
        "memory": peak(),
        "store_megabytes": sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) / 1e6,
        "store_files": sum(path.is_file() for path in store.rglob("*")),
    }
    return told


def peak() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def worker_alone(times: int) -> float:
    """Seconds of the toy trainer by itself, the median of so many."""
    from rotbench.engine import ProcessEngine
    from rotbench.store import Store, run_record
    from tests.toy_study import toy_command, toy_plan

    measured = []
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name))
        store.create()
        for run in toy_plan(STUDY.format(runs=times)).runs:
            attempt = store.open_attempt(run.id, {"run": run_record(run), "plugins": [], "resume": None})
            began = time.perf_counter()
            handle = ProcessEngine(toy_command).start(run.id, attempt, 1)
            assert handle.process.wait() == 0
            measured.append(time.perf_counter() - began)
            handle.process.close()
    return statistics.median(measured)


def one_round(engine: str, runs: int, address: str) -> dict[str, float]:
    """A study in a process and a store of its own."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, __file__, "--child", engine, str(runs), f"{name}/results", address]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


#: A line of the table: what it says, which figure of a round, times what, and how many digits.
LINES = (
    ("runs a second", "runs_a_second", 1.0, 2),
    ("added to a run, ms", "added_seconds", 1000.0, 0),
    ("processor time of the driver a run, ms", "cpu_seconds_a_run", 1000.0, 1),
    ("memory of the driver before the report, MB", "memory_before_report", 1.0, 0),
    ("memory of the driver with the report, MB", "memory", 1.0, 0),
    ("joining, s", "engine_seconds", 1.0, 2),
    ("planning, s", "plan_seconds", 1.0, 2),
    ("results.json, results.csv and report.html, s", "report_seconds", 1.0, 2),
    ("store a run, kB", "store_kilobytes_a_run", 1.0, 1),
    ("files a run", "store_files_a_run", 1.0, 1),
)


def spread(rounds: Sequence[dict[str, float]], key: str, scale: float, digits: int) -> str:
    values = [scale * told[key] for told in rounds]
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        engine, runs, store, address = given.child
        print(json.dumps(driven(engine, int(runs), Path(store), address)))
        return
    from ray.cluster_utils import Cluster

    from benchmarks.machine import described

    alone = worker_alone(50)
    measured: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**node)
        for _ in range(given.rounds):
            for engine in ENGINES:
                measured[engine].append(one_round(engine, given.runs, cluster.address))
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    for told in (told for rounds in measured.values() for told in rounds):
        told["runs_a_second"] = given.runs / told["seconds"]
        told["added_seconds"] = JOBS * told["seconds"] / given.runs - alone
        told["cpu_seconds_a_run"] = told["cpu_seconds"] / given.runs
        told["store_kilobytes_a_run"] = 1000 * told["store_megabytes"] / given.runs
        told["store_files_a_run"] = told["store_files"] / given.runs
    print(f"{given.runs:,} toy runs, {JOBS} side by side; the worker alone takes {alone:.3f} s\n")
    print(f"| median (min to max) of {given.rounds} | {' | '.join(ENGINES)} |\n|---|---:|---:|")
    for name, key, scale, digits in LINES:
        print(f"| {name} | {' | '.join(spread(measured[engine], key, scale, digits) for engine in ENGINES)} |")
    machine = described()
    print(f"\n{machine}")
    if given.json:
        figures: dict[str, Any] = {"machine": machine, "runs": given.runs, "worker_alone_seconds": alone, **measured}
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
