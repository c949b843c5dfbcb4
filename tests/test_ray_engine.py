"""How an end is told, and what is made of silence. Ray itself is stood in for: what a slow network file system and a
node that freezes at a given moment do cannot be had here in any other way.
"""

from __future__ import annotations

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
from rotbench.node import BEATS, ORDER, answer
from rotbench.ray_engine import RayEngine, RayHandle, ray_engine, reserved
from rotbench.settings import Resources
from rotbench.store import ERROR, MANIFEST

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
    monkeypatch.setattr("rotbench.ray_engine.connect", lambda address: None)
    return made


def node(letter: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": letter * 56, "Alive": True, "NodeManagerHostname": letter, "Resources": resources}


def engine_of(*nodes: dict[str, Any], cpus: float = 1.0, gpus: float = 0.0) -> tuple[RayEngine, StandIn]:
    ray = StandIn(list(nodes))
    return RayEngine(ray, cpus, gpus, silent_seconds=120.0), ray


def started(engine: RayEngine, store: Path, name: str = "run.1") -> RayHandle:
    attempt = store / "attempts" / name
    attempt.mkdir(parents=True)
    return engine.start("run", attempt, 1)


def test_a_task_reserves_what_was_asked_and_is_never_retried_by_ray(tmp_path: Path, clock: Clock) -> None:
    engine, ray = engine_of(node("a", CPU=2, GPU=1), cpus=2.0, gpus=0.25)
    started(engine, tmp_path)
    reserves = {"num_cpus": 2.0, "num_gpus": 0.25, "max_retries": 0, "scheduling_strategy": "SPREAD"}
    assert ray.submitted == [("make_attempt", reserves)]
    assert ray.arguments == [(str(tmp_path), "run", "1")]


def test_an_end_is_told_as_what_it_was(tmp_path: Path, clock: Clock) -> None:
    ends = {75: 75, -11: -11}
    raised = {ray_exceptions.OutOfMemoryError("no memory"): KILLED, ray_exceptions.WorkerCrashedError(): LOST}
    told = 0
    for number, (end, code) in enumerate({**ends, **raised}.items()):
        engine, ray = engine_of(node("a", CPU=1))
        handle = started(engine, tmp_path / str(number))
        assert handle.poll() is None
        ray.ended[handle.reference] = end
        assert handle.poll() == code
        told += 1
    assert told == 4


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
    clock.now += 1
    assert engine.room() == 1
    started(engine, tmp_path)
    assert ray.submitted[-1][1]["label_selector"] == {"ray.io/node-id": f"!in({'a' * 56})"}
    ray.ended["task 1"] = None
    clock.now += 1
    assert engine.room() == 3
    started(engine, tmp_path, "run.2")
    assert "label_selector" not in ray.submitted[-1][1]
    engine.doubt()
    started(engine, tmp_path, "run.3")
    both = {"ray.io/node-id": f"!in({'a' * 56},{'b' * 56})"}  # with a space Ray takes the first alone
    assert ray.submitted[-1][1]["label_selector"] == both


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


def test_a_head_that_does_not_answer_is_given_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = engine_of(node("a", CPU=2))
    assert engine.room() == 2

    def gone(address: str) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("rotbench.ray_engine.connect", gone)
    clock.now += 2
    assert engine.room() == 0
    clock.now += 29
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


def test_the_address_of_a_ray_client_is_refused() -> None:
    with pytest.raises(BadInput, match="ray://head:10001"):
        join(SimpleNamespace(), "ray://head:10001", {})


def test_without_ray_one_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentLacking, match="not installed") as caught:
        ray_engine(None, Resources(), "cpu", tmp_path, ()).__enter__()
    assert caught.value.todo == "pip install 'rotbench[ray]'"
