"""Partners that train as many epochs: what a variant without pretraining gets when it trains for both together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotbench.partner import MATCHED, Variant, pair_up

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Matched:
    """A contrast of which one side is pretrained, and the other trains for the epochs of both."""

    variant: Variant
    partner: Variant


def match_compute(
    variants: Sequence[tuple[Variant, Settings]], pretexts: Mapping[str, Settings], baseline: Mapping[str, Any]
) -> tuple[tuple[Matched, ...], list[tuple[Variant, Settings]], str]:
    """For each contrast with one pretrained side: the other side, trained for the epochs of pretraining too.

    Returns the pairs; the variants to train, each once, with the key ``compute_matched``: their epochs in all; and what
    keeps epochs from being a measure here, or "".
    """
    pairs: list[Matched] = []
    added: dict[str, tuple[Variant, Settings]] = {}
    settings_of = {json.dumps(variant, sort_keys=True): settings for variant, settings in variants}

    def settings(variant: Variant) -> Settings:
        return settings_of[json.dumps(variant, sort_keys=True)]

    def matched(side: Variant, pretext: str | None) -> Variant:
        """``side``, trained for the epochs of the pretext run and of those that it starts from as well."""
        plain = settings(side)
        train = _stretched(plain["train"], plain["train"]["epochs"] + _pretraining(pretext, pretexts))
        new = {**side, MATCHED: train["epochs"]}
        added.setdefault(json.dumps(new, sort_keys=True), (new, {**plain, "train": train}))
        return new

    for variant, partner in pair_up([variant for variant, _ in variants], baseline):
        if len(partner) != 1:
            continue
        parents = [settings(side)["init"].get("pretext") for side in (variant, partner[0])]
        if sum(parent is None for parent in parents) != 1:
            continue
        plain = variant if parents[0] is None else partner[0]
        problem = _incomparable(settings(plain)["train"], pretexts[parents[0] or parents[1]]["train"])
        if problem:
            return (), [], problem
        pairs.append(
            Matched(variant, matched(partner[0], parents[0]))
            if parents[0] is not None
            else Matched(matched(variant, parents[1]), partner[0])
        )
    return (
        tuple(pairs),
        list(added.values()),
        "" if pairs else "has nothing to match: no contrast has one pretrained side",
    )


def _incomparable(plain: Settings, pretext: Settings) -> str:
    """Why an epoch of the one is not as many updates as an epoch of the other, or ""."""
    if plain["batch_size"] != pretext["batch_size"]:
        return f"counts epochs, and batch_size is {pretext['batch_size']} in pretraining but {plain['batch_size']} here"
    if plain["labels_per_class"] is not None and plain["updates"] == "epochs":
        return 'counts epochs, and with updates = "epochs" one of few labels is shorter than one of pretraining'
    return ""


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
