"""Checkpoints of a run that is being trained: committed at the end of an epoch, and verified before they are trusted.

    epoch-000012/      the state after epoch 12, hashed, with a manifest of its own
    stop               the driver asks for a checkpoint at the end of the epoch, and then for an end
    company            how many runs were being trained, a line whenever another one began

These lie in the folder of an attempt. A checkpoint is committed as a run is: its manifest is written last. What has
none is no checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rotbench.store import MANIFEST, Damaged, Store, commit, read_manifest, verify_folder
from rotbench.system import sync_folder

KEPT = 2
STOP = "stop"
COMPANY = "company"

#: The exit code of a worker that was asked to stop and has saved (EX_TEMPFAIL of sysexits.h).
EXIT_STOPPED = 75

#: Of the time of a run, so much may go into its checkpoints.
CHECKPOINT_SHARE = 0.05

#: Before the first checkpoint its cost is guessed from its size at this many bytes a second, hashed and synced.
GUESSED_SPEED = 150e6


class Stopped(Exception):
    """The driver asked for an end; the state is saved."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed state of a run."""

    folder: Path
    epoch: int


def save_checkpoint(attempt: Path, run_id: str, epoch: int, files: Mapping[str, bytes]) -> None:
    """Commit the state after ``epoch``; of older ones the latest stays, in case this one is damaged later."""
    folder = attempt / f"epoch-{epoch:06}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    commit(folder, run_id, "partial", files)
    sync_folder(attempt)
    for older in sorted(attempt.glob("epoch-*"))[:-KEPT]:
        shutil.rmtree(older, ignore_errors=True)


def committed_epochs(store: Store, run_id: str) -> list[Checkpoint]:
    """The checkpoints of all attempts at a run that have a manifest, the latest epoch first; nothing is read."""
    found = [
        Checkpoint(folder, int(folder.name.rpartition("-")[2]))
        for folder in store.attempts.glob(f"{run_id}.*/epoch-*")
        if (folder / MANIFEST).exists()
    ]
    return sorted(found, key=lambda checkpoint: (checkpoint.epoch, checkpoint.folder.parent.name), reverse=True)


def newest_checkpoint(store: Store, run_id: str) -> tuple[Checkpoint | None, list[str]]:
    """The latest checkpoint that verifies; damaged ones are set aside, with a sentence for each."""
    told = []
    for checkpoint in committed_epochs(store, run_id):
        try:
            if read_manifest(checkpoint.folder)["run"] != run_id:
                raise Damaged(f"{checkpoint.folder} is of another run")
            verify_folder(checkpoint.folder)
        except Damaged as damage:
            store.quarantine(checkpoint.folder, f"{run_id}.{checkpoint.folder.name}")
            told.append(f"{damage}; it is set aside in {store.folder / 'quarantine'}, an older state is used")
            continue
        return checkpoint, told
    return None, told


def prune_checkpoints(store: Store, run_id: str) -> None:
    """Of a run that was interrupted often, keep the latest checkpoints alone: each is three times its weights."""
    for checkpoint in committed_epochs(store, run_id)[KEPT:]:
        shutil.rmtree(checkpoint.folder, ignore_errors=True)


def ask_to_stop(attempt: Path) -> None:
    """Ask the worker of an attempt to save at the end of its epoch and to end."""
    with contextlib.suppress(OSError):
        (attempt / STOP).touch()


def note_company(attempt: Path, running: int) -> None:
    """Tell the worker of an attempt how many runs, its own included, are being trained now."""
    with contextlib.suppress(OSError), (attempt / COMPANY).open("a") as file:
        file.write(f"{running}\n")


def most_company(attempt: Path) -> int | None:
    """The most runs, this one included, that were being trained at once; None where nobody has told."""
    try:
        return max(int(line) for line in (attempt / COMPANY).read_text().split())
    except (OSError, ValueError):
        return None


@dataclass
class Schedule:
    """When a checkpoint is due: so that no more than ``share`` of the time goes into them, and when asked to stop."""

    attempt: Path
    run_id: str
    share: float
    _last: float = field(default_factory=time.monotonic)
    _cost: float | None = None
    seconds: float = 0.0  # spent in checkpoints so far

    def epoch_ended(self, epoch: int, size: int, take: Callable[[], Mapping[str, bytes]]) -> None:
        """Save what ``take`` gives, about ``size`` bytes, if it is due. Raises :class:`Stopped` when asked to stop."""
        stopping = (self.attempt / STOP).exists()
        cost = self._cost if self._cost is not None else size / GUESSED_SPEED
        if stopping or time.monotonic() - self._last >= cost / self.share:
            began = time.monotonic()
            save_checkpoint(self.attempt, self.run_id, epoch, take())
            self._last = time.monotonic()
            self._cost = self._last - began
            self.seconds += self._cost
        if stopping:
            raise Stopped
