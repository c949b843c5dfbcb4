"""A Ray cluster: joined, its nodes asked what they have, and what they are called."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rotbench.errors import BadInput, EnvironmentLacking, RotbenchError
from rotbench.node import SAME_EVERYWHERE, Inspected, difference, inspect, versions
from rotbench.registry import PluginReference
from rotbench.resources import checkout
from rotbench.store import SEEN, to_json
from rotbench.system import write_durably

NEEDED = "Every node needs the same environment, with rotbench[ray], and the results folder."
START = "Start one with: ray start --head"
SHARE = "Give a folder with --out that all nodes share."

#: A node that has not answered for so long is told as one that does not.
ANSWER_SECONDS = 60.0

#: A cluster that takes longer to accept a connection is taken for none.
CONNECT_SECONDS = 10.0


def keep_to_oneself() -> None:
    """What Ray is to know before it is imported, where it is started for this command alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a study of one machine tells nobody of itself
    # It would make a token and leave it in the home folder, where each later `ray start` finds it and asks for it.
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def join(ray: Any, address: str, variables: Mapping[str, str]) -> None:
    """Become part of the cluster at ``HOST:PORT`` or ``"auto"``, or start one of this machine alone (``"local"``).

    ``variables`` are added to the environment of what runs there. Raises
    :class:`~rotbench.errors.EnvironmentLacking` where there is no cluster, :class:`~rotbench.errors.BadInput` where
    it has another Ray or Python.
    """
    if address.startswith("ray://"):
        raise BadInput(f"--ray-address {address}: a driver outside the cluster", "Give HOST:PORT, or auto, on a node.")
    if address not in ("auto", "local") and not re.fullmatch(r"\S+:\d{1,5}", address):
        raise BadInput(f"--ray-address {address}: no address", "Give HOST:PORT of the head, or auto.")
    own = {} if address != "local" else {"include_dashboard": False}
    from ray.exceptions import RayError

    before, answers = signal.getsignal(signal.SIGTERM), False
    try:
        _require_answer(address)
        answers = address != "local"
        ray.init(
            address=address,
            runtime_env={"env_vars": {**_environment(), **variables}},
            logging_level=logging.ERROR,
            log_to_driver=False,
            **own,
        )
    except (RayError, RuntimeError, ValueError, OSError) as error:
        text = " ".join(str(error).split())
        if "ersion mismatch" in text:
            raise BadInput(f"the Ray cluster at {address} has other versions: {text[:300]}", SAME_EVERYWHERE) from None
        where = "on this machine" if address in ("auto", "local") else f"at {address}"
        todo = "If it asks for a token, this machine needs that too, and RAY_AUTH_MODE=token." if answers else START
        raise EnvironmentLacking(f"no Ray cluster {where}: {last_line(error)}", todo) from None
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray takes it for its own


@dataclass(frozen=True)
class Inquiry:
    """Nodes that were asked what they have, by way of a file in the store that says what they should.

    ``answers`` are Ray's references, by the ids of the nodes.
    """

    ray: Any
    store: Path
    sign: Path
    answers: Mapping[str, Any]

    def answered(self, seconds: float = 0.0) -> bool:
        """Whether all have answered, which is waited for so long."""
        asked = list(self.answers.values())
        return len(self.ray.wait(asked, num_returns=len(asked), timeout=seconds)[0]) == len(asked)

    def fault(self, node: Mapping[str, Any]) -> RotbenchError | None:
        """Why a node cannot be used, or None."""
        name, reference = called(node), self.answers[node["NodeID"]]
        if not self.ray.wait([reference], timeout=0)[0]:
            return EnvironmentLacking(f"node {name} does not answer", "Take it out of the cluster, or start it anew.")
        try:
            told: Inspected = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return EnvironmentLacking(f"node {name} cannot run rotbench: {last_line(error)}", NEEDED)
        other = difference(versions(), told.versions)
        if other:  # first: another rotbench may say all else in another way
            return BadInput(f"node {name} {other}", SAME_EVERYWHERE)
        if not told.sees:
            return EnvironmentLacking(f"node {name} does not see {self.store.absolute()}", SHARE)
        if told.refused:
            return EnvironmentLacking(f"node {name} cannot write to {self.store.absolute()}: {told.refused}", SHARE)
        if told.lacks:
            return EnvironmentLacking(
                f"node {name} does not have {told.lacks[0]} as it is here",
                "Put study, plugins and environment where every node finds them under the same path.",
            )
        return None

    def close(self) -> None:
        self.sign.unlink(missing_ok=True)


def inquire(ray: Any, store: Path, files: Mapping[str, str], nodes: Sequence[Mapping[str, Any]]) -> Inquiry:
    """Ask nodes whether they see the store and these files, by path and hash, and which versions they have."""
    sign = store / f"{SEEN}{secrets.token_hex(8)}"
    write_durably(sign, to_json(files))
    task = ray.remote(inspect)
    answers = {
        node["NodeID"]: task.options(num_cpus=0, max_retries=0, scheduling_strategy=only(node)).remote(
            str(store.absolute()), sign.name
        )
        for node in nodes
    }
    return Inquiry(ray, store, sign, answers)


def require_fit_nodes(ray: Any, store: Path, files: Mapping[str, str]) -> frozenset[str]:
    """The ids of all nodes. Raises for the first that lacks something, or has other versions than this machine."""
    nodes = alive_nodes(ray)
    with contextlib.closing(inquire(ray, store, files, nodes)) as inquiry:
        inquiry.answered(ANSWER_SECONDS)
        still = {node["NodeID"] for node in alive_nodes(ray)}
        for node in nodes:
            fault = inquiry.fault(node) if node["NodeID"] in still else None
            if fault is not None:
                raise fault
        return frozenset(still & set(inquiry.answers))


def files_of(plugins: Sequence[PluginReference]) -> dict[str, str]:
    """The files of plugins, with the identities of their code."""
    return {ref.location: ref.sha256 for ref in plugins if Path(ref.location).is_absolute()}


def _require_answer(address: str) -> None:
    """Raise OSError where nothing listens at an address: Ray would try for three minutes."""
    with contextlib.suppress(ImportError):
        # The address of "auto" is known to Ray alone, and not part of what it promises to keep.
        from ray._private.services import canonicalize_bootstrap_address

        found = canonicalize_bootstrap_address(address)
        if found is not None:
            connect(found)


def connect(address: str) -> None:
    """Raise OSError where nothing listens at ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _environment() -> dict[str, str]:
    """What Ray's processes are to know: who reserves no GPU may see them all the same, as on one machine; and where
    a clone that is not installed is imported from.
    """
    told = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    folder = checkout()
    if folder is not None:
        told["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return told


def only(node: Mapping[str, Any]) -> Any:
    """On this node or nowhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def alive_nodes(ray: Any) -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def called(node: Mapping[str, Any]) -> str:
    """What a node is called: its host and, since a host may have several, the beginning of its id."""
    return f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"


def last_line(error: BaseException) -> str:
    """The last line of an error, where Ray says what was the matter."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
