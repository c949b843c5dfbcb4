"""How fast this machine trains: a few steps of each kind of training that nothing is known of, timed."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rotbench.driver import preparation, surroundings
from rotbench.engine import Launcher
from rotbench.errors import EnvironmentLacking
from rotbench.plan import Plan, Run
from rotbench.price import Paces, unpriced
from rotbench.store import left_error, run_record, to_json
from rotbench.system import ending_on_sigterm

#: How often it is looked whether the timing has ended.
POLL_SECONDS = 0.05


def time_steps(plan: Plan, waiting: Sequence[Run], paces: Paces, device: str, launcher: Launcher) -> None:
    """Add to ``paces`` what the runs that wait will take, one kind after the other; nothing is kept.

    Raises :class:`~rotbench.errors.EnvironmentLacking` where data or the device are lacking.
    """
    runs = unpriced(waiting, paces)
    if not runs:
        return
    with ending_on_sigterm(), tempfile.TemporaryDirectory(prefix="rotbench-") as name:
        folder = Path(name)
        threads = max(run.settings["threads"] for run in runs)
        _finish(launcher, "rotbench.prepare", folder, preparation(plan, runs, device), threads)
        requests = [
            {
                "run": run_record(run),
                "plugins": [asdict(reference) for reference in run.plugins],
                **surroundings(plan, device),
            }
            for run in runs
        ]
        _finish(launcher, "rotbench.timing", folder, {"requests": requests}, threads)
        timed = {one["run"]: one for one in json.loads((folder / "timed.json").read_bytes())}
    for run in runs:
        if "error" not in timed[run.id]:
            paces.add_timed(run.settings, timed[run.id]["epoch_seconds"], timed[run.id]["start_seconds"])


def _finish(launcher: Launcher, module: str, folder: Path, request: dict[str, Any], threads: int) -> None:
    """Run a module on a request until it ends; what it left as its error is raised."""
    (folder / "request.json").write_bytes(to_json(request))
    log = folder / "log.txt"
    handle = launcher.launch(module, [str(folder)], log, threads)
    try:
        while (code := handle.poll()) is None:
            time.sleep(POLL_SECONDS)
    finally:
        handle.end()
    if code:
        last = (log.read_text(errors="replace").strip().splitlines() or [f"exit code {code}"])[-1]
        raise left_error(folder) or EnvironmentLacking(f"timing failed: {last}", "Plan without --measure.")
