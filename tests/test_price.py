"""What a study will take."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotbench.plan import Plan, Run, make_plan
from rotbench.price import Paces, kept_bytes, paces_of, study_price, unpriced, wall_seconds
from rotbench.registry import load_registry
from rotbench.source import parse_source
from rotbench.study import understand

STUDY = """
seeds = 2
[train]
epochs = 10
[pretext.rotation]
task = "rotation"
epochs = 30
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", "below"]
lr = [0.1, 0.01]
"""


def plan(text: str = STUDY) -> Plan:
    study, faults = understand(parse_source(text, "e.toml"), Path())
    return make_plan(study, faults, load_registry(), Path())


def result(*seconds: float, start: float = 3.0) -> dict[str, Any]:
    return {"history": [{"seconds": each} for each in seconds], "worker_seconds": sum(seconds) + start}


def test_nothing_is_known_before_anything_is_done() -> None:
    made = plan()
    paces = Paces()
    assert all(paces.price(run) is None for run in made.runs)
    assert study_price(made.runs, paces, 2) is None
    # A pretext run, and downstream runs that train everything or the last stage: three kinds to time.
    assert [(run.kind, run.settings.get("freeze", {}).get("name")) for run in unpriced(made.runs, paces)] == [
        ("downstream", "below"), ("downstream", "none"), ("pretext", None),
    ]  # fmt: skip


def test_a_finished_run_prices_all_runs_of_its_cost_whatever_their_lr_seed_and_epochs() -> None:
    made = plan()
    first = next(run for run in made.runs if run.variant.get("freeze") == "none")
    paces = paces_of([(first.settings, result(2.0, 4.0, start=5.0))])
    for run in made.runs:
        price = paces.price(run)
        if run.kind == "pretext":
            assert price is None
        elif run.variant["freeze"] == "none":
            assert price is not None
            assert (price.seconds, price.basis) == (5.0 + 10 * 3.0, "finished")
        else:
            # Another freeze policy is only alike: the range says so.
            assert price is not None
            assert price.basis == "alike"
            assert price.low < price.seconds < price.high


def test_what_was_timed_goes_before_what_is_alike_and_behind_what_was_finished() -> None:
    made = plan()
    none, below = (next(r for r in made.runs if r.variant.get("freeze") == name) for name in ("none", "below"))
    paces = paces_of([(none.settings, result(3.0, start=5.0))])
    for run in (none, below):
        paces.add_timed(run.settings, 7.0, 1.0)
    finished, timed = paces.price(none), paces.price(below)
    assert finished is not None
    assert timed is not None
    assert (finished.basis, finished.seconds) == ("finished", 5.0 + 10 * 3.0)
    assert (timed.basis, timed.seconds) == ("timed", 1.0 + 10 * 7.0)


def slow_wall_seconds(runs: list[Run], seconds: dict[str, float], jobs: int) -> float:
    """The same said another way: time goes on in steps of one, and at each what is ready takes a free worker."""
    among = {run.id for run in runs}
    left, done, now = list(runs), set[str](), 0
    active: dict[str, float] = {}
    while True:
        for name in [name for name, end in active.items() if end <= now]:
            done.add(name)
            del active[name]
        if not left and not active:
            return float(now)
        for run in sorted(left, key=lambda run: run.kind != "pretext"):
            if len(active) < jobs and done.issuperset(set(run.needs) & among):
                active[run.id] = now + seconds[run.id]
                left.remove(run)
        now += 1


@given(durations=st.lists(st.integers(1, 9), min_size=18, max_size=18), jobs=st.integers(1, 5), skip=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_the_time_of_a_study_is_that_of_its_runs_side_by_side(durations: list[int], jobs: int, skip: int) -> None:
    runs = list(PLAN.runs)[skip:]
    seconds = {run.id: float(each) for run, each in zip(runs, durations, strict=False)}
    assert wall_seconds(runs, seconds, jobs) == pytest.approx(slow_wall_seconds(runs, seconds, jobs))


PLAN = plan()


def test_one_worker_takes_the_sum_and_many_the_longest_chain() -> None:
    runs = list(PLAN.runs)
    assert len(runs) == 2 * (1 + 8)
    seconds = {run.id: float(place) for place, run in enumerate(runs, start=1)}
    assert wall_seconds(runs, seconds, 1) == sum(seconds.values())
    chains = [seconds[run.id] + sum(seconds[need] for need in run.needs) for run in runs]
    assert wall_seconds(runs, seconds, 99) == max(chains)
    assert wall_seconds([], {}, 2) == 0


def test_what_is_kept_is_mostly_the_weights_of_pretext_runs() -> None:
    runs = list(PLAN.runs)
    pretext = [run for run in runs if run.kind == "pretext"]
    others = [run for run in runs if run.kind != "pretext"]
    # ResNet18 without fc has 11,176,512 parameters of 4 bytes.
    assert kept_bytes(pretext) > len(pretext) * 4 * 11_176_512
    assert kept_bytes(others) < len(others) * 1_000_000
    assert kept_bytes(runs) == kept_bytes(pretext) + kept_bytes(others)


def test_a_study_is_as_sure_as_the_least_sure_of_its_runs() -> None:
    paces = Paces()
    kinds = unpriced(PLAN.runs, paces)
    for run in kinds:
        paces.add_finished(run.settings, result(1.0, 3.0))
    price = study_price(PLAN.runs, paces, 2)
    assert price is not None
    assert price.basis == "finished"
    assert price.low <= price.seconds <= price.high
    for run, other in itertools.pairwise(kinds):
        assert run.settings != other.settings
    another = [replace(run, settings={**run.settings, "threads": 2}) for run in PLAN.runs]
    assert study_price(another, paces, 2) is None
