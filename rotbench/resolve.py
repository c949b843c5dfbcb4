"""A study whose names are looked up: plugins found, options checked, every setting filled in.

Nothing here needs data, so that a mistake is found before they are there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rotbench.errors import Fault
from rotbench.hookspecs import keywords
from rotbench.matched import Matched, match_compute
from rotbench.matrix import Variant, Written, name_of, written_alike
from rotbench.probed import probed
from rotbench.registry import Plugin, Registry
from rotbench.settings import FLOAT_KEYS, MODEL_KEYS, TRAIN_KEYS, TrainSettings, held_out
from rotbench.source import StudyPath, quoted, suggestion
from rotbench.study import Study

#: The settings of a training of which a study says nothing.
DEFAULTS: Mapping[str, Any] = {**asdict(TrainSettings()), "milestones": []}


@dataclass(frozen=True)
class Resolved:
    """The settings of a study's pretext runs, parents first, and of its variants, each beside what the file writes."""

    study: Study
    dataset: Plugin
    pretexts: Mapping[str, Mapping[str, Any]]
    variants: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]
    matched: tuple[Matched, ...]
    probes: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]  # what each is called, and its settings
    plugins: Mapping[tuple[str, str], Plugin]

    @property
    def pretext_runs(self) -> int:
        return len(self.study.seeds) * len(self.pretexts)

    @property
    def downstream_runs(self) -> int:
        return len(self.study.seeds) * self.study.repeats * len(self.variants)


def resolve(study: Study, faults: Sequence[Fault], registry: Registry) -> Resolved:
    """Look up names and options.

    ``faults`` are those found in reading the study; they and all that is found here are raised together as
    :class:`~rotbench.errors.StudyFaults`.
    """
    resolver = _Resolver(study, registry, list(faults))
    dataset = resolver.dataset()
    pretexts = resolver.pretexts()
    variants = [(variant, resolver.downstream(variant, pretexts)) for variant in study.variants]
    resolver.refuse_equal(variants)
    resolver.require_probed(pretexts)
    if resolver.faults:
        raise study.source.faults(resolver.faults)
    resolved: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (variant.values, settings) for variant, settings in variants if settings is not None
    ]
    matched: tuple[Matched, ...] = ()
    if study.report.compute_matched:
        matched, partners, problem = match_compute(resolved, pretexts, study.report.baseline)
        if problem:
            raise study.source.faults([Fault(("report", "compute_matched"), problem)])
        resolved += partners
    return Resolved(
        study=study,
        dataset=resolver.used[("dataset", dataset["name"])],
        pretexts=pretexts,
        variants=tuple(resolved),
        matched=matched,
        probes=tuple(probed(resolved, pretexts, study.probes, resolver._train({}, {}), study.resources.threads)),
        plugins=resolver.used,
    )


def _without_effect(train: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the others leave without an effect, at their defaults.

    So two variants that differ in nothing else are one run, and are found out.
    """
    idle: list[str] = []
    if train["optimizer"] != "sgd":
        idle += ["momentum", "nesterov"]
    if train["schedule"] != "step":
        idle += ["step_epochs", "gamma", "milestones"]
    elif train["milestones"]:
        idle.append("step_epochs")
    if train.get("labels_per_class") is None:
        idle.append("updates")
    return {key: DEFAULTS[key] for key in idle}


def instance(plugin: Plugin, settings: Mapping[str, Any]) -> Any:
    """The plugin with the options of ``settings``."""
    return plugin.cls(**{key: value for key, value in settings.items() if key != "name"})


@dataclass(frozen=True)
class _Start:
    """A resolved init: its settings, its plugin, and the pretext run that it starts from."""

    settings: Mapping[str, Any]
    plugin: Plugin
    parent: str | None


class _Resolver:
    """Collects every fault on the way."""

    def __init__(self, study: Study, registry: Registry, faults: list[Fault]) -> None:
        self.study = study
        self.model = asdict(study.model)
        self.registry = registry
        self.faults = faults
        self.used: dict[tuple[str, str], Plugin] = {}
        self._resolved: dict[tuple[str, str], tuple[Plugin, dict[str, Any]] | None] = {}

    @functools.cached_property
    def _dataset(self) -> tuple[Plugin, dict[str, Any]] | None:
        """The plugin of the data set with its options, looked up once."""
        return self._plugin("dataset", self.study.dataset, ("dataset",))

    def dataset(self) -> dict[str, Any]:
        return self._dataset[1] if self._dataset else {}

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
            train = self._train(pretext.train, {key: (*pretext.path, key) for key in pretext.train})
            train = {key: value for key, value in train.items() if key not in ("labels_per_class", "updates")}
            self._check_labels(train, {"validation": (*pretext.path, "validation")})
            if task and start:
                settings[name] = {
                    **self._shared(self.model, pretext.threads),
                    "pretext": name,
                    "task": task[1],
                    "init": dict(start.settings),
                    "train": train,
                }
        return settings

    def downstream(self, variant: Variant, pretexts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
        values, paths = variant.values, variant.value_paths
        init_path = paths.get("init", variant.path)
        start = self._start(values.get("init", "random"), init_path)
        freeze = self._plugin("freeze policy", values.get("freeze", "none"), paths.get("freeze", variant.path))
        train = self._train({key: values[key] for key in TRAIN_KEYS if key in values}, paths)
        model = {**self.model, **{key: values[key] for key in MODEL_KEYS if key in values}}
        self._check_labels(train, {key: paths.get(key, ("train", key)) for key in ("labels_per_class", "validation")})
        if start is None or freeze is None:
            return None
        self._check_init(start, model, init_path)
        parent = self.study.pretexts.get(start.parent) if start.parent else None
        if parent and model != self.model:
            message = f"starts from [pretext.{parent.name}], which trains the [model] of the study, another network"
            self.faults.append(Fault(init_path, message))
        self._check_unseen(start.parent, pretexts, train["validation"], paths.get("validation", init_path))
        return {**self._shared(model), "init": dict(start.settings), "freeze": freeze[1], "train": train}

    def refuse_equal(self, variants: Sequence[tuple[Variant, Mapping[str, Any] | None]]) -> None:
        """Two variants that come to the same settings are one: ``below`` with its default stage, written or not."""
        seen: dict[str, Variant] = {}
        for variant, settings in variants:
            if settings is None:
                continue
            other = seen.setdefault(json.dumps(settings, sort_keys=True), variant)
            if other is not variant and not written_alike(other, variant):
                words = f"{json.dumps(variant.values)} and {json.dumps(other.values)} are the same run"
                self.faults.append(Fault(variant.path, words))

    def require_probed(self, pretexts: Mapping[str, Mapping[str, Any]]) -> None:
        """That the inits which only probes have are there, and that some pretext run reaches each probed epoch."""
        if self.study.probes is None:
            return
        self._plugin("init", "random", ("probes",))
        for name in pretexts:
            self._plugin("init", {"name": "pretext", "pretext": name}, ("probes",))
        most = max((settings["train"]["epochs"] for settings in pretexts.values()), default=0)
        for place, epoch in enumerate(self.study.probes.epochs):
            if epoch > most and (pretexts or not self.study.pretexts):
                path = ("probes", "epochs", place)
                reached = f"the longest pretext run has {most} epochs" if most else "the study has no pretext run"
                self.faults.append(Fault(path, f"no pretext run reaches epoch {epoch}: {reached}"))

    def _shared(self, model: Mapping[str, Any], threads: int | None = None) -> dict[str, Any]:
        return {"dataset": self.dataset(), "model": model, "threads": threads or self.study.resources.threads}

    def _plugin(self, kind: Any, written: Written, path: StudyPath) -> tuple[Plugin, dict[str, Any]] | None:
        """A plugin and its options, looked up once a value: a matrix of thousands names the same few."""
        key = (kind, json.dumps(written, sort_keys=True))
        if key in self._resolved:
            return self._resolved[key]
        options = {} if isinstance(written, str) else {k: v for k, v in written.items() if k != "name"}
        named = path if isinstance(written, str) else (*path, "name")
        if self.registry.find(kind, name_of(written)) is None:
            self.faults.append(Fault(named, self.registry.unknown(kind, name_of(written))))
            self._resolved[key] = None
            return None
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
            named = path if isinstance(written, str) else (*path, "name")
            self.faults.append(Fault(named, self.registry.unknown("init", name, self.study.pretexts)))
            return None
        found = self._plugin("init", written, path)
        if found is None:
            return None
        plugin, settings = found
        parent = settings.get("pretext")
        if parent is not None and parent not in self.study.pretexts:
            message = f"no pretext run {quoted(str(parent))}{suggestion(str(parent), self.study.pretexts)}"
            self.faults.append(Fault((*path, "pretext"), message))
            return None
        return _Start(settings, plugin, parent)

    def _train(self, given: Mapping[str, Any], paths: Mapping[str, StudyPath]) -> dict[str, Any]:
        train = {**DEFAULTS, **self.study.train, **given}
        # 1 and 1.0 are one learning rate, and one run.
        train = {key: float(value) if key in FLOAT_KEYS else value for key, value in train.items()}
        train["milestones"] = list(train["milestones"])
        if train["nesterov"] and (train["optimizer"] != "sgd" or not train["momentum"]):
            path = paths.get("nesterov", ("train", "nesterov"))
            self.faults.append(Fault(path, "nesterov needs optimizer sgd with a momentum above 0"))
        if train["warmup_epochs"] >= train["epochs"]:
            message = f"warmup_epochs = {train['warmup_epochs']} leaves none of {train['epochs']} epochs"
            self.faults.append(Fault(paths.get("warmup_epochs", ("train", "warmup_epochs")), message))
        if train["test_each_epoch"] == "auto":
            train["test_each_epoch"] = not train["validation"]
        if train["augment"] == "auto":
            train["augment"] = getattr(self._dataset[0].cls, "augment", ()) if self._dataset else ()
        train["augment"] = list(train["augment"])
        return {**train, **_without_effect(train)}

    def _check_labels(self, train: Mapping[str, Any], paths: Mapping[str, StudyPath]) -> None:
        """That a class has as many images as are asked for, and that a validation split is not empty."""
        labels, validation = train.get("labels_per_class"), train["validation"]
        there = getattr(self._dataset[0].cls, "images_per_class", None) if self._dataset else None
        if labels is not None and there is not None and labels > there:
            message = f"the smallest class of {self.study.dataset['name']} has {there} training images"  # type: ignore[index]
            self.faults.append(Fault(paths["labels_per_class"], message))
        used = labels if labels is not None else there
        if validation and used is not None and not held_out(used, validation):
            path = paths["validation"] if paths["validation"] in self.study.source.values else ("train", "validation")
            self.faults.append(Fault(path, f"{validation} of {used} images a class is no image"))

    def _check_unseen(
        self, parent: str | None, pretexts: Mapping[str, Mapping[str, Any]], validation: float, path: StudyPath
    ) -> None:
        """That no pretext run on the way was trained on the images that this variant keeps for validation."""
        while parent is not None and parent in pretexts:
            seen = pretexts[parent]["train"]["validation"]
            if validation and seen != validation:
                message = (
                    f"[pretext.{parent}] would train on images kept for validation here ({seen} there, {validation} "
                    "here): set validation in [train]"
                )
                self.faults.append(Fault(path, message))
                return
            parent = pretexts[parent]["init"].get("pretext")

    def _check_init(self, start: _Start, model: Mapping[str, Any], path: StudyPath) -> None:
        problem = getattr(start.plugin.cls, "problem", None)
        if problem is None:
            return
        offered = keywords(problem, model_name=model["name"], stem=model["stem"])
        message = problem(instance(start.plugin, start.settings), **offered)
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
                    Fault((*self.study.pretexts[step].path, "init"), f"goes round in a circle: {circle}")
                )
                return []
            order += reversed(chain)
        return order
