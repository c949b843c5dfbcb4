"""The plan of a study: every run with its resolved settings, what it needs, and the hash that is its identity."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rotbench.errors import BadInput, Fault
from rotbench.hookspecs import keywords
from rotbench.matrix import Variant, Written, name_of, same
from rotbench.registry import Plugin, PluginReference, Registry
from rotbench.settings import MODEL_KEYS, TRAIN_KEYS, TrainSettings
from rotbench.source import StudyPath, suggestion
from rotbench.study import Study

#: Raised when the trainer changes in a way that changes results: runs of another version are stale.
RESULTS_VERSION = 1


@dataclass(frozen=True)
class Run:
    """One training: a pretext run, or a variant with a seed.

    ``id`` hashes everything that changes the result; ``settings_sha256`` leaves out code and data, so that a run whose
    plugin changed is found as stale rather than taken for a new one. ``variant`` holds what its block sets, as the
    study file writes it, or ``{"pretext": NAME}``.
    """

    id: str
    kind: Literal["pretext", "downstream"]
    variant: Mapping[str, Any]
    seed: int
    needs: tuple[str, ...]
    settings: Mapping[str, Any]
    settings_sha256: str
    plugins: tuple[PluginReference, ...]
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """What a study comes to. ``selected`` are the runs that ``-k`` leaves, with the pretext runs that they need."""

    study: Study
    runs: tuple[Run, ...]
    selected: frozenset[str]
    dataset: Plugin
    root: Path
    plugins: tuple[Plugin, ...]


@dataclass(frozen=True)
class _Start:
    """A resolved init: its settings, its plugin, and the pretext run that it starts from."""

    settings: Mapping[str, Any]
    plugin: Plugin
    parent: str | None


def make_plan(study: Study, faults: Sequence[Fault], registry: Registry, root: Path, only: Sequence[str] = ()) -> Plan:
    """Resolve names and options and list the runs, seed by seed, each pretext run before what starts from it.

    ``faults`` are those found in reading the study; they and all that is found here are raised together as
    :class:`~rotbench.errors.StudyFaults`. ``only`` holds ``KEY=VALUE`` conditions on variants.
    """
    planner = _Planner(study, registry, list(faults))
    dataset = planner.dataset()
    pretexts = planner.pretexts()
    variants = [(variant, planner.downstream(variant) or {}) for variant in study.variants]
    if planner.faults:
        raise study.source.faults(planner.faults)
    plugin = planner.used[("dataset", dataset["name"])]
    fingerprint = planner.instance(plugin, dataset).fingerprint(root)  # type: ignore[attr-defined]
    augment = list(getattr(plugin.cls, "augment", ()))
    runs: list[Run] = []
    for seed in study.seeds:
        trained: dict[str, Run] = {}
        for name, settings in pretexts.items():
            trained[name] = planner.run("pretext", {"pretext": name}, seed, settings, trained, fingerprint, augment)
        runs += trained.values()
        for variant, settings in variants:
            if settings is not None:
                runs.append(planner.run("downstream", variant.values, seed, settings, trained, fingerprint, augment))
    _refuse_equal_runs(study, runs)
    return Plan(study, tuple(runs), _select(runs, only), plugin, root, tuple(planner.used.values()))


class _Planner:
    """Resolves the plugins of a study and collects every fault on the way."""

    def __init__(self, study: Study, registry: Registry, faults: list[Fault]) -> None:
        self.study = study
        self.registry = registry
        self.faults = faults
        self.used: dict[tuple[str, str], Plugin] = {}
        self._resolved: dict[tuple[str, str], tuple[Plugin, dict[str, Any]] | None] = {}

    def dataset(self) -> dict[str, Any]:
        found = self._plugin("dataset", self.study.dataset, ("dataset",))
        return found[1] if found else {}

    def pretexts(self) -> dict[str, dict[str, Any]]:
        """The settings of each pretext run, in an order in which parents come first."""
        taken = set(self.registry.names("init")) & set(self.study.pretexts)
        for name in sorted(taken):
            message = f'"{name}" is the name of an init; give the pretext run another name'
            self.faults.append(Fault(self.study.pretexts[name].path, message, at_key=True))
        if taken:
            return {}
        starts = {
            pretext.name: self._start(pretext.init, (*pretext.path, "init")) for pretext in self.study.pretexts.values()
        }
        settings = {}
        for name in self._ordered({name: start.parent if start else None for name, start in starts.items()}):
            pretext, start = self.study.pretexts[name], starts[name]
            task = self._plugin("pretext task", pretext.task, (*pretext.path, "task")) if pretext.task else None
            train = self._train(pretext.train, pretext.path)
            train = {key: value for key, value in train.items() if key not in ("labels_per_class", "updates")}
            if task and start:
                settings[name] = {
                    **self._shared(asdict(self.study.model)),
                    "pretext": name,
                    "task": task[1],
                    "init": dict(start.settings),
                    "train": train,
                }
        return settings

    def downstream(self, variant: Variant) -> dict[str, Any] | None:
        values, paths = variant.values, variant.value_paths
        start = self._start(values.get("init", "random"), paths.get("init", variant.path))
        freeze = self._plugin("freeze policy", values.get("freeze", "none"), paths.get("freeze", variant.path))
        train = self._train({key: values[key] for key in TRAIN_KEYS if key in values}, variant.path)
        model = {**asdict(self.study.model), **{key: values[key] for key in MODEL_KEYS if key in values}}
        if start is None or freeze is None:
            return None
        self._check_init(start, model, paths.get("init", variant.path))
        parent = self.study.pretexts.get(start.parent) if start.parent else None
        if parent and model != asdict(self.study.model):
            message = f"starts from [pretext.{parent.name}], which trains the [model] of the study, another network"
            self.faults.append(Fault(paths.get("init", variant.path), message))
        return {**self._shared(model), "init": dict(start.settings), "freeze": freeze[1], "train": train}

    def run(
        self,
        kind: Literal["pretext", "downstream"],
        variant: Mapping[str, Any],
        seed: int,
        settings: Mapping[str, Any],
        trained: Mapping[str, Run],
        fingerprint: str,
        augment: list[str],
    ) -> Run:
        """A run with its identity. What a pretext run's identity covers, that of its children covers too."""
        train = dict(settings["train"])
        if train["augment"] == "auto":
            train["augment"] = augment
        settings = {**settings, "train": train}
        parent_name = settings["init"].get("pretext")
        parent = trained[parent_name] if parent_name is not None else None
        keys = {"dataset": "dataset", "init": "init", "task": "pretext task", "freeze": "freeze policy"}
        plugins = tuple(
            self.used[(plugin, settings[key]["name"])].reference for key, plugin in keys.items() if key in settings
        )
        init = self.used[("init", settings["init"]["name"])]
        identify = getattr(self.instance(init, settings["init"]), "fingerprint", None)
        weights = identify(self.study.folder) if identify else None
        own = _sha256([kind, seed, settings, parent.settings_sha256 if parent else None])
        code = [[reference.kind, reference.name, reference.sha256] for reference in plugins]
        whole = _sha256([own, code, fingerprint, weights, RESULTS_VERSION, parent.id if parent else None])
        return Run(
            id=f"{_slug(variant, seed)}-{whole[:12]}",
            kind=kind,
            variant=variant,
            seed=seed,
            needs=(parent.id,) if parent else (),
            settings=settings,
            settings_sha256=own,
            plugins=plugins,
            fingerprint=fingerprint,
        )

    def instance(self, plugin: Plugin, settings: Mapping[str, Any]) -> object:
        return plugin.cls(**{key: value for key, value in settings.items() if key != "name"})

    def _shared(self, model: Mapping[str, Any]) -> dict[str, Any]:
        return {"dataset": self.dataset(), "model": model, "threads": self.study.threads}

    def _plugin(self, kind: Any, written: Written, path: StudyPath) -> tuple[Plugin, dict[str, Any]] | None:
        """A plugin and its options, looked up once a value: a matrix of thousands names the same few."""
        key = (kind, json.dumps(written, sort_keys=True))
        if key in self._resolved:
            return self._resolved[key]
        options = {} if isinstance(written, str) else {k: v for k, v in written.items() if k != "name"}
        plugin, settings, faults = self.registry.resolve(kind, name_of(written), options, path)
        self.faults += faults
        self._resolved[key] = None if plugin is None or faults else (plugin, settings)
        if plugin is not None:
            self.used[(kind, plugin.name)] = plugin
        return self._resolved[key]

    def _start(self, written: Written, path: StudyPath) -> _Start | None:
        """What ``init = ..`` means: the name of a pretext run stands for the init that starts from it."""
        name = name_of(written)
        if name in self.study.pretexts:
            if not isinstance(written, str) and set(written) - {"name"}:
                self.faults.append(Fault(path, f"[pretext.{name}] takes no options here"))
                return None
            written = {"name": "pretext", "pretext": name}
        elif self.registry.find("init", name) is None:
            self.faults.append(Fault(path, self.registry.unknown("init", name, self.study.pretexts)))
            return None
        found = self._plugin("init", written, path)
        if found is None:
            return None
        plugin, settings = found
        parent = settings.get("pretext")
        if parent is not None and parent not in self.study.pretexts:
            message = f'no pretext run "{parent}"{suggestion(str(parent), self.study.pretexts)}'
            self.faults.append(Fault((*path, "pretext"), message))
            return None
        return _Start(settings, plugin, parent)

    def _train(self, given: Mapping[str, Any], path: StudyPath) -> dict[str, Any]:
        train = {**asdict(TrainSettings()), **self.study.train, **given}
        train["milestones"] = list(train["milestones"])
        if train["nesterov"] and (train["optimizer"] != "sgd" or not train["momentum"]):
            self.faults.append(Fault(path, "nesterov needs optimizer sgd with a momentum above 0"))
        if train["warmup_epochs"] >= train["epochs"]:
            message = f"warmup_epochs = {train['warmup_epochs']} leaves none of {train['epochs']} epochs"
            self.faults.append(Fault(path, message))
        return train

    def _check_init(self, start: _Start, model: Mapping[str, Any], path: StudyPath) -> None:
        problem = getattr(start.plugin.cls, "problem", None)
        if problem is None:
            return
        offered = keywords(problem, model_name=model["name"], stem=model["stem"])
        message = problem(self.instance(start.plugin, start.settings), **offered)
        if message:
            self.faults.append(Fault(path, message))

    def _ordered(self, parents: Mapping[str, str | None]) -> list[str]:
        """Pretext runs with parents first; what goes round in a circle is a fault."""
        order: list[str] = []
        for name in parents:
            chain: list[str] = []
            step: str | None = name
            while step is not None and step not in order and step not in chain:
                chain.append(step)
                step = parents.get(step)
            if step in chain:
                circle = " -> ".join([*chain[chain.index(step) :], step])
                self.faults.append(
                    Fault((*self.study.pretexts[name].path, "init"), f"goes round in a circle: {circle}")
                )
                return []
            order += reversed(chain)
        return order


def _select(runs: Sequence[Run], only: Sequence[str]) -> frozenset[str]:
    """The ids of the runs that meet all conditions, and of the runs that they need."""
    conditions = []
    for condition in only:
        key, equals, value = condition.partition("=")
        if not equals or key not in {k for run in runs for k in run.variant}:
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


def _matches(variant: Mapping[str, Any], key: str, value: str) -> bool:
    if key not in variant:
        return False
    written = variant[key]
    return same(written, value) or (not isinstance(written, str) and json.dumps(written) == value)


def _refuse_equal_runs(study: Study, runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        other = seen.setdefault(run.id[-12:], run)
        if other is not run:
            words = f"{json.dumps(run.variant)} and {json.dumps(other.variant)} are the same run"
            raise study.source.faults([Fault((), words)])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _slug(variant: Mapping[str, Any], seed: int) -> str:
    """A readable, harmless folder name: letters, digits and hyphens, at most 60."""
    words = [name_of(v) if isinstance(v, (str, dict)) else f"{key}-{v}" for key, v in variant.items()]
    text = re.sub("[^a-z0-9]+", "-", "-".join(["pretext", *words] if "pretext" in variant else words).lower())
    return f"{text.strip('-')[:50].strip('-') or 'run'}-s{seed}"
