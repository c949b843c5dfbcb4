"""What happens on a node of a cluster: an attempt is made in a process of its own, or the node says what it has.

All that a node is told is where the store lies and which attempt is meant; the rest it reads there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rotbench import __version__
from rotbench._version import RESULTS_VERSION
from rotbench.engine import LOST
from rotbench.errors import BadInput
from rotbench.plugin_file import read_plugin_file
from rotbench.store import SEEN, attempt_folder
from rotbench.system import end_group, python_command, python_environment, start_process

#: What must be alike on all nodes, or the same study would give other bits on each.
DISTRIBUTIONS = ("torch", "torchvision", "numpy", "safetensors")

#: What a node is to run and must have, in the folder of the attempt or of the preparation.
ORDER = "node.json"

#: A sign of life of the node, in the folder of an attempt: what it is called, and how often it gave one.
BEATS = "beats"


@dataclass(frozen=True)
class Inspected:
    """What a node is called, whether it sees the store, why it may not write there ("" if it may), which of the files
    that it was asked for it lacks or has otherwise, and what is installed on it.
    """

    name: str
    sees: bool
    refused: str
    lacks: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Unable:
    """A node that could not make an attempt, by Ray's id, and why."""

    node: str
    why: str


def try_attempt(store: str, run_id: str, number: str) -> int | Unable:
    """What Ray calls: :func:`make_attempt`, or why this node cannot."""
    try:
        return make_attempt(store, run_id, number)
    except OSError as error:
        import ray

        return Unable(ray.get_runtime_context().get_node_id(), str(error))


def make_attempt(store: str, run_id: str, number: str) -> int:
    """Make an attempt in a process of its own, as the local engine does; returns the exit code, negative for a signal.

    The process ends with this one, whatever ends it. Raises OSError where this node does not see the attempt, may not
    write there, or cannot start a process.
    """
    attempt = attempt_folder(Path(store), run_id, number)
    try:
        order = json.loads((attempt / ORDER).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"node {socket.gethostname()} does not see {attempt}") from None
    claim = attempt / f".{BEATS}.{os.getpid()}"
    claim.write_text(f"{socket.gethostname()} 0")
    try:
        # Whoever names the file makes the attempt: a cluster that starts a task anew does not start a second worker.
        os.link(claim, attempt / BEATS)
    except FileExistsError:
        return LOST
    finally:
        claim.unlink()
    return _finished(python_command(order["module"], store, run_id, number), attempt, order)


def prepare(folder: str) -> int:
    """Prepare data and weights in a process of its own; returns its exit code."""
    order = json.loads((Path(folder) / ORDER).read_bytes())
    _replace(Path(folder) / BEATS, f"{socket.gethostname()} 0")
    return _finished(python_command(order["module"], folder), Path(folder), order)


def _finished(command: list[str], folder: Path, order: Mapping[str, Any]) -> int:
    """The exit code of a process, once it has ended; while it runs, signs of life are left in ``folder``."""
    # Ray sets OMP_NUM_THREADS for its own workers; results depend on it, so it is set anew here.
    process = start_process(command, folder / order["log"], python_environment(order["threads"]))
    beats = 0
    try:
        while True:
            try:
                return process.wait(order["beat_seconds"])
            except subprocess.TimeoutExpired:
                beats += 1
                with contextlib.suppress(OSError):
                    _replace(folder / BEATS, f"{socket.gethostname()} {beats}")
    finally:
        end_group(process)
        process.close()


def _replace(path: Path, text: str) -> None:
    """Write a file anew, so that it is read whole at any time."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def answer(store: str) -> None:
    """Do in the store what an attempt does, and say nothing: a node that is frozen, or whose shared folder hangs, does
    not even that.

    Raises OSError where the store is not there any more, cannot be written, or has no hard links.
    """
    folder = Path(store) / "attempts" / f"{SEEN}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        claim = folder / "claim"
        claim.touch()
        os.link(claim, folder / BEATS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def inspect(store: str, token: str) -> Inspected:
    """Look for the file ``token`` in the store and for the files that it names with hashes; try to write there."""
    name = socket.gethostname()
    probe = Path(store) / token
    sees, refused = False, ""
    lacks: list[str] = []
    try:
        files = json.loads(probe.read_bytes())
        sees = True
        lacks = [path for path, sha256 in files.items() if _identity(Path(path)) != sha256]
        answer(store)
    except OSError as error:
        refused = str(error)
    return Inspected(name, sees, refused, tuple(lacks), versions())


def _identity(path: Path) -> str:
    """The identity of a plugin file, its helper modules included; empty if one of them cannot be read."""
    try:
        return read_plugin_file(path).sha256
    except (OSError, BadInput):
        return ""


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _sha256_of_all(package: Path) -> str:
    """One hash of all modules of a package."""
    told = {path.relative_to(package).as_posix(): _sha256(path) for path in package.rglob("*.py")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@functools.lru_cache(maxsize=1)
def versions() -> Mapping[str, str]:
    """Python, rotbench and what it computes with, each with its version; and a hash of rotbench's modules, since
    clones of one version may differ.
    """
    found = {
        "Python": platform.python_version(),
        "rotbench": __version__,
        "results of rotbench": str(RESULTS_VERSION),
        "rotbench's code": _sha256_of_all(Path(__file__).parent)[:12],
    }
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """The first version in which a node differs from the driver's machine, as what one says of the node; "" if none."""
    for name, version in here.items():
        if there.get(name) != version:
            return f"has {name} {there.get(name, 'missing')}, this machine {version}"
    return ""


SAME_EVERYWHERE = "Install the same versions on every node: others give other bits."
