"""What a plan looks like: what would be trained and why, what is shared, what trains in each variant, what it takes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotbench.architecture import backbone_parameters, head_parameters
from rotbench.comparability import (
    REMEDY,
    STATISTICS,
    Comparison,
    Difference,
    also_differs,
    confounds,
    differences,
    known,
)
from rotbench.hookspecs import STAGES
from rotbench.notice import notices
from rotbench.partner import MATCHED, Variant, pair_up
from rotbench.plan import Plan, Run
from rotbench.price import Paces, Price, kept_bytes
from rotbench.resolve import instance
from rotbench.room import threads_of
from rotbench.spoken import about, amount, counted, duration, megabytes, variant_words
from rotbench.store import Standing, run_record
from rotbench.trained import TrainedPhase, most_parameters, trained_phases, trained_words

if TYPE_CHECKING:
    from rich.table import Table

_FLAGS = {"failed": "--retry-failed", "stale": "--rerun-stale"}

_BASES = {
    "finished": "from finished runs like these",
    "timed": "from a few timed steps",
    "alike": "a guess from runs that are only alike",
}


@dataclass(frozen=True)
class Group:
    """The runs of one variant, or of one pretext task: over all seeds and repeats."""

    words: str
    runs: tuple[Run, ...]
    trains: str
    shared: int  # how many of the selected runs start from each of these

    def states(self, standing: Mapping[str, Standing]) -> list[tuple[str, str, list[Run]]]:
        """State, reason, and the runs that stand so, in the order of first appearance."""
        found: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            found.setdefault((standing[run.id].state, standing[run.id].reason), []).append(run)
        return [(state, reason, runs) for (state, reason), runs in found.items()]


def groups(plan: Plan) -> list[Group]:
    """The selected runs by variant, pretext runs first."""
    by_variant: dict[str, list[Run]] = {}
    children: dict[str, int] = {}
    for run in plan.runs:
        if run.id in plan.selected:
            by_variant.setdefault(json.dumps([run.kind, run.variant]), []).append(run)
            for parent in run.needs:
                children[parent] = children.get(parent, 0) + 1
    words = variant_words(run.variant for run in plan.runs)
    asked: dict[str, str] = {}
    made = []
    for runs in by_variant.values():
        first = runs[0]
        key = json.dumps([first.settings.get("freeze"), first.settings["model"], first.settings["train"]["epochs"]])
        if key not in asked:
            asked[key] = trained(plan, first)
        made.append(Group(words[json.dumps(first.variant)], tuple(runs), asked[key], children.get(first.id, 0)))
    return sorted(made, key=lambda group: group.runs[0].kind != "pretext")


def trained(plan: Plan, run: Run) -> str:
    """What a run trains, in words and in parameters: ``layer4 and fc, 8.4 M``."""
    if "freeze" not in run.settings:  # how large the head of a pretext task is, the task alone knows
        backbone = backbone_parameters(run.settings["model"]["name"], run.settings["model"]["stem"])
        return f"everything, {amount(sum(sized.count for sized in backbone))}"
    try:
        phases = _phases(plan, run)
    except Exception as error:  # a plugin may raise anything; the run will fail with it, the plan says so
        return f"unknown: {type(error).__name__}"
    return f"{trained_words(phases)}, {amount(most_parameters(phases))}"


def _phases(plan: Plan, run: Run) -> tuple[TrainedPhase, ...]:
    """What the freeze policy of a downstream run will train; raises what the policy raises."""
    model = run.settings["model"]
    plugin = next(p for p in plan.plugins if (p.kind, p.name) == ("freeze policy", run.settings["freeze"]["name"]))
    sizes = [
        *backbone_parameters(model["name"], model["stem"]),
        *head_parameters(model["name"], getattr(plan.dataset.cls, "classes", None)),
    ]
    with contextlib.redirect_stdout(sys.stderr):
        return trained_phases(instance(plugin, run.settings["freeze"]), sizes, run.settings["train"]["epochs"])


def incomparable(plan: Plan) -> list[str]:
    """What contrasts of the selected variants will differ in besides what they name: a line each set of confounds.

    Settings are those of every seed, so one seed tells all.
    """
    runs = [run for run in plan.runs if run.id in plan.selected and run.seed == plan.seeds[0] and not run.repeat]
    variants = [run.variant for run in runs if run.kind == "downstream"]
    there = {json.dumps(variant) for variant in variants}
    baseline = plan.study.report.baseline
    pairs: list[tuple[Variant, Variant, Comparison]] = [
        (variant, found[0], "same settings") for variant, found in pair_up(variants, baseline) if len(found) == 1
    ]
    pairs += [
        (pair.variant, pair.partner, "compute-matched")
        for pair in plan.matched
        if {json.dumps(pair.variant), json.dumps(pair.partner)} <= there
    ]
    phases: dict[str, list[dict[str, Any]] | None] = {}
    study = known([_expected(plan, run, phases) for run in runs], _pretexts(plan), baseline)
    alike: dict[tuple[Difference, ...], list[tuple[Variant, Variant]]] = {}
    for variant, partner, comparison in pairs:
        found = confounds(differences(variant, partner, study, comparison))
        if found:
            alike.setdefault(found, []).append((variant, partner))
    words = variant_words(run.variant for run in plan.runs)
    lines = []
    for found, sides in alike.items():
        first, second = (words[json.dumps(side)] for side in sides[0])
        who = f"{first} against {second}"
        if len(sides) == 1:
            who += " also differs"
        else:
            who += f" and {counted(len(sides) - 1, 'more contrast')} also differ"
        remedy = f"; {REMEDY}" if any(one.setting == STATISTICS for one in found) else ""
        lines.append(f"{who} in {also_differs(found)}: no verdict{remedy}")
    return lines


def _pretexts(plan: Plan) -> dict[str, dict[str, bool]]:
    """What the tasks of pretext runs say of themselves that bears on what they can be compared with."""
    tasks = {plugin.name: plugin.cls for plugin in plan.plugins if plugin.kind == "pretext task"}
    of = {run.variant["pretext"]: tasks[run.settings["task"]["name"]] for run in plan.runs if run.kind == "pretext"}
    return {
        name: {
            # Labels that were dealt out at random tell nothing of an image.
            "learns_labels": getattr(task, "uses_labels", False) and not hasattr(task, "relabel"),
            "augments": getattr(task, "augments", False),
        }
        for name, task in of.items()
    }


def _expected(plan: Plan, run: Run, phases: dict[str, list[dict[str, Any]] | None]) -> dict[str, Any]:
    """A planned run as a finished one would be told, as far as its settings say what it will have recorded.

    ``phases`` keeps what policies said, by what they were asked: a matrix of thousands has few of them.
    """
    told: dict[str, Any] = {}
    if run.kind == "downstream":
        asked = json.dumps([run.settings["freeze"], run.settings["model"], run.settings["train"]["epochs"]])
        if asked not in phases:
            phases[asked] = None
            with contextlib.suppress(Exception):  # a policy that raises is told in its variant's row
                phases[asked] = [asdict(phase) for phase in _phases(plan, run)]
        if phases[asked] is not None:
            told["freeze"] = {"phases": phases[asked]}
        init = run.settings["init"]
        plugin = next(p for p in plan.plugins if (p.kind, p.name) == ("init", init["name"]))
        # Weights of a pretext run, or of a file, bring the statistics of what they were trained on.
        source = "parent" if init.get("pretext") else "init" if hasattr(plugin.cls, "fingerprint") else "random"
        if source != "random" or init["name"] == "random":
            told["start"] = {"origins": {source: STAGES[:-1]}}
    return {**run_record(run), "provenance": told}


def plan_rows(
    plan: Plan, runs: Sequence[Run], standing: Mapping[str, Standing], paces: Paces, waiting: Sequence[Run]
) -> list[dict[str, Any]]:
    """The selected of ``runs`` as JSON: how each stands, why, and how many seconds it will take (0 if it is done)."""
    to_train = {run.id for run in waiting}
    rows = []
    for run in runs:
        if run.id in plan.selected:
            price = paces.price(run)
            rows.append(
                {
                    "id": run.id,
                    "kind": run.kind,
                    "variant": run.variant,
                    "seed": run.seed,
                    **({"repeat": run.repeat} if plan.repeats > 1 else {}),
                    **({"threads": own} if (own := threads_of(run)) != plan.study.resources.threads else {}),
                    "needs": list(run.needs),
                    "state": standing[run.id].state,
                    "reason": standing[run.id].reason,
                    "estimated_seconds": (price.seconds if price else None) if run.id in to_train else 0.0,
                }
            )
    return rows


def plan_table(
    plan: Plan, standing: Mapping[str, Standing], paces: Paces, waiting: Sequence[Run], *, every_run: bool
) -> Table:
    """A row a variant and state: what stands how, and why; with ``every_run`` a row a run."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("variant", overflow="fold")
    table.add_column("trains", overflow="fold")
    table.add_column("runs", no_wrap=True)
    table.add_column("each", no_wrap=True, justify="right")
    table.add_column("why", overflow="fold")
    to_train = {run.id for run in waiting}
    for group in groups(plan):
        first = True
        for state, reason, runs in group.states(standing):
            price = paces.price(runs[0]) if runs[0].id in to_train else None
            each = about(price.seconds) if price else "?" if runs[0].id in to_train else ""
            for part in [[run] for run in runs] if every_run else [runs]:
                name = f"{group.words}, seed {part[0].seed}" if every_run else group.words if first else ""
                if every_run and plan.repeats > 1 and part[0].kind == "downstream":
                    name += f", repeat {part[0].repeat}"
                count = state if every_run else f"{len(part)} {state}"
                style = {"done": "green", "failed": "red", "stale": "yellow"}.get(state, "")
                trains = group.trains if first or every_run else ""
                table.add_row(Text(name), Text(trains), Text(count, style), Text(each), Text(reason))
                first = False
    return table


def _probes(plan: Plan, standing: Mapping[str, Standing]) -> list[str]:
    """How the probes stand, in a line; none for a study that has none."""
    states: dict[str, int] = {}
    for probe in plan.probes:
        if probe.id in plan.selected:
            state = standing[probe.id].state
            states[state] = states.get(state, 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    return [f"{counted(sum(states.values()), 'probe')} of frozen features: {told}"] if states else []


def _sharing(pretexts: Sequence[Group]) -> list[str]:
    """Which pretext runs are trained once for how many others; those that are alike in one line."""
    alike: dict[int, list[str]] = {}
    for group in pretexts:
        alike.setdefault(group.shared, []).append(group.words)
    lines = []
    for shared, names in alike.items():
        who = f"{names[0]} is" if len(names) == 1 else f"{len(names)} pretext runs are each"
        more = "downstream run starts" if shared == 1 else "downstream runs start"
        lines.append(f"{who} trained once a seed; {shared} {more} from each")
    return lines


def _threads(plan: Plan, pretexts: Sequence[Group]) -> list[str]:
    """Which pretext runs have other threads than the rest of the study."""
    usual = plan.study.resources.threads
    return [
        f"{group.words} has {counted(own, 'thread')}, other runs have {usual}"
        for group in pretexts
        if (own := threads_of(group.runs[0])) != usual
    ]


def plan_heading(plan: Plan, folder: Path) -> list[str]:
    """Which study this is, on what, and where its results are or will be."""
    first = plan.runs[0].settings
    seeds = f"{len(plan.seeds)} {'seed' if len(plan.seeds) == 1 else 'seeds'}"
    repeats = f" of {plan.repeats} repeats" if plan.repeats > 1 else ""
    about = f"{first['dataset']['name']}, {first['model']['name']}, {seeds}{repeats}; results in {folder}"
    return [f"{'Rehearsal: ' if plan.rehearsal else ''}{plan.study.title}", about, ""]


def plan_summary(
    plan: Plan,
    standing: Mapping[str, Standing],
    waiting: Sequence[Run],
    price: Price | None,
    jobs: int,
    free: int,
    without_matched: Price | None = None,
) -> list[str]:
    """What is shared, how long it will take, how sure that is, how much room it needs, and what will not compare.

    ``without_matched`` is the price without the partners that train as many epochs, where there are any.
    """
    selected = [run for run in plan.runs if run.id in plan.selected]
    states: dict[str, int] = {}
    for run in selected:
        states[standing[run.id].state] = states.get(standing[run.id].state, 0) + 1
    lines = [f"{len(selected)} runs: {', '.join(f'{count} {state}' for state, count in states.items())}"]
    lines += _probes(plan, standing)
    pretexts = [group for group in groups(plan) if group.runs[0].kind == "pretext"]
    lines += _sharing([group for group in pretexts if group.shared])
    lines += _threads(plan, pretexts)
    lines += [f"pretext {name} {notice}" for name, notice in notices(plan).items()]
    apart = incomparable(plan)
    if not waiting:
        kept = [flag for state, flag in _FLAGS.items() if states.get(state)]
        return [*lines, *apart, "nothing to train" + (f"; {' and '.join(kept)} would train again" if kept else "")]
    side = f", {jobs} side by side" if jobs > 1 else ""
    if price is None:
        lines.append("time: not known before a run is done; --measure times a few steps")
    else:
        lines.append(f"time: about {duration(price.seconds)}{side}")
        lines.append(f"      {duration(price.low)} to {duration(price.high)}, {_BASES[price.basis]}")
    partners = sum(MATCHED in run.variant for run in waiting)
    if partners:
        part = f", about {duration(price.seconds - without_matched.seconds)} of it" if price and without_matched else ""
        lines.append(f"      {counted(partners, 'run')} for compute_matched{part}")
    needed = kept_bytes(waiting)
    room = "" if free > needed else ": NOT ENOUGH"
    lines.append(f"disk: about {megabytes(needed)}, {megabytes(free)} free{room}")
    return lines + apart
