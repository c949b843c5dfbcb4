"""Attempts as tasks of a Ray cluster.

Ray finds a node with room and starts a task there; nothing else is asked of it. The task starts the same worker as the
local engine, on the same store, which all nodes must see. Ray retries nothing: how often a run may be tried, and when
one that says nothing is given up, is decided here and by the driver, whose state is the store. Ray waits for a node
that is frozen as long as its connections are open; so each gives signs of life in the store, beside the attempt.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotbench.checkpoint import EXIT_STOPPED
from rotbench.cluster import (
    NEEDED,
    alive_nodes,
    called,
    connect,
    files_of,
    join,
    keep_to_oneself,
    last_line,
    only,
    require_fit_nodes,
)
from rotbench.engine import KILLED, LOST
from rotbench.errors import BadInput, EnvironmentLacking, RotbenchError
from rotbench.node import BEATS, ORDER, Unable, prepare, try_attempt
from rotbench.prepare import RESOLVED
from rotbench.registry import PluginReference
from rotbench.roster import Node, Roster
from rotbench.settings import Resources
from rotbench.store import ERROR, MANIFEST, Store, leave_error, left_error, to_json
from rotbench.system import write_durably

#: So long may a network file system take to show this machine what a node has written.
VISIBLE_SECONDS = 90.0

#: A node that has given no sign of life for so long is lost. Network file systems may hold one back for a minute.
SILENT_SECONDS = 180.0

#: So many signs of life are due in that time.
BEATS_A_SILENCE = 12

#: Who has not looked for so many signs of life may have been away himself.
LONG_LOOKS = 6

#: Ray hands out no smaller shares.
LEAST_SHARE = 0.0001

#: The nodes that are there are counted no more often than this.
COUNT_SECONDS = 1.0

#: So long may the head not be reached; Ray itself gives up after a minute.
HEAD_SECONDS = 30.0

ENDED_HERE = "Ray on this machine has ended"
START_ANEW = "Start it anew and run the command again, on any cluster or on none."


@dataclass
class RayHandle:
    """A task that was submitted, whose process writes ``log`` into the folder of its attempt."""

    engine: RayEngine
    reference: Any
    log: Path
    submitted: float
    nodes: frozenset[str]  # where it may be
    result: str = MANIFEST  # the file that a good end leaves
    bound: bool = False  # to one node, whether that has room or not
    code: int | None = None
    ended: float = 0.0
    beats: str | None = None
    heard: float = 0.0
    listened: float = 0.0
    asked: float = 0.0

    def poll(self) -> int | None:
        """The exit code of the worker; :data:`~rotbench.engine.LOST` where its node or Ray's own process died."""
        if self.code is None and self.engine.ray.wait([self.reference], timeout=0)[0]:
            self.code, self.ended = self._end_of_task(), time.monotonic()
            if self.code == LOST:
                # Ray notices after half a minute that a node is gone; until then it would be given all that is waiting.
                self.engine.doubt()
        if self.code is None and self.begun() and self._silent():
            self.end()
            self.code = LOST
            self.engine.doubt()
        if self.code is None and not self.begun() and self._stranded():
            self.end()
            self.code = LOST if self.bound else EXIT_STOPPED  # it was no try: nothing of it was begun
        if self.code is not None and self._still_unseen() and time.monotonic() - self.ended < VISIBLE_SECONDS:
            return None
        return self.code

    def begun(self) -> bool:
        if self.beats is None:
            with contextlib.suppress(OSError):
                self.beats, self.heard = (self.log.parent / BEATS).read_text(), time.monotonic()
        return self.beats is not None

    def place(self) -> str | None:
        return self.beats.partition(" ")[0] if self.beats else None

    def end(self) -> None:
        self.engine.ray.cancel(self.reference, force=True)
        with contextlib.suppress(OSError):
            (self.log.parent / ORDER).unlink()  # or a node that thaws might still begin it
        self.code = self.code if self.code is not None else KILLED

    def _silent(self) -> bool:
        """Whether the node has given no sign of life for too long."""
        now = time.monotonic()
        if now - self.listened < self.engine.beat_seconds:
            return False  # the file system is not asked all the time
        if self.listened and now - self.listened > LONG_LOOKS * self.engine.beat_seconds:
            self.heard = now  # it was this process that did not look: the node may have spoken meanwhile
        self.listened = now
        with contextlib.suppress(OSError):
            beats = (self.log.parent / BEATS).read_text()
            if beats != self.beats:
                self.beats, self.heard = beats, now
        return now - self.heard > self.engine.silent_seconds

    def _stranded(self) -> bool:
        """Whether it waits where it should not. Who has waited long asks whether all nodes answer."""
        now = time.monotonic()
        if self.bound:
            return now - self.submitted > self.engine.silent_seconds or not self.nodes & self.engine.roster.ids()
        if now - max(self.submitted, self.asked) > self.engine.silent_seconds:
            self.asked = now
            self.engine.doubt()
        return self.engine.should_be_asked_anew(self.submitted, self.nodes)

    def _end_of_task(self) -> int:
        ray = self.engine.ray
        errors = ray.exceptions
        try:
            told = ray.get(self.reference)
            if isinstance(told, Unable):
                self.engine.leave_out(told)
                return EXIT_STOPPED  # it was no try
            return int(told)
        except errors.LocalRayletDiedError:
            raise EnvironmentLacking(ENDED_HERE, START_ANEW) from None
        except errors.OutOfMemoryError:
            return KILLED if self.begun() else LOST  # of nothing that it did
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            # The task itself raised, as where a node cannot import rotbench.
            where = getattr(error, "ip", "")
            raise EnvironmentLacking(f"node {where} could not start a worker: {last_line(error)}", NEEDED) from None
        except errors.RayError:
            return LOST

    def _still_unseen(self) -> bool:
        """Whether the worker says that it left something which this machine does not see yet."""
        left = {0: self.result, BadInput.exit_code: ERROR, EnvironmentLacking.exit_code: ERROR}.get(self.code or 0)
        return left is not None and not (self.log.parent / left).exists()


@dataclass
class Preparations:
    """The preparation of every node with room. ``parts`` are by the ids of the nodes, of which one that is lost is
    done without.
    """

    engine: RayEngine
    folder: Path
    nodes: Mapping[str, Node]
    parts: dict[str, RayHandle]

    def poll(self) -> int | None:
        """The exit code of the first node that failed, 0 once all have ended well. The error names the node."""
        codes = {node: part.poll() for node, part in self.parts.items()}
        for node, code in codes.items():
            if code == LOST and len(self.parts) > 1:
                del self.parts[node]
                self.engine.roster.leave_out(self.nodes[node], f"node {called(self.nodes[node])} was lost")
            elif code:
                return self._fail(lacking_of(self.nodes[node], self.parts[node], code))
        if None in codes.values() or not (self.parts or self.engine.roster.usable()):
            return None
        others = self._differ()
        if others is not None:
            return self._fail(others)
        self.engine.welcome(self.folder)
        return 0

    def begun(self) -> bool:
        return all(part.begun() for part in self.parts.values())

    def place(self) -> None:
        return None  # on several

    def end(self) -> None:
        for part in self.parts.values():
            part.end()

    def _differ(self) -> RotbenchError | None:
        """The error where device or precision, left for each machine to choose, come to different things."""
        for node, part in self.parts.items():
            error = self.engine.differs(self.nodes[node], part)
            if error is not None:
                return error
        return None

    def _fail(self, error: RotbenchError) -> int:
        self.end()
        return leave_error(self.folder, error)


def lacking_of(node: Node, part: RayHandle, code: int) -> RotbenchError:
    """Why a node could not prepare, with its name."""
    left = left_error(part.log.parent)
    if left is not None:
        return type(left)(f"node {called(node)}: {left.what}", left.todo)
    how = "it was lost" if code == LOST else f"it ended with {code}"
    return EnvironmentLacking(f"node {called(node)} could not prepare the data: {how}", f"See {part.log}.")


@dataclass
class RayEngine:
    """See the module; ``module`` is that of the worker, ``preparation`` that which prepares data.

    A run reserves ``cpus`` processors and ``gpus`` GPUs. It has ``threads``; one that has more reserves so much more.
    """

    ray: Any
    cpus: float
    gpus: float
    store: Path
    files: Mapping[str, str]
    threads: int = 1
    module: str = "rotbench.worker"
    preparation: str = "rotbench.prepare"
    silent_seconds: float = SILENT_SECONDS
    head: str = ""
    here: str = ""  # the node of this process
    roster: Roster = field(init=False)
    _functions: dict[Any, Any] = field(default_factory=dict)  # each is sent to the head once
    _answered_at: float | None = None
    _has_head: bool = True
    _refused: int = 0
    _looked_at: float = -COUNT_SECONDS
    _resolved: tuple[Node, Mapping[str, Any]] | None = None  # what "auto" comes to, and on which node it was seen

    def __post_init__(self) -> None:
        self.roster = Roster(self.ray, self.store, self.files, self._task, self._holds)

    def prepare(self, folder: Path) -> Preparations:
        """Prepare every node that has room for a run, and those that join later: data may lie on each of its own."""
        self.roster.look()
        nodes = {node["NodeID"]: node for node in self.roster.usable() if self._holds(node)}
        # The first lays data sets out, for all.
        parts = {
            node["NodeID"]: self._prepare_node(node, folder / node["NodeID"] if number else folder, folder)
            for number, node in enumerate(nodes.values())
        }
        if not parts:
            self.welcome(folder)  # who comes first is prepared first
        return Preparations(self, folder, nodes, parts)

    def welcome(self, folder: Path) -> None:
        """From now on, have nodes that join prepare what the first ones have prepared."""
        if self.roster.prepare is not None:
            return
        late: dict[str, RayHandle] = {}

        def begin(node: Node) -> RayHandle:
            late[node["NodeID"]] = self._prepare_node(node, folder / node["NodeID"], folder)
            return late[node["NodeID"]]

        def judge(node: Node, code: int) -> RotbenchError | None:
            part = late.pop(node["NodeID"])
            return lacking_of(node, part, code) if code else self.differs(node, part)

        self.roster.prepare, self.roster.verdict = begin, judge

    def _prepare_node(self, node: Node, part: Path, folder: Path) -> RayHandle:
        if part != folder:
            part.mkdir(exist_ok=True)
            request = json.loads((folder / "request.json").read_bytes())
            write_durably(part / "request.json", to_json({**request, "lay_out": False}))
        for left in (BEATS, RESOLVED, ERROR):
            (part / left).unlink(missing_ok=True)
        log = self._order(part, self.preparation, "prepare.log", 1)
        # It reserves nothing, or it would wait for what others are training.
        options = {"num_cpus": 0, "scheduling_strategy": only(node)}
        reference = self._task(prepare, options, str(part.absolute()))
        return RayHandle(self, reference, log, time.monotonic(), frozenset([node["NodeID"]]), RESOLVED, bound=True)

    def differs(self, node: Node, part: RayHandle) -> RotbenchError | None:
        """The error where a node that has prepared would train on another device, or in another precision, than the
        first.
        """
        try:
            resolved = json.loads((part.log.parent / RESOLVED).read_bytes())
        except (OSError, ValueError):
            return EnvironmentLacking(f"node {called(node)} did not say what it would train on", f"See {part.log}.")
        if self._resolved is None:
            self._resolved = node, resolved
        first, expected = self._resolved
        if resolved == expected:
            return None
        return BadInput(
            f"node {called(node)} would train {_on(resolved)}, node {called(first)} {_on(expected)}",
            "Give --device and precision, or have the cluster without one of them.",
        )

    def start(self, run_id: str, attempt: Path, threads: int) -> RayHandle:
        store, number = attempt.parent.parent, attempt.name.rpartition(".")[2]
        log = self._order(attempt, self.module, "worker.log", threads)
        # All may have come into doubt since room was counted.
        nodes = frozenset(node["NodeID"] for node in self.roster.usable()) or self.roster.present()
        options = {
            "num_cpus": self._reserved(threads),
            "num_gpus": self.gpus,
            "scheduling_strategy": "SPREAD",
            "label_selector": {"ray.io/node-id": f"in({','.join(sorted(nodes))})"},  # Ray takes no spaces
        }
        reference = self._task(try_attempt, options, str(store.absolute()), run_id, number)
        return RayHandle(self, reference, log, time.monotonic(), nodes)

    def _reserved(self, threads: int) -> float:
        """Processors for so many threads; no more than some node has, where a run would wait for ever."""
        if threads == self.threads:
            return self.cpus
        most = max((node["Resources"].get("CPU", 0.0) for node in self.roster.usable()), default=self.cpus)
        return float(max(LEAST_SHARE, min(self.cpus * threads / self.threads, most)))

    def room(self) -> int:
        """How many runs the nodes that are there, and not in doubt, could hold at once.

        Raises :class:`~rotbench.errors.EnvironmentLacking` once the head is gone, Ray on this machine has ended, or no
        node that is there can be used.
        """
        now = time.monotonic()
        if now - self._looked_at >= COUNT_SECONDS:
            self._looked_at = now
            if self._head_answers():
                self.roster.look()
                if self.here and self.here not in self.roster.ids():
                    raise EnvironmentLacking(ENDED_HERE, START_ANEW)
                why = self.roster.none_is_left()
                if why:
                    raise EnvironmentLacking(f"no node is left: {why}", "Mend it, and run the command again.")
        return sum(self._holds(node) for node in self.roster.usable()) if self._has_head else 0

    def notes(self) -> list[str]:
        return self.roster.notes()

    def _head_answers(self) -> bool:
        """Whether the head is there. Ray would ask it for a minute and then end this process, with no word of ours; and
        at once where another head has taken its place. So one that refuses twice is gone; a network that is silent is
        given time.
        """
        now = time.monotonic()
        self._answered_at = now if self._answered_at is None else self._answered_at
        try:
            connect(self.head)
        except OSError as error:
            self._refused = self._refused + 1 if isinstance(error, ConnectionRefusedError) else 0
            if self._refused < 2 and now - self._answered_at < HEAD_SECONDS:
                if self._has_head:
                    self.roster.note(f"the head of the Ray cluster at {self.head} does not answer; waiting for it")
                self._has_head = False
                return False
            raise EnvironmentLacking(
                f"the head of the Ray cluster at {self.head} is gone",
                "Run the command again, on any cluster or on none.",
            ) from None
        self._answered_at, self._refused, self._has_head = now, 0, True
        return True

    @property
    def beat_seconds(self) -> float:
        return self.silent_seconds / BEATS_A_SILENCE

    def doubt(self) -> None:
        """Ask every node whether it is there; until it answers, nothing is started on it."""
        if self._head_answers():
            self.roster.doubt()

    def should_be_asked_anew(self, submitted: float, nodes: frozenset[str]) -> bool:
        """Whether what was submitted then, for these nodes, and has not begun, is to be asked for again: all of them
        are gone, it may have been given to one that does not answer, or it has waited while others have come.
        """
        if not nodes & self.roster.present():
            return True
        patience = time.monotonic() - self.beat_seconds
        if any(submitted < since < patience for since in self.roster.silent_since(nodes)):
            return True
        return submitted < patience and not nodes.issuperset(node["NodeID"] for node in self.roster.usable())

    def leave_out(self, unable: Unable) -> None:
        """Use a node no more that could not make an attempt."""
        node = self.roster.named(unable.node)
        if node is not None:
            self.roster.leave_out(node, f"node {called(node)} cannot train: {unable.why}")

    def _holds(self, node: Mapping[str, Any]) -> int:
        cpus, gpus = (node["Resources"].get(name, 0.0) for name in ("CPU", "GPU"))
        holds = int(cpus / self.cpus + 1e-9)
        if not self.gpus:
            return holds
        # A share lies on one GPU: two thirds of four hold four, not six.
        return min(holds, int(gpus) * int(1 / self.gpus + 1e-9) if self.gpus < 1 else int(gpus / self.gpus))

    def _order(self, folder: Path, module: str, log: str, threads: int) -> Path:
        """Leave what a node is to run in a folder; returns where its log will lie."""
        order = {"module": module, "log": log, "threads": threads, "beat_seconds": self.beat_seconds}
        write_durably(folder / ORDER, to_json(order))
        return folder / log

    def _task(self, function: Any, options: Mapping[str, Any], *arguments: str) -> Any:
        if function not in self._functions:
            self._functions[function] = self.ray.remote(function)
        return self._functions[function].options(max_retries=0, **options).remote(*arguments)


@contextlib.contextmanager
def ray_engine(
    address: str | None,
    resources: Resources,
    device: str,
    store: Path,
    plugins: Sequence[PluginReference],
    *,
    environment: Mapping[str, str] | None = None,
    module: str = "rotbench.worker",
    preparation: str = "rotbench.prepare",
    silent_seconds: float = SILENT_SECONDS,
) -> Iterator[RayEngine]:
    """An engine on the cluster at ``address``, which has been found fit.

    ``address`` is ``HOST:PORT``, ``"auto"`` (the cluster that this machine is part of) or None: what RAY_ADDRESS says,
    or this machine alone, for as long as it takes. ``environment`` is given to every worker. Raises
    :class:`~rotbench.errors.EnvironmentLacking` where Ray is not installed, there is no cluster, no node has room for
    a run, or one does not see the store or a file of ``plugins``; :class:`~rotbench.errors.BadInput` where nodes have
    other versions than this machine.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        keep_to_oneself()
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise EnvironmentLacking("--engine ray: Ray is not installed", "pip install 'rotbench[ray]'") from None
    join(ray, address, environment or {})
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        Store(store).forget_signs()
        files = files_of(plugins)
        fit = require_fit_nodes(ray, store, files)
        cpus, gpus = reserved(resources, device, any(node["Resources"].get("GPU") for node in alive_nodes(ray)))
        context = ray.get_runtime_context()
        engine = RayEngine(
            ray,
            cpus,
            gpus,
            store,
            files,
            threads=resources.threads,
            module=module,
            preparation=preparation,
            silent_seconds=silent_seconds,
            head=context.gcs_address,
            here=context.get_node_id(),
        )
        engine.roster.fit.update(fit)
        stack.callback(engine.roster.close)
        if not engine.room():
            there = ", ".join(sorted(f"{called(node)} has {_offered(node)}" for node in alive_nodes(ray)))
            raise EnvironmentLacking(
                f"no node has room for a run, which reserves {_amount(cpus, gpus)}: {there}",
                "Add a node, or ask for less under [resources].",
            )
        yield engine


def reserved(resources: Resources, device: str, cluster_has_gpus: bool) -> tuple[float, float]:
    """The processors and the GPUs that a run reserves: what the study says, else one a thread, and a GPU where runs are
    trained on one. Raises :class:`~rotbench.errors.BadInput` for what Ray cannot hand out.
    """
    if device.startswith("cuda:"):
        raise BadInput(f"--device {device}: which GPU a run gets is for Ray to say", "Give --device cuda.")
    for name, amount in (("cpus", resources.cpus), ("gpus", resources.gpus)):
        if amount and (amount < LEAST_SHARE or (name == "gpus" and amount > 1 and amount % 1)):
            raise BadInput(
                f"[resources] {name} = {amount:g} cannot be had from Ray",
                f"Give {LEAST_SHARE:g} or more, and whole GPUs above one.",
            )
    on_gpu = device.startswith("cuda") or (device == "auto" and cluster_has_gpus)
    gpus = resources.gpus if resources.gpus is not None else float(on_gpu)
    return resources.cpus or float(resources.threads), gpus


def _on(resolved: Mapping[str, Any]) -> str:
    """What a node would train on, as "on cpu in fp32"."""
    return f"on {resolved['device']} in {', '.join(sorted(set(resolved['precisions'].values())))}"


def _offered(node: Mapping[str, Any]) -> str:
    return _amount(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))


def _amount(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU" + (f" and {gpus:g} GPU" if gpus else "")
