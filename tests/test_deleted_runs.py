"""Finished pretext runs that were deleted, with or without their records, to save disk space."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rotbench.driver import Ended, Orders, report_writer, run_study, standing_of
from rotbench.plan import Plan, make_plan
from rotbench.registry import load_registry
from rotbench.results import collect
from rotbench.store import Store
from tests.program import rotbench
from tests.test_driver import Heard, own_plugin, plan, plan_with, trained
from tests.toy_study import forked_toys, impatient

pytestmark = pytest.mark.usefixtures("none_drawn")

STUDY = """
title = "toy"
seeds = [0]
[train]
epochs = 3
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
"""
MORE = f'{STUDY}freeze = ["none", "below"]\n'
PROBED = f"{STUDY}[probes]\nepochs = [1, 2]\n"

HOW = ("weights", "whole")
REASON = {"weights": "weights deleted; nothing needs them", "whole": "deleted; nothing needs its weights"}


@impatient
def drive(made: Plan, store: Store, orders: Orders | None = None) -> tuple[Ended, Heard]:
    """One command on toy workers that renders no report."""
    store.create()
    heard = Heard()
    ended = run_study(made, store, forked_toys(), orders or Orders(jobs=2), heard, "rotbench run", lambda: None)
    return ended, heard


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("study") / "results")
    drive(plan(text=STUDY), store)
    return store.folder


@pytest.fixture
def finished(trained_once: Path, store: Store) -> Store:
    """A store in which ``STUDY`` is done."""
    shutil.copytree(trained_once, store.folder)
    return store


def delete(store: Store, how: str, name: str = "pretext-rotation-*") -> dict[str, bytes]:
    """Delete a pretext run's weights or its whole folder; returns the weights."""
    (folder,) = store.runs.glob(name)
    kept = {path.name: path.read_bytes() for path in folder.glob("backbone*.safetensors")}
    assert kept
    if how == "whole":
        shutil.rmtree(folder)
    else:
        for weights in kept:
            (folder / weights).unlink()
    return kept


def states(made: Plan, store: Store, orders: Orders | None = None) -> list[tuple[str, str]]:
    return [(s.state, s.reason) for s in standing_of(made, store, orders or Orders(jobs=1)).values()]


def nothing_is_trained(made: Plan, store: Store, orders: Orders | None = None) -> Heard:
    before = {path: path.read_bytes() for path in store.runs.rglob("*") if path.is_file()}
    count = len(trained(store))
    ended, heard = drive(made, store, orders)
    assert (heard.todo, ended.failed, ended.held, ended.done) == (0, 0, 0, len(made.everything))
    assert len(trained(store)) == count
    assert not (store.folder / "quarantine").exists()
    assert {path: path.read_bytes() for path in store.runs.rglob("*") if path.is_file()} == before
    return heard


@pytest.mark.parametrize("how", HOW)
def test_weights_that_nothing_needs_are_not_trained_again(finished: Store, how: str) -> None:
    store, made = finished, plan(text=STUDY)
    delete(store, how)
    assert states(made, store) == [("done", REASON[how]), ("done", ""), ("done", "")]
    nothing_is_trained(made, store)
    pretext, *others = collect(store)["runs"]
    assert [run["status"] for run in others] == ["done", "done"]
    assert (pretext["status"], len(pretext["history"])) == (("done", 3) if how == "weights" else ("missing", 0))
    assert pretext["error"] == (None if how == "weights" else REASON[how])
    report_writer(store)()
    assert pretext["id"] in (store.folder / "report.html").read_text()


@pytest.mark.parametrize("how", HOW)
def test_weights_that_a_new_run_needs_are_trained_again_to_the_bit(finished: Store, how: str) -> None:
    store = finished
    weights = delete(store, how)
    made = plan(text=MORE)
    assert states(made, store) == [("new", "weights were deleted"), *[("done", ""), ("new", "")] * 2]
    done = {path.name: (path / "manifest.json").read_bytes() for path in store.runs.iterdir()}
    ended, heard = drive(made, store)
    assert (heard.todo, ended.done, ended.stale) == (3, 5, 0)
    (folder,) = store.runs.glob("pretext-rotation-*")
    assert {path.name: path.read_bytes() for path in folder.glob("backbone*")} == weights
    kept = {name: (store.runs / name / "manifest.json").read_bytes() for name in done}
    assert {name: content for name, content in kept.items() if not name.startswith("pretext")} == {
        name: content for name, content in done.items() if not name.startswith("pretext")
    }
    nothing = states(made, store)
    assert nothing == [("done", "")] * 5


@pytest.mark.parametrize("how", HOW)
def test_a_run_that_is_not_selected_needs_nothing(finished: Store, how: str) -> None:
    store = finished
    delete(store, how)
    study = plan(text=MORE).study

    def only(*conditions: str) -> Plan:
        return make_plan(study, (), load_registry(), Path(), conditions)

    made = only("freeze=none")
    assert states(made, store)[0] == ("done", REASON[how])
    ended, heard = drive(made, store)
    assert (heard.todo, ended.failed, len(trained(store))) == (0, 0, 3)
    ended, heard = drive(only("init=random"), store)
    assert (heard.todo, len(trained(store))) == (1, 4)
    made = only("freeze=below")
    assert states(made, store)[0] == ("new", "weights were deleted")
    ended, heard = drive(made, store)
    assert (heard.todo, ended.done) == (2, 5)


@pytest.mark.parametrize("how", HOW)
def test_a_retry_needs_the_weights(store: Store, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "fail@rotation-below")
    made = plan(text=MORE)
    drive(made, store)
    monkeypatch.setenv("TOY_BEHAVIOUR", "")
    delete(store, how)
    assert states(made, store)[0] == ("done", REASON[how])
    ended, heard = drive(made, store)
    assert (heard.todo, ended.failed, len(trained(store))) == (0, 1, 5)
    orders = Orders(jobs=2, retry_failed=True)
    assert states(made, store, orders)[0] == ("new", "weights were deleted")
    ended, heard = drive(made, store, orders)
    assert (heard.todo, ended.failed, ended.done) == (2, 0, 5)


@pytest.mark.parametrize("how", HOW)
def test_stale_runs_need_the_weights_once_they_are_trained_again(store: Store, tmp_path: Path, how: str) -> None:
    text = STUDY.replace('task = "rotation"', 'task = "mine"')
    drive(plan_with(own_plugin(tmp_path / "p"), text), store)
    delete(store, how)
    made = plan_with(own_plugin(tmp_path / "p", "# changed\n"), text)
    expected = ("stale", "plugin mine.py changed") if how == "weights" else ("done", REASON[how])
    # The child of what is stale is stale for the same reason: its pretext run has another identity.
    assert states(made, store) == [expected, ("done", ""), ("stale", "what it starts from is stale")]
    nothing_is_trained(made, store)
    orders = Orders(jobs=2, rerun_stale=True)
    ended, heard = drive(made, store, orders)
    assert (heard.todo, ended.done, ended.stale) == (2, 3, 0)


@pytest.mark.parametrize("how", HOW)
def test_pretext_runs_that_start_from_one_another_are_trained_again_as_far_as_needed(store: Store, how: str) -> None:
    text = STUDY.replace("[[matrix]]", '[pretext.second]\ntask = "rotation"\ninit = "rotation"\n[[matrix]]')
    text = text.replace('"random", "rotation"]', '"second"]')
    drive(plan(text=text), store)
    delete(store, how)
    nothing_is_trained(plan(text=text), store)
    made = plan(text=f'{text}freeze = ["none", "below"]\n')
    assert [state for state, _ in states(made, store)] == ["done", "done", "done", "new"]
    delete(store, how, "pretext-second-*")
    nothing_is_trained(plan(text=text), store)
    assert states(made, store)[:2] == [("new", "weights were deleted")] * 2
    ended, heard = drive(made, store)
    assert (heard.todo, ended.done) == (3, 4)


def test_a_pretext_run_that_nothing_needs_is_trained_when_it_was_deleted(store: Store) -> None:
    text = 'title = "toy"\nseeds = [0]\n[train]\nepochs = 2\n[pretext.rotation]\ntask = "rotation"\n'
    text += '[[matrix]]\ninit = ["random"]\n'
    made = plan(text=text)
    drive(made, store)
    delete(store, "weights")
    nothing_is_trained(made, store)
    shutil.rmtree(next(store.runs.glob("pretext-*")))
    assert states(made, store)[0] == ("new", "")
    _, heard = drive(made, store)
    assert heard.todo == 1


def test_weights_of_earlier_epochs_are_needed_by_probes_of_these_alone(store: Store) -> None:
    made = plan(text=PROBED)
    drive(made, store)
    (folder,) = store.runs.glob("pretext-rotation-*")
    (folder / "backbone-epoch-000001.safetensors").unlink()
    assert states(made, store)[0] == ("done", REASON["weights"])
    nothing_is_trained(made, store)
    # The last epoch's weights are there: a new downstream run needs no others.
    more = plan(text=PROBED.replace("[probes]", 'freeze = ["none", "below"]\n[probes]'))
    assert states(more, store)[0] == ("done", REASON["weights"])
    drive(more, store)
    (probe,) = [run for run in made.probes if run.settings["probe"]["epoch"] == 1]
    shutil.rmtree(store.runs / probe.id)
    assert states(more, store)[0] == ("new", "weights were deleted")
    ended, heard = drive(more, store)
    assert (heard.todo, ended.done) == (2, len(more.everything))
    assert (store.runs / folder.name / "backbone-epoch-000001.safetensors").exists()


def test_epochs_that_were_not_kept_are_trained_again_for_their_probes(finished: Store) -> None:
    store = finished
    made = plan(text=PROBED)
    assert states(made, store)[0] == ("new", "epochs: weights of 1, 2 were not kept")
    drive(made, store)
    assert states(made, store)[0] == ("done", "")


@pytest.mark.parametrize("name", ["result.json", "log.txt", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_any_other_damage_is_damage(finished: Store, name: str, damage: str) -> None:
    store = finished
    delete(store, "weights")
    (folder,) = store.runs.glob("pretext-rotation-*")
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(b"other")
    (told,) = store.recover()
    assert f"{name} " in told
    assert (store.folder / "quarantine").exists()


def test_weights_that_are_there_and_damaged_are_damage(finished: Store) -> None:
    store = finished
    (folder,) = store.runs.glob("pretext-rotation-*")
    (folder / "backbone.safetensors").write_bytes(b"other")
    (told,) = store.recover()
    assert "backbone.safetensors does not have the hash" in told


def test_an_attempt_without_its_weights_is_not_published(finished: Store) -> None:
    store = finished
    (folder,) = store.runs.glob("pretext-rotation-*")
    attempt = folder.rename(store.attempts / f"{folder.name}.1-00000000")
    (attempt / "backbone.safetensors").unlink()
    (told,) = store.recover()
    assert "the attempt is not used" in told


@pytest.mark.thorough
def test_the_commands_agree_that_nothing_is_to_be_trained(finished: Store, tmp_path: Path) -> None:
    store = finished
    (tmp_path / "study.toml").write_text(STUDY)
    for how in HOW:
        delete(store, how) if how == "weights" else shutil.rmtree(next(store.runs.glob("pretext-*")))
        planned = rotbench(tmp_path, "plan", "study.toml", "--json")
        rows = json.loads(planned.stdout)["runs"]
        assert [row["state"] for row in rows] == ["done"] * 3
        assert (rows[0]["reason"], rows[0]["estimated_seconds"]) == (REASON[how], 0.0)
        assert "nothing to train" in rotbench(tmp_path, "plan", "study.toml").stdout
        done = rotbench(tmp_path, "run", "study.toml")
        assert done.returncode == 0, done.stderr
        assert not (store.attempts / "prepare").exists() or not any(store.attempts.glob("*.*"))
        verified = rotbench(tmp_path, "verify", "--out", "results")
        assert ("; 1 kept without their weights" in verified.stdout) == (how == "weights"), verified.stderr
        assert f"{3 if how == 'weights' else 2} runs, every file as it was committed" in verified.stdout
    assert len(trained(store)) == 3
