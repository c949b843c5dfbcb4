"""Results as a finished study leaves them, without any training: what the report's tests render."""

from __future__ import annotations

import hashlib
import random
from typing import Any

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
            f"epoch {e['epoch']:>2}  train {e['train_loss']:.4f} {e['train_accuracy']:.4f}"
            f"  test {e['test_loss']:.4f} {e['test_accuracy']:.4f}  lr {e['lr']:g}  {e['seconds']:.1f} s\n"
            for e in entries
        ),
        "train_seconds": 11.25 * epochs,
        "images_per_second": 4444.4,
        "device": "cpu",
        "precision": "fp32",
        "versions": {"python": "3.11.7", "torch": "2.14.1", "torchvision": "0.29.1", "rotbench": "0.1.0"},
    }


def results(seeds: int = 3, epochs: int = 20, pretext_epochs: int = 45) -> Results:
    """Rotation against random, everything or the last stage trained: one pretext and four downstream runs a seed."""
    noise = random.Random(2)
    runs = []
    for seed in range(seeds):
        score = round(0.776 + noise.gauss(0, 0.004), 4)
        runs.append(run("pretext", {"pretext": "rotation"}, seed, score, 0.36, pretext_epochs))
    runs[0]["pictures"] = [{"png": PNG, "caption": f"{turn}°, says {turn}° (97 %)"} for turn in (0, 90)]
    for (init, freeze), level in LEVELS.items():
        variant = {"init": init, "freeze": FREEZE_BELOW if freeze == "below" else "none"}
        for seed in range(seeds):
            runs.append(run("downstream", variant, seed, round(level + noise.gauss(0, 0.004), 4), level - 0.28, epochs))
    return {"format": 1, "rotbench": "0.1.0", "study": study(list(range(seeds))), "runs": runs}


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
        "classes": [str(label) for label in range(10)],
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
