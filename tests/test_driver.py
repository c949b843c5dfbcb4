"""The driver on a toy worker: order, sharing, failures, stopping. Real training is in test_end_to_end."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rotbench.driver import MAX_ATTEMPTS, MAX_LOSSES, Ended, Orders, check_store, run_study
from rotbench.engine import LOST, Handle
from rotbench.errors import BadInput, EnvironmentLacking
from rotbench.plan import Plan, Run, make_plan
from rotbench.registry import load_registry
from rotbench.results import collect
from rotbench.source import parse_source
from rotbench.store import Store, attempt_number, run_record, standings
from rotbench.study import understand
from tests.toy_study import forked_toys, impatient, writer

STUDY = """
title = "toy"
seeds = [0, 1]
[train]
epochs = 2
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", "below"]
"""


class Heard:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.todo = -1
        self.rows = 0
        self.ends: list[tuple[str, str, str]] = []
        self.notes: list[str] = []

    def begin(self, waiting: Sequence[Run], done: int) -> None:
        self.todo = len(waiting)

    def started(self, run: Run) -> None:
        pass

    def progress(self, run: Run, entry: Mapping[str, float | None]) -> None:
        self.rows += 1

    def ended(self, run: Run, status: str, message: str) -> None:
        self.ends.append((run.id, status, message))

    def note(self, message: str) -> None:
        self.notes.append(message)


def plan(*changes: str, text: str = STUDY) -> Plan:
    study, faults = understand(parse_source(text, "toy.toml"), Path(), changes)
    return make_plan(study, faults, load_registry(), Path())


@impatient
def drive(made: Plan, store: Store, orders: Orders | None = None) -> tuple[Ended, Heard]:
    store.create()
    heard = Heard()
    ended = run_study(made, store, forked_toys(), orders or Orders(jobs=2), heard, "rotbench run", writer(store))
    return ended, heard


def trained(store: Store) -> list[str]:
    return (store.folder / "trained.txt").read_text().split()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_everything_is_trained_once_and_parents_before_children(store: Store) -> None:
    made = plan()
    ended, heard = drive(made, store)
    assert ended == Ended(done=10, planned=10, failed=0, held=0, stale=0, signal=0)
    assert sorted(trained(store)) == sorted(run.id for run in made.runs)  # the toy asserts that its parent is there
    assert heard.rows == 20
    again, heard = drive(made, store)
    assert again.done == 10
    assert heard.todo == 0
    assert len(trained(store)) == 10


class Timeline(Heard):
    """A watcher that remembers which runs were trained at the same time: the sets of ids, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[str] = []
        self.together: list[frozenset[str]] = []
        self.now: frozenset[str] = frozenset()

    def started(self, run: Run) -> None:
        self.starts.append(run.id)
        self.now |= {run.id}
        self.together.append(self.now)

    def ended(self, run: Run, status: str, message: str) -> None:
        super().ended(run, status, message)
        self.now -= {run.id}


@pytest.mark.parametrize("threads", [2, 5], ids=["all cores", "more than there are"])
def test_a_pretext_run_on_all_cores_is_trained_alone_and_first(store: Store, threads: int) -> None:
    made = plan("seeds=3", f"pretext.rotation.threads={threads}")
    watcher = Timeline()
    store.create()
    ended = run_study(made, store, forked_toys(), Orders(jobs=2), watcher, "rotbench run", writer(store))
    assert (ended.done, ended.failed) == (15, 0)
    pretexts = [run.id for run in made.runs if run.kind == "pretext"]
    assert watcher.starts[:3] == pretexts  # before random classifiers, which could start as well
    for together in watcher.together:
        assert len(together) == 1 or (len(together) == 2 and together.isdisjoint(pretexts))
    assert max(map(len, watcher.together)) == 2
    started_with = (store.folder / "threads.txt").read_text().split()
    assert sorted(started_with) == sorted([str(threads)] * 3 + ["1"] * 12)


def test_a_pretext_run_that_is_tried_again_still_has_its_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "crash@pretext-rotation-s0")
    made = plan("pretext.rotation.threads=2")
    watcher = Timeline()
    store.create()
    ended = run_study(made, store, forked_toys(), Orders(jobs=2), watcher, "rotbench run", writer(store))
    assert (ended.done, ended.failed) == (7, 3)  # it and the two that start from it
    pretexts = [run.id for run in made.runs if run.kind == "pretext"]
    assert watcher.starts[: MAX_ATTEMPTS + 1] == [pretexts[0]] * MAX_ATTEMPTS + [pretexts[1]]


@dataclass
class Scattered:
    """An engine that trains pretext runs on one machine and all else on another."""

    def prepare(self, folder: Path) -> Handle:
        return forked_toys().prepare(folder)

    def start(self, run_id: str, attempt: Path, threads: int) -> Handle:
        return Placed(
            forked_toys().start(run_id, attempt, threads), "first" if run_id.startswith("pretext") else "second"
        )

    def room(self) -> int:
        return 3

    def notes(self) -> list[str]:
        return []


@dataclass
class Placed:
    handle: Handle
    name: str

    def poll(self) -> int | None:
        return self.handle.poll()

    def begun(self) -> bool:
        return self.handle.begun()

    def place(self) -> str:
        return self.name

    def end(self) -> None:
        self.handle.end()


def test_company_is_what_is_trained_on_the_same_machine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_SECONDS", "0.3")
    noted: list[tuple[str, int]] = []
    monkeypatch.setattr("rotbench.driver.note_company", lambda attempt, n: noted.append((attempt.name, n)))
    store.create()
    run_study(plan(), store, Scattered(), Orders(jobs=None), Heard(), "rotbench run", writer(store))
    most = {kind: max(n for name, n in noted if name.startswith(kind)) for kind in ("pretext", "random", "rotation")}
    assert most == {"pretext": 2, "random": 3, "rotation": 3}
    assert noted[:4] == [(noted[0][0], 1), (noted[0][0], 2), (noted[2][0], 2), (noted[3][0], 1)]


@dataclass
class Unlucky:
    """An engine of which the first attempts come to nothing, each as is said: never begun, or ended with a code."""

    first: Sequence[int | None]
    ended: int = 0

    def prepare(self, folder: Path) -> Handle:
        return forked_toys().prepare(folder)

    def start(self, run_id: str, attempt: Path, threads: int) -> Handle:
        number = attempt_number(attempt)
        if number <= len(self.first):
            return Nothing(self, self.first[number - 1])
        return forked_toys().start(run_id, attempt, threads)

    def room(self) -> int:
        return 1

    def notes(self) -> list[str]:
        return []


@dataclass
class Nothing:
    engine: Unlucky
    code: int | None

    def poll(self) -> int | None:
        return self.code

    def begun(self) -> bool:
        return self.code is not None

    def place(self) -> str:
        return ""

    def end(self) -> None:
        self.engine.ended += 1


def drive_unlucky(store: Store, first: Sequence[int | None]) -> tuple[Ended, Unlucky, list[str]]:
    """One run on such an engine; the last are the notes that were made of it."""
    made = plan("seeds=[0]", text='title = "toy"\n[train]\nepochs = 1\n[[matrix]]\ninit = ["random"]\n')
    engine, heard = Unlucky(first), Heard()
    store.create()
    orders = Orders(jobs=None, stall_seconds=2.0)
    ended = run_study(made, store, engine, orders, heard, "rotbench run", writer(store))
    return ended, engine, [note.partition(": ")[2] for note in heard.notes]


@pytest.mark.thorough
def test_an_attempt_that_is_never_begun_is_asked_for_again_and_is_no_try(store: Store) -> None:
    ended, engine, notes = drive_unlucky(store, [None, None, None, 9])
    assert ended.done == 1
    assert engine.ended == 3
    assert notes[:3] == ["not started for 2 s; asked for again"] * 3
    assert notes[3:] == ["the worker ended with code 9 and no result; tried again"]


def test_a_lost_node_is_no_try_but_not_for_ever(store: Store, tmp_path: Path) -> None:
    ended, _, notes = drive_unlucky(store, [LOST, LOST, LOST, 9])
    assert ended.done == 1
    assert notes == ["its node or server was lost; tried again"] * 3 + [
        "the worker ended with code 9 and no result; tried again"
    ]
    ended, _, notes = drive_unlucky(Store(tmp_path / "never"), [LOST] * 100)
    assert (ended.done, ended.failed) == (0, 1)
    assert len(notes) == MAX_LOSSES + MAX_ATTEMPTS - 1
    assert collect(Store(tmp_path / "never"))["runs"][0]["error"] == "its node or server was lost, 12 times"


def test_what_is_handed_out_and_never_begun_is_not_the_runs_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nothing, "begun", lambda self: False)
    with pytest.raises(EnvironmentLacking, match=r"random-s0-\w+ was handed out 11 times and never begun"):
        drive_unlucky(store, [LOST] * 100)
    assert list(store.runs.iterdir()) == []


@dataclass
class Cluster:
    """An engine that has something to say, and after so many looks is gone."""

    looks: int = 10**9
    preparing: bool = False  # for ever
    said: list[str] = field(default_factory=list)

    def prepare(self, folder: Path) -> Handle:
        return Nothing(Unlucky(()), None) if self.preparing else forked_toys().prepare(folder)

    def start(self, run_id: str, attempt: Path, threads: int) -> Handle:
        return forked_toys().start(run_id, attempt, threads)

    def room(self) -> int:
        self.looks -= 1
        if self.looks < 0:
            raise EnvironmentLacking("the head is gone", "Run the command again.")
        return 2

    def notes(self) -> list[str]:
        said, self.said = self.said, []
        return said


def test_what_an_engine_has_to_say_is_passed_on_once(store: Store) -> None:
    store.create()
    heard = Heard()
    run_study(plan(), store, Cluster(said=["a node has joined"]), Orders(None), heard, "", writer(store))
    assert heard.notes == ["a node has joined"]


@pytest.mark.parametrize("when", ["preparing", "stopping"])
def test_an_engine_that_is_gone_ends_the_command_whatever_it_does(
    store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "hang@s0")
    store.create()
    engine, heard = Cluster(looks=20, preparing=when == "preparing"), Heard()
    if when == "stopping":
        monkeypatch.setattr(heard, "started", lambda run: os.kill(os.getpid(), signal.SIGINT))
    orders = Orders(jobs=1)
    with pytest.raises(EnvironmentLacking, match="the head is gone"):
        run_study(plan("seeds=[0]"), store, engine, orders, heard, "", writer(store))
    assert any("stopping" in note for note in heard.notes) == (when == "stopping")


def test_random_starts_do_not_wait_for_pretraining(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "fail@pretext")
    ended, heard = drive(plan(), store)
    statuses = {run_id: status for run_id, status, _ in heard.ends}
    assert sum(status == "done" for status in statuses.values()) == 4
    assert sum(status == "failed" for status in statuses.values()) == 2
    assert sum(status == "skipped" for status in statuses.values()) == 4
    assert ended.failed == 6
    results = collect(store)
    assert [run["status"] for run in results["runs"]].count("skipped") == 4
    assert all("pretext-rotation" in run["error"] for run in results["runs"] if run["status"] == "skipped")


def test_a_failed_run_is_not_trained_again_unless_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "fail@random-below")
    drive(plan(), store)
    monkeypatch.setenv("TOY_BEHAVIOUR", "")
    ended, heard = drive(plan(), store)
    assert (heard.todo, ended.failed) == (0, 2)
    ended, heard = drive(plan(), store, Orders(jobs=2, retry_failed=True))
    assert (heard.todo, ended.failed, ended.done) == (2, 0, 10)


def test_a_worker_that_dies_is_tried_once_more_and_then_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "crash@random-below")
    ended, heard = drive(plan("seeds=[0]"), store)
    (dead,) = ((run_id, message) for run_id, status, message in heard.ends if status == "failed")
    assert dead[1] == "the worker ended with code 3 and no result, 2 times"
    assert trained(store).count(dead[0]) == 2
    assert (ended.done, ended.failed) == (4, 1)


def test_fail_fast_stops_at_the_first_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "fail@pretext")
    ended, _ = drive(plan(), store, Orders(jobs=1, fail_fast=True))
    assert (ended.done, ended.failed) == (0, 1)


def test_a_changed_setting_is_a_new_run_and_the_old_one_stays(store: Store) -> None:
    drive(plan(), store)
    ended, heard = drive(plan("train.lr=0.5"), store)
    assert (heard.todo, ended.done) == (10, 10)
    _, heard = drive(plan(), store)
    assert heard.todo == 0


def test_another_study_is_refused_before_anything_is_written(store: Store) -> None:
    drive(plan(), store)
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    another = STUDY.replace("toy", "another").replace("epochs = 2", "epochs = 3")
    with pytest.raises(BadInput, match="another study"):
        check_store(plan(text=another), store)
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before


def test_a_title_that_was_corrected_is_the_same_study(store: Store) -> None:
    drive(plan(), store)
    made = plan(text=STUDY.replace("toy", "corrected").replace("[0, 1]", "[1, 2]"))
    check_store(made, store)
    _, heard = drive(made, store)
    assert heard.todo == 5
    assert collect(store)["study"]["title"] == "corrected"
    # By its probes too, and a study of which everything changed but the title is still the same.
    check_store(plan(text=STUDY.replace("toy", "corrected").replace("epochs = 2", "epochs = 3")), store)


@pytest.mark.thorough
def test_the_number_of_jobs_does_not_change_results(tmp_path: Path) -> None:
    made = plan()
    for jobs in (1, 2):
        drive(made, Store(tmp_path / str(jobs)), Orders(jobs=jobs))
    first, second = (collect(Store(tmp_path / str(jobs))) for jobs in (1, 2))
    assert first == second
    assert (tmp_path / "1" / "results.json").read_bytes() == (tmp_path / "2" / "results.json").read_bytes()


def own_plugin(folder: Path, more: str = "") -> Path:
    """A folder with a pretext task ``mine``; ``more`` changes its code and nothing that it does."""
    folder.mkdir(exist_ok=True)
    code = (Path(__file__).parent.parent / "plugins" / "rotation.py").read_text().replace('"rotation"', '"mine"')
    (folder / "mine.py").write_text(code + more)
    return folder


def plan_with(folder: Path, text: str, *changes: str) -> Plan:
    study, faults = understand(parse_source(text, "toy.toml"), Path(), changes)
    return make_plan(study, faults, load_registry([folder]), Path())


CHAIN = """
title = "chain"
seeds = [0]
[train]
epochs = 2
[pretext.A]
task = "mine"
[[matrix]]
init = ["random", "A"]
"""


def test_what_starts_from_a_stale_run_however_far_waits_and_is_told(store: Store, tmp_path: Path) -> None:
    drive(plan_with(own_plugin(tmp_path / "p"), CHAIN), store)
    own_plugin(tmp_path / "p", "# changed\n")
    longer = CHAIN.replace('[[matrix]]\ninit = ["random", "A"]', '[pretext.B]\ntask = "mine"\ninit = "A"\n') + (
        '[[matrix]]\ninit = ["random", "A", "B"]\n'
    )
    made = plan_with(tmp_path / "p", longer)
    ended, heard = drive(made, store)
    # A and what started from it are stale; B and what starts from that are new and cannot be trained beside them.
    assert (heard.todo, ended.stale, ended.held, ended.failed) == (0, 2, 2, 0)
    assert any("they wait for a stale pretext run: 2 runs" in note for note in heard.notes)
    ended, heard = drive(made, store, Orders(jobs=2, rerun_stale=True))
    assert (heard.todo, ended.done, ended.held, ended.stale) == (4, 5, 0, 0)


def test_a_plugin_that_failed_and_was_mended_is_trained_without_being_asked_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "fail@pretext")
    ended, _ = drive(plan_with(own_plugin(tmp_path / "p"), CHAIN), store)
    assert (ended.done, ended.failed) == (1, 2)
    ended, heard = drive(plan_with(tmp_path / "p", CHAIN), store)
    assert (heard.todo, ended.failed) == (0, 2)  # the same code would fail again
    monkeypatch.setenv("TOY_BEHAVIOUR", "")
    made = plan_with(own_plugin(tmp_path / "p", "# mended\n"), CHAIN)
    standing = standings(store, [run_record(run) for run in made.runs])
    assert [(stands.state, stands.reason) for stands in standing.values()] == [
        ("new", "plugin mine.py changed since it failed"),
        ("done", ""),
        ("new", ""),
    ]
    ended, heard = drive(made, store)
    assert (heard.todo, ended.done, ended.failed, ended.stale, ended.held) == (2, 3, 0, 0, 0)
    assert [run["status"] for run in collect(store)["runs"]] == ["done"] * 3


def test_fail_fast_stops_at_failures_of_this_command_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "fail@pretext")
    drive(plan("seeds=[0]"), store)
    monkeypatch.setenv("TOY_BEHAVIOUR", "")
    more = plan(text=STUDY.replace('freeze = ["none", "below"]', 'freeze = ["none", "below", "head-only"]'))
    ended, heard = drive(more, store, Orders(jobs=2, fail_fast=True))
    statuses = [status for _, status, _ in heard.ends]
    # Seed 0's pretext run stays failed, so three runs are skipped at once; all else is trained.
    assert (statuses.count("skipped"), statuses.count("done"), statuses.count("failed")) == (3, 1 + 1 + 6, 0)
    assert ended.failed == 1 + 3


def test_a_variant_that_is_written_in_another_way_is_the_run_that_it_was(store: Store) -> None:
    text = 'title = "toy"\nseeds = [0]\n[train]\nlr = 0.001\n[[matrix]]\ninit = ["random"]\n'
    drive(plan(text=text), store)
    moved = text.replace("[train]\nlr = 0.001\n", "") + "lr = [0.001, 0.01]\n"
    ended, heard = drive(plan(text=moved), store)
    assert (heard.todo, ended.done, ended.stale) == (1, 2, 0)
    assert [run["status"] for run in collect(store)["runs"]] == ["done", "done"]


@pytest.mark.parametrize("there", ["runs/tensorboard/events", "attempts/mine/data.txt", "report.html"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(store: Store, there: str) -> None:
    (store.folder / there).parent.mkdir(parents=True)
    (store.folder / there).write_text("precious")
    with pytest.raises(BadInput, match="no results folder of rotbench"):
        check_store(plan(), store)
    assert (store.folder / there).read_text() == "precious"


def test_a_store_without_its_study_file_goes_on(store: Store) -> None:
    drive(plan(), store)
    for name in ("study.json", "results.json"):
        (store.folder / name).unlink()
    check_store(plan(), store)
    _, heard = drive(plan(), store)
    assert heard.todo == 0


def test_seeds_that_follow_a_look_at_results_are_on_record(store: Store) -> None:
    drive(plan(), store)
    assert collect(store)["study"]["looks"] == []
    more = plan(text=STUDY.replace("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    drive(more, store)
    assert collect(store)["study"]["looks"] == [[0, 1]]
    drive(more, store)
    assert collect(store)["study"]["looks"] == [[0, 1]]
