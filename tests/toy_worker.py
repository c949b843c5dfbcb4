"""A worker in milliseconds, without torch: ``python toy_worker.py STORE RUN ATTEMPT``.

It behaves as the run's variant asks: an init called ``crash``, ``raise`` or ``hang`` makes it do that.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rotbench.store import commit, to_json


def main(store: str, run_id: str, number: str) -> None:
    attempt = Path(store) / "attempts" / f"{run_id}.{number}"
    run = json.loads((attempt / "request.json").read_bytes())["run"]
    with (Path(store) / "trained.txt").open("a") as file:
        file.write(f"{run_id}\n")
    for parent in run["needs"]:
        assert (Path(store) / "runs" / parent / "manifest.json").exists()
    behaviour = os.environ.get("TOY_BEHAVIOUR", "")
    what, _, where = behaviour.partition("@")
    if where and where in run_id:
        if what == "crash":
            os._exit(3)
        if what == "hang":
            time.sleep(600)
    failed = bool(where) and where in run_id and what == "fail"
    accuracy = 0.5 + run["seed"] / 100
    history = [
        {
            "epoch": epoch,
            "train_loss": 1.0,
            "train_accuracy": accuracy,
            "test_loss": 1.0,
            "test_accuracy": accuracy,
            "lr": 0.1,
            "seconds": 0.01,
        }
        for epoch in (1, 2)
    ]
    with (attempt / "progress.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in history)
    result = {
        "error": "it was to fail" if failed else None,
        "diverged": False,
        "history": history,
        "final": None if failed else {"test_accuracy": accuracy, "test_loss": 1.0},
        "provenance": {},
        "train_seconds": 0.02,
    }
    files = {"run.json": to_json(run), "result.json": to_json(result), "log.txt": b"epoch 1\nepoch 2\n"}
    commit(attempt, run_id, "failed" if failed else "done", files)


main(*sys.argv[1:])
