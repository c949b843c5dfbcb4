"""A state machine over the store: whatever is done in whatever order, and wherever a crash cuts it short.

Committed never changes; a run has one result; a reader sees a run whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rotbench.checkpoint import newest_checkpoint, save_checkpoint
from rotbench.store import MANIFEST, Store, commit, to_json, verify_folder

RUNS = ("a-s0-000000000001", "b-s0-000000000002")


class Crash(BaseException):
    """The power fails."""


class StoreMachine(RuleBasedStateMachine):
    """Two runs, any number of attempts at each, checkpoints, commits, publications and crashes at any system call."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rotbench-machine-"))
        self.store = Store(self.folder / "results")
        self.open: list[tuple[str, Path]] = []  # attempts whose worker lives
        self.published: dict[str, bytes] = {}
        self.late: dict[str, list[bytes]] = {}  # committed whole, but another attempt was first
        self.checkpoints: dict[str, int] = {}
        self.serial = 0

    @initialize()
    def create(self) -> None:
        self.store.create()

    @rule(run=st.sampled_from(RUNS))
    def begin(self, run: str) -> None:
        if run not in self.published and len(self.open) < 4:
            self.open.append((run, self.store.open_attempt(run, {"run": run})))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), epoch=st.integers(1, 5))
    def checkpoint(self, data: Any, epoch: int) -> None:
        run, attempt = data.draw(st.sampled_from(self.open))
        if attempt.exists() and run not in self.published:
            save_checkpoint(attempt, run, epoch, {"state": f"{run} {epoch}".encode()})
            self.checkpoints[run] = max(epoch, self.checkpoints.get(run, 0))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        """A worker commits and ends; the driver publishes, if another attempt has not been first."""
        run, attempt = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.serial += 1
        content = f"result {self.serial}".encode()
        commit(attempt, run, "done", files(run, content))
        won = self.store.publish(attempt)
        assert won == (run not in self.published)
        if won:
            self.published[run] = content
        else:
            self.late.setdefault(run, []).append(content)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), call=st.integers(1, 30))
    def crash_in_a_commit(self, data: Any, call: int) -> None:
        """Everything stops at some system call of a commit and publication; the next command recovers."""
        run, attempt = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.serial += 1
        content = f"result {self.serial}".encode()
        try:
            with cut(call):
                commit(attempt, run, "done", files(run, content))
                self.store.publish(attempt)
        except Crash:
            pass
        self.open.clear()  # all processes are gone
        self.store.recover()
        if run not in self.published and (self.store.runs / run).exists():
            self.published[run] = content  # it had been committed: then it must be all there

    @rule()
    def kill_everything(self) -> None:
        self.open.clear()
        self.store.recover()

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def damage(self, data: Any) -> None:
        """A bad disk: the run is set aside; a late attempt takes its place, else it can be trained again."""
        run = data.draw(st.sampled_from(sorted(self.published)))
        path = self.store.runs / run / data.draw(st.sampled_from(["result.json", MANIFEST, "run.json"]))
        path.write_bytes(path.read_bytes()[:-1])
        self.open.clear()
        self.store.recover()
        del self.published[run]
        self.checkpoints.pop(run, None)
        if (self.store.runs / run).exists():
            kept = (self.store.runs / run / "result.json").read_bytes()
            (self.published[run],) = [
                content for content in self.late.get(run, []) if to_json(content.decode()) == kept
            ]

    @invariant()
    def committed_never_changes(self) -> None:
        if not self.store.runs.exists():
            return
        assert {path.name for path in self.store.runs.iterdir()} == set(self.published)
        for run, content in self.published.items():
            assert verify_folder(self.store.runs / run) is not None
            assert (self.store.runs / run / "result.json").read_bytes() == to_json(content.decode())
            assert all(path.is_file() for path in (self.store.runs / run).iterdir())

    @invariant()
    def a_reader_sees_whole_runs(self) -> None:
        for run, outcome in self.store.outcomes():
            assert to_json(outcome.result) == to_json(self.published[run].decode())

    @invariant()
    def the_newest_checkpoint_is_there_until_the_run_is(self) -> None:
        for run, epoch in self.checkpoints.items():
            if run not in self.published and any(self.store.attempts.glob(f"{run}.*")):
                found, told = newest_checkpoint(self.store, run)
                assert told == []
                assert found is not None
                assert found.epoch <= epoch

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def files(run: str, content: bytes) -> dict[str, bytes]:
    return {"run.json": to_json({"id": run}), "result.json": to_json(content.decode()), "log.txt": b""}


class cut:  # noqa: N801  a context manager
    """Raises :class:`Crash` at the n-th system call that changes the file system."""

    NAMES = ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir")

    def __init__(self, call: int) -> None:
        self.left = call
        self.before: dict[str, Any] = {}

    def __enter__(self) -> None:
        for name in self.NAMES:
            self.before[name] = getattr(os, name)
            setattr(os, name, self._counted(self.before[name]))

    def __exit__(self, *error: object) -> None:
        for name, function in self.before.items():
            setattr(os, name, function)

    def _counted(self, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left <= 0:
                raise Crash
            return function(*arguments, **options)

        return call


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
