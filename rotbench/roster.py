"""Which nodes of a cluster are given runs: those that were found fit, and answer.

Nodes come and go while a study runs. One that joins is asked what the first ones were asked and prepares what they
prepared before it gets a run; where it lacks something it is left out, with a word, and the study goes on without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotbench.cluster import ANSWER_SECONDS, Inquiry, alive_nodes, called, inquire, last_line, only
from rotbench.engine import Handle
from rotbench.errors import RotbenchError
from rotbench.node import answer

Node = Mapping[str, Any]

#: Starts the preparation of a node that has joined.
Prepare = Callable[[Node], Handle]

#: Why a node whose preparation has ended with this code cannot be used, or None.
Verdict = Callable[[Node, int], RotbenchError | None]


@dataclass
class _Joining:
    """A node on its way to be used."""

    node: Node
    inquiry: Inquiry
    since: float
    preparation: Handle | None = None


@dataclass
class Roster:
    """The nodes of a cluster by what they are good for.

    ``files`` is what each must have, by path and hash; ``submit`` starts a function as a task with options and
    arguments; ``holds`` says how many runs a node has room for. A node is known by Ray's id, which is new whenever Ray
    is started there anew.
    """

    ray: Any
    store: Path
    files: Mapping[str, str]
    submit: Callable[..., Any]
    holds: Callable[[Node], int]
    fit: set[str] = field(default_factory=set)
    prepare: Prepare | None = None  # not before the first nodes have
    verdict: Verdict | None = None
    there: tuple[Node, ...] = ()
    _left_out: set[str] = field(default_factory=set)
    _joining: dict[str, _Joining] = field(default_factory=dict)
    _asked: dict[str, tuple[Any | None, float]] = field(default_factory=dict)  # in doubt: its answer, and since when
    _notes: list[str] = field(default_factory=list)
    _last: str = ""

    def look(self) -> None:
        """See who is there, and go on with those that are joining."""
        self.there = tuple(alive_nodes(self.ray))
        ids = {node["NodeID"] for node in self.there}
        self._asked = {node: asked for node, asked in self._asked.items() if node in ids}
        for node in self.there:
            asked = self._asked.get(node["NodeID"])
            if asked is not None and asked[0] is None:  # what was asked came to nothing
                self._ask(node, asked[1])
        for gone in [node for node in self._joining if node not in ids]:
            self._part(gone)
        for node in self.there:
            known = node["NodeID"] in self.fit | self._left_out | self._joining.keys()
            if not known and self.holds(node):
                inquiry = inquire(self.ray, self.store, self.files, [node])
                self._joining[node["NodeID"]] = _Joining(node, inquiry, time.monotonic())
        for joining in list(self._joining.values()):
            self._go_on(joining)

    def usable(self) -> list[Node]:
        """The nodes that may be given a run, as of the last look."""
        doubtful = self._doubtful()
        return [node for node in self.there if node["NodeID"] in self.fit and node["NodeID"] not in doubtful]

    def ids(self) -> frozenset[str]:
        """The nodes that are there."""
        return frozenset(node["NodeID"] for node in self.there)

    def present(self) -> frozenset[str]:
        """Those of them that are given runs, or will be again once they answer."""
        return self.ids() & self.fit

    def none_is_left(self) -> str:
        """Why none of the nodes that are there can be used, as of the last that was left out; "" where one can, or may
        become so.
        """
        able = [node["NodeID"] for node in self.there if self.holds(node)]
        return self._last if able and self._left_out.issuperset(able) else ""

    def leave_out(self, node: Node, why: str) -> None:
        """Use a node no more."""
        if node["NodeID"] in self._left_out:
            return
        self.fit.discard(node["NodeID"])
        self._left_out.add(node["NodeID"])
        self._asked.pop(node["NodeID"], None)
        self._last = why
        self._notes.append(f"left out: {why}")

    def named(self, node_id: str) -> Node | None:
        """A node that was there at the last look."""
        return next((node for node in self.there if node["NodeID"] == node_id), None)

    def doubt(self) -> None:
        """Ask every node whether it is there; until it answers, it is given nothing."""
        for node in alive_nodes(self.ray):
            if node["NodeID"] in self.fit and node["NodeID"] not in self._asked:
                self._ask(node, time.monotonic())

    def _ask(self, node: Node, since: float) -> None:
        options = {"num_cpus": 0, "scheduling_strategy": only(node)}
        self._asked[node["NodeID"]] = self.submit(answer, options, str(self.store.absolute())), since

    def silent_since(self, nodes: frozenset[str]) -> list[float]:
        """When each of these that has not answered yet was asked."""
        self._doubtful()
        return [since for node, (_, since) in self._asked.items() if node in nodes]

    def note(self, message: str) -> None:
        self._notes.append(message)

    def notes(self) -> list[str]:
        """What became of the cluster, since this was last asked."""
        said, self._notes = self._notes, []
        return said

    def close(self) -> None:
        for node in list(self._joining):
            self._part(node)

    def _go_on(self, joining: _Joining) -> None:
        node, now = joining.node, time.monotonic()
        if joining.preparation is None:
            if not joining.inquiry.answered() and now - joining.since < ANSWER_SECONDS:
                return
            fault = joining.inquiry.fault(node)
            if fault is None:
                if self.prepare is not None:
                    joining.preparation = self.prepare(node)
                return
        else:
            try:
                code = joining.preparation.poll()
                if code is None:
                    return
                fault = self.verdict(node, code) if self.verdict is not None else None
            except RotbenchError as error:
                fault = error
        self._part(node["NodeID"])
        if fault is not None:
            self.leave_out(node, f"{fault.what}. {fault.todo}")
        else:
            self.fit.add(node["NodeID"])
            self._notes.append(f"node {called(node)} has joined")

    def _part(self, node: str) -> None:
        """Forget that a node was joining."""
        joining = self._joining.pop(node)
        joining.inquiry.close()
        if joining.preparation is not None:
            joining.preparation.end()

    def _doubtful(self) -> set[str]:
        """The nodes that have not answered yet."""
        references = [reference for reference, _ in self._asked.values() if reference is not None]
        ended, _ = self.ray.wait(references, num_returns=len(references), timeout=0) if references else ((), ())
        for node, (reference, since) in list(self._asked.items()):
            if reference in ended:
                del self._asked[node]
                if not self._hear(node, reference):
                    self._asked[node] = None, since  # asked again at the next look
        return set(self._asked)

    def _hear(self, node: str, reference: Any) -> bool:
        """Whether a node has answered; one that is there, but cannot write to the store any more, is left out."""
        errors = self.ray.exceptions
        try:
            self.ray.get(reference)
        except errors.RayTaskError as error:
            known = self.named(node)
            if known is not None:
                why = f"node {called(known)} cannot write to {self.store.absolute()} any more: {last_line(error)}"
                self.leave_out(known, why)
        except errors.RayError:
            return False  # it is gone and Ray has not noticed yet, or a process of Ray's on it was ended
        return True
