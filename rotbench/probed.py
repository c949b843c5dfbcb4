"""What a study's probes are of: each init as it is, and each pretext run as it was after some of its epochs.

A probe trains no network. It reads classes off frozen features, with the images that a downstream run of the same
labels would have been trained on; so there is one for each init, network and choice of labels that the study has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rotbench.partner import filled
from rotbench.settings import MODEL_KEYS, ProbeSettings

#: What of a run's training settings decides which images a probe sees, and how exactly.
BANK_KEYS = ("labels_per_class", "validation", "precision")

#: The axes that part the probes of one init.
CONDITIONS = (*BANK_KEYS, *MODEL_KEYS)

Settings = Mapping[str, Any]


def probed(
    variants: Sequence[tuple[Settings, Settings]],
    pretexts: Mapping[str, Settings],
    probes: ProbeSettings | None,
    train: Settings,
    threads: int,
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What each probe is called and its settings, the same for every seed; nothing without ``probes``.

    ``variants`` are what the file writes of downstream runs and their resolved settings; ``pretexts`` the resolved
    settings of pretext runs by name, which are probed too where nothing starts from them as they are, with the labels
    of ``train``, the study's own. A probe has ``threads``, whatever its pretext run has. The random backbone is a row
    of each group that shares labels and network, and comes first in it.
    """
    if probes is None:
        return []
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def add(written: Any, init: Settings, condition: Settings, like: Settings, epoch: int | None = None) -> None:
        settings = {
            **{key: like[key] for key in ("dataset", "model", "threads")},
            "init": dict(init),
            "train": {key: like["train"].get(key) for key in BANK_KEYS},
            "probe": {"stages": list(probes.stages), "epoch": epoch},
        }
        told = {"probe": written, **({} if epoch is None else {"epoch": epoch}), **condition}
        found.setdefault(json.dumps(settings, sort_keys=True), (told, settings))

    def add_all(written: Any, init: Settings, condition: Settings, like: Settings) -> None:
        add("random", {"name": "random"}, condition, like)
        if init["name"] == "pretext":
            last = pretexts[init["pretext"]]["train"]["epochs"]
            for epoch in probes.epochs:
                if epoch < last:
                    add(written, init, condition, like, epoch)
        add(written, init, condition, like)

    for variant, settings in variants:
        condition = {key: variant[key] for key in CONDITIONS if key in variant}
        add_all(filled(variant)["init"], settings["init"], condition, settings)
    used = {settings["init"]["pretext"] for _, settings in variants if settings["init"]["name"] == "pretext"}
    for name, settings in pretexts.items():
        if name not in used:
            add_all(name, {"name": "pretext", "pretext": name}, {}, {**settings, "train": train, "threads": threads})
    return list(found.values())
