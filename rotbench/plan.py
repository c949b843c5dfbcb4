"""The plan of a study: every run with its resolved settings, what it needs, and the hash that is its identity."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rotbench._version import RESULTS_VERSION
from rotbench.contract import Kind
from rotbench.errors import BadInput, EnvironmentLacking, Fault, RotbenchError
from rotbench.matched import Matched
from rotbench.matrix import name_of
from rotbench.partner import DEFAULTS, filled, matches
from rotbench.registry import Plugin, PluginReference, Registry
from rotbench.rehearsal import rehearsed, rehearsed_probe
from rotbench.resolve import Resolved, instance, resolve
from rotbench.source import parse_value, suggestion
from rotbench.study import Study

#: The keys of a run's settings that name a plugin, with the plugin's kind.
PLUGIN_SETTINGS: Mapping[str, Kind] = {
    "dataset": "dataset",
    "init": "init",
    "task": "pretext task",
    "freeze": "freeze policy",
}


@dataclass(frozen=True)
class Run:
    """One training: a pretext run, or a variant with a seed; or a probe of what one of them starts from.

    ``id`` hashes everything that changes the result; ``settings_sha256`` leaves out code and data, so that a run whose
    plugin changed is found as stale rather than taken for a new one. ``variant`` holds what its block sets, as the
    study file writes it, or ``{"pretext": NAME}``, or ``{"probe": INIT}`` with what else sets the probe apart.
    ``repeat`` counts, from 0, the downstream runs of one seed. ``score_name`` says what it is scored by, in words
    alone; ``weights_sha256`` identifies the file of its init. ``keeps`` are the epochs whose weights a pretext run
    keeps beside its last: they change no result, so they are no part of its identity.
    """

    id: str
    kind: Literal["pretext", "downstream", "probe"]
    variant: Mapping[str, Any]
    seed: int
    repeat: int
    needs: tuple[str, ...]
    settings: Mapping[str, Any]
    settings_sha256: str
    plugins: tuple[PluginReference, ...]
    fingerprint: str
    score_name: str = "accuracy"
    weights_sha256: str | None = None
    keeps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a study comes to: trainings, and probes of what they start from.

    ``selected`` are those that ``-k`` leaves, with the pretext runs that they need.
    """

    study: Study
    seeds: tuple[int, ...]
    repeats: int
    rehearsal: bool
    runs: tuple[Run, ...]
    probes: tuple[Run, ...]
    selected: frozenset[str]
    dataset: Plugin
    root: Path
    plugins: tuple[Plugin, ...]
    matched: tuple[Matched, ...]

    @property
    def everything(self) -> tuple[Run, ...]:
        """Trainings, then probes: all that a worker does, what is needed before what needs it."""
        return (*self.runs, *self.probes)


def make_plan(
    study: Study,
    faults: Sequence[Fault],
    registry: Registry,
    root: Path,
    only: Sequence[str] = (),
    *,
    rehearsal: bool = False,
) -> Plan:
    """List the runs of a study, seed by seed, each pretext run before what starts from it.

    ``faults`` and what is raised for them: see :func:`~rotbench.resolve.resolve`. ``root`` is where the data lie.
    ``only`` holds ``KEY=VALUE`` conditions on variants. ``rehearsal`` makes every run as small as it can be.
    """
    resolved = resolve(study, faults, registry)
    seeds = study.seeds[:1] if rehearsal else study.seeds
    repeats = min(study.repeats, 2) if rehearsal else study.repeats
    identifier = _Identifier(resolved, root, rehearsal)
    runs: list[Run] = []
    probes: list[Run] = []
    for seed in seeds:
        trained: dict[str, Run] = {}
        for name, settings in resolved.pretexts.items():
            trained[name] = identifier.run("pretext", {"pretext": name}, seed, 0, settings, trained)
        runs += trained.values()
        for repeat in range(repeats):
            for variant, settings in resolved.variants:
                runs.append(identifier.run("downstream", variant, seed, repeat, settings, trained))
        for variant, settings in resolved.probes:
            epoch = settings["probe"]["epoch"]
            # A rehearsal's pretext runs are shorter than the epochs that are probed.
            if epoch is None or epoch in trained[settings["init"]["pretext"]].keeps:
                probes.append(identifier.run("probe", variant, seed, 0, settings, trained))
    return Plan(
        study=study,
        seeds=seeds,
        repeats=repeats,
        rehearsal=rehearsal,
        runs=tuple(runs),
        probes=tuple(probes),
        selected=_select([*runs, *probes], only),
        dataset=resolved.dataset,
        root=root,
        plugins=tuple(resolved.plugins.values()),
        matched=resolved.matched,
    )


class _Identifier:
    """Makes runs out of settings, each with the hash of everything that changes its result."""

    def __init__(self, resolved: Resolved, root: Path, rehearsal: bool) -> None:
        self.resolved = resolved
        self.rehearsal = rehearsal
        settings = [*resolved.pretexts.values(), *(settings for _, settings in resolved.variants)]
        dataset = instance(resolved.dataset, settings[0]["dataset"])
        self.fingerprint = str(_identified(resolved.dataset, dataset.fingerprint, root))
        self._weights: dict[str, str | None] = {}

    def run(
        self,
        kind: Literal["pretext", "downstream", "probe"],
        variant: Mapping[str, Any],
        seed: int,
        repeat: int,
        settings: Mapping[str, Any],
        trained: Mapping[str, Run],
    ) -> Run:
        """A run with its identity. What a pretext run's identity covers, that of its children covers too."""
        if self.rehearsal:
            settings = rehearsed_probe(settings, variant) if kind == "probe" else rehearsed(settings, variant)
        parent_name = settings["init"].get("pretext")
        parent = trained[parent_name] if parent_name is not None else None
        plugins = tuple(
            self.resolved.plugins[(plugin, settings[key]["name"])].reference
            for key, plugin in PLUGIN_SETTINGS.items()
            if key in settings
        )
        # The first repeat is the run of a study without repeats: asking for repeats later keeps what is done.
        own = _sha256([kind, seed, settings, parent.settings_sha256 if parent else None, *([repeat] if repeat else [])])
        code = [[reference.kind, reference.name, reference.sha256] for reference in plugins]
        weights = self._weights_of(settings["init"])
        whole = _sha256([own, code, self.fingerprint, weights, RESULTS_VERSION, parent.id if parent else None])
        return Run(
            id=f"{_slug(variant, seed, repeat)}-{whole[:12]}",
            kind=kind,
            variant=variant,
            seed=seed,
            repeat=repeat,
            needs=(parent.id,) if parent else (),
            settings=settings,
            settings_sha256=own,
            plugins=plugins,
            fingerprint=self.fingerprint,
            score_name=self._score_name(settings),
            weights_sha256=weights,
            keeps=self._keeps(settings) if kind == "pretext" else (),
        )

    def _keeps(self, settings: Mapping[str, Any]) -> tuple[int, ...]:
        """The probed epochs before a pretext run's last, whose weights are kept anyway."""
        probes = self.resolved.study.probes
        return tuple(epoch for epoch in probes.epochs if epoch < settings["train"]["epochs"]) if probes else ()

    def _score_name(self, settings: Mapping[str, Any]) -> str:
        if "task" not in settings:
            return "accuracy"
        task = self.resolved.plugins[("pretext task", settings["task"]["name"])]
        return str(getattr(task.cls, "score_name", "accuracy"))

    def _weights_of(self, init: Mapping[str, Any]) -> str | None:
        """What identifies the weights that an init reads from a file; read once."""
        key = json.dumps(init, sort_keys=True)
        if key not in self._weights:
            plugin = self.resolved.plugins[("init", init["name"])]
            ask = getattr(instance(plugin, init), "fingerprint", None)
            self._weights[key] = _identified(plugin, ask, self.resolved.study.folder) if ask else None
        return self._weights[key]


def _identified(plugin: Plugin, fingerprint: Callable[[Path], str], folder: Path) -> str:
    """What a plugin's ``fingerprint`` says of data or weights; whatever it raises is told as its own."""
    try:
        return fingerprint(folder)
    except RotbenchError:
        raise
    except OSError as error:
        raise EnvironmentLacking(f"{plugin.kind} {plugin.name}: {error}", "Mend this and run again.") from error
    except Exception as error:
        what = f"{plugin.kind} {plugin.name} ({plugin.origin}): fingerprint raised {type(error).__name__}: {error}"
        raise BadInput(what, "Mend the plugin or its options and run again.") from error


def _select(runs: Sequence[Run], only: Sequence[str]) -> frozenset[str]:
    """The ids of the runs that meet all conditions, and of the runs that they need."""
    conditions = []
    for condition in only:
        key, equals, value = condition.partition("=")
        if not equals or key not in {k for run in runs for k in run.variant} | set(DEFAULTS):
            known = sorted({k for run in runs for k in run.variant})
            raise BadInput(
                f"-k {condition}: no variant sets {key}{suggestion(key, known)}", "Write it as -k init=random"
            )
        conditions.append((key, value))
    by_id = {run.id: run for run in runs}
    selected: set[str] = set()
    pending = [run for run in runs if all(_matches(run.variant, key, value) for key, value in conditions)]
    if not pending:
        raise BadInput(f"-k {' -k '.join(only)}: no variant matches", "See the variants with: rotbench plan")
    while pending:
        run = pending.pop()
        if run.id not in selected:
            selected.add(run.id)
            pending += [by_id[parent] for parent in run.needs]
    return frozenset(selected)


def _matches(variant: Mapping[str, Any], key: str, text: str) -> bool:
    """Whether a variant has the value that a condition gives: as a word, or as the study file would write it."""
    whole = variant if "pretext" in variant else filled(variant)
    if "probe" in variant:  # a probe is of an init, and freezes all
        whole = {"init": variant["probe"], **variant}
    if key not in whole:
        return False
    if matches(whole[key], text):
        return True
    try:
        return matches(whole[key], parse_value(text))
    except ValueError:
        return False


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _kind_of(variant: Mapping[str, Any]) -> list[str]:
    return [kind for kind in ("pretext", "probe") if kind in variant]


def _slug(variant: Mapping[str, Any], seed: int, repeat: int) -> str:
    """A readable, harmless folder name: letters, digits and hyphens, at most 70."""
    words = [name_of(v) if isinstance(v, (str, dict)) else f"{key}-{v}" for key, v in variant.items()]
    text = re.sub("[^a-z0-9]+", "-", "-".join(_kind_of(variant) + words).lower())
    return f"{text.strip('-')[:50].strip('-') or 'run'}-s{seed}{f'r{repeat}' if repeat else ''}"
