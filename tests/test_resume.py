"""Real training that is killed and goes on: the weights, the numbers and the page are those of one that was not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rotbench.attempt import snapshot_if_there
from rotbench.checkpoint import committed_epochs
from rotbench.driver import Orders, report_writer, run_study
from rotbench.plan import Plan, make_plan
from rotbench.price import Paces
from rotbench.registry import load_registry
from rotbench.source import parse_source
from rotbench.store import Store, attempt_number
from rotbench.study import understand
from rotbench.terminal import Lines, Outlook
from rotbench.warm_engine import WarmEngine
from tests.few_images import DATASET, write_images
from tests.program import ROOT, command, wait_for
from tests.shared_studies import made_once

STUDY = (
    """
title = "Killed"
[train]
epochs = 5
batch_size = 64
lr = 0.001
[pretext.rotation]
task = "rotation"
epochs = 1
[[matrix]]
init = ["rotation"]
labels_per_class = 20
updates = "epochs"
"""
    + DATASET
)


def weights(folder: Path) -> dict[str, bytes]:
    """The weights and predictions of every run."""
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.glob("runs/*/*.safetensors")}


def told(folder: Path) -> list[dict[str, Any]]:
    """The runs of results.json without what a clock measured."""
    runs = json.loads((folder / "results.json").read_text())["runs"]
    for run in runs:
        for name in ("train_seconds", "images_per_second"):
            run.pop(name)
        run["log"] = re.sub(r" [\d.]+ s$", "", run["log"], flags=re.MULTILINE)
        for row in run["history"]:
            row.pop("seconds")
    return list(runs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        (folder / "study.toml").write_text(STUDY)
        write_images(folder)
        assert command(folder, "run", "study.toml").returncode == 0
        assert len(weights(folder / "results")) == 2

    return made_once(tmp_path_factory, "undisturbed", make) / "results"


@pytest.fixture(scope="module")
def killed() -> Iterator[WarmEngine]:
    """Workers of which the first to train the downstream run is killed."""
    with contextlib.closing(WarmEngine(worker="tests.killed_worker")) as engine:
        yield engine


def plan(folder: Path) -> Plan:
    study, faults = understand(parse_source(STUDY, "study.toml"), Path())
    return make_plan(study, faults, load_registry(shipped_only=True), folder / "images")


@pytest.mark.thorough
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "operation",
    [
        3,  # in the first checkpoint, before its files are all there
        14,  # in the second, between its files and its manifest
        24,  # later on
    ],
)
def test_case_3_a_worker_that_is_killed_in_a_checkpoint_goes_on_from_the_one_before(
    tmp_path: Path, undisturbed: Path, killed: WarmEngine, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    monkeypatch.setenv("REAL_CUT", str(operation))
    write_images(tmp_path)
    store, made = Store(tmp_path / "results"), plan(tmp_path)
    store.create()
    screen = Lines(made.runs, Outlook(made.runs, Paces(), 1), quiet=True)
    orders = Orders(jobs=1, checkpoint_share=1e9)  # a checkpoint after every epoch
    ended = run_study(made, store, killed, orders, screen, "x", report_writer(store))
    assert (ended.done, ended.failed) == (2, 0)
    assert weights(store.folder) == weights(undisturbed)
    assert told(store.folder) == told(undisturbed)


@pytest.mark.thorough
@pytest.mark.usefixtures("undrawn")
def test_case_3_killed_in_an_epoch_and_stopped_by_a_signal_the_weights_are_the_same(
    tmp_path: Path, undisturbed: Path
) -> None:
    """One signal saves at the end of an epoch; then everything is killed in the middle of one; then it is finished."""
    (tmp_path / "study.toml").write_text(STUDY)
    write_images(tmp_path)
    store = Store(tmp_path / "results")
    downstream = next(run.id for run in plan(tmp_path).runs if run.kind == "downstream")
    process = begin(tmp_path)
    wait_for(lambda: epochs_of(store, downstream) >= 1, 90)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"stopped, 1 of 2 done, run again to continue" in error
    saved = committed_epochs(store, downstream)
    assert [checkpoint.epoch for checkpoint in saved] != []
    assert f"goes on after epoch {saved[0].epoch} of 5" in command(tmp_path, "plan", "study.toml").stdout

    process = begin(tmp_path)
    wait_for(lambda: epochs_of(store, downstream) > 0, 90)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert command(tmp_path, "run", "study.toml").returncode == 0
    assert weights(store.folder) == weights(undisturbed)
    assert told(store.folder) == told(undisturbed)
    assert list(store.attempts.iterdir()) == []


@pytest.mark.thorough
def test_case_3_killed_while_the_report_is_written_it_is_written_anew(tmp_path: Path, undisturbed: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    write_images(tmp_path)
    results = tmp_path / "results"
    shutil.copytree(undisturbed, results)
    pages = {name: (results / name).read_bytes() for name in ("report.html", "results.json", "results.csv")}
    (results / "report.html").unlink()
    process = begin(tmp_path)
    wait_for(lambda: list(results.glob(".report.html.*.partial")) or (results / "report.html").exists(), 90)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert command(tmp_path, "run", "study.toml").returncode == 0
    assert {name: (results / name).read_bytes() for name in pages} == pages


def begin(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "rotbench", "run", "study.toml", "--jobs", "1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def epochs_of(store: Store, run_id: str) -> int:
    """How many epochs the latest attempt at a run has reported."""
    files = sorted(store.attempts.glob(f"{run_id}.*/progress.jsonl"), key=lambda path: attempt_number(path.parent))
    return files[-1].read_text().count("train_loss") if files else 0


def test_a_checkpoint_that_another_attempt_threw_away_is_done_without(tmp_path: Path) -> None:
    assert snapshot_if_there(tmp_path / "run.1" / "epoch-000006") is None
