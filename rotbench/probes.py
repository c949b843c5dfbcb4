"""What probes read off frozen features, over seeds: by init, by stage, and over the epochs of pretraining."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.compare import Results, Run, as_written, axis_labels
from rotbench.inference import Estimate, mean_interval
from rotbench.matrix import Written
from rotbench.partner import alike, filled
from rotbench.probed import BANK_KEYS, CONDITIONS
from rotbench.recipe import part
from rotbench.settings import MODEL_KEYS

Probe = Mapping[str, Any]

#: The kinds of probe, by what :class:`StageScores` calls them.
KINDS = {"linear": "linear probe", "knn": "nearest neighbours"}


@dataclass(frozen=True)
class StageScores:
    """The accuracies that were read off one stage, over seeds, and each less that of the random backbone of its seed.

    The differences are None for the random backbone itself and where no seed has both.
    """

    stage: str
    features: int
    knn: Estimate
    linear: Estimate
    knn_gain: Estimate | None
    linear_gain: Estimate | None


@dataclass(frozen=True)
class ProbeRow:
    """The probes of one init with one choice of labels, over seeds.

    ``epoch`` is set where a pretext run was probed before its end, ``last_epoch`` where it was probed at its end.
    ``score`` is the pretext score of the probed weights, ``per_cent`` whether that is an accuracy, ``scored_on`` the
    images: ``"test"``, or ``"validation"`` where the test images were scored at the end alone.
    ``condition`` tells in words what else sets the probes of a study apart, such as labels, and ``values`` all that
    does; ``written`` is the init as the study file has it.
    """

    init: str
    written: Written
    condition: str
    values: Mapping[str, Any]
    epoch: int | None
    last_epoch: int | None
    n: int
    planned: int
    score: Estimate | None
    per_cent: bool
    scored_on: str
    bank_images: int | None
    stages: tuple[StageScores, ...]

    @property
    def is_random(self) -> bool:
        return self.written == "random"

    @property
    def at(self) -> int | None:
        """The epoch of the pretext run that was probed; None for what is no pretext run."""
        return self.epoch or self.last_epoch

    def is_of(self, variant: Mapping[str, Any]) -> bool:
        """Whether a variant starts from what was probed and has the labels that the probe learnt from."""
        return alike(filled(variant)["init"]) == alike(self.written) and all(
            alike(variant[key]) == alike(self.values.get(key)) for key in CONDITIONS if key in variant
        )


def probe_rows(results: Results) -> tuple[ProbeRow, ...]:
    """A row an init, epoch and choice of labels, in the order of the study."""
    probes: Sequence[Probe] = results.get("probes", [])
    groups: dict[str, list[Probe]] = {}
    for probe in probes:
        groups.setdefault(as_written([probe["init"], probe["epoch"], _condition(probe)]), []).append(probe)
    inits = axis_labels([probe["init"] for probe in probes])
    conditions = {key: _condition(group[0]) for key, group in groups.items()}
    random = {
        (as_written(conditions[key]), probe["seed"]): probe
        for key, group in groups.items()
        for probe in group
        if probe["init"] == "random" and probe["status"] == "done"
    }
    told = {key for key in _keys(conditions.values()) if len({as_written(c.get(key)) for c in conditions.values()}) > 1}
    runs = {run["id"]: run for run in results["runs"]}
    rows = []
    for key, group in groups.items():
        first, condition = group[0], conditions[key]
        done = [probe for probe in group if probe["status"] == "done"]
        parents = [_parent(probe, runs) for probe in done]
        scored_on = _scored_on(run for run in parents if run is not None)
        found = [_score(probe, run, scored_on) for probe, run in zip(done, parents, strict=True)]
        scores = [score for score in found if score is not None]
        parent = next((run for run in (_parent(probe, runs) for probe in group) if run is not None), None)
        about = results["study"]["pretexts"].get(parent["variant"]["pretext"], {}) if parent else {}
        rows.append(
            ProbeRow(
                init=inits[as_written(first["init"])],
                written=first["init"],
                condition=", ".join(_worded(name, condition[name]) for name in condition if name in told),
                values=condition,
                epoch=first["epoch"],
                last_epoch=part(parent, "train").get("epochs") if parent and first["epoch"] is None else None,
                n=len(done),
                planned=len({*results["study"]["seeds"], *(probe["seed"] for probe in group)}),
                score=mean_interval(scores) if len(scores) == len(done) and scores else None,
                per_cent=about.get("score_name", "accuracy") == "accuracy",
                scored_on=scored_on,
                bank_images=next((probe["provenance"].get("bank_images") for probe in done), None),
                stages=_stages([(probe, random.get((as_written(condition), probe["seed"]))) for probe in done]),
            )
        )
    return tuple(rows)


def _condition(probe: Probe) -> dict[str, Any]:
    """What sets the probes of one init apart, as it was resolved and not as the file writes it."""
    train, model = part(probe, "train"), part(probe, "model")
    return {**{key: train.get(key) for key in BANK_KEYS}, **{key: model.get(key) for key in MODEL_KEYS}}


def _keys(conditions: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for condition in conditions for key in condition))


def _worded(key: str, value: Any) -> str:
    if key == "labels_per_class":
        return "all labels" if value is None else f"{value} labels a class"
    return f"{key} {value}"


def _parent(probe: Probe, runs: Mapping[str, Run]) -> Run | None:
    """The pretext run whose weights were probed as they are; None for inits that start from none or change them."""
    if part(probe, "init").get("name") != "pretext":
        return None
    return runs.get(next(iter(probe["needs"]), ""))


def _scored_on(parents: Iterable[Run]) -> str:
    """The images on which the scores of pretext runs are held against one another over their epochs."""
    histories = [row for run in parents for row in run["history"]]
    everywhere = {
        on for on in ("test", "validation") if all(row.get(f"{on}_accuracy") is not None for row in histories)
    }
    return "validation" if everywhere == {"validation"} else "test"


def _score(probe: Probe, parent: Run | None, scored_on: str) -> float | None:
    """The pretext score of the weights that were probed."""
    if parent is None:
        return None
    at = probe["epoch"] or len(parent["history"])
    row = next((row for row in parent["history"] if row["epoch"] == at), None)
    return None if row is None else row.get(f"{scored_on}_accuracy")


def _stages(done: Sequence[tuple[Probe, Probe | None]]) -> tuple[StageScores, ...]:
    """By stage the scores of finished probes, each beside the random backbone's of its seed."""
    made = []
    for place, stage in enumerate(done[0][0]["stages"] if done else ()):

        def over_seeds(kind: str, place: int = place) -> Estimate:
            return mean_interval([probe["stages"][place][kind] for probe, _ in done])

        def gain(kind: str, place: int = place) -> Estimate | None:
            gains = [
                probe["stages"][place][kind] - other["stages"][place][kind]
                for probe, other in done
                if other is not None and other["id"] != probe["id"]
            ]
            return mean_interval(gains) if gains else None

        made.append(
            StageScores(
                stage=stage["stage"],
                features=stage["features"],
                knn=over_seeds("knn"),
                linear=over_seeds("linear"),
                knn_gain=gain("knn"),
                linear_gain=gain("linear"),
            )
        )
    return tuple(made)
