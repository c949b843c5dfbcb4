"""The recipe of a study in prose, from its resolved settings and from what its runs recorded.

Nothing is claimed that the results do not hold: what a setting asks for is told as a setting, what was counted or
checked only of runs that are done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rotbench.bibliography import Bibliography, cited
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import Contrast, VariantSummary, family_size
from rotbench.evidence import proof, seed_rows
from rotbench.limits import changes_of_seeds
from rotbench.manuscript import text_environment
from rotbench.probes import probe_rows
from rotbench.recipe import part, value_words
from rotbench.tables import distinct, troubled
from rotbench.trained import TrainedPhase, trained_words
from rotbench.views import images_seen
from rotbench.wording import axes_of, labels_by_axis, run_label, variant_labels, varying

#: The paper of a network, by how its name begins; the first that fits.
NETWORKS = {"wide_": "zagoruyko2016wide", "resnext": "xie2017aggregated", "resnet": "he2016deep"}

STEMS = {
    "imagenet": "with torchvision's own stem, a 7 x 7 convolution of stride 2 and max-pooling",
    "cifar": "with a 3 x 3 first convolution of stride 1 and no max-pooling",
}
FROZEN_BATCHNORM = {
    "eval": "uses the running statistics that it started with and keeps them",
    "train": "normalises by each batch and goes on updating its running statistics",
    "calibrated": "uses statistics computed anew from the run's training images before the first epoch, and keeps them",
}
AUGMENTATIONS = {"crop": "random crops after zero padding", "flip": "random mirror images"}


@dataclass(frozen=True)
class Recipe:
    """How a group of runs was asked to be trained, each setting in words; several values are told as several."""

    epochs: str
    optimizer: str
    lr: str
    schedule: str
    weight_decay: str
    batch_size: str
    augment: str
    budget: str


@dataclass(frozen=True)
class Policy:
    """A freeze policy as the study names it, what it trains, and what its frozen BatchNorm modules do."""

    name: str
    summary: str
    paper: str
    trained: str
    parameters: str
    frozen_batchnorm: str


@dataclass(frozen=True)
class Source:
    """A pretext task or an init: its name in the study, what it is, its paper, and its recipe if it is trained."""

    name: str
    summary: str
    paper: str
    options: str = ""
    recipe: Recipe | None = None
    scored: str = ""
    uses_labels: bool = False
    notice: str = ""


def methods(
    results: Results,
    summaries: Sequence[VariantSummary],
    contrasts: Sequence[Contrast],
    bibliography: Bibliography,
) -> str:
    """The text as Markdown; what it cites is added to ``bibliography``."""
    study, runs = results["study"], results["runs"]
    papers = cited(bibliography, study["plugins"])
    told = {(plugin["kind"], plugin["name"]): plugin["summary"] for plugin in study["plugins"]}
    downstream = [run for run in runs if run["kind"] == "downstream"]
    variants = [summary.variant for summary in summaries]
    labels = variant_labels(variants)
    by_axis = labels_by_axis(variants)
    done = [run for run in runs if run["status"] == "done"]
    by_id = {run["id"]: run for run in runs}
    proofs = [proof(run, by_id) for run in runs if "start" in run["provenance"]]
    seeds = seed_rows(runs)
    family = family_size(contrasts)
    probes = [row for row in probe_rows(results) if row.stages]

    pretexts = [_pretext(name, about, runs, papers, bibliography) for name, about in study["pretexts"].items()]
    recipes = [pretext.recipe for pretext in pretexts]

    def cite(key: str) -> str:
        return f" [@{key}]" if key else ""

    def paper(kind: str, name: str) -> str:
        return cite(papers.get((kind, name), ""))

    text = (
        text_environment()
        .get_template("export/methods.md.j2")
        .render(
            study=study,
            rotbench=results["rotbench"],
            own=lambda key: cite(bibliography.own(key)),
            dataset={
                "summary": told.get(("dataset", study["dataset"]["name"]), ""),
                "paper": paper("dataset", study["dataset"]["name"]),
            },
            data=distinct([run["provenance"] for run in downstream], "data"),
            labels_per_class=_several(_settings(downstream, "labels_per_class"), lambda count: f"{count:,}"),
            some_labels_only=any(_settings(downstream, "labels_per_class")),
            all_labels_too=None in _settings(downstream, "labels_per_class"),
            as_long=set(_settings(downstream, "updates")),
            validation=_several(_settings(runs, "validation", only_set=True), lambda share: f"{100 * share:g} %"),
            models=_networks(runs, lambda key: cite(bibliography.own(key))),
            pretexts=pretexts,
            pretext_recipe=recipes[0] if recipes and all(recipe == recipes[0] for recipe in recipes) else None,
            inits=_inits(downstream, told, papers),
            policies=_policies(downstream, told, papers),
            recipe=_recipe(downstream, bibliography) if downstream else None,
            axes=[
                (axis, _several(by_axis[axis].values(), str)) for axis in varying(variants) if axis in axes_of(variants)
            ],
            varies=_listed(_varies(runs)),
            random_pretexts={part(run, "init").get("name") for run in runs if run["kind"] == "pretext"} == {"random"},
            downstream=downstream,
            runs=runs,
            done=done,
            summaries=summaries,
            interval=any(item.estimate and item.estimate.interval for item in summaries),
            single=any(item.n == 1 for item in summaries),
            contrasts=contrasts,
            family=family,
            assumes_normality=any(item.assumes_normality for item in contrasts),
            least_p=min((2.0 ** (1 - item.n) for item in contrasts if item.p is not None), default=None),
            imagewise=any(item.n == item.planned == 1 and item.pairs for item in contrasts),
            unjudged=_unjudged(contrasts, labels),
            proofs=proofs,
            failing=[run_label(row.run, labels) for row in proofs if row.failures],
            same_weights=bool(seeds) and all(row.holds for row in seeds),
            looks=changes_of_seeds(results),
            devices=distinct(runs, "device"),
            precisions=distinct(runs, "precision"),
            threads=sorted({run["provenance"]["threads"] for run in runs if "threads" in run["provenance"]}),
            versions=[
                _listed([f"{name} {version}" for name, version in some.items()]) for some in distinct(runs, "versions")
            ],
            probes=probes,
            probed_stages=_listed([stage.stage for stage in probes[0].stages]) if probes else "",
            counted=any(item.training_flops is not None for item in summaries),
            company=max(results.get("seconds_shared_by", {}).values(), default=0),
            troubled=_grouped(troubled(runs), labels),
        )
    )
    return set_in_paragraphs(text)


def set_in_paragraphs(text: str) -> str:
    """Each paragraph, heading and item of a list on one line, however the template broke it."""
    blocks = []
    for block in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for line in filter(None, (line.strip(" ") for line in block.split("\n"))):
            if line.startswith("#"):
                lines.append(f"\n{line}\n" if lines else f"{line}\n")
            elif lines and not line.startswith("- "):
                lines[-1] = f"{lines[-1]} {line}"
            elif lines and not lines[-1].lstrip("\n").startswith("- "):
                lines.append(f"\n{line}")
            else:
                lines.append(line)
        if lines:
            blocks.append(re.sub(r" +", " ", "\n".join(lines)))
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(blocks)).strip("\n") + "\n"


def _settings(runs: Sequence[Run], key: str, *, only_set: bool = False) -> list[Any]:
    """The different values of a key of ``[train]``, in order of first appearance."""
    values = [part(run, "train")[key] for run in runs if key in part(run, "train")]
    return list({as_written(value): value for value in values if value or not only_set}.values())


def _several(values: Iterable[Any], words: Callable[[Any], str]) -> str:
    """``10``, ``10 or 20``, ``10, 20 or 40``; "" for none. None among the values is left out."""
    told = list(dict.fromkeys(words(value) for value in values if value is not None))
    return " or ".join(filter(None, (", ".join(told[:-1]), *told[-1:])))


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _varies(runs: Sequence[Run]) -> list[str]:
    """What a seed sets, of what these runs have."""
    has = {
        "the pretraining": any(run["kind"] == "pretext" for run in runs),
        "the order of the images": True,
        "the draws of the augmentation": any(_settings(runs, "augment")),
        "the choice of labelled images": any(_settings(runs, "labels_per_class")),
        "the choice of validation images": any(_settings(runs, "validation")),
    }
    return ["the random weights", *(words for words, there in has.items() if there)]


def _grouped(found: Iterable[tuple[str, Run, str]], labels: Mapping[str, str]) -> list[tuple[str, str, list[str]]]:
    """Runs that are not simply done: state, what is known, and the runs of which it is."""
    groups: dict[tuple[str, str], list[str]] = {}
    for state, run, words in found:
        groups.setdefault((state, words), []).append(run_label(run, labels))
    return [(state, words, runs) for (state, words), runs in groups.items()]


def _unjudged(contrasts: Sequence[Contrast], labels: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Contrasts without a verdict, by the reason."""
    groups: dict[str, list[str]] = {}
    for item in contrasts:
        if item.verdict is None:
            sides = f"{labels[as_written(item.variant)]} against {labels[as_written(item.baseline)]}"
            if item.condition is not None:
                sides += f", minus the same at another {item.condition.axis}"
            groups.setdefault(item.reason or "", []).append(sides)
    return list(groups.items())


def _networks(runs: Sequence[Run], own: Callable[[str], str]) -> list[str]:
    """Each network of the study in words, with its paper."""
    told = []
    for model in distinct([run["settings"] for run in runs], "model"):
        name = str(model.get("name", ""))
        key = next((key for start, key in NETWORKS.items() if name.startswith(start)), None)
        stem = STEMS.get(str(model.get("stem")), "")
        told.append(f"torchvision's {name}{own(key) if key else ''} {stem}".strip())
    return told


def _recipe(runs: Sequence[Run], bibliography: Bibliography, *, own_augmentation: bool = False) -> Recipe:
    trains = [part(run, "train") for run in runs]

    def told(words: Callable[[Mapping[str, Any]], str | None]) -> str:
        return _several((words(train) for train in trains), str)

    return Recipe(
        epochs=told(lambda train: _of(train, "epochs", "{:,}")),
        optimizer=told(lambda train: _optimizer(train, bibliography)),
        lr=told(lambda train: _of(train, "lr", "{:g}")),
        schedule=told(_schedule),
        weight_decay=told(lambda train: _of(train, "weight_decay", "a weight decay of {:g}", "no weight decay")),
        batch_size=told(lambda train: _of(train, "batch_size", "{:,}")),
        augment="the task's own augmentation" if own_augmentation else told(_augmentation),
        budget=_budget(runs),
    )


def _of(train: Mapping[str, Any], key: str, words: str, otherwise: str = "") -> str | None:
    if key not in train:
        return None
    return words.format(train[key]) if train[key] or not otherwise else otherwise


def _optimizer(train: Mapping[str, Any], bibliography: Bibliography) -> str | None:
    name, momentum = train.get("optimizer"), train.get("momentum")
    if name == "adam":
        return f"Adam [@{bibliography.own('kingma2015adam')}]"
    if name == "adamw":
        return f"AdamW [@{bibliography.own('loshchilov2019decoupled')}]"
    if name == "sgd" and momentum:
        return f"SGD with {'Nesterov momentum' if train.get('nesterov') else 'momentum'} {momentum:g}"
    return "SGD" if name == "sgd" else None


def _schedule(train: Mapping[str, Any]) -> str | None:
    schedule, warmup = train.get("schedule"), train.get("warmup_epochs")
    told = {"cosine": "falls as a cosine towards 0", "constant": "stays the same"}.get(str(schedule))
    if schedule == "step":
        told = f"is multiplied by {train['gamma']:g}" if "gamma" in train else "falls in steps"
        if train.get("milestones"):
            told += f" after epochs {_listed([str(epoch) for epoch in train['milestones']])}"
        elif train.get("step_epochs"):
            told += " after every epoch" if train["step_epochs"] == 1 else f" after every {train['step_epochs']} epochs"
    return f"{told}, after a linear warm-up of {warmup} epochs" if told and warmup else told


def _augmentation(train: Mapping[str, Any]) -> str | None:
    augment = train.get("augment")
    if augment is None or augment == "auto":
        return None
    return _listed([AUGMENTATIONS.get(name, str(name)) for name in augment]) or "no augmentation"


def _budget(runs: Sequence[Run]) -> str:
    """Updates and images that finished runs really had: ``40 updates, 2,000 images``."""
    done = [run for run in runs if run["status"] == "done"]
    updates = [run["provenance"]["updates"] for run in done if run["provenance"].get("updates")]
    images = [int(seen[-1]) for seen in map(images_seen, done) if seen]
    told = [f"{_range(updates)} updates" if updates else "", f"{_range(images)} training images seen" if images else ""]
    return ", ".join(filter(None, told))


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _pretext(
    name: str,
    about: Mapping[str, Any],
    runs: Sequence[Run],
    papers: Mapping[tuple[str, str], str],
    bibliography: Bibliography,
) -> Source:
    own = [run for run in runs if run["kind"] == "pretext" and run["variant"].get("pretext") == name]
    key = papers.get(("pretext task", about["task"]), "")
    options = value_words(part(own[0], "task")).partition(" ")[2] if own else ""
    chance = about.get("chance")
    guessing = (
        f"; guessing scores {100 * chance:.3g} %" if chance is not None and about["score_name"] == "accuracy" else ""
    )
    return Source(
        name=name,
        options=options,
        summary=about["summary"],
        paper=f" [@{key}]" if key else "",
        recipe=_recipe(own, bibliography, own_augmentation=about.get("augments", False)) if own else None,
        scored=f"{about['score_name']} on the test images{guessing}",
        uses_labels=about.get("uses_labels", False),
        notice=about.get("notice", "").rstrip("."),
    )


def _inits(
    runs: Sequence[Run], told: Mapping[tuple[str, str], str], papers: Mapping[tuple[str, str], str]
) -> list[Source]:
    found: dict[str, Source] = {}
    for init in distinct([run["settings"] for run in runs], "init"):
        kind = str(init.get("name"))
        key = papers.get(("init", kind), "")
        plain = kind == "pretext" and set(init) == {"name", "pretext"}
        source = Source(
            str(init["pretext"]) if plain else value_words(init),
            told.get(("init", kind), ""),
            f" [@{key}]" if key else "",
        )
        # All that start from the end of a pretext run are one kind of start.
        before = found.get("pretext") if plain else None
        if before is not None:
            source = replace(source, name=f"{before.name}, {source.name}")
        found["pretext" if plain else as_written(init)] = source
    return list(found.values())


def _policies(
    runs: Sequence[Run], told: Mapping[tuple[str, str], str], papers: Mapping[tuple[str, str], str]
) -> list[Policy]:
    found = []
    for freeze in distinct([run["settings"] for run in runs], "freeze"):
        own = [
            run["provenance"]["freeze"]
            for run in runs
            if part(run, "freeze") == freeze and "freeze" in run["provenance"]
        ]
        recorded = own[0] if own else {}
        name = str(freeze.get("name"))
        key = papers.get(("freeze policy", name), "")
        phases = [TrainedPhase(**phase) for phase in recorded.get("phases", [])]
        counts = [item["trainable_parameters"] for item in own if item.get("trainable_parameters") is not None]
        frozen = recorded.get("frozen_parameters") or len(phases) > 1
        found.append(
            Policy(
                name=value_words({key: value for key, value in freeze.items() if key != "batchnorm"}),
                summary=told.get(("freeze policy", name), ""),
                paper=f" [@{key}]" if key else "",
                trained=trained_words(phases) if phases else "",
                parameters=_range(counts) if counts else "",
                frozen_batchnorm=FROZEN_BATCHNORM.get(str(freeze.get("batchnorm")), "") if frozen else "",
            )
        )
    return found
