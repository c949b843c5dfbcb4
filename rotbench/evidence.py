"""What the runs recorded of their start and of what they left alone, judged: each proof holds, or fails in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.compare import Results, Run, as_written


@dataclass(frozen=True)
class ProofRow:
    """What one run recorded about its start and its frozen part, in words: what fails, and what is to be known."""

    run: Run
    failures: tuple[str, ...]
    remarks_on_start: tuple[str, ...]
    remarks_on_freezing: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.remarks_on_start + self.remarks_on_freezing


@dataclass(frozen=True)
class SeedRow:
    """Whether all runs of one seed were built on one random backbone, and all downstream runs on one head.

    ``same_start`` says whether a random downstream run starts from the very backbone that the pretext run started
    from; None where one of the two is not there.
    """

    seed: int
    runs: int
    same_backbone: bool
    same_head: bool
    same_start: bool | None

    @property
    def holds(self) -> bool:
        """Whether nothing that is known of this seed is unequal."""
        return self.same_backbone and self.same_head and self.same_start is not False


def proof(run: Run, by_id: Mapping[str, Run] | None = None) -> ProofRow:
    """Hold what a run recorded against what it claims, and against what the run that it starts from recorded."""
    start, freeze = run["provenance"]["start"], run["provenance"].get("freeze", {})
    failures, remarks = [], []
    if start["equals_parent"] is False:
        failures.append("the starting weights are not those of the run it was to start from")
    parent = (by_id or {}).get(start["parent"] or "")
    ended = parent["provenance"].get("backbone_sha256") if parent else None
    if ended and start["parent_backbone_sha256"] not in (None, ended):
        failures.append("the weights that were read are not those that its pretext run ended with")
    if start["missing"]:
        failures.append(
            f"{_tensors(len(start['missing']))} of the backbone not found in the source and left at random values"
        )
    if start["claimed"] and not start["changed"]:
        failures.append("the init claims to have set weights, but none changed")
    elif start["changed"] < start["claimed"]:
        remarks.append(f"{_tensors(start['claimed'] - start['changed'])} claimed but left unchanged")
    if not start.get("exact", True) and 0 < start["claimed"] < start["tensors"]:
        remarks.append(f"sets {start['claimed']} of {start['tensors']} tensors, the others are random")
    if not start.get("exact", True) and start["parent"]:
        remarks.append(f"{_tensors(start['tensors_of_parent'])} are the parent's to the bit")
    if start["unexpected"]:
        remarks.append(f"{_tensors(len(start['unexpected']))} of the source not used")
    if freeze.get("largest_change_of_frozen_parameter"):
        failures.append("a frozen parameter changed")
    if freeze.get("batchnorm") in ("eval", "calibrated") and freeze.get("largest_change_of_frozen_buffer"):
        failures.append("a running statistic of a frozen BatchNorm changed")
    failures += _label_failures(run)
    remarks += _remarks_on_start(start)
    return ProofRow(run, tuple(failures), tuple(remarks), tuple(_remarks_on_statistics(freeze)))


def _label_failures(run: Run) -> list[str]:
    """Whether the images that were drawn are as many as the settings ask for."""
    data, train = run["provenance"].get("data", {}), run["settings"].get("train", {})
    asked, seen = train.get("labels_per_class"), data.get("seen_images")
    if run["kind"] != "downstream" or asked is None or seen is None or run["settings"].get("rehearsal"):
        return []
    promised = asked * len(data["classes"])
    if seen + data.get("validation_images", 0) != promised:
        return [f"labels_per_class {asked} promises {promised:,} labelled images; {seen:,} were trained on"]
    return []


def _remarks_on_start(start: Mapping[str, Any]) -> list[str]:
    remarks = []
    if start.get("unclaimed"):
        remarks.append(f"sets {_tensors(start['unclaimed'])} that it does not claim")
    if start.get("published"):
        remarks.append(f"the file is {start['published']} of torchvision, trained on ImageNet with labels")
    return remarks


def _remarks_on_statistics(freeze: Mapping[str, Any]) -> list[str]:
    """What became of the running statistics below the freeze line."""
    moved, calibration = freeze.get("largest_change_of_frozen_buffer"), freeze.get("calibration")
    if freeze.get("batchnorm") == "train" and moved:
        return [f"statistics of frozen BatchNorm went on moving, by up to {moved:.3g}; its parameters did not"]
    if calibration and calibration["buffers"]:
        return [
            f"{calibration['changed']} of {calibration['buffers']} statistics of frozen BatchNorm computed once from "
            f"{calibration['images']:,} images, then kept"
        ]
    return []


def _tensors(count: int) -> str:
    return f"{count} tensor" if count == 1 else f"{count} tensors"


def seed_rows(runs: Sequence[Run]) -> list[SeedRow]:
    """For each seed and model, whether all its runs were built on the same random weights."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        if "start" in run["provenance"]:
            groups.setdefault((run["seed"], as_written(run["settings"].get("model"))), []).append(run)
    rows = []
    for (seed, _), group in sorted(groups.items(), key=lambda item: item[0]):
        starts = [(run["kind"], run["provenance"]["start"]) for run in group]
        built = {start["seed_backbone_sha256"] for _, start in starts}
        heads: dict[int, set[str]] = {}  # a repeat has a head of its own
        for run in group:
            if run["kind"] == "downstream":
                heads.setdefault(run.get("repeat", 0), set()).add(run["provenance"]["start"]["head_sha256"])
        pretrained = {start["backbone_sha256"] for kind, start in starts if kind == "pretext" and not start["claimed"]}
        random = {start["backbone_sha256"] for kind, start in starts if kind == "downstream" and not start["claimed"]}
        same_start = len(pretrained | random) == 1 if pretrained and random else None
        rows.append(
            SeedRow(seed, len(group), len(built) == 1, all(len(some) == 1 for some in heads.values()), same_start)
        )
    return rows


def proof_summary(results: Results) -> dict[str, Any]:
    """What the page says of proof, as plain JSON: each run that recorded its start, each seed, each subset."""
    runs = results["runs"]
    by_id = {run["id"]: run for run in runs}
    rows = [proof(run, by_id) for run in runs if "start" in run["provenance"]]
    return {
        "proof": [
            {"run": row.run["id"], "holds": not row.failures, "failures": row.failures, "remarks": row.remarks}
            for row in rows
        ],
        "seeds": [
            {
                "seed": row.seed,
                "runs": row.runs,
                "same_backbone": row.same_backbone,
                "same_head": row.same_head,
                "same_start": row.same_start,
            }
            for row in seed_rows(runs)
        ],
        "subsets": results.get("subsets", []),
    }
