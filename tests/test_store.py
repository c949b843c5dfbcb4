"""The store: what is published is whole, first come wins, damage is seen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rotbench.checkpoint import Schedule, Stopped, committed_epochs, prune_checkpoints, save_checkpoint
from rotbench.errors import EnvironmentLacking, StoreUnusable
from rotbench.store import Damaged, Store, attempt_number, commit, read_manifest, standings, to_json, verify_folder
from rotbench.system import in_use, store_lock, write_durably
from tests.program import wait_for


def record(run_id: str = "a-s0-0123", **changes: Any) -> dict[str, Any]:
    return {
        "id": run_id,
        "kind": "downstream",
        "variant": {"init": "random"},
        "seed": 0,
        "needs": [],
        "settings": {"train": {"lr": 0.01, "epochs": 2}, "model": {"name": "resnet18"}},
        "settings_sha256": "s1",
        "plugins": [{"kind": "init", "name": "random", "sha256": "c1", "file": "inits.py"}],
        "fingerprint": "f1",
        "results_version": 1,
        **changes,
    }


def attempt(store: Store, asked: dict[str, Any], accuracy: float = 0.5) -> Path:
    folder = store.open_attempt(asked["id"], {"run": asked})
    result = {"error": None, "final": {"test_accuracy": accuracy}}
    files = {"run.json": to_json(asked), "result.json": to_json(result), "log.txt": b"epoch 1\n"}
    commit(folder, asked["id"], "done", files)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    made.create()
    return made


def test_a_published_run_is_read_back_and_holds_hashed_files_and_logs_alone(store: Store) -> None:
    folder = attempt(store, record())
    (folder / "progress.jsonl").write_text("{}")
    (folder / "worker.log").write_text("noise")
    assert store.outcome("a-s0-0123") is None
    assert store.publish(folder)
    outcome = store.outcome("a-s0-0123")
    assert outcome is not None
    assert (outcome.status, outcome.record, outcome.log) == ("done", record(), "epoch 1\n")
    assert {path.name for path in outcome.folder.iterdir()} == {
        "run.json",
        "result.json",
        "log.txt",
        "manifest.json",
        "worker.log",
    }


def test_a_second_attempt_loses(store: Store) -> None:
    first, second = attempt(store, record(), 0.5), attempt(store, record(), 0.6)
    assert (attempt_number(first), attempt_number(second)) == (1, 2)
    assert store.publish(second)
    assert not store.publish(first)
    outcome = store.outcome("a-s0-0123")
    assert outcome is not None
    assert outcome.result["final"]["test_accuracy"] == 0.6


def test_what_was_committed_is_recovered_and_what_was_not_is_thrown_away(store: Store) -> None:
    attempt(store, record("a-s0-0123"))
    store.open_attempt("b-s0-4567", {})
    assert store.recover() == []
    assert [name for name, _ in store.outcomes()] == ["a-s0-0123"]
    assert list(store.attempts.iterdir()) == []


def test_one_flipped_bit_in_any_file_is_seen_and_set_aside(store: Store) -> None:
    names = ("run.json", "result.json", "log.txt", "manifest.json")
    for number, name in enumerate(names):
        asked = record(f"a-s0-{number:012x}")
        store.publish(attempt(store, asked))
        path = store.runs / asked["id"] / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(Damaged, match=name):
            verify_folder(store.runs / asked["id"])
    told = store.recover()
    assert len(told) == len(names) == 4
    assert list(store.outcomes()) == []
    assert len(list((store.folder / "quarantine").iterdir())) == 4


def test_a_truncated_manifest_or_none_is_damage(store: Store) -> None:
    store.publish(attempt(store, record()))
    folder = store.runs / "a-s0-0123"
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:-20])
    with pytest.raises(Damaged):
        read_manifest(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(Damaged):
        store.outcome("a-s0-0123")


def test_standings_say_why(store: Store) -> None:
    store.publish(attempt(store, record()))
    changed = [{"kind": "init", "name": "random", "sha256": "c2", "file": "inits.py"}]
    lr = {"train": {"lr": 0.005, "epochs": 2}, "model": {"name": "resnet18"}}
    cases = [
        (record(), "done", ""),
        (record("x", plugins=changed), "stale", "plugin inits.py changed"),
        (record("x", fingerprint="f2"), "stale", "the data changed"),
        (record("x", results_version=2), "stale", "trained by another version of the trainer"),
        (record("x", needs=["y"]), "stale", "what it starts from is stale"),
        (record("x", settings_sha256="s2", settings=lr), "new", "lr 0.01 -> 0.005"),
        (record("x", settings_sha256="s3", seed=1), "new", ""),
    ]
    for asked, state, reason in cases:
        (standing,) = standings(store, [asked]).values()
        assert (standing.state, standing.reason) == (state, reason)
    assert len(cases) == 7


def test_a_store_of_a_newer_rotbench_is_refused(store: Store) -> None:
    assert store.read_study() is None
    store.write_study({"study": {"title": "x"}, "runs": []})
    assert store.read_study() == {"format": 1, "study": {"title": "x"}, "runs": []}
    (store.folder / "study.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(StoreUnusable, match="newer rotbench"):
        store.read_study()
    (store.folder / "study.json").write_text("{")
    with pytest.raises(StoreUnusable, match="damaged"):
        store.read_study()


def test_the_lock_names_its_owner(tmp_path: Path) -> None:
    with (
        store_lock(tmp_path),
        pytest.raises(StoreUnusable, match=r"in use by process \d+ on"),
        store_lock(tmp_path),
    ):
        pass
    assert in_use(tmp_path) is False
    with store_lock(tmp_path) as left:
        assert left == ""
        assert in_use(tmp_path)
        owner = json.loads((tmp_path / ".owner.json").read_bytes())
        # After the machine was started anew the number may be another process's.
        (tmp_path / ".owner.json").write_text(json.dumps({**owner, "boot": "another"}))
        assert not in_use(tmp_path)


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    (tmp_path / "blocked").mkdir()
    with pytest.raises(EnvironmentLacking):
        write_durably(tmp_path / "file" / "below", b"new")
    assert path.read_bytes() == b"old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "blocked"}


def test_a_new_run_is_told_apart_from_the_finished_one_that_is_most_like_it(store: Store) -> None:
    def settings(lr: float, epochs: int) -> dict[str, Any]:
        return {"train": {"lr": lr, "epochs": epochs}, "model": {"name": "resnet18"}}

    for number, (lr, epochs) in enumerate([(0.1, 2), (0.2, 9), (0.3, 2)]):
        asked = record(f"a-s0-{number:012}", settings_sha256=f"s{number}", settings=settings(lr, epochs))
        store.publish(attempt(store, asked))
    (standing,) = standings(store, [record("x", settings_sha256="new", settings=settings(0.4, 2))]).values()
    assert standing.reason == "lr 0.3 -> 0.4"  # of those that differ in one setting, the latest
    (standing,) = standings(store, [record("x", settings_sha256="new", settings=settings(0.2, 8))]).values()
    assert standing.reason == "epochs 9 -> 8"


def test_the_same_hash_is_the_same_run_whatever_the_words_before_it(store: Store) -> None:
    store.publish(attempt(store, record("random-s0-0123456789ab")))
    (standing,) = standings(store, [record("random-lr-0-01-s0-0123456789ab", variant={"lr": 0.01})]).values()
    assert (standing.state, standing.stored) == ("done", "random-s0-0123456789ab")


def test_the_manifest_is_written_after_all_that_it_tells_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the commit: what has one is whole, whatever was cut short before it."""
    written: list[str] = []

    def write(path: Path, content: bytes) -> None:
        written.append(path.name)
        write_durably(path, content)

    monkeypatch.setattr("rotbench.store.write_durably", write)
    folder = attempt(store, record())
    assert written == ["request.json", "run.json", "result.json", "log.txt", "manifest.json"]
    written.clear()
    save_checkpoint(folder, "a-s0-0123", 1, {"states.pt": b"x", "progress.json": b"y"})
    assert written == ["states.pt", "progress.json", "manifest.json"]


def test_of_many_interrupted_attempts_the_latest_two_epochs_are_kept(store: Store) -> None:
    asked = record()
    for epoch in range(1, 12):
        folder = store.open_attempt(asked["id"], {"run": asked})
        save_checkpoint(folder, asked["id"], epoch, {"states.pt": b"x"})
    assert len(committed_epochs(store, asked["id"])) == 11
    prune_checkpoints(store, asked["id"])
    assert [checkpoint.epoch for checkpoint in committed_epochs(store, asked["id"])] == [11, 10]
    # Within one attempt no more than two are ever there.
    for epoch in range(12, 20):
        save_checkpoint(folder, asked["id"], epoch, {"states.pt": b"x"})
    assert [checkpoint.epoch for checkpoint in committed_epochs(store, asked["id"])] == [19, 18, 10]


def test_a_checkpoint_is_due_when_a_twentieth_of_the_time_pays_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("rotbench.checkpoint.time.monotonic", lambda: now[0])
    folder = store.open_attempt("a-s0-0123", {"run": record()})
    schedule = Schedule(folder, "a-s0-0123", share=0.05, _last=0.0)
    saved = []

    def take() -> dict[str, bytes]:
        now[0] += 2.0  # what it costs
        saved.append(round(now[0]))
        return {"states.pt": b"x"}

    for epoch in range(1, 101):
        now[0] += 10.0
        schedule.epoch_ended(epoch, size=150_000_000, take=take)  # guessed to cost one second
    # The first once 20 seconds had passed; from then on one every 40.
    assert saved[:4] == [22, 64, 106, 148]
    assert schedule.seconds / now[0] <= 0.05
    (folder / "stop").touch()
    with pytest.raises(Stopped):
        schedule.epoch_ended(101, size=1, take=take)
    assert committed_epochs(store, "a-s0-0123")[0].epoch == 101


def test_what_is_to_be_seen_by_others_stays_until_it_is_forgotten(store: Store) -> None:
    sign, trial = store.folder / ".seen-a", store.attempts / ".seen-b"
    sign.touch()
    trial.mkdir()
    (trial / "claim").touch()
    store.recover()
    assert sign.exists()  # a node that joins just now is looking for it
    assert trial.exists()
    store.forget_signs()
    assert not sign.exists()
    assert not trial.exists()


def test_a_worker_that_outlived_its_attempt_touches_no_later_one(store: Store) -> None:
    """Frozen with its machine, say, while the command was killed and given again."""
    train = {"epochs": 3}
    asked = {"run": {**record("run"), "settings": {"train": train}}, "resume": None}
    old = store.open_attempt("run", asked)
    command = [sys.executable, str(Path(__file__).with_name("toy_worker.py")), str(store.folder), "run"]
    with subprocess.Popen(
        [*command, old.name.rpartition(".")[2]],
        env={**os.environ, "TOY_SECONDS": "0.5"},
        stdin=subprocess.PIPE,  # its end would end it
        stderr=subprocess.PIPE,
    ) as worker:
        wait_for((old / "epoch-000001" / "manifest.json").exists)
        worker.send_signal(signal.SIGSTOP)
        shutil.rmtree(old / "epoch-000001")  # or it would be kept, to go on from
        store.recover()
        assert list(store.attempts.iterdir()) == []
        new = store.open_attempt("run", asked)
        assert attempt_number(new) == attempt_number(old) == 1
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(60) == 1
        assert worker.stderr is not None
        assert b"FileNotFoundError" in worker.stderr.read()
    assert [path.name for path in store.attempts.iterdir()] == [new.name]
    assert [path.name for path in new.iterdir()] == ["request.json"]
