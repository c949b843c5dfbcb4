"""A few timed steps of each kind of training: ``python -m rotbench.timing FOLDER``.

A process of its own, so that planning stays free of torch. It reads ``request.json`` in FOLDER, which holds a request
as a worker gets it for each run to be timed, and writes ``timed.json``. What is lacking ends it as in ``prepare``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rotbench.errors import RotbenchError
from rotbench.store import leave_error, to_json
from rotbench.system import end_with_parent

#: Steps that are timed, after as many that are not; and test images that are scored.
STEPS = 4
SCORED_IMAGES = 500

#: When this process began, but for the start of Python itself, if it is one of its own.
BEGAN = time.monotonic()


def main(arguments: list[str], began: float = BEGAN) -> int:
    """Time what the request asks for; the exit code is 0 or that of the error in ``error.json``.

    ``began``: when the process did.
    """
    folder = Path(arguments[0])
    end_with_parent()
    try:
        request = json.loads((folder / "request.json").read_bytes())
        imported = _import_training(began)
        timed = [{"run": one["run"]["id"], **_timed(one, imported)} for one in request["requests"]]
        (folder / "timed.json").write_bytes(to_json(timed))
    except RotbenchError as error:
        return leave_error(folder, error)
    return 0


def _import_training(began: float) -> float:
    """Import PyTorch, unless that was done; returns how long this process has taken until then."""
    import rotbench.setup
    import rotbench.train  # noqa: F401

    return time.monotonic() - began


def _timed(request: Mapping[str, Any], imported: float) -> dict[str, Any]:
    """What one run takes, or the error that a plugin raised: the others are timed all the same."""
    try:
        return dict(time_run(request, imported))
    except RotbenchError:
        raise
    except Exception as error:  # a plugin may raise anything
        return {"error": f"{type(error).__name__}: {error}"}


def time_run(request: Mapping[str, Any], imported: float) -> dict[str, float]:
    """Seconds of one epoch and of starting, which includes imports, from a few steps with random weights."""
    from rotbench.setup import set_up
    from rotbench.train import fit

    began = time.monotonic()
    ready = set_up(request, None)
    start = time.monotonic() - began
    feed = ready.feed
    updates = min(STEPS, feed.updates)
    few = replace(
        feed,
        updates=updates,
        # No more than is seen: what frozen stages make of all images would be computed for a few steps.
        subset=feed.subset[: updates * feed.batch_size],
        validation=feed.validation[:0],
        test_pixels=feed.test_pixels[:SCORED_IMAGES],
        test_labels=feed.test_labels[:SCORED_IMAGES],
    )
    once = replace(ready.train, epochs=1, milestones=(), warmup_epochs=0, test_each_epoch=True)
    for _ in range(2):  # the first time is slower: caches, memory, the choice of kernels
        done = fit(ready.network, few, ready.policy, once, precision=ready.precision, report=lambda row: None)
    views = sum(len(views) for views, _ in few.training_batches(1))
    step_seconds = views / done.images_per_second / few.updates
    score_seconds = max(0.0, (done.history[0]["seconds"] or 0.0) - step_seconds * few.updates) / len(few.test_labels)
    scored = len(feed.validation) + (len(feed.test_labels) if ready.train.test_each_epoch else 0)
    return {
        "epoch_seconds": step_seconds * feed.updates + score_seconds * scored,
        "start_seconds": start + min(imported, 60.0),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
