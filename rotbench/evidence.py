"""What the runs recorded of their start and of what they left alone, judged: each proof holds, or fails in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotbench.compare import Run, as_written


@dataclass(frozen=True)
class ProofRow:
    """What one run recorded about its start and its frozen part; ``failures`` and ``remarks`` are in words."""

    run: Run
    failures: tuple[str, ...]
    remarks: tuple[str, ...]


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


def proof(run: Run) -> ProofRow:
    """Hold what a run recorded against what it claims."""
    start, freeze = run["provenance"]["start"], run["provenance"].get("freeze", {})
    failures, remarks = [], []
    if start["equals_parent"] is False:
        failures.append("the starting weights are not those of the run it was to start from")
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
    return ProofRow(run, tuple(failures), tuple(remarks))


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
