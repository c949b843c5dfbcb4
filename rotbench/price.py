"""What a study will take, and how sure that is: told from finished runs of the same cost, or from a few timed steps.

Two runs cost the same when nothing that a step's time depends on differs: data, network, batch, what is trained. The
number of epochs, the learning rate and the seed are no part of that.
"""

from __future__ import annotations

import heapq
import json
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rotbench.architecture import backbone_bytes
from rotbench.plan import Run
from rotbench.room import Ready, Room

Settings = Mapping[str, Any]
Basis = Literal["finished", "alike", "timed"]

#: Bytes that any run keeps beside weights: settings, history, log, predictions of some ten thousand images.
RECORD_BYTES = 100_000

#: Of a run that is only alike, so many times more or less time is taken for possible.
ALIKE_FACTOR = 3.0

#: Below so many, what was seen last time may be off by such a factor.
FEW = 5
FEW_FACTOR = 1.3

#: So many epochs of one cost are remembered, the latest.
REMEMBERED = 50

_STEP_KEYS = (
    "batch_size",
    "precision",
    "skip_padding",
    "augment",
    "labels_per_class",
    "updates",
    "validation",
    "test_each_epoch",
)


@dataclass(frozen=True)
class Pace:
    """How fast runs of one cost went: seconds an epoch, its lowest and highest mean over a run, and of starting."""

    epoch_seconds: float
    low: float
    high: float
    start_seconds: float
    runs: int
    basis: Basis


@dataclass(frozen=True)
class Price:
    """Seconds that a run, or a study, will take, with the range that is known; ``basis`` says from what."""

    seconds: float
    low: float
    high: float
    basis: Basis


def cost_key(settings: Settings) -> str:
    """What the time of an epoch depends on."""
    train = settings["train"]
    step = [train.get(key) for key in (*_STEP_KEYS, "optimizer")]
    task, freeze = settings.get("task"), settings.get("freeze")
    rehearsal = {k: v for k, v in settings.get("rehearsal", {}).items() if k != "variant"}
    return json.dumps(
        [settings["dataset"], settings["model"], task, freeze, step, settings["threads"], rehearsal], sort_keys=True
    )


def alike_key(settings: Settings) -> str:
    """What must be the same for a rough idea: all of :func:`cost_key` but freezing, optimiser and precision."""
    train = settings["train"]
    step = [train.get(key) for key in _STEP_KEYS if key != "precision"]
    rehearsal = {k: v for k, v in settings.get("rehearsal", {}).items() if k != "variant"}
    kind = "pretext" if "task" in settings else "downstream"
    return json.dumps(
        [settings["dataset"], settings["model"], kind, step, settings["threads"], rehearsal], sort_keys=True
    )


def _probe_key(settings: Settings) -> str:
    """What the time of a probe depends on: images, network and stages, not which weights."""
    keys = ("dataset", "model", "threads", "train", "rehearsal")
    return json.dumps([*(settings.get(key) for key in keys), settings["probe"]["stages"]], sort_keys=True)


class Paces:
    """The paces that are known, by cost; more become known while a study runs."""

    def __init__(self) -> None:
        self._epochs: dict[str, deque[float]] = {}  # seconds of an epoch
        self._starts: deque[float] = deque(maxlen=REMEMBERED)
        self._timed: dict[str, Pace] = {}
        self._probes: dict[str, deque[float]] = {}  # seconds of a whole probe

    def add_finished(self, settings: Settings, result: Mapping[str, Any]) -> None:
        """Learn from a finished run's result."""
        if "probe" in settings:
            self.add_probe(settings, result["worker_seconds"])
            return
        seconds = [row["seconds"] for row in result.get("history", []) if row.get("seconds") is not None]
        if seconds:
            self._note(settings, statistics.fmean(seconds))
            if result.get("worker_seconds") is not None:
                self.add_start(result["worker_seconds"] - sum(seconds))

    def add_start(self, seconds: float) -> None:
        """Learn what a run takes beside its epochs."""
        self._starts.append(max(0.0, seconds))

    def add_epoch(self, settings: Settings, seconds: float) -> None:
        """Learn from one epoch of a run that is going on."""
        self._note(settings, seconds)

    def add_probe(self, settings: Settings, seconds: float) -> None:
        """Learn from a finished probe."""
        self._probes.setdefault(_probe_key(settings), deque(maxlen=REMEMBERED)).append(seconds)

    def add_timed(self, settings: Settings, epoch_seconds: float, start_seconds: float) -> None:
        """Learn from a few timed steps."""
        self._timed[cost_key(settings)] = Pace(
            epoch_seconds, epoch_seconds / 1.5, epoch_seconds * 1.5, start_seconds, 0, "timed"
        )

    def of(self, settings: Settings) -> Pace | None:
        """The pace of runs with these settings: from finished ones, else as timed, else from what is alike."""
        start = statistics.median(self._starts) if self._starts else 0.0
        for key, basis in ((cost_key(settings), "finished"), (alike_key(settings), "alike")):
            if basis == "alike" and cost_key(settings) in self._timed:
                return self._timed[cost_key(settings)]
            epochs = self._epochs.get(f"{basis} {key}")
            if epochs and basis == "finished":
                # A range that few have made is known no better than this.
                wide = FEW_FACTOR if len(epochs) < FEW else 1.0
                return Pace(
                    statistics.median(epochs), min(epochs) / wide, max(epochs) * wide, start, len(epochs), "finished"
                )
            if epochs:
                middle = statistics.median(epochs)
                return Pace(middle, min(epochs) / ALIKE_FACTOR, max(epochs) * ALIKE_FACTOR, start, len(epochs), "alike")
        return None

    def price(self, run: Run) -> Price | None:
        """What a run will take, or None where nothing like it is known."""
        if run.kind == "probe":
            known = self._probes.get(_probe_key(run.settings))
            if not known:
                return None
            return Price(statistics.median(known), min(known) / FEW_FACTOR, max(known) * FEW_FACTOR, "finished")
        pace = self.of(run.settings)
        if pace is None:
            return None
        epochs = run.settings["train"]["epochs"]
        seconds, low, high = (pace.start_seconds + epochs * each for each in (pace.epoch_seconds, pace.low, pace.high))
        return Price(seconds, low, high, pace.basis)

    def _note(self, settings: Settings, seconds: float) -> None:
        for basis, key in (("finished", cost_key(settings)), ("alike", alike_key(settings))):
            self._epochs.setdefault(f"{basis} {key}", deque(maxlen=REMEMBERED)).append(seconds)


def paces_of(finished: Iterable[tuple[Settings, Mapping[str, Any]]]) -> Paces:
    """What the settings and results of finished runs tell."""
    paces = Paces()
    for settings, result in finished:
        paces.add_finished(settings, result)
    return paces


def unpriced(waiting: Sequence[Run], paces: Paces) -> list[Run]:
    """One training of each cost that no finished run has, to be timed."""
    first = {cost_key(run.settings): run for run in reversed(waiting) if run.kind != "probe"}
    return [run for run in first.values() if (pace := paces.of(run.settings)) is None or pace.basis == "alike"]


def study_price(waiting: Sequence[Run], paces: Paces, jobs: int, threads: int = 1) -> Price | None:
    """What the runs that wait will take together, ``jobs`` of ``threads`` each side by side; None where one training is
    not known.

    Probes that nothing is known of are taken for nothing: they are short beside trainings.
    """
    prices = {run.id: price for run in waiting if (price := paces.price(run)) is not None}
    if any(run.kind != "probe" and run.id not in prices for run in waiting) or not prices:
        return None
    bases = {price.basis for price in prices.values()}
    return Price(
        seconds=wall_seconds(waiting, {name: price.seconds for name, price in prices.items()}, jobs, threads),
        low=wall_seconds(waiting, {name: price.low for name, price in prices.items()}, jobs, threads),
        high=wall_seconds(waiting, {name: price.high for name, price in prices.items()}, jobs, threads),
        basis="alike" if "alike" in bases else "timed" if "timed" in bases else "finished",
    )


def wall_seconds(waiting: Sequence[Run], seconds: Mapping[str, float], jobs: int, threads: int = 1) -> float:
    """How long it takes until all are done, in the driver's order, see :mod:`rotbench.room`.

    ``seconds`` are those of each run by its id; a run that is not in it takes none. A run that needs one which is not
    among ``waiting`` can start at once. There is room for ``jobs`` runs of ``threads`` each.
    """
    place = {run.id: number for number, run in enumerate(waiting)}
    runs = {run.id: run for run in waiting}
    children: dict[str, list[str]] = {}
    lacking: dict[str, int] = {}
    for run in waiting:
        needs = [need for need in run.needs if need in runs]
        lacking[run.id] = len(needs)
        for need in needs:
            children.setdefault(need, []).append(run.id)
    room, ready = Room(jobs, threads), Ready()
    for name, count in lacking.items():
        if not count:
            ready.add(runs[name], place[name])
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        for run in room.admit(ready):
            heapq.heappush(running, (now + seconds.get(run.id, 0.0), run.id))
        now = running[0][0]
        while running and running[0][0] == now:  # what ends at once makes room at once
            _, ended = heapq.heappop(running)
            room.leave(runs[ended])
            for child in children.get(ended, []):
                lacking[child] -= 1
                if not lacking[child]:
                    ready.add(runs[child], place[child])
    return now


def kept_bytes(waiting: Sequence[Run]) -> int:
    """What the results of these runs occupy once they are done: a pretext run keeps its backbone, also as it was after
    earlier epochs that are probed.
    """
    total = 0
    for run in waiting:
        model = run.settings["model"]
        kept = 1 + len(run.keeps) if run.kind == "pretext" else 0
        total += RECORD_BYTES + kept * backbone_bytes(model["name"], model["stem"])
    return total
