"""What a reader of a plan or a report must know of its pretext tasks, in their own words."""

from __future__ import annotations

import contextlib
import sys

from rotbench.hookspecs import keywords
from rotbench.plan import Plan, Run
from rotbench.resolve import instance


def notices(plan: Plan) -> dict[str, str]:
    """What the tasks say of their settings, by the name of the pretext run; one with nothing to say is left out.

    A rehearsal is judged by what the study asks for: that it is small, it says itself.
    """
    pretexts = {run.variant["pretext"]: run for run in plan.runs if run.kind == "pretext"}
    told = {name: _notice(plan, run) for name, run in pretexts.items()} if not plan.rehearsal else {}
    return {name: notice for name, notice in told.items() if notice}


def _notice(plan: Plan, run: Run) -> str | None:
    settings = run.settings
    plugin = next(p for p in plan.plugins if (p.kind, p.name) == ("pretext task", settings["task"]["name"]))
    method = getattr(instance(plugin, settings["task"]), "notice", None)
    if method is None:
        return None
    offered = {
        "epochs": settings["train"]["epochs"],
        "batch_size": settings["train"]["batch_size"],
        "model_name": settings["model"]["name"],
        "stem": settings["model"]["stem"],
    }
    try:
        with contextlib.redirect_stdout(sys.stderr):
            said = method(**keywords(method, **offered))
    except Exception as error:  # a plugin may raise anything, and no training hangs on this
        return f"its notice raised {type(error).__name__}: {error}"
    return None if said is None else str(said)
