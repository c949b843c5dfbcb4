"""Walks a plan: prepares, starts what can start, watches, publishes, and writes the report.

All state is in the store. Whatever ends this process, the same command goes on from what is published.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rotbench.architecture import backbone_bytes
from rotbench.checkpoint import (
    CHECKPOINT_SHARE,
    EXIT_STOPPED,
    ask_to_stop,
    newest_checkpoint,
    note_company,
    prune_checkpoints,
)
from rotbench.engine import KILLED, LOST, Engine, Handle
from rotbench.errors import BadInput, EnvironmentLacking
from rotbench.looks import looks
from rotbench.plan import Plan, Run
from rotbench.price import Paces, kept_bytes, paces_of
from rotbench.results import collect, describe
from rotbench.room import Ready, Room
from rotbench.spoken import counted, megabytes
from rotbench.store import Damaged, Standing, Store, commit, left_error, run_record, standings, to_json, verify_folder
from rotbench.system import Stop, free_bytes, write_durably

#: How often workers are looked at; where there are many, no more often than the store may bear it.
POLL_SECONDS = 0.1
POLL_SECONDS_A_RUN = 0.01

#: A checkpoint holds the weights and at most two moments of each.
STATES_A_CHECKPOINT = 3

#: While runs are trained the page is written this often, and never for more than a twentieth of the time.
REPORT_EVERY_SECONDS = 60.0
REPORT_SHARE = 0.05

#: A worker that has said nothing for so long hangs. An epoch says something every second, but loading data and
#: evaluating on a slow machine do not.
STALL_SECONDS = 1800.0

#: A worker that dies without a word is tried once more: it may have been the machine.
MAX_ATTEMPTS = 2

#: So many nodes or servers may be lost under a run before that counts as its dying.
MAX_LOSSES = 10


class Watcher(Protocol):
    """Who is told how a study goes on: the terminal."""

    def begin(self, waiting: Sequence[Run], done: int) -> None: ...
    def started(self, run: Run) -> None: ...
    def progress(self, run: Run, entry: Mapping[str, float | None]) -> None: ...
    def ended(self, run: Run, status: str, message: str) -> None: ...
    def note(self, message: str) -> None: ...


@dataclass(frozen=True)
class Orders:
    """What the command line asks of a study beyond its file.

    ``jobs`` is the most that are trained side by side, None for as many as the engine has room for.
    """

    jobs: int | None
    device: str = "auto"
    fail_fast: bool = False
    retry_failed: bool = False
    rerun_stale: bool = False
    stall_seconds: float = STALL_SECONDS
    checkpoint_share: float = CHECKPOINT_SHARE


@dataclass(frozen=True)
class Ended:
    """How a study stands when the driver stops: runs done, of how many, failed, held back; the signal that came."""

    done: int
    planned: int
    failed: int
    held: int
    stale: int
    signal: int


@dataclass
class _Active:
    run: Run
    attempt: Path
    handle: Handle
    begun: bool = False
    read: int = 0  # bytes of progress.jsonl that were passed on
    heard: float = field(default_factory=time.monotonic)


@dataclass
class _State:
    waiting: list[Run]
    done: set[str]
    failed: set[str]
    new_failures: int = 0
    active: list[_Active] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    told_of_no_room: bool = False


def run_study(
    plan: Plan, store: Store, engine: Engine, orders: Orders, watcher: Watcher, command: str, write: Callable[[], None]
) -> Ended:
    """Train what the plan selects and the store lacks. The caller holds the store's lock.

    ``write`` renders the report; it is called now and then, and at the end. Raises
    :class:`~rotbench.errors.EnvironmentLacking` where the machine lacks something; what was done until then is kept.
    """
    for damage in store.recover():
        watcher.note(damage)
    standing = standing_of(plan, store, orders)
    todo = agenda(plan, standing, orders)
    state = _take_stock(plan, standing, todo)
    described = describe(plan, command)
    seen = looks(store.read_study(), _done(store), plan.seeds, [run.id for run in plan.runs])
    store.write_study({**described, "study": {**described["study"], "looks": seen}})
    watcher.begin(tuple(state.waiting), len(state.done))
    stale = sum(stands.state == "stale" for stands in standing.values())
    if stale and not orders.rerun_stale:
        watcher.note(f"stale, and kept as they are: {counted(stale)}; --rerun-stale trains them again")
    if todo.held:
        watcher.note(
            f"not trained, since they wait for a stale pretext run: {counted(len(todo.held))}; --rerun-stale trains all"
        )
    for run in plan.everything:
        if run.id in todo.orphaned:
            watcher.ended(run, "skipped", todo.orphaned[run.id])
    stop = Stop()
    with stop.listening():
        if state.waiting:
            _require_room(store, state.waiting, side_by_side(engine, orders))
            _prepare(plan, store, engine, state.waiting, orders, stop, watcher)
            # Not before all that can be lacking is there: what is finished stays where nothing can replace it.
            for run in state.waiting if not stop.count else ():
                stored = standing[run.id].stored
                if stored is not None:
                    store.set_aside(stored)
        try:
            _walk(plan, store, engine, orders, watcher, state, stop, write)
        finally:
            for active in state.active:
                active.handle.end()
            store.sweep()
            write()
    standing = standing_of(plan, store, orders)
    return Ended(
        done=sum(s.state in ("done", "stale") for s in standing.values()),
        planned=len(plan.everything),
        failed=len(plan.selected & state.failed),
        held=len(todo.held),
        stale=sum(s.state == "stale" for s in standing.values()),
        signal=stop.signal,
    )


def _done(store: Store) -> set[str]:
    return {run_id for run_id, outcome in store.outcomes() if outcome.status == "done"}


def check_store(plan: Plan, store: Store) -> None:
    """Raises where the folder shows another study, is damaged, newer or no store; before anything is written.

    Another study has another title and no run in common.
    """
    there = next(folder for folder in (store.folder, *store.folder.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise EnvironmentLacking(f"{there} is not a folder", "Give another folder with --out.")
    known = store.read_study()
    if known is not None and known["study"]["title"] != plan.study.title and not _share_runs(plan, known):
        raise BadInput(
            f'{store.folder} shows another study, "{known["study"]["title"]}"; this one is "{plan.study.title}"',
            "Give this study a folder of its own with --out.",
        )
    foreign = store.foreign() if known is None else None
    if foreign is not None:
        raise BadInput(
            f"{store.folder} is no results folder of rotbench, but has {foreign.relative_to(store.folder)}",
            "Give this study a folder of its own with --out.",
        )


def _share_runs(plan: Plan, known: Mapping[str, Any]) -> bool:
    """Whether a plan has a run in common with what ``study.json`` holds: then only the title was corrected."""
    return not {run.id for run in plan.everything}.isdisjoint(
        record["id"] for record in [*known["runs"], *known.get("probes", [])]
    )


def known_paces(store: Store, device: str) -> Paces:
    """How fast the finished runs of a store went, on a device of that kind; ``"auto"`` is whatever they had."""
    kind = device.partition(":")[0]
    return paces_of(
        (outcome.record["settings"], outcome.result)
        for _, outcome in store.outcomes()
        if outcome.status == "done" and kind in ("auto", str(outcome.result.get("device")).partition(":")[0])
    )


@dataclass(frozen=True)
class Agenda:
    """What a command trains, in the order of the plan, and what it cannot train, with the reason.

    ``held`` would mix a stale pretext run with new code; ``orphaned`` starts from a run that failed.
    """

    train: tuple[Run, ...]
    held: Mapping[str, str]
    orphaned: Mapping[str, str]


def standing_of(plan: Plan, store: Store, orders: Orders) -> dict[str, Standing]:
    """How each run of a plan stands in the store, if the runs that the orders select are trained."""
    records = [run_record(run) for run in plan.everything]
    return standings(store, records, [state for state, trained in _again(orders).items() if trained], plan.selected)


def _again(orders: Orders) -> dict[str, bool]:
    """Whether runs that came to an end are trained again, by their state."""
    return {"failed": orders.retry_failed, "stale": orders.rerun_stale}


def agenda(plan: Plan, standing: Mapping[str, Standing], orders: Orders) -> Agenda:
    """What the orders ask for, as the store stands."""
    again = _again(orders)
    train: list[Run] = []
    held: dict[str, str] = {}
    orphaned: dict[str, str] = {}
    for run in plan.everything:  # parents come before what starts from them
        state = standing[run.id].state
        if run.id not in plan.selected or not again.get(state, state in ("new", "partial")):
            if state == "stale":
                held[run.id] = ""
            elif state == "failed":
                orphaned[run.id] = ""
        elif any(parent in held for parent in run.needs):
            held[run.id] = "waits for a stale pretext run: --rerun-stale"
        elif any(parent in orphaned for parent in run.needs):
            orphaned[run.id] = "starts from a run that failed: --retry-failed"
        else:
            train.append(run)
    return Agenda(
        tuple(train),
        {name: reason for name, reason in held.items() if reason},
        {name: reason for name, reason in orphaned.items() if reason},
    )


def _take_stock(plan: Plan, standing: Mapping[str, Standing], todo: Agenda) -> _State:
    """What waits, is done and has failed."""
    state = _State(list(todo.train), set(), {*todo.orphaned})
    waiting = {run.id for run in todo.train}
    for run in plan.everything:
        stands = standing[run.id]
        if run.id in waiting:
            continue
        if stands.state == "failed":
            state.failed.add(run.id)
        elif stands.state in ("done", "stale"):
            state.done.add(run.id)
    return state


def _require_room(store: Store, waiting: Sequence[Run], jobs: int) -> None:
    """Raises where the disk has no room for the results and for three checkpoints of each run that is trained."""
    checkpoints = [
        (STATES_A_CHECKPOINT + len(run.keeps))
        * backbone_bytes(run.settings["model"]["name"], run.settings["model"]["stem"])
        for run in waiting
        if run.kind != "probe"
    ]
    needed = kept_bytes(waiting) + 3 * max(checkpoints, default=0) * min(jobs, len(checkpoints))
    free = free_bytes(store.folder)
    if free < needed:
        raise EnvironmentLacking(
            f"{store.folder} has {megabytes(free)} free; the study needs about {megabytes(needed)}",
            "Make room, or give another folder with --out, and run the command again.",
        )


def preparation(plan: Plan, waiting: Sequence[Run], device: str) -> dict[str, Any]:
    """The request to make sure that data and weights of these runs are there, and device and precision too."""
    entries: dict[str, Any] = {}
    for run in waiting:
        model = run.settings["model"]
        for reference in run.plugins:
            if reference.kind in ("dataset", "init"):
                settings = run.settings[reference.kind]
                entry = {
                    "reference": asdict(reference),
                    "settings": settings,
                    "model_name": model["name"],
                    "stem": model["stem"],
                    "fingerprint": run.fingerprint,
                }
                entries[json.dumps([settings, model])] = entry
    return {
        "plugins": list(entries.values()),
        "precisions": sorted({run.settings["train"]["precision"] for run in waiting}),
        **surroundings(plan, device),
    }


def surroundings(plan: Plan, device: str) -> dict[str, Any]:
    """What a worker needs to know and no result depends on."""
    return {"root": str(plan.root), "folder": str(plan.study.folder), "device": device}


def side_by_side(engine: Engine, orders: Orders) -> int:
    """How many runs are trained at once: at most what is asked for and what there is room for."""
    limits = [limit for limit in (orders.jobs, engine.room()) if limit is not None]
    return min(limits, default=1)


def _prepare(
    plan: Plan,
    store: Store,
    engine: Engine,
    waiting: Sequence[Run],
    orders: Orders,
    stop: Stop,
    watcher: Watcher,
) -> None:
    folder = store.attempts / "prepare"
    folder.mkdir(exist_ok=True)
    write_durably(folder / "request.json", to_json(preparation(plan, waiting, orders.device)))
    handle = engine.prepare(folder)
    while (code := handle.poll()) is None:
        if stop.count:
            handle.end()
            return
        engine.room()
        _pass_on_notes(engine, watcher)
        time.sleep(POLL_SECONDS)
    _pass_on_notes(engine, watcher)
    if code:
        raise left_error(folder) or EnvironmentLacking(
            f"preparing the data failed: {_death(code)}", f"See {folder / 'prepare.log'}."
        )


def _walk(
    plan: Plan,
    store: Store,
    engine: Engine,
    orders: Orders,
    watcher: Watcher,
    state: _State,
    stop: Stop,
    write: Callable[[], None],
) -> None:
    next_page = time.monotonic() + REPORT_EVERY_SECONDS
    asked = False
    _skip_orphans(state, watcher)
    while state.active or (not stop.count and _ready(state)):
        if stop.count > 1:
            return  # the caller ends what is still being trained
        if stop.count and not asked:
            asked = True
            _ask_to_stop(state, watcher)
        room = side_by_side(engine, orders)
        _pass_on_notes(engine, watcher)
        if not stop.count:
            _start_ready(plan, store, engine, orders, state, watcher, room)
        time.sleep(max(POLL_SECONDS, POLL_SECONDS_A_RUN * len(state.active)))
        ended = False
        for active in list(state.active):
            code = active.handle.poll()
            _note_beginning(state, active)
            _pass_on(active, watcher)
            if code is None and time.monotonic() - active.heard > orders.stall_seconds:
                code = _give_up(active, orders.stall_seconds, watcher)
            if code is not None:
                state.active.remove(active)
                _end(store, state, active, code, watcher)
                ended = True
        if orders.fail_fast and state.new_failures:
            watcher.note("stopping at the first failure, as asked")
            return
        if ended:
            _skip_orphans(state, watcher)
        if ended and time.monotonic() > next_page:
            began = time.monotonic()
            write()
            now = time.monotonic()
            next_page = now + max(REPORT_EVERY_SECONDS, (now - began) / REPORT_SHARE)


def _ask_to_stop(state: _State, watcher: Watcher) -> None:
    """Let running epochs end; what still waits for room on some machine does not begin."""
    watcher.note("stopping at the end of the epoch; once more to stop at once")
    for active in list(state.active):
        ask_to_stop(active.attempt)
        if not active.handle.begun():
            active.handle.end()
            state.active.remove(active)
            state.waiting.insert(0, active.run)


def _pass_on_notes(engine: Engine, watcher: Watcher) -> None:
    for note in engine.notes():
        watcher.note(note)


def _start_ready(
    plan: Plan, store: Store, engine: Engine, orders: Orders, state: _State, watcher: Watcher, room: int
) -> None:
    """Start what can start and has room."""
    if room:
        state.told_of_no_room = False
    elif not any(active.begun for active in state.active) and not state.told_of_no_room:
        state.told_of_no_room = True
        watcher.note("no machine has room for a run; waiting for one")
    places = Room(room, plan.study.resources.threads)
    for active in state.active:
        places.enter(active.run)
    for run in places.admit(_ready(state)):
        _start(plan, store, engine, orders, state, run, watcher)
        watcher.started(run)
        _note_beginning(state, state.active[-1])


def _ready(state: _State) -> Ready:
    """What can start now."""
    ready = Ready()
    for place, run in enumerate(state.waiting):
        if state.done.issuperset(run.needs):
            ready.add(run, place)
    return ready


def _skip_orphans(state: _State, watcher: Watcher) -> None:
    """Runs whose pretext run failed are not trained; the report says so."""
    for run in list(state.waiting):
        parent = next((parent for parent in run.needs if parent in state.failed), None)
        if parent is not None:
            state.waiting.remove(run)
            state.failed.add(run.id)
            watcher.ended(run, "skipped", f"{parent} failed, which it starts from")


def _start(plan: Plan, store: Store, engine: Engine, orders: Orders, state: _State, run: Run, watcher: Watcher) -> None:
    checkpoint, damages = newest_checkpoint(store, run.id)
    for damage in damages:
        watcher.note(damage)
    prune_checkpoints(store, run.id)
    request = {
        "run": run_record(run),
        "plugins": [asdict(reference) for reference in run.plugins],
        "resume": str(checkpoint.folder.relative_to(store.attempts)) if checkpoint else None,
        "checkpoint_share": orders.checkpoint_share,
        **surroundings(plan, orders.device),
    }
    attempt = store.open_attempt(run.id, request)
    state.waiting.remove(run)
    state.tries[run.id] = state.tries.get(run.id, 0) + 1
    state.active.append(_Active(run, attempt, engine.start(run.id, attempt, run.settings["threads"])))


def _note_beginning(state: _State, active: _Active) -> None:
    """Once an attempt has begun, tell all on its machine how many are trained there now."""
    if active.begun or not active.handle.begun():
        return
    active.begun, active.heard = True, time.monotonic()
    place = active.handle.place()
    there = [other for other in state.active if other.begun and other.handle.place() == place]
    for other in there:
        note_company(other.attempt, len(there))


def _pass_on(active: _Active, watcher: Watcher) -> None:
    """Tell the watcher what the worker has written since the last look."""
    try:
        with (active.attempt / "progress.jsonl").open("rb") as file:
            file.seek(active.read)
            new = file.read()
    except FileNotFoundError:
        return
    whole = new[: new.rfind(b"\n") + 1]
    active.read += len(whole)
    if whole:
        active.heard = time.monotonic()
    for line in whole.splitlines():
        watcher.progress(active.run, json.loads(line))


def _give_up(active: _Active, seconds: float, watcher: Watcher) -> int:
    """End an attempt that has said nothing for so long; returns how it ended."""
    if active.begun:
        watcher.note(f"{active.run.id}: no sign of life for {seconds:.0f} s; ended")
        active.handle.end()
        return active.handle.poll() or KILLED
    # It may wait for a machine that others use, or for one that will never answer: asked for again, it may get another.
    watcher.note(f"{active.run.id}: not started for {seconds:.0f} s; asked for again")
    active.handle.end()
    return EXIT_STOPPED


def _end(store: Store, state: _State, active: _Active, code: int, watcher: Watcher) -> None:
    """Publish what an attempt committed; where it committed nothing, try again or record the failure."""
    run = active.run
    if code == EXIT_STOPPED:
        state.tries[run.id] -= 1
        state.waiting.insert(0, run)
        return
    try:
        manifest = verify_folder(active.attempt)
    except Damaged as damage:
        watcher.note(f"{damage}; tried again")
        manifest = None
    if manifest is None:
        error = left_error(active.attempt)
        if error is None and code == EnvironmentLacking.exit_code:
            # Not even the reason could be written.
            error = EnvironmentLacking(
                f"the worker of {run.id} could not write to {active.attempt}", "Make room and run the command again."
            )
        if error is not None:
            raise error
        if code == LOST:
            state.losses[run.id] = state.losses.get(run.id, 0) + 1
            if state.losses[run.id] <= MAX_LOSSES:
                state.tries[run.id] -= 1  # the machine's fault and not the run's
            elif not active.begun:
                raise EnvironmentLacking(
                    f"{run.id} was handed out {state.losses[run.id]} times and never begun",
                    "Look into the logs of the cluster, and run the command again.",
                )
        if state.tries[run.id] < MAX_ATTEMPTS:
            watcher.note(f"{run.id}: {_death(code)}; tried again")
            state.waiting.insert(0, run)
            return
        message = f"{_death(code)}, {state.losses[run.id] if code == LOST else MAX_ATTEMPTS} times"
        result = {"error": message, "diverged": False, "history": []}
        files = {"run.json": to_json(run_record(run)), "result.json": to_json(result), "log.txt": message.encode()}
        commit(active.attempt, run.id, "failed", files)
        manifest = verify_folder(active.attempt) or {}
    if not store.publish(active.attempt):
        watcher.note(f"{run.id}: another attempt was published first; this one is not used")
    outcome = store.outcome(run.id)
    if outcome is None or outcome.status == "failed":
        state.failed.add(run.id)
        state.new_failures += 1
        watcher.ended(run, "failed", str(outcome.result["error"]) if outcome else "was not published")
    else:
        state.done.add(run.id)
        watcher.ended(run, "done", "")


def _death(code: int) -> str:
    if code == LOST:
        return "its node or server was lost"
    if code == KILLED:
        return "the worker was killed (SIGKILL: out of memory?)"
    return f"the worker died of signal {-code}" if code < 0 else f"the worker ended with code {code} and no result"


def report_writer(store: Store) -> Callable[[], None]:
    """A function that writes results.json, results.csv and report.html of a store as it stands."""

    def write() -> None:
        from rotbench.report import render, results_csv

        results = collect(store)
        write_durably(store.folder / "results.json", to_json(results))
        write_durably(store.folder / "results.csv", results_csv(results).encode())
        write_durably(store.folder / "report.html", render(results).encode())

    return write
