"""What two sides of a contrast differ in: the named axis, what follows from it, and what they should not differ in.

Runs are plain mappings, planned ones (``settings`` and ``needs``) as well as those of ``results.json``, which know
more. What one side does not know is no difference. Seeds are paired, so what changed between two seeds, but at each
of them for both sides alike, is none either.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rotbench.hookspecs import STAGES
from rotbench.partner import alike, filled
from rotbench.recipe import (
    JOINT,
    SURROUNDINGS,
    Run,
    Value,
    kept,
    moved_between,
    optimizer_moved,
    own_plugins,
    part,
    schedule_moved,
    schedules,
    staleness,
    value_words,
    values_of,
)
from rotbench.trained import TrainedPhase, listed, trained_words

Role = Literal["axis", "consequence", "confound"]
Comparison = Literal["same settings", "tuned", "compute-matched"]
Variant = Mapping[str, Any]

#: What else differs where these do: the number of updates, and which images are trained on.
CHANGE_UPDATES = frozenset({"epochs", "batch_size", "labels_per_class", "validation", "updates", "data"})
CHANGE_IMAGES = frozenset({"labels_per_class", "validation", "data"})

LABELS = "labels"
STATISTICS = "BatchNorm statistics"
MODE = "BatchNorm mode"
AS_BUILT = "as built: mean 0, variance 1"
#: What the seed draws, so that it tells nothing of runs of two seeds.
DRAWN = "labelled images"
#: What is done about statistics that only one side has.
REMEDY = 'batchnorm = "calibrated" or "train" would give both sides statistics of the images'


@dataclass(frozen=True)
class Difference:
    """One thing in which the sides of a contrast differ, its values in words.

    ``seeds`` are those in which they differ so, empty where it is every seed of which both sides know.
    """

    setting: str
    role: Role
    variant: str
    baseline: str
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Known:
    """The runs of a study, for looking up variants and parents.

    ``variants``: downstream runs by variant (:func:`key_of`), then by seed and repeat. ``by_id``, ``by_name``: pretext
    runs. ``pretexts``: what the study says of each (``learns_labels``, ``augments``). ``baseline`` and ``tune``: the
    keys of an axis, and of those of which each side may have its own best.
    """

    variants: Mapping[str, Mapping[tuple[int, int], Run]]
    by_id: Mapping[str, Run]
    by_name: Mapping[tuple[str, int | None], Run]
    pretexts: Mapping[str, Mapping[str, Any]]
    baseline: tuple[str, ...]
    tune: tuple[str, ...] = ()


#: The study of each side of a contrast, mostly one and the same.
Studies = tuple[Known, Known]


def key_of(variant: Variant) -> str:
    """The same text for the same variant."""
    return json.dumps(variant, sort_keys=True)


def known(
    runs: Iterable[Run],
    pretexts: Mapping[str, Mapping[str, Any]],
    baseline: Collection[str],
    tune: Collection[str] = (),
) -> Known:
    """Runs with ``id``, ``kind``, ``variant``, ``seed`` and ``settings``, made ready to be looked up."""
    variants: dict[str, dict[tuple[int, int], Run]] = {}
    by_id: dict[str, Run] = {}
    by_name: dict[tuple[str, int | None], Run] = {}
    for run in runs:
        if run["kind"] == "downstream":
            variants.setdefault(key_of(run["variant"]), {})[run["seed"], run.get("repeat", 0)] = run
        else:
            by_id[run["id"]] = run
            by_name[run["variant"]["pretext"], run["seed"]] = run
            by_name.setdefault((run["variant"]["pretext"], None), run)
    return Known(variants, by_id, by_name, pretexts, tuple(baseline), tuple(tune))


def differences(
    variant: Variant, baseline: Variant, study: Known, comparison: Comparison = "same settings"
) -> tuple[Difference, ...]:
    """All that the two variants differ in, by seed and repeat: the axis, then what follows, then confounds."""
    return _gathered(_pairs(variant, baseline, study), (study, study), comparison)


def between_studies(pairs: Sequence[tuple[Run, Run]], ours: Known, theirs: Known) -> tuple[Difference, ...]:
    """All that the runs of each pair differ in, the first of ``ours``, the second of ``theirs``.

    No axis is named: whatever differs is a confound. Where the seeds of a pair differ, their draws tell nothing.
    """
    return _gathered(pairs, (replace(ours, baseline=()), theirs), "same settings")


def pretexts_between_studies(pairs: Sequence[tuple[Run, Run]], ours: Known, theirs: Known) -> tuple[Difference, ...]:
    """The same of pairs of pretext runs, and of what these start from."""
    seeds: dict[Difference, set[int]] = {}
    for one, other in pairs:
        chains = [one, *_chain(one, ours)], [other, *_chain(other, theirs)]
        for told in _levels(*chains, (ours, theirs)):
            for name, values in told.items():
                if one["seed"] == other["seed"] or not name.endswith(DRAWN):
                    seeds.setdefault(Difference(name, "confound", *values), set()).add(one["seed"])
    return _with_seeds(seeds, pairs)


def _gathered(pairs: Sequence[tuple[Run, Run]], studies: Studies, comparison: Comparison) -> tuple[Difference, ...]:
    seeds: dict[Difference, set[int]] = {}
    for one, other in pairs:
        for difference in _between(one, other, studies, comparison):
            if one["seed"] == other["seed"] or not difference.setting.endswith(DRAWN):
                seeds.setdefault(difference, set()).add(one["seed"])
    return _with_seeds(seeds, pairs)


def _with_seeds(
    seeds: Mapping[Difference, Collection[int]], pairs: Sequence[tuple[Run, Run]]
) -> tuple[Difference, ...]:
    """The differences in the order of their roles, each with its seeds where it is not all that both know of."""
    every = {one["seed"] for one, _ in pairs}
    finished = {one["seed"] for one, other in pairs if one.get("provenance") and other.get("provenance")} or every
    order: tuple[Role, ...] = ("axis", "consequence", "confound")
    found = [
        Difference(
            told.setting,
            told.role,
            told.variant,
            told.baseline,
            () if finished <= set(differing) else _rising(differing),
        )
        for told, differing in seeds.items()
    ]
    return tuple(sorted(found, key=lambda difference: order.index(difference.role)))


def confounds(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """Those of ``found`` that the axis neither names nor brings with it."""
    return tuple(difference for difference in found if difference.role == "confound")


def same_start(variant: Variant, baseline: Variant, study: Known) -> bool:
    """Whether the sides differ in their init alone, and every seed of which both know starts from the same weights."""
    pairs = _pairs(variant, baseline, study)
    if not pairs or any(_named(one, other, study) != ["init"] for one, other in pairs):
        return False
    starts = [[kept(run, "start").get("backbone_sha256") for run in pair] for pair in pairs]
    both = [pair for pair in starts if None not in pair]
    return bool(both) and all(one == other for one, other in both)


def also_differs(found: Sequence[Difference]) -> str:
    """``pretraining epochs (45 and 100) and torch (2.14.1 and 2.15.0, in seed 2)``."""
    told = []
    for difference in found:
        short = " " not in difference.variant + difference.baseline
        values = f"{difference.variant} {'and' if short else 'against'} {difference.baseline}"
        if difference.seeds:
            numbers = listed([str(seed) for seed in difference.seeds])
            values += f", in seed{'s' if len(difference.seeds) > 1 else ''} {numbers}"
        told.append(f"{difference.setting} ({values})")
    return listed(told)


def _rising(seeds: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(seeds))


def _pairs(variant: Variant, baseline: Variant, study: Known) -> list[tuple[Run, Run]]:
    """The runs of both sides at one seed and repeat."""
    of, other = study.variants.get(key_of(variant), {}), study.variants.get(key_of(baseline), {})
    return [(of[place], other[place]) for place in of if place in other]


def _between(one: Run, other: Run, studies: Studies, comparison: Comparison) -> list[Difference]:
    """What two downstream runs of one seed differ in."""
    axis = _named(one, other, studies[0])
    bound = [*axis, *(studies[0].tune if comparison == "tuned" else ())]
    found = [Difference(key, "axis", *_written(one, other, key)) for key in axis]
    found += _settings(one, other, axis, bound, matched=comparison == "compute-matched")
    moved = {difference.setting for difference in found}
    found += _trained(one, other, moved, axis, matched=comparison == "compute-matched")
    found += _batchnorm_mode(one, other, axis)
    found += _pretraining(one, other, studies, axis)
    found += _statistics(one, other)
    found += _labels(one, other, studies)
    return found


def _named(one: Run, other: Run, study: Known) -> list[str]:
    """The baseline's keys in which two runs differ."""
    return [key for key in study.baseline if alike(_axis_value(one, key)) != alike(_axis_value(other, key))]


def _axis_value(run: Run, key: str) -> Any:
    """What a variant sets ``key`` to, or what its settings have where it does not."""
    variant = filled(run["variant"])
    if key in variant:
        return variant[key]
    return part(run, "model").get(key) if key in ("name", "stem") else part(run, "train").get(key)


def _written(one: Run, other: Run, key: str) -> tuple[str, str]:
    """Both values of an axis in words; options where the names are one."""
    values = [_axis_value(run, key) for run in (one, other)]
    names = [value["name"] if isinstance(value, Mapping) and "name" in value else value for value in values]
    if alike(names[0]) != alike(names[1]):
        values = names
    return value_words(values[0]), value_words(values[1])


# Settings


def _settings(one: Run, other: Run, axis: Sequence[str], bound: Sequence[str], *, matched: bool) -> list[Difference]:
    """The resolved settings in which two runs differ, and where and with what they were made."""
    moved = moved_between(values_of(one), values_of(other)) | moved_between(own_plugins(one), own_plugins(other))
    moved |= optimizer_moved(one, other) | schedule_moved(one, other, stretched=matched or "epochs" in bound)
    if bool(one.get("stale")) != bool(other.get("stale")):
        moved |= moved_between(staleness(one), staleness(other))
    roles: dict[str, Role] = {}
    for name in moved:
        owners = JOINT.get(name, (name,))
        if set(owners) & set(axis):
            roles[name] = "axis"
        elif set(owners) & set(bound) or (matched and name in ("epochs", "schedule")):
            roles[name] = "consequence"
        else:
            roles[name] = "confound"
    if matched and "schedule" in moved and schedules(one, other) != "stretched":
        roles["schedule"] = "confound"
    _explain(roles, axis)
    return [
        Difference(name, roles[name], *values)
        for name, values in moved.items()
        if name in roles and roles[name] != "axis"
    ]


def _explain(roles: dict[str, Role], axis: Sequence[str]) -> None:
    """Drop or mend the roles of what the other differences bring with them."""
    for name, causes in (("updates made", CHANGE_UPDATES), ("labelled images", CHANGE_IMAGES)):
        if name not in roles:
            continue
        brought = [roles[cause] for cause in causes if cause in roles]
        if brought and name == "updates made" and "confound" not in brought:
            roles[name] = "consequence"
        elif brought or causes & set(axis):
            del roles[name]


# What is trained, and BatchNorm


def _trained(one: Run, other: Run, moved: Collection[str], axis: Sequence[str], *, matched: bool) -> list[Difference]:
    """The trainable parameters, which are the freeze policy's doing, or the network's."""
    counts = [kept(run, "freeze").get("trainable_parameters") for run in (one, other)]
    phases = [_phases(run) for run in (one, other)]
    if None in counts or (counts[0] == counts[1] and (phases[0] == phases[1] or not all(phases))):
        return []
    words = [
        f"{trained_words(told)}, {count:,} parameters" if told else f"{count:,} parameters"
        for told, count in zip(phases, counts, strict=True)
    ]
    causes = {"freeze", "init", "name", "stem", "epochs"}
    if causes & set(axis) or (matched and "epochs" in moved):
        return [Difference("trained", "consequence", words[0], words[1])]
    if {*causes, "model"} & set(moved):
        return []
    return [Difference("trained", "confound", words[0], words[1])]


def _phases(run: Run) -> list[TrainedPhase]:
    phases = kept(run, "freeze").get("phases") or ()
    return [TrainedPhase(phase["first"], tuple(phase["parts"]), phase["parameters"]) for phase in phases]


def _frozen_stages(run: Run) -> frozenset[str]:
    """The stages of the backbone whose BatchNorm is frozen when training begins, as far as is known."""
    freeze = kept(run, "freeze")
    if freeze.get("phases"):
        parts = set(freeze["phases"][0]["parts"])
        if "BatchNorm" in parts:
            return frozenset()
        # Of a stage that is trained in part it is not known whether its BatchNorm is.
        words = ("{}", "BatchNorm of {}", "part of {}")
        return frozenset(stage for stage in STAGES[:-1] if not parts & {word.format(stage) for word in words})
    counts = freeze.get("trainable_by_stage") or {}
    return frozenset(stage for stage, count in counts.items() if not count and stage != "fc")


def _mode(run: Run) -> str | None:
    mode = kept(run, "freeze").get("batchnorm", part(run, "freeze").get("batchnorm"))
    return None if mode is None else str(mode)


def _batchnorm_mode(one: Run, other: Run, axis: Sequence[str]) -> list[Difference]:
    """Two policies that freeze BatchNorm, and differ in what they train and in what a frozen BatchNorm does."""
    if "freeze" not in axis or not (_frozen_stages(one) and _frozen_stages(other)):
        return []
    modes = [_mode(run) for run in (one, other)]
    policies = [{k: v for k, v in part(run, "freeze").items() if k != "batchnorm"} for run in (one, other)]
    if modes[0] is None or modes[1] is None or modes[0] == modes[1] or alike(policies[0]) == alike(policies[1]):
        return []
    return [Difference(MODE, "confound", modes[0], modes[1])]


def _statistics(one: Run, other: Run) -> list[Difference]:
    """Frozen BatchNorm that keeps what no image has ever gone into, on one side."""
    stages = _frozen_stages(one) & _frozen_stages(other)
    if not _mode(one) == _mode(other) == "eval":
        return []
    sides = [_as_built(run, stages) for run in (one, other)]
    if sides[0] is None or sides[1] is None or sides[0] == sides[1]:
        return []
    words = [
        _statistics_words(run, built or frozenset(), stages) for run, built in zip((one, other), sides, strict=True)
    ]
    return [Difference(STATISTICS, "confound", words[0], words[1])]


def _as_built(run: Run, stages: frozenset[str]) -> frozenset[str] | None:
    """Of the frozen ``stages`` those whose running statistics no image has made; None where that was not recorded."""
    start = kept(run, "start")
    if start.get("origins"):
        built = {
            _stage_of(name)
            for name in start["origins"].get("random", ())
            if name in STAGES or name.endswith(("running_mean", "running_var"))
        }
        return stages & built
    backbone, random = start.get("backbone_sha256"), start.get("seed_backbone_sha256")
    if backbone is not None and backbone == random:
        return stages
    whole = start.get("equals_parent") or (start.get("claimed") and start["claimed"] == start.get("tensors"))
    return frozenset() if whole else None


def _statistics_words(run: Run, built: frozenset[str], stages: frozenset[str]) -> str:
    start = kept(run, "start")
    pretrained = start["origins"].get("parent") if start.get("origins") else start.get("parent")
    source = "of the pretraining" if pretrained else "set by the init"
    if not built:
        return source
    return AS_BUILT if built == stages else f"{source}, but {AS_BUILT} in {listed(_in_order(built))}"


def _stage_of(name: str) -> str:
    first = name.partition(".")[0]
    return first if first in STAGES else "stem"


def _in_order(stages: Collection[str]) -> list[str]:
    return [stage for stage in STAGES if stage in stages]


# Parents


def _parent_name(run: Run) -> str | None:
    name = part(run, "init").get("pretext")
    return name if isinstance(name, str) else None


def _parent(run: Run, study: Known) -> Run | None:
    """The pretext run that ``run`` starts from; of one that is known by its name alone only the settings."""
    for identity in run.get("needs") or ():
        if identity in study.by_id and study.by_id[identity] is not run:
            return study.by_id[identity]
    name = _parent_name(run)
    if name is None:
        return None
    found = study.by_name.get((name, run["seed"]), study.by_name.get((name, None)))
    # A stale run starts from weights that are no longer there; their settings were these, their machine is unknown.
    return None if found is None else {key: found[key] for key in ("id", "variant", "seed", "settings")}


def _chain(run: Run, study: Known) -> list[Run]:
    """The pretext runs that led to ``run``, the last one first."""
    chain: list[Run] = []
    step = _parent(run, study)
    while step is not None and all(step["id"] != one["id"] for one in chain):
        chain.append(step)
        step = _parent(step, study)
    return chain


def _pretraining(one: Run, other: Run, studies: Studies, axis: Sequence[str]) -> list[Difference]:
    """What the pretext runs of two sides differ in, and whether the init can be what names it."""
    chains = [_chain(run, study) for run, study in zip((one, other), studies, strict=True)]
    known_by_name = [
        bool(chain) or _parent_name(run) is not None for chain, run in zip(chains, (one, other), strict=True)
    ]
    if known_by_name[0] != known_by_name[1]:
        words = [
            _chain_words(chain) if chain else _parent_name(run) or "none"
            for chain, run in zip(chains, (one, other), strict=True)
        ]
        return [Difference("pretraining", "consequence" if "init" in axis else "confound", words[0], words[1])]
    if not chains[0] or not chains[1]:
        return []
    # An identity holds settings, code and data; where and with what a run was made may differ between two studies.
    if studies[0] is studies[1] and chains[0][0]["id"] == chains[1][0]["id"]:
        return []
    named, around, own = _levels(chains[0], chains[1], studies)
    # An axis names one thing. Where the init treats its weights in another way, that is it.
    plain = not moved_between(_start_of(one), _start_of(other))
    can_name = "init" in axis and plain
    names = "pretraining task" if "pretraining task" in named else next(iter(named), "")
    free = can_name and (len(named) == 1 or names == "pretraining task")
    found = [
        Difference(name, "consequence" if free and name == names else "confound", *values)
        for name, values in named.items()
    ]
    found += [Difference(name, "consequence", *values) for name, values in own.items()]
    return found + [Difference(name, "confound", *values) for name, values in around.items()]


def _start_of(run: Run) -> dict[str, Value]:
    """The init without the pretext run that it names."""
    return {name: value for name, value in own_plugins(run).items() if name == "init"}


def _chain_words(chain: Sequence[Run]) -> str:
    """``rotation: task rotation, 45 epochs``; a chain from its end."""
    told = []
    for run in chain:
        task, epochs = part(run, "task").get("name"), part(run, "train").get("epochs")
        about = [f"task {task}" if task else "", f"{epochs} epochs" if epochs else ""]
        known_of = ", ".join(filter(None, about))
        told.append(f"{run['variant']['pretext']}{': ' if known_of else ''}{known_of}")
    return "; before it ".join(told)


_Told = dict[str, tuple[str, str]]


def _levels(one: Sequence[Run], other: Sequence[Run], studies: Studies) -> tuple[_Told, _Told, _Told]:
    """What two chains differ in: settings, surroundings, and the augmentation that a task brings with it."""
    named: _Told = {}
    around: _Told = {}
    own: _Told = {}
    for depth, (first, second) in enumerate(zip(one, other, strict=False)):
        prefix = "earlier " * depth + "pretraining "
        for name, values in _pretext_moved(first, second, studies).items():
            # Only where the settings name a precision is it theirs; else it is the machine's.
            machine = name in SURROUNDINGS or (name == "precision" and not _asked_precision(first, second))
            brought = name == "augment" and (_augments(first, studies[0]) or _augments(second, studies[1]))
            (own if brought else around if machine else named)[prefix + name] = values
    if len(one) != len(other):
        depth = min(len(one), len(other))
        words = [_chain_words(chain[depth:]) or "none" for chain in (one, other)]
        named["earlier " * depth + "pretraining"] = (words[0], words[1])
    return named, around, own


def _pretext_moved(one: Run, other: Run, studies: Studies) -> _Told:
    """What two pretext runs differ in, without what follows from it."""
    moved = moved_between(_task(one, other), _task(other, one))
    sides = [
        values_of(run, own_augmentation=_augments(run, study)) for run, study in zip((one, other), studies, strict=True)
    ]
    moved |= moved_between(*sides) | optimizer_moved(one, other) | schedule_moved(one, other, stretched=False)
    if (_parent_name(one) is None) == (_parent_name(other) is None):
        moved |= moved_between(
            _start_of(one), _start_of(other)
        )  # else one of them is pretrained, which is told as that
    for name, causes in (("updates made", CHANGE_UPDATES), ("labelled images", CHANGE_IMAGES)):
        if causes & set(moved):
            moved.pop(name, None)
    return moved


def _task(run: Run, other: Run) -> dict[str, Value]:
    """The task in words, with its options where the other's has the same name."""
    task = part(run, "task")
    if not task:
        return {}
    words = value_words(task) if task.get("name") == part(other, "task").get("name") else str(task.get("name"))
    return {"task": Value(alike(task), words)}


def _augments(run: Run, study: Known) -> bool:
    return bool(study.pretexts.get(run["variant"]["pretext"], {}).get("augments"))


def _asked_precision(one: Run, other: Run) -> bool:
    asked = [part(run, "train").get("precision") for run in (one, other)]
    return asked[0] != asked[1]


def _labels(one: Run, other: Run, studies: Studies) -> list[Difference]:
    """Pretraining with the labels of all images, on one side, of a study that trains with those of a few."""
    words = []
    for run, study in zip((one, other), studies, strict=True):
        few = part(run, "train").get("labels_per_class")
        if few is None:
            return []
        learnt = any(_learns_labels(parent, study) for parent in _chain(run, study))
        words.append("of all images" if learnt else f"{few} a class")
    return [Difference(LABELS, "confound", words[0], words[1])] if words.count("of all images") == 1 else []


def _learns_labels(run: Run, study: Known) -> bool:
    about = study.pretexts.get(run["variant"]["pretext"], {})
    return bool(about.get("learns_labels", about.get("uses_labels")))
