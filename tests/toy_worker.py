"""A worker in milliseconds, without torch: ``python toy_worker.py STORE RUN ATTEMPT``.

It trains by hashing: what an epoch gives depends on all epochs before it, so a lost, doubled or mixed epoch shows in
the result. It commits a checkpoint after every epoch with the functions that real workers use, and goes on from one.
TOY_BEHAVIOUR makes it misbehave, ``crash@below`` in runs whose id has ``below``; TOY_SECONDS is the length of an epoch;
TOY_CUT the number of the operation at which the first attempt at a downstream run is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from rotbench.checkpoint import EXIT_STOPPED, STOP, save_checkpoint
from rotbench.store import backbone_file, commit, read_manifest, read_verified, to_json
from rotbench.system import end_with_parent
from tests.power_cut import PowerCut


def main(arguments: Sequence[str], began: float = 0.0) -> int:
    """What ``rotbench.worker.main`` does, and takes."""
    store, run_id, number = Path(arguments[0]), *arguments[1:]
    attempt = store / "attempts" / f"{run_id}.{number}"
    request = json.loads((attempt / "request.json").read_bytes())
    run = request["run"]
    end_with_parent()
    note(store / "trained.txt", run_id)
    note(store / "threads.txt", os.environ.get("OMP_NUM_THREADS", "unset"))
    if os.environ.get("TOY_CUT") and number.partition("-")[0] == "1" and run["kind"] == "downstream":
        PowerCut(int(os.environ["TOY_CUT"])).arm()
    start = str(run["seed"])
    for parent in run["needs"]:
        folder = store / "runs" / parent
        name = backbone_file(run["settings"].get("probe", {}).get("epoch"))
        start += read_verified(folder, name, read_manifest(folder)).decode()
    behaviour, _, where = os.environ.get("TOY_BEHAVIOUR", "").partition("@")
    behaviour = behaviour if where and where in run_id else ""
    misbehave(behaviour)
    state, rows = restored(store, request, start)
    epochs = run["settings"]["train"].get("epochs", 1)  # a probe has none
    for epoch in range(len(rows) + 1, epochs + 1):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
        state = trained(state, epoch)
        note(store / "events.txt", f"trained {run_id} {epoch}")
        rows.append(row(epoch, int(state[:8], 16) / 16**8))
        with (attempt / "progress.jsonl").open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        if epoch < epochs:
            save_checkpoint(attempt, run_id, epoch, {"state.json": to_json({"state": state, "rows": rows})})
            note(store / "events.txt", f"committed {run_id} {epoch}")
        if (attempt / STOP).exists():
            return EXIT_STOPPED
    failed = behaviour == "fail"
    result: dict[str, Any] = {
        "error": "it was to fail" if failed else None,
        "diverged": False,
        "history": rows,
        "final": None if failed else {"test_accuracy": rows[-1]["test_accuracy"], "test_loss": 1.0},
        "provenance": {},
        "train_seconds": 0.02,
    }
    log = "".join(f"epoch {entry['epoch']}\n" for entry in rows)
    files = {"run.json": to_json(run), "result.json": to_json(result), "log.txt": log.encode()}
    if run["kind"] == "pretext" and not failed:
        files |= {backbone_file(epoch): weights(start, epoch) for epoch in run["keeps"]}
        files[backbone_file()] = weights(start, epochs)
    commit(attempt, run_id, "failed" if failed else "done", files)
    return 0


def trained(state: str, epoch: int) -> str:
    return hashlib.sha256(f"{state} {epoch}".encode()).hexdigest()


def weights(state: str, epochs: int) -> bytes:
    """What an uninterrupted training would have after so many epochs."""
    for epoch in range(1, epochs + 1):
        state = trained(state, epoch)
    return state.encode()


def note(path: Path, line: str) -> None:
    """One line, appended at once, for the tests to count."""
    with path.open("a") as file:
        file.write(line + "\n")


def misbehave(behaviour: str) -> None:
    if behaviour == "crash":
        os._exit(3)
    if behaviour == "exit":
        os._exit(0)
    if behaviour == "segfault":
        import ctypes

        ctypes.string_at(0)
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "hog":
        held = [bytearray(b"x" * 100_000_000) for _ in range(80)]
        time.sleep(60)
        del held
    if behaviour == "shout":
        for _ in range(200):
            print("x" * 1_000_000)


def restored(store: Path, request: dict[str, Any], start: str) -> tuple[str, list[dict[str, Any]]]:
    """The state and the rows to go on from; a new training begins at ``start``."""
    if not request["resume"]:
        return start, []
    folder = store / "attempts" / request["resume"]
    told = json.loads(read_verified(folder, "state.json", read_manifest(folder)))
    return told["state"], told["rows"]


def row(epoch: int, accuracy: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train_loss": 1.0,
        "train_accuracy": accuracy,
        "test_loss": 1.0,
        "test_accuracy": accuracy,
        "lr": 0.1,
        "seconds": 0.01,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
