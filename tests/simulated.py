"""Results as a finished study leaves them, without any training: what the report's tests render."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

Results = dict[str, Any]

FREEZE_BELOW = {"name": "below", "stage": "layer4", "batchnorm": "train"}
#: Final accuracies of the simulated variants by (init, freeze policy's name), before the noise of a seed.
LEVELS = {
    ("random", "none"): 0.802,
    ("random", "below"): 0.459,
    ("rotation", "none"): 0.808,
    ("rotation", "below"): 0.638,
}
STAGES = {"stem": 9536, "layer1": 147968, "layer2": 525568, "layer3": 2099712, "layer4": 8393728, "fc": 5130}

#: The classes, of as many test images each; image number n is of class n modulo 10.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OF_EACH = 1000
#: By how much a class is easier than the mean one where half of all images are right.
EASE = np.array([0.03, 0.10, -0.11, -0.19, -0.04, -0.12, 0.08, 0.05, 0.11, 0.09])
#: Classes that are taken for one another, and how much more often than others are.
LIKE = {(3, 5): 14, (1, 9): 9, (4, 7): 5, (0, 8): 6, (2, 4): 5, (2, 6): 4, (3, 6): 4, (5, 7): 4, (0, 2): 4}
ERRORS = 8

PROBED_STAGES = {"stem": 64, "layer3": 256, "layer4": 512}
#: What a linear probe reads off each of these, by init and pretext epoch.
PROBED: dict[tuple[str, int | None], tuple[float, ...]] = {
    ("random", None): (0.38, 0.40, 0.39),
    ("rotation", 5): (0.42, 0.52, 0.50),
    ("rotation", None): (0.43, 0.60, 0.55),
}

#: One grey pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def history(final: float, start: float, epochs: int, noise: random.Random) -> list[dict[str, Any]]:
    """A curve that rises from ``start`` and ends at exactly ``final``."""
    entries = []
    for epoch in range(1, epochs + 1):
        share = 1 - (1 - epoch / epochs) ** 3
        wobble = noise.gauss(0, 0.012) * (1 - share)
        accuracy = final if epoch == epochs else round(start + (final - start) * share + wobble, 4)
        entries.append(
            {
                "epoch": epoch,
                "train_loss": 2.3 * (1 - accuracy) + 0.01,
                "train_accuracy": min(1.0, accuracy + 0.02),
                "test_loss": 2.4 * (1 - accuracy) + 0.02,
                "test_accuracy": accuracy,
                "lr": 0.01 if epoch <= epochs // 2 else 0.001,
                "seconds": 11.25,
            }
        )
    return entries


def by_class(final: float, draw: np.random.Generator) -> dict[str, Any]:
    """What a run of that accuracy got right and confused: the right images are ``final`` of all, to the image."""
    wanted = round(final * OF_EACH * len(CLASSES))
    shares = final + 4 * final * (1 - final) * EASE + draw.normal(0, 0.008, len(CLASSES))
    right = np.clip((OF_EACH * shares).astype(int), 0, OF_EACH)
    while missing := wanted - int(right.sum()):
        room = np.flatnonzero(right < OF_EACH if missing > 0 else right > 0)[: abs(missing)]
        right[room] += 1 if missing > 0 else -1
    likeness = np.ones((len(CLASSES), len(CLASSES)))
    for (one, other), times in LIKE.items():
        likeness[one, other] = likeness[other, one] = times
    np.fill_diagonal(likeness, 0)
    wrong = draw.multinomial(OF_EACH - right, likeness / likeness.sum(axis=1, keepdims=True))
    listed = [[int(label), int(said), int(wrong[label, said])] for label, said in zip(*np.nonzero(wrong), strict=True)]
    listed.sort(key=lambda entry: -entry[2])
    return {"right": right.tolist(), "confused": listed, "left_out": 0}


def errors(confused: Sequence[Sequence[int]], draw: np.random.Generator) -> list[dict[str, Any]]:
    """The surest errors of a run, among its most frequent confusions: as many images of each class as it has."""
    among = [(label, said) for label, said, images in confused for _ in range(min(images, 2))][: 2 * ERRORS]
    chosen = [among[place] for place in draw.permutation(len(among))[:ERRORS]]
    return [
        {"index": 10 * (37 * place + int(draw.integers(37))) + label, "label": label, "predicted": said}
        | {"confidence": round(0.9985 - 0.0117 * place, 4)}
        for place, (label, said) in enumerate(chosen)
    ]


def run(kind: str, variant: dict[str, Any], seed: int, final: float, start: float, epochs: int) -> dict[str, Any]:
    """One finished run whose proof holds."""
    pretext = variant.get("pretext", variant.get("init") if variant.get("init") != "random" else None)
    parent = f"{pretext}-s{seed}-000000000000" if kind == "downstream" and pretext else None
    below = isinstance(variant.get("freeze"), dict)
    name = "-".join(value["name"] if isinstance(value, dict) else str(value) for value in variant.values())
    identity = (
        f"{pretext}-s{seed}-000000000000" if kind == "pretext" else f"{name}-s{seed}-{digest(variant, seed)[:12]}"
    )
    seed_backbone = digest("backbone", seed)
    trained = {stage: count for stage, count in STAGES.items() if not below or stage in ("layer4", "fc")}
    entries = history(final, start, epochs, random.Random(digest(variant, seed)))
    freeze = variant.get("freeze", "none")
    draw = np.random.default_rng(int(digest(variant, seed)[:12], 16))
    confusions = by_class(final, draw) if kind == "downstream" else {}
    judged = {"by_class": confusions, "errors": errors(confusions["confused"], draw)} if confusions else {}
    return {
        "id": identity,
        "kind": kind,
        "variant": variant,
        "seed": seed,
        "status": "done",
        "error": None,
        "diverged": False,
        "stale": None,
        "needs": [parent] if parent else [],
        "history": entries,
        "final": {"test_accuracy": final, "test_loss": entries[-1]["test_loss"]},
        "provenance": {
            "start": {
                "init": variant.get("init", "random"),
                "parent": parent,
                "seed_backbone_sha256": seed_backbone,
                "backbone_sha256": digest("trained", pretext, seed) if parent else seed_backbone,
                "parent_backbone_sha256": digest("trained", pretext, seed) if parent else None,
                "equals_parent": True if parent else None,
                "claimed": 120 if parent else 0,
                "changed": 120 if parent else 0,
                "missing": [],
                "unexpected": [],
                "head_sha256": digest("head", kind, seed),
            },
            "freeze": {
                "policy": "below" if below else "none",
                "batchnorm": "train",
                "phases": [{"first": 1, "parts": list(trained), "parameters": sum(trained.values())}],
                "trainable_parameters": sum(trained.values()),
                "frozen_parameters": sum(STAGES.values()) - sum(trained.values()),
                "trainable_by_stage": {stage: trained.get(stage, 0) for stage in STAGES},
                "largest_change_of_frozen_parameter": 0.0 if below else None,
                "largest_change_of_frozen_buffer": 0.1375 if below else None,
                "largest_change_by_stage": {stage: {"parameters": 0.0, "buffers": 0.1} for stage in STAGES},
            },
            "data": {
                "fingerprint": digest("data"),
                "training_images": 50000,
                "test_images": 10000,
                "subset_sha256": digest("subset"),
                "mean": [0.4914, 0.4822, 0.4465],
                "std": [0.247, 0.2435, 0.2616],
            },
            "backbone_sha256": digest("trained", pretext, seed) if kind == "pretext" else digest(name, seed),
            "threads": 1,
            "epochs": epochs,
            "updates": 391 * epochs,
        },
        "settings": {
            "dataset": {"name": "cifar10"},
            "model": {"name": "resnet18", "stem": "imagenet"},
            "train": {"epochs": epochs, "batch_size": 128, "optimizer": "adam", "lr": 0.01, "schedule": "step"},
            "init": {"name": "pretext", "pretext": pretext} if parent else {"name": "random"},
            "freeze": freeze if isinstance(freeze, dict) else {"name": freeze},
            "threads": 1,
        },
        "log": "".join(
            f"epoch {e['epoch']}/{epochs}  train loss {e['train_loss']:.3f} acc {e['train_accuracy']:.1%}"
            f"  test loss {e['test_loss']:.3f} acc {e['test_accuracy']:.1%}  lr {e['lr']:.3g}  {e['seconds']:.1f} s\n"
            for e in entries
        ),
        "train_seconds": 11.25 * epochs,
        "images_per_second": 4444.4,
        "device": "cpu",
        "precision": "fp32",
        "versions": {"python": "3.11.7", "torch": "2.14.1", "torchvision": "0.29.1", "rotbench": "0.1.0"},
        **judged,
    }


def alike(first: Results, second: Results) -> dict[str, int]:
    """What two runs said of the same images: they are right together a little more often than by chance."""
    images = OF_EACH * len(CLASSES)
    right, right_too = (sum(one["by_class"]["right"]) for one in (first, second))
    least, most = max(0, right + right_too - images), min(right, right_too)
    both = round(0.4 * max(least, right * right_too / images) + 0.6 * most)
    neither = images - right - right_too + both
    counts = {"both": both, "only_first": right - both, "only_second": right_too - both, "neither": neither}
    return {"images": images, **counts, "agree": both + round(0.55 * neither)}


def pairs(runs: Sequence[Results]) -> list[dict[str, Any]]:
    """Each run that is not of random weights with the run of its seed that is like it but for that."""
    told = []
    judged = [one for one in runs if "by_class" in one]
    partners = {digest(one["variant"] | {"init": ""}, one["seed"]): one for one in judged if is_random(one)}
    for one in judged:
        partner = partners.get(digest(one["variant"] | {"init": ""}, one["seed"]))
        if partner and not is_random(one):
            counts = alike(one, partner)
            told.append(
                {"variant": one["id"], "baseline": partner["id"], "seed": one["seed"], "repeat": 0}
                | {"images": counts["images"], "both": counts["both"], "only_variant": counts["only_first"]}
                | {"only_baseline": counts["only_second"], "neither": counts["neither"], "agree": counts["agree"]}
            )
    return told


def is_random(one: Results) -> bool:
    return bool(one["variant"].get("init", "random") == "random")


def seed_agreement(runs: Sequence[Results]) -> list[dict[str, Any]]:
    told = []
    for group in groups(runs):
        shares = [alike(*two)["agree"] / OF_EACH / len(CLASSES) for two in combinations(group, 2)]
        if shares:
            agreement = round(sum(shares) / len(shares), 5)
            told.append({"variant": group[0]["variant"], "pairs": len(shares), "agreement": agreement})
    return told


def error_images(runs: Sequence[Results], shown: int = 3) -> list[dict[str, Any]]:
    """The first ``shown`` errors of each variant's first seed, all of them the same grey pixel."""
    return [
        {"run": group[0]["id"], "index": error["index"], "png": PNG}
        for group in groups(runs)
        for error in group[0]["errors"][:shown]
    ]


def groups(runs: Sequence[Results]) -> list[list[Results]]:
    found: dict[str, list[Results]] = {}
    for one in runs:
        if "by_class" in one:
            found.setdefault(digest(one["variant"]), []).append(one)
    return list(found.values())


def results(seeds: int = 3, epochs: int = 20, pretext_epochs: int = 45) -> Results:
    """Rotation against random, everything or the last stage trained: one pretext and four downstream runs a seed."""
    noise = random.Random(2)
    runs = []
    for seed in range(seeds):
        score = round(0.776 + noise.gauss(0, 0.004), 4)
        runs.append(run("pretext", {"pretext": "rotation"}, seed, score, 0.36, pretext_epochs))
    runs[0]["pictures"] = [{"png": PNG, "caption": f"{turn}° → predicted {turn}° (97 %)"} for turn in (0, 90)]
    for (init, freeze), level in LEVELS.items():
        variant = {"init": init, "freeze": FREEZE_BELOW if freeze == "below" else "none"}
        for seed in range(seeds):
            runs.append(run("downstream", variant, seed, round(level + noise.gauss(0, 0.004), 4), level - 0.28, epochs))
    told = {"pairs": pairs(runs), "seed_agreement": seed_agreement(runs), "error_images": error_images(runs)}
    return {"format": 1, "rotbench": "0.1.0", "study": study(list(range(seeds))), "runs": runs, **told}


def probes(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Finished probes of the random backbone, and of rotation at its end and before."""
    draw = np.random.default_rng(0)
    made = []
    for seed in seeds:
        for (init, epoch), levels in PROBED.items():
            rates = [float(level + draw.normal(0, 0.01)) for level in levels]
            own = {"probe": init, **({} if epoch is None else {"epoch": epoch})}
            parent = [] if init == "random" else [f"{init}-s{seed}-000000000000"]
            made.append(
                {
                    "id": f"probe-{init}-{epoch}-s{seed}-{digest(own, seed)[:12]}",
                    "variant": own,
                    "init": init,
                    "epoch": epoch,
                    "seed": seed,
                    "status": "done",
                    "error": None,
                    "stale": None,
                    "needs": parent,
                    "stages": [
                        {"stage": stage, "features": count, "knn": rate - 0.05, "linear": rate, "c": 0.01}
                        for (stage, count), rate in zip(PROBED_STAGES.items(), rates, strict=True)
                    ],
                    "provenance": {"bank_images": 50000},
                    "settings": {
                        "init": {"name": "pretext", "pretext": init} if parent else {"name": "random"},
                        "train": {"labels_per_class": None},
                    },
                    "versions": {},
                }
            )
    return made


def study(seeds: list[int]) -> dict[str, Any]:
    text = """title = "Rotation pretraining on CIFAR-10"
seeds = 3

[dataset]
name = "cifar10"

[pretext.rotation]
task = "rotation"
epochs = 45
step_epochs = 15

[[matrix]]
init = ["random", "rotation"]
freeze = ["none", { name = "below", stage = "layer4", batchnorm = "train" }]
"""
    return {
        "title": "Rotation pretraining on CIFAR-10",
        "file": "experiments.toml",
        "text": text,
        "seeds": seeds,
        "dataset": {"name": "cifar10"},
        "notice": "",
        "classes": list(CLASSES),
        "class_counts": [OF_EACH] * len(CLASSES),
        "test_images": 10000,
        "baseline": {"init": "random"},
        "references": [
            {
                "match": {"init": "rotation", "freeze": "below"},
                "test_accuracy": 0.6407,
                "source": "course write-up, one seed",
            },
            {
                "match": {"init": "random", "freeze": "below"},
                "test_accuracy": 0.4589,
                "source": "course write-up, one seed",
            },
        ],
        "chance": 0.1,
        "pretexts": {
            "rotation": {
                "task": "rotation",
                "summary": "Say by which multiple of 90 degrees an image was turned.",
                "chance": 0.25,
                "score_name": "accuracy",
            }
        },
        "plugins": [
            {
                "kind": "pretext task",
                "name": "rotation",
                "summary": "Say by which multiple of 90 degrees an image was turned.",
                "origin": "shipped",
                "sha256": digest("rotation.py"),
            },
            {
                "kind": "freeze policy",
                "name": "below",
                "summary": "Train a stage and what comes after it.",
                "origin": "shipped",
                "sha256": digest("freeze.py"),
            },
        ],
        "command": "rotbench run experiments.toml",
    }
