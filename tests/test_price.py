"""What a study will take."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotbench.plan import Plan, Run, make_plan
from rotbench.price import Paces, kept_bytes, paces_of, study_price, unpriced, wall_seconds
from rotbench.registry import load_registry
from rotbench.room import Ready, Room
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


def with_threads(text: str, *changes: str) -> Plan:
    study, faults = understand(parse_source(text, "e.toml"), Path(), changes)
    return make_plan(study, faults, load_registry(shipped_only=True), Path())


TWO_THREADS = with_threads(STUDY, "pretext.rotation.threads=2", "seeds=3")


def slow_with_threads(runs: list[Run], seconds: dict[str, float], jobs: int, threads: int) -> float:
    """The rule said another way: time goes on in steps of one, and at each all that may start is started."""
    among = {run.id for run in runs}
    left, done, now = list(runs), set[str](), 0
    active: dict[str, tuple[Run, float]] = {}

    def taken(*kinds: str) -> int:
        return sum(run.settings["threads"] for run, _ in active.values() if run.kind in kinds)

    while left or active:
        for name in [name for name, (_, end) in active.items() if end <= now]:
            done.add(name)
            del active[name]
        can = [run for run in left if done.issuperset(set(run.needs) & among)]
        kept_free = 0
        for run in sorted(can, key=lambda run: run.kind != "pretext"):
            own = run.settings["threads"]
            if kept_free and run.kind == "pretext":
                continue
            room = jobs * threads
            fits = taken("pretext", "downstream") + own <= room and len(active) < jobs
            behind = run.kind != "pretext" and kept_free and taken("downstream") + own > room - kept_free
            if not active or (fits and not behind):
                active[run.id] = run, now + seconds[run.id]
                left.remove(run)
            elif run.kind == "pretext":
                kept_free = own
        now += 1
    return float(now - 1)


@given(
    durations=st.lists(st.integers(1, 9), min_size=27, max_size=27),
    own=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    jobs=st.integers(1, 5),
    threads=st.integers(1, 3),
    skip=st.integers(0, 6),
)
def test_threads_are_counted_as_the_driver_counts_them(
    durations: list[int], own: list[int], jobs: int, threads: int, skip: int
) -> None:
    given = iter(own)
    runs = [
        replace(run, settings={**run.settings, "threads": next(given) if run.kind == "pretext" else threads})
        for run in TWO_THREADS.runs
    ][skip:]
    seconds = {run.id: float(each) for run, each in zip(runs, durations, strict=False)}
    expected = slow_with_threads(runs, seconds, jobs, threads)
    assert wall_seconds(runs, seconds, jobs, threads) == pytest.approx(expected)


def test_three_seeds_on_two_cores_by_hand() -> None:
    """Pretext runs of 10 s one after the other, each on both cores; then 24 classifiers of 3 s, two at a time."""
    runs = list(TWO_THREADS.runs)
    seconds = {run.id: 10.0 if run.kind == "pretext" else 3.0 for run in runs}
    assert wall_seconds(runs, seconds, 2, 1) == 3 * 10 + 24 / 2 * 3
    # With threads of 2 for all there is room for one run, which they take turns in.
    assert wall_seconds(runs, seconds, 1, 2) == 3 * 10 + 24 * 3
    # Four cores hold two pretext runs, then the third beside classifiers: two cores train 8 each from 10 to 34 s, the
    # other two 4 each from 20 to 32 s.
    assert wall_seconds(runs, seconds, 4, 1) == 34


def test_a_pretext_run_that_waits_is_overtaken_only_by_what_it_leaves_room_for() -> None:
    """On three cores one pretext run of two threads leaves a core, on which classifiers train meanwhile."""
    rows = {run.id: run for run in TWO_THREADS.runs}
    pretexts = [run for run in rows.values() if run.kind == "pretext"]
    free = [run for run in rows.values() if not run.needs and run.kind == "downstream"]
    room, ready = Room(3, 1), Ready()
    for place, run in enumerate([*free, *pretexts]):
        ready.add(run, place)
    first = list(room.admit(ready))
    assert first == [pretexts[0], free[0]]
    assert list(room.admit(ready)) == []
    room.leave(free[0])
    assert list(room.admit(ready)) == [free[1]]
    room.leave(pretexts[0])
    assert list(room.admit(ready)) == [pretexts[1]]  # and not two more classifiers


def test_a_run_that_is_too_large_runs_alone_and_what_waits_for_it_starts_nothing() -> None:
    large = [
        replace(run, settings={**run.settings, "threads": 64}) for run in TWO_THREADS.runs if run.kind == "pretext"
    ]
    free = [run for run in TWO_THREADS.runs if not run.needs and run.kind == "downstream"]
    room, ready = Room(2, 1), Ready()
    ready.add(free[0], 0)
    ready.add(free[1], 1)
    assert list(room.admit(ready)) == free[:2]
    for place, run in enumerate([*free[2:], *large]):
        ready.add(run, place)
    for ended in free[:2]:
        assert list(room.admit(ready)) == []
        room.leave(ended)
    assert list(room.admit(ready)) == [large[0]]
    assert list(room.admit(ready)) == []
    assert list(Room(0, 1).admit(ready)) == []  # there is no machine at all


def test_threads_of_their_own_are_those_of_pretext_runs_alone() -> None:
    threads = {kind: {run.settings["threads"] for run in TWO_THREADS.runs if run.kind == kind} for kind in (
        "pretext", "downstream",
    )}  # fmt: skip
    assert threads == {"pretext": {2}, "downstream": {1}}
