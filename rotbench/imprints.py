"""What a finished run can be known by, and which runs of two hand-ins came out the same to the bit.

That is no accusation. Runs are deterministic: the same study, seed, versions and kind of machine give the same weights
again. What tells a copy from a repetition is the time, which no two trainings share to the last digit; and weights that
are equal though their runs were made otherwise cannot be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.compare import Results, Run, finished
from rotbench.curve import final_score
from rotbench.partner import alike
from rotbench.recipe import Value, kept, moved_between, part, values_of
from rotbench.wording import enumerated, percent, some_runs, variant_and_seed, variant_labels

#: Settings that need not change a bit, so that equal weights do not contradict them: a run may be unchanged by them.
_HARMLESS = ("deterministic", "threads", "torch", "torchvision")
#: Settings that act through something that is recorded, which tells whether they did.
_THROUGH = {"labels_per_class": "labelled images", "validation": "labelled images", "updates": "updates made"}


@dataclass(frozen=True)
class Imprint:
    """A finished run and what it is known by; None where that is not known.

    ``name``: its variant and its seed, in words. ``weights``: the hash of its backbone, where that was trained.
    ``curve``: all its losses and scores. ``start``: the hash of the weights that it started from. ``seconds``: how long
    it trained, and its images a second, to the last digit. ``made``: what decides its weights, and ``around`` what may
    change bits and need not, both in words.
    """

    name: tuple[str, str]
    kind: str
    weights: str | None
    curve: str | None
    start: str | None
    seconds: tuple[float, float] | None
    made: Mapping[str, Value]
    around: Mapping[str, Value]

    @property
    def marks(self) -> tuple[str, ...]:
        """What another run has in common with this one, if it came out the same to the bit."""
        return tuple(mark for mark in (self.weights, self.curve) if mark is not None)


@dataclass(frozen=True)
class Likeness:
    """The runs of one hand-in that came out the same to the bit as runs of another, whose place is ``other``.

    ``pretext`` and ``downstream`` count them; ``one_training`` counts those that also took the very same time, None
    where no time is known; ``contradicting`` those that were made otherwise, which ``contradictions`` tell in words.
    ``surroundings`` tell in which versions or threads they differ. ``taken`` counts downstream runs whose starting
    weights were trained in the other hand-in and not in this one.
    """

    other: int
    pretext: int
    downstream: int
    one_training: int | None
    contradicting: int
    contradictions: str
    surroundings: tuple[str, ...]
    taken: int


def imprints(results: Results) -> tuple[Imprint, ...]:
    """One for each run of tidied results that is done."""
    labels = variant_labels([run["variant"] for run in results["runs"] if run["kind"] == "downstream"])
    return tuple(_imprint(run, variant_and_seed(run, labels)) for run in results["runs"] if finished(run))


def _imprint(run: Run, name: tuple[str, str]) -> Imprint:
    seconds = (run["train_seconds"], run["images_per_second"])
    values = values_of(run)
    return Imprint(
        name=name,
        kind=run["kind"],
        # A backbone that was not trained is that of other runs too, whatever their settings; its statistics may move.
        weights=_digest(run["provenance"]) if _trains_backbone(run) else None,
        curve=_curve(run),
        start=_digest(kept(run, "start")),
        seconds=None if None in seconds else seconds,
        made=_made(run, values),
        around={name: values[name] for name in _HARMLESS if name in values},
    )


def _digest(recorded: Mapping[str, Any]) -> str | None:
    digest = recorded.get("backbone_sha256")
    return digest if isinstance(digest, str) else None


def _trains_backbone(run: Run) -> bool:
    counts = kept(run, "freeze").get("trainable_by_stage") or {}
    return any(count for stage, count in counts.items() if stage != "fc")


def _curve(run: Run) -> str | None:
    """Losses and scores of all epochs and, with all its digits, the last loss: what no other training comes to."""
    entries, final = run["history"], run["final"].get("test_loss")
    if not entries or final is None or any(entry.get("train_loss") is None for entry in entries):
        return None
    scores = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
    return json.dumps([final, *([entry.get(score) for score in scores] for entry in entries)])


def _made(run: Run, values: Mapping[str, Value]) -> dict[str, Value]:
    """What decides a run's weights: settings by what they do, and the score, which the weights decide in turn."""
    start, freeze, train = kept(run, "start"), kept(run, "freeze"), part(run, "train")
    made = {name: value for name, value in values.items() if name not in _HARMLESS}
    for name, through in _THROUGH.items():
        if through in made:
            made.pop(name, None)
    if "optimizer" in train:
        inner = [train.get("momentum"), train.get("nesterov")] if train["optimizer"] == "sgd" else []
        made["optimizer"] = Value([train["optimizer"], *inner], str(train["optimizer"]))
    made["kind"] = Value(run["kind"], f"{run['kind']} run")
    for name, number in (("seed", run["seed"]), ("repeat", run.get("repeat", 0))):
        made[name] = Value(number, str(number))
    if run["kind"] == "pretext":
        made["pretext run"] = Value(run["variant"].get("pretext"), str(run["variant"].get("pretext")))
        if part(run, "task"):
            made["task"] = Value(alike(part(run, "task")), str(part(run, "task").get("name")))
    for name, digest in (("starting weights", start.get("backbone_sha256")), ("head", start.get("head_sha256"))):
        if digest is not None:
            made[name] = Value(digest, "one")
    if freeze.get("phases"):
        mode = freeze.get("batchnorm") if freeze.get("frozen_parameters") else None
        made["what is trained"] = Value(json.dumps([freeze["phases"], mode], sort_keys=True), "one")
    rates = [entry.get("lr") for entry in run["history"]]
    if None not in rates:
        made["learning rate by epoch"] = Value(rates, "one")
    score = final_score(run)
    made["final score"] = Value(score, percent(score, 2) if run["kind"] == "downstream" else f"{score:.4f}")
    return made


def made_otherwise(one: Imprint, other: Imprint) -> dict[str, tuple[str, str]]:
    """What two runs that came out the same differ in though it decides their weights; both values in words."""
    moved = moved_between(one.made, other.made)
    if "lr" in moved or "epochs" in moved:
        moved.pop("learning rate by epoch", None)
    return moved


def likenesses(classes: Sequence[Sequence[Imprint]]) -> list[tuple[Likeness, ...]]:
    """For each hand-in what it shares with each other one, in their order."""
    places: dict[str, list[tuple[int, Imprint]]] = {}
    trained: dict[str, set[int]] = {}
    for place, own in enumerate(classes):
        for imprint in own:
            for mark in imprint.marks:
                places.setdefault(mark, []).append((place, imprint))
            if imprint.weights is not None:
                trained.setdefault(imprint.weights, set()).add(place)
    return [_of(place, own, places, trained) for place, own in enumerate(classes)]


def _of(
    place: int,
    own: Sequence[Imprint],
    places: Mapping[str, Sequence[tuple[int, Imprint]]],
    trained: Mapping[str, set[int]],
) -> tuple[Likeness, ...]:
    twins: dict[int, list[tuple[Imprint, Imprint]]] = {}
    taken: dict[int, int] = {}
    for imprint in own:
        by_other: dict[int, list[Imprint]] = {}
        for other, twin in (there for mark in imprint.marks for there in places[mark]):
            if other != place:
                by_other.setdefault(other, []).append(twin)
        for other, there in by_other.items():
            twins.setdefault(other, []).append((imprint, _nearest(imprint, there)))
        sources = trained.get(imprint.start or "", set()) if imprint.kind == "downstream" else set()
        for other in sources if place not in sources else ():
            taken[other] = taken.get(other, 0) + 1
    return tuple(
        _likeness(other, twins.get(other, []), taken.get(other, 0)) for other in sorted(twins.keys() | taken.keys())
    )


def _nearest(imprint: Imprint, twins: Sequence[Imprint]) -> Imprint:
    """Of the runs that came out as this one that which was made most like it."""
    return min(twins, key=lambda twin: len(made_otherwise(imprint, twin)))


def _likeness(other: int, pairs: Sequence[tuple[Imprint, Imprint]], taken: int) -> Likeness:
    timed = [(one.seconds, twin.seconds) for one, twin in pairs if one.seconds and twin.seconds]
    apart = [_told(moved_between(one.around, twin.around)) for one, twin in pairs]
    return Likeness(
        other=other,
        pretext=sum(one.kind == "pretext" for one, _ in pairs),
        downstream=sum(one.kind == "downstream" for one, _ in pairs),
        one_training=sum(one == twin for one, twin in timed) if timed else None,
        contradicting=sum(bool(made_otherwise(one, twin)) for one, twin in pairs),
        contradictions=contradictions(pairs),
        surroundings=tuple(dict.fromkeys(words for some in apart for words in some)),
        taken=taken,
    )


def contradictions(pairs: Sequence[tuple[Imprint, Imprint]]) -> str:
    """What runs that came out the same differ in though that forbids it, in words; empty where nothing does."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for one, twin in pairs:
        if moved := made_otherwise(one, twin):
            values = ", ".join(_told(moved))
            where = "" if one.name == twin.name else f" and {some_runs([twin.name])}"
            alike.setdefault(f"{where}: {values}", []).append(one.name)
    return enumerated((f"{some_runs(runs)}{values}" for values, runs in alike.items()), "; ")


def equal_within(own: Sequence[Imprint]) -> list[tuple[Imprint, Imprint]]:
    """Pairs of runs of one hand-in that came out the same to the bit though they were made otherwise."""
    first: dict[str, Imprint] = {}
    found = []
    for imprint in own:
        twins = {id(first[mark]): first[mark] for mark in imprint.marks if mark in first}
        found += [(twin, imprint) for twin in twins.values() if made_otherwise(twin, imprint)]
        for mark in imprint.marks:
            first.setdefault(mark, imprint)
    return found


def _told(moved: Mapping[str, tuple[str, str]]) -> list[str]:
    """Each of what differs with both values, where words tell them apart."""
    return [
        name if second == "another" else f"{name} ({first} against {second})" for name, (first, second) in moved.items()
    ]
