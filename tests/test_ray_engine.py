"""How an end is told, and what is made of silence. Ray itself is stood in for: what a slow network file system and a
node that freezes at a given moment do cannot be had here in any other way.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rotbench.checkpoint import EXIT_STOPPED
from rotbench.cluster import join
from rotbench.engine import KILLED, LOST
from rotbench.errors import BadInput, EnvironmentLacking
from rotbench.node import BEATS, ORDER, Inspected, Unable, answer, versions
from rotbench.prepare import RESOLVED
from rotbench.ray_engine import RayEngine, RayHandle, ray_engine, reserved
from rotbench.settings import Resources
from rotbench.store import ERROR, MANIFEST, SEEN, leave_error, left_error

ray_exceptions = pytest.importorskip("ray.exceptions")

Reference = str


@dataclass
class StandIn:
    """As much of Ray as an engine calls. ``ended`` are the tasks that have, with what they returned or raised."""

    nodes_there: list[dict[str, Any]]
    ended: dict[Reference, Any] = field(default_factory=dict)
    cancelled: list[Reference] = field(default_factory=list)
    submitted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    arguments: list[tuple[str, ...]] = field(default_factory=list)
    exceptions: Any = ray_exceptions

    def nodes(self) -> list[dict[str, Any]]:
        return self.nodes_there

    def wait(self, references: list[Reference], *, timeout: float, num_returns: int = 1) -> tuple[list[Any], list[Any]]:
        return [r for r in references if r in self.ended], [r for r in references if r not in self.ended]

    def get(self, reference: Reference) -> Any:
        if isinstance(self.ended[reference], Exception):
            raise self.ended[reference]
        return self.ended[reference]

    def cancel(self, reference: Reference, *, force: bool) -> None:
        self.cancelled.append(reference)

    def remote(self, function: Any) -> Any:
        def options(**given: Any) -> Any:
            def submit(*arguments: str) -> Reference:
                self.submitted.append((function.__name__, given))
                self.arguments.append(arguments)
                return f"task {len(self.submitted)}"

            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("rotbench.ray_engine.time", made)
    monkeypatch.setattr("rotbench.roster.time", made)
    monkeypatch.setattr("rotbench.ray_engine.connect", lambda address: None)
    return made


def node(letter: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": letter * 56, "Alive": True, "NodeManagerHostname": letter, "Resources": resources}


def engine_of(
    *nodes: dict[str, Any], cpus: float = 1.0, gpus: float = 0.0, store: Path = Path("nowhere")
) -> tuple[RayEngine, StandIn]:
    """An engine on nodes that were found fit."""
    ray = StandIn(list(nodes))
    engine = RayEngine(ray, cpus, gpus, store, {}, silent_seconds=120.0)
    engine.roster.fit.update(node["NodeID"] for node in nodes)
    engine.roster.look()
    return engine, ray


def only(*letters: str) -> dict[str, str]:
    """On these nodes. With a space between two Ray takes the first alone."""
    return {"ray.io/node-id": f"in({','.join(letter * 56 for letter in letters)})"}


def started(engine: RayEngine, store: Path, name: str = "run.1") -> RayHandle:
    attempt = store / "attempts" / name
    attempt.mkdir(parents=True)
    return engine.start("run", attempt, 1)


def test_a_task_reserves_what_was_asked_and_is_never_retried_by_ray(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2, GPU=1), cpus=2.0, gpus=0.25)
    started(engine, tmp_path)
    reserves = {
        "num_cpus": 2.0,
        "num_gpus": 0.25,
        "max_retries": 0,
        "scheduling_strategy": "SPREAD",
        "label_selector": only("a"),
    }
    assert ray.submitted == [("try_attempt", reserves)]
    assert ray.arguments == [(str(tmp_path), "run", "1")]


@pytest.mark.parametrize(
    ("threads", "reserved"), [(1, 0.5), (2, 1.0), (3, 1.5), (64, 4.0)], ids=["usual", "twice", "thrice", "too many"]
)
def test_more_threads_reserve_so_much_more_but_never_more_than_a_node_has(
    tmp_path: Path, clock: Clock, threads: int, reserved: float
) -> None:
    engine, ray = engine_of(node("a", CPU=2), node("b", CPU=4), cpus=0.5)
    attempt = tmp_path / "attempts" / "run.1"
    attempt.mkdir(parents=True)
    engine.start("run", attempt, threads)
    (submitted,) = ray.submitted
    assert submitted[1]["num_cpus"] == reserved


def test_an_end_is_told_as_what_it_was(tmp_path: Path, clock: Clock) -> None:
    no_memory = ray_exceptions.OutOfMemoryError("no memory")
    ends = (
        (75, 75, True),
        (-11, -11, True),
        (no_memory, KILLED, True),
        (no_memory, LOST, False),  # what others took: it had not begun
        (ray_exceptions.WorkerCrashedError(), LOST, True),
    )
    told = 0
    for number, (end, code, begun) in enumerate(ends):
        engine, ray = engine_of(node("a", CPU=1))
        handle = started(engine, tmp_path / str(number))
        assert handle.poll() is None
        if begun:
            (handle.log.parent / BEATS).write_text("a 0")
        ray.ended[handle.reference] = end
        assert handle.poll() == code
        told += 1
    assert told == 5


def test_a_task_that_raised_stops_the_study(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1))
    handle = started(engine, tmp_path)
    ray.ended[handle.reference] = ray_exceptions.RayTaskError(
        "make_attempt", "x\nNo module named rotbench", Exception()
    )
    with pytest.raises(EnvironmentLacking, match="No module named rotbench"):
        handle.poll()


@pytest.mark.parametrize(("code", "file"), [(0, MANIFEST), (2, ERROR), (4, ERROR)])
def test_what_a_node_wrote_is_waited_for_but_not_for_ever(tmp_path: Path, clock: Clock, code: int, file: str) -> None:
    engine, ray = engine_of(node("a", CPU=1))
    handle = started(engine, tmp_path)
    ray.ended[handle.reference] = code
    assert handle.poll() is None
    clock.now += 60
    (handle.log.parent / file).touch()
    assert handle.poll() == code
    (handle.log.parent / file).unlink()
    clock.now += 60
    assert handle.poll() == code


def test_a_node_is_lost_after_silence_and_only_then(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1))
    handle = started(engine, tmp_path)
    beats = handle.log.parent / BEATS
    clock.now += 5000  # it waits for room
    assert handle.poll() is None
    assert handle.place() is None
    for number in range(20):
        beats.write_text(f"c {number}")
        assert handle.poll() is None
        clock.now += 50
    assert handle.place() == "c"
    beats.write_text("c 20")
    for _ in range(12):
        assert handle.poll() is None
        clock.now += 10
    assert handle.poll() is None
    assert ray.cancelled == []
    clock.now += 11
    assert handle.poll() == LOST
    assert ray.cancelled == [handle.reference]
    assert not (handle.log.parent / ORDER).exists()  # it cannot be begun any more


def test_a_driver_that_was_away_does_not_take_its_own_silence_for_that_of_nodes(tmp_path: Path, clock: Clock) -> None:
    engine, _ = engine_of(node("a", CPU=1))
    handle = started(engine, tmp_path)
    (handle.log.parent / BEATS).write_text("a 1")
    assert handle.poll() is None
    clock.now += 3000
    assert handle.poll() is None
    for _ in range(13):
        clock.now += 10
        last = handle.poll()
    assert last == LOST


def test_nothing_is_started_on_a_node_in_doubt_until_it_answers(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2), node("b", CPU=1))
    assert engine.room() == 3
    engine.doubt()
    assert [name for name, _ in ray.submitted] == [answer.__name__] * 2
    assert engine.room() == 0
    ray.ended["task 2"] = None
    assert engine.room() == 1
    started(engine, tmp_path)
    assert ray.submitted[-1][1]["label_selector"] == only("b")
    ray.ended["task 1"] = None
    assert engine.room() == 3
    started(engine, tmp_path, "run.2")
    assert ray.submitted[-1][1]["label_selector"] == only("a", "b")


def test_a_node_that_cannot_write_to_the_store_any_more_is_left_out(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2), node("b", CPU=1), store=tmp_path)
    stale = OSError("Stale file handle")
    engine.doubt()
    assert engine.room() == 0  # until they have answered
    ray.ended |= {"task 1": ray_exceptions.RayTaskError("answer", f"x\n{stale}", stale), "task 2": None}
    assert engine.room() == 1
    why = f"left out: node a (aaaaaaaa) cannot write to {tmp_path} any more: Stale file handle"
    assert engine.notes() == [why]
    assert engine.notes() == []
    clock.now += 5
    assert engine.room() == 1


def test_a_node_that_cannot_make_an_attempt_is_left_out_and_it_was_no_try(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2), node("b", CPU=1), store=tmp_path)
    handles = [started(engine, tmp_path, f"run.{number}") for number in range(3)]
    for handle in handles[:2]:
        ray.ended[handle.reference] = Unable("a" * 56, "[Errno 11] Resource temporarily unavailable")
        assert handle.poll() == EXIT_STOPPED
    assert engine.notes() == ["left out: node a (aaaaaaaa) cannot train: [Errno 11] Resource temporarily unavailable"]
    assert engine.room() == 1
    ray.ended[handles[2].reference] = Unable("b" * 56, "also")
    assert handles[2].poll() == EXIT_STOPPED
    clock.now += 1
    with pytest.raises(EnvironmentLacking, match=r"no node is left: node b \(bbbbbbbb\) cannot train: also"):
        engine.room()


def test_a_cluster_without_nodes_is_waited_for(clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2), node("b", CPU=2))
    engine.roster.leave_out(node("b"), "node b cannot train")
    ray.nodes_there = [node("h")]
    clock.now += 1
    assert engine.room() == 0


def test_a_node_that_is_gone_before_ray_knows_is_given_nothing_more(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1))
    handle = started(engine, tmp_path)
    gone = ray_exceptions.NodeDiedError("gone")
    ray.ended[handle.reference] = gone
    assert handle.poll() == LOST
    for number in range(2, 6):
        assert engine.room() == 0
        ray.ended[f"task {number}"] = gone
        assert engine.room() == 0
        assert len(ray.submitted) == number  # asked again at the next look and not before
        clock.now += 1
    assert engine.room() == 0
    ray.ended["task 6"] = None  # only a process on it was
    assert engine.room() == 1
    clock.now += 1
    assert engine.room() == 1
    assert len(ray.submitted) == 6


def test_a_node_in_doubt_that_goes_holds_nothing_up(clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1))
    engine.doubt()
    ray.ended["task 1"] = None
    both = frozenset({"a" * 56, "b" * 56})
    clock.now += 100
    assert engine.should_be_asked_anew(clock.now - 101, both)
    ray.nodes_there = [node("a", CPU=1)]
    engine.room()
    assert not engine.should_be_asked_anew(clock.now - 101, both)


def test_the_end_of_ray_on_this_machine_ends_the_command(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2), node("b", CPU=1))
    engine.here = "a" * 56
    handle = started(engine, tmp_path)
    ray.ended[handle.reference] = ray_exceptions.LocalRayletDiedError()
    with pytest.raises(EnvironmentLacking, match="Ray on this machine has ended"):
        handle.poll()
    assert engine.room() == 3
    ray.nodes_there = [node("b", CPU=1)]
    clock.now += 1
    with pytest.raises(EnvironmentLacking, match="Ray on this machine has ended"):
        engine.room()


def inspected(name: str, **other: Any) -> Inspected:
    return Inspected(**{"name": name, "sees": True, "refused": "", "lacks": (), "versions": versions(), **other})


def test_a_node_that_joins_is_asked_and_prepared_before_it_is_given_anything(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text('{"plugins": []}')
    preparation = engine.prepare(tmp_path)
    ended(ray, tmp_path, "task 1", "cpu")
    assert preparation.poll() == 0
    ray.nodes_there += [node("b", CPU=2), node("c")]  # one of them without room
    clock.now += 1
    assert engine.room() == 1
    assert ray.submitted[-1][0] == "inspect"
    assert len(list(tmp_path.glob(f"{SEEN}*"))) == 1
    ray.ended["task 2"] = inspected("b")
    clock.now += 1
    assert engine.room() == 1
    assert ray.submitted[-1][0] == "prepare"
    part = tmp_path / ("b" * 56)
    assert json.loads((part / "request.json").read_text()) == {"plugins": [], "lay_out": False}
    started(engine, tmp_path)
    assert ray.submitted[-1][1]["label_selector"] == only("a")
    ended(ray, part, "task 3", "cpu")
    clock.now += 1
    assert engine.room() == 3
    assert engine.notes() == ["node b (bbbbbbbb) has joined"]
    started(engine, tmp_path, "run.2")
    assert ray.submitted[-1][1]["label_selector"] == only("a", "b")
    assert list(tmp_path.glob(f"{SEEN}*")) == []


def ended(ray: StandIn, part: Path, task: Reference, device: str) -> None:
    """A preparation ends well, on a node with that device."""
    ray.ended[task] = 0
    (part / RESOLVED).write_text(json.dumps({"device": device, "precisions": {"auto": "bf16", "fp32": "fp32"}}))


def prepared_engine(store: Path) -> tuple[RayEngine, StandIn]:
    """An engine whose one node has prepared."""
    engine, ray = engine_of(node("a", CPU=1), store=store)
    (store / "request.json").write_text("{}")
    preparation = engine.prepare(store)
    ended(ray, store, "task 1", "cpu")
    assert preparation.poll() == 0
    return engine, ray


UNFIT: dict[str, tuple[Any, Any, str]] = {
    "without the store": (inspected("b", sees=False, refused="no"), None, "does not see"),
    "that may not write": (
        inspected("b", refused="Read-only file system"),
        None,
        ": Read-only file system. Give a folder",
    ),
    "without a plugin": (inspected("b", lacks=("/x/mine.py",)), None, "does not have /x/mine.py as it is here"),
    "of another version": (inspected("b", versions={**versions(), "torch": "1.0"}), None, "has torch 1.0"),
    "that says nothing": (None, None, "does not answer"),
    "without rotbench": (
        ray_exceptions.RayTaskError("inspect", "x\nNo module named rotbench", Exception()),
        None,
        "cannot run rotbench: No module named rotbench",
    ),
    "without the data": (inspected("b"), EnvironmentLacking("no CIFAR-10 here", "Fetch it."), "no CIFAR-10 here"),
    "that dies": (inspected("b"), -9, "could not prepare the data: it ended with -9"),
    "that computes otherwise": (inspected("b"), "cuda", "would train on cuda in bf16, fp32, node a (aaaaaaaa) on cpu"),
    "with too old a driver": (
        inspected("b"),
        ray_exceptions.RayTaskError("prepare", "x\nno driver", Exception()),
        "no driver",
    ),
}


@pytest.mark.parametrize("which", UNFIT)
def test_a_node_that_joins_and_is_not_fit_is_left_out_once_and_told(tmp_path: Path, clock: Clock, which: str) -> None:
    said, prepared, why = UNFIT[which]
    engine, ray = prepared_engine(tmp_path)
    ray.nodes_there.append(node("b", CPU=2))
    clock.now += 1
    engine.room()
    if said is None:
        clock.now += 61
    else:
        ray.ended["task 2"] = said
    clock.now += 1
    engine.room()
    part = tmp_path / ("b" * 56)
    if isinstance(prepared, str):
        ended(ray, part, "task 3", prepared)
    elif isinstance(prepared, EnvironmentLacking):
        ray.ended["task 3"] = leave_error(part, prepared)
    elif prepared is not None:
        ray.ended["task 3"] = prepared
    for _ in range(3):
        clock.now += 1
        assert engine.room() == 1
    (note,) = engine.notes()
    assert note.startswith("left out: ")
    assert why in note
    assert list(tmp_path.glob(f"{SEEN}*")) == []


def test_a_node_that_is_lost_while_it_prepares_is_done_without(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text("{}")
    preparation = engine.prepare(tmp_path)
    ray.ended["task 1"] = ray_exceptions.NodeDiedError("gone")
    assert preparation.poll() is None
    ended(ray, tmp_path / ("b" * 56), "task 2", "cpu")
    assert preparation.poll() == 0
    assert engine.notes() == ["left out: node a (aaaaaaaa) was lost"]
    ray.ended |= {"task 3": ray_exceptions.NodeDiedError("gone"), "task 4": None}  # whether they are there
    assert engine.room() == 1
    only_one = engine.prepare(tmp_path)
    ray.ended["task 5"] = ray_exceptions.NodeDiedError("gone")
    assert only_one.poll() == EnvironmentLacking.exit_code


def test_nodes_that_would_compute_otherwise_are_told_before_anything_is_trained(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text("{}")
    preparation = engine.prepare(tmp_path)
    ended(ray, tmp_path, "task 1", "cuda")
    ended(ray, tmp_path / ("b" * 56), "task 2", "cpu")
    assert preparation.poll() == BadInput.exit_code
    error = left_error(tmp_path)
    assert error is not None
    told = "node b (bbbbbbbb) would train on cpu in bf16, fp32, node a (aaaaaaaa) on cuda in bf16, fp32"
    assert (type(error), error.what) == (BadInput, told)


def test_a_node_that_goes_while_it_joins_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    engine, ray = prepared_engine(tmp_path)
    ray.nodes_there.append(node("b", CPU=2))
    clock.now += 1
    engine.room()
    ray.nodes_there.pop()
    clock.now += 1
    engine.room()
    assert list(tmp_path.glob(f"{SEEN}*")) == []
    ray.nodes_there.append(node("c", CPU=2))
    clock.now += 1
    engine.room()
    ray.ended["task 3"] = inspected("c")
    clock.now += 1
    engine.room()
    ray.nodes_there.pop()
    clock.now += 1
    assert engine.room() == 1
    assert ray.cancelled == ["task 4"]
    assert engine.notes() == []


def test_what_an_earlier_preparation_left_is_not_taken_for_that_of_this_one(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text("{}")
    ended(ray, tmp_path, "none", "cuda")
    leave_error(tmp_path, BadInput("before", "Mend it."))
    (tmp_path / BEATS).write_text("a 7")
    preparation = engine.prepare(tmp_path)
    assert not preparation.begun()
    ray.ended["task 1"] = 0
    assert preparation.poll() is None  # what it came to is not there yet
    assert left_error(tmp_path) is None


def test_a_node_that_joins_first_waits_until_the_first_ones_have_prepared(tmp_path: Path, clock: Clock) -> None:
    """Or it would say what device the others must have."""
    engine, ray = engine_of(node("a", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text("{}")
    preparation = engine.prepare(tmp_path)
    ray.nodes_there.append(node("b", CPU=1))
    clock.now += 1
    engine.room()
    ray.ended["task 2"] = inspected("b")
    for _ in range(3):
        clock.now += 1
        assert engine.room() == 1
    assert [name for name, _ in ray.submitted] == ["prepare", "inspect"]
    ended(ray, tmp_path, "task 1", "cpu")
    assert preparation.poll() == 0
    clock.now += 1
    engine.room()
    ended(ray, tmp_path / ("b" * 56), "task 3", "cuda")
    clock.now += 1
    engine.room()
    assert "node b (bbbbbbbb) would train on cuda" in engine.notes()[0]


def test_where_no_node_is_left_to_prepare_the_next_one_does(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text("{}")
    ray.nodes_there = []
    preparation = engine.prepare(tmp_path)
    assert preparation.poll() is None
    ray.nodes_there = [node("b", CPU=1), node("c", CPU=1)]
    clock.now += 1
    engine.room()
    ray.ended |= {"task 1": inspected("b"), "task 2": inspected("c")}
    clock.now += 1
    engine.room()
    assert preparation.poll() is None
    ended(ray, tmp_path / ("b" * 56), "task 3", "cpu")
    clock.now += 1
    assert engine.room() == 1
    assert preparation.poll() == 0
    ended(ray, tmp_path / ("c" * 56), "task 4", "cpu")  # while the first runs are trained
    clock.now += 1
    assert engine.room() == 2


@pytest.mark.parametrize("how", ["gone", "frozen"])
def test_a_preparation_that_never_begins_is_lost(tmp_path: Path, clock: Clock, how: str) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1), store=tmp_path)
    (tmp_path / "request.json").write_text("{}")
    preparation = engine.prepare(tmp_path)
    ended(ray, tmp_path, "task 1", "cpu")
    clock.now += 100
    assert preparation.poll() is None  # a slow start
    if how == "gone":
        ray.nodes_there = [node("a", CPU=1)]
        engine.room()
    else:
        clock.now += 21
    assert preparation.poll() == 0
    assert engine.notes() == ["left out: node b (bbbbbbbb) was lost"]


def test_what_has_waited_is_asked_for_again_once_a_node_has_come(tmp_path: Path, clock: Clock) -> None:
    engine, _ = engine_of(node("a", CPU=1), node("b", CPU=1))
    engine.roster.fit.discard("b" * 56)
    engine.roster._left_out.add("b" * 56)
    waiting = started(engine, tmp_path)
    clock.now += 60
    assert waiting.poll() is None
    later = started(engine, tmp_path, "run.2")
    engine.roster.fit.add("b" * 56)
    assert later.poll() is None  # it may be starting just now
    assert waiting.poll() == EXIT_STOPPED
    (later.log.parent / BEATS).write_text("a 0")
    clock.now += 60
    assert later.poll() is None  # it has begun


def test_what_waits_for_nodes_that_are_gone_is_asked_for_again(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1))
    waiting = started(engine, tmp_path)
    ray.nodes_there = [node("a", CPU=1)]
    clock.now += 1
    engine.room()
    assert waiting.poll() is None
    ray.nodes_there = []
    clock.now += 1
    engine.room()
    assert waiting.poll() == EXIT_STOPPED
    assert ray.cancelled == [waiting.reference]


def test_what_may_wait_for_a_frozen_node_is_asked_for_again(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1))
    waiting = started(engine, tmp_path)
    clock.now += 1
    engine.doubt()
    clock.now += 5
    later = started(engine, tmp_path, "run.2")
    assert waiting.poll() is None  # a node may take a moment to answer
    clock.now += 6
    assert waiting.poll() == EXIT_STOPPED
    assert later.poll() is None
    assert ray.cancelled == [waiting.reference]


def test_what_waits_long_has_all_nodes_asked(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=1), node("b", CPU=1))
    waiting = started(engine, tmp_path)
    clock.now += 121
    assert waiting.poll() is None
    assert [name for name, _ in ray.submitted[1:]] == [answer.__name__] * 2
    ray.ended |= {"task 2": None, "task 3": None}  # all are there: others use them
    clock.now += 30
    assert waiting.poll() is None
    assert ray.cancelled == []
    clock.now += 121
    assert waiting.poll() is None
    ray.ended["task 5"] = None
    clock.now += 11
    assert waiting.poll() == EXIT_STOPPED


def test_the_room_is_what_whole_runs_fit_into(clock: Clock) -> None:
    engine, _ = engine_of(node("a", CPU=32, GPU=4), node("b", CPU=3, GPU=1), node("c", CPU=64), gpus=0.25)
    assert engine.room() == 16 + 3 + 0
    engine, _ = engine_of(node("a", CPU=32, GPU=4), gpus=0.6)
    assert engine.room() == 4
    engine, _ = engine_of(node("a", CPU=32, GPU=5), gpus=2.0)
    assert engine.room() == 2
    engine, _ = engine_of(node("a", CPU=1), cpus=0.1)
    assert engine.room() == 10


def test_a_head_that_refuses_now_and_then_is_there(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = engine_of(node("a", CPU=2))
    answers = iter([False, True] * 5)

    def connect(address: str) -> None:
        if not next(answers):
            raise ConnectionRefusedError

    monkeypatch.setattr("rotbench.ray_engine.connect", connect)
    rooms = []
    for _ in range(10):
        clock.now += 1
        rooms.append(engine.room())
    assert rooms == [0, 2] * 5


@pytest.mark.parametrize(("error", "seconds"), [(TimeoutError, 29), (ConnectionRefusedError, 1)])
def test_a_head_that_does_not_answer_is_given_time_and_one_that_refuses_twice_is_gone(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, error: type[OSError], seconds: float
) -> None:
    engine, _ = engine_of(node("a", CPU=2))
    assert engine.room() == 2

    def gone(address: str) -> None:
        raise error

    monkeypatch.setattr("rotbench.ray_engine.connect", gone)
    clock.now += 2
    engine.head = "head:6379"
    assert engine.room() == 0
    assert engine.room() == 0
    assert engine.notes() == ["the head of the Ray cluster at head:6379 does not answer; waiting for it"]
    clock.now += seconds
    with pytest.raises(EnvironmentLacking, match="head of the Ray cluster"):
        engine.room()


@pytest.mark.parametrize(
    ("resources", "device", "has_gpus", "expected"),
    [
        (Resources(), "auto", False, (1, 0)),
        (Resources(threads=4), "cpu", True, (4, 0)),
        (Resources(), "auto", True, (1, 1)),
        (Resources(), "cuda", False, (1, 1)),
        (Resources(cpus=2, gpus=0.25), "auto", True, (2, 0.25)),
        (Resources(gpus=0), "auto", True, (1, 0)),
        (Resources(cpus=1.5, gpus=2), "auto", True, (1.5, 2)),
    ],
)
def test_what_a_run_reserves(resources: Resources, device: str, has_gpus: bool, expected: tuple[float, float]) -> None:
    assert reserved(resources, device, has_gpus) == expected


@pytest.mark.parametrize("resources", [Resources(gpus=1.5), Resources(gpus=0.00001), Resources(cpus=0.00001)])
def test_what_ray_cannot_hand_out_is_refused(resources: Resources) -> None:
    with pytest.raises(BadInput, match=r"\[resources\] [cg]pus = \S+ cannot be had from Ray"):
        reserved(resources, "cpu", False)


def test_ray_chooses_the_gpu() -> None:
    with pytest.raises(BadInput, match="--device cuda:1: which GPU"):
        reserved(Resources(), "cuda:1", True)


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("Version mismatch: The cluster was started with:\n    Ray: 2.52.0", BadInput, "has other versions"),
        ("The current node timed out during startup.", EnvironmentLacking, "no Ray cluster on this machine"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_told_as_what_it_is(said: str, kind: type[Exception], told: str) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError(said)

    with pytest.raises(kind, match=told):
        join(SimpleNamespace(init=refuse), "local", {})


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", "head:123456", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadInput, match=f"--ray-address {address}: "):
        join(SimpleNamespace(), address, {})


def test_without_ray_one_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentLacking, match="not installed") as caught:
        ray_engine(None, Resources(), "cpu", tmp_path, ()).__enter__()
    assert caught.value.todo == "pip install 'rotbench[ray]'"
