"""Partners of equal cost: what a variant without pretraining gets when it trains for as long as both together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.matrix import same

Variant = Mapping[str, Any]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Matched:
    """A pretrained variant, and the partner that trains from the baseline for the epochs of both."""

    variant: Variant
    partner: Variant


def match_compute(
    variants: Sequence[tuple[Variant, Settings]], pretexts: Mapping[str, Settings], baseline: Mapping[str, Any]
) -> tuple[tuple[Matched, ...], list[tuple[Variant, Settings]]]:
    """For each variant that starts from a pretext run, against a baseline that does not: who matches its cost.

    Returns the pairs, and the partners to train, each once, with the key ``compute_matched``: the epochs in all.
    """
    pairs: list[Matched] = []
    partners: dict[str, tuple[Variant, Settings]] = {}
    for variant, settings in variants:
        extra = _pretraining(settings["init"].get("pretext"), pretexts)
        for other, plain in variants if extra else ():
            if plain["init"].get("pretext") is not None or not _differs_by(variant, other, baseline):
                continue
            train = _stretched(plain["train"], plain["train"]["epochs"] + extra)
            partner = {**other, "compute_matched": train["epochs"]}
            partners.setdefault(json.dumps(partner, sort_keys=True), (partner, {**plain, "train": train}))
            pairs.append(Matched(variant, partner))
    return tuple(pairs), list(partners.values())


def _differs_by(variant: Variant, other: Variant, baseline: Mapping[str, Any]) -> bool:
    """Whether ``other`` is the baseline in its keys and like ``variant`` in all others."""
    rests = [{key: value for key, value in side.items() if key not in baseline} for side in (variant, other)]
    return rests[0] == rests[1] and all(same(other.get(key), value) for key, value in baseline.items())


def _pretraining(name: str | None, pretexts: Mapping[str, Settings]) -> int:
    """Epochs of the pretext run of that name and of those that it starts from."""
    epochs = 0
    while name is not None:
        epochs += pretexts[name]["train"]["epochs"]
        name = pretexts[name]["init"].get("pretext")
    return epochs


def _stretched(train: Settings, epochs: int) -> dict[str, Any]:
    """The same schedule over more epochs: what was half-way is half-way."""
    by = epochs / train["epochs"]
    return {
        **train,
        "epochs": epochs,
        "step_epochs": round(train["step_epochs"] * by),
        "milestones": [round(epoch * by) for epoch in train["milestones"]],
        "warmup_epochs": round(train["warmup_epochs"] * by),
    }
