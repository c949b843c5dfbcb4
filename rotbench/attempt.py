"""From a request to a result: load the plugins and the data, build the network, train it, prove what was done."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save
from torch import Tensor

from rotbench import __version__
from rotbench.models import (
    Network,
    backbone_state,
    named_parameters,
    parameters_of,
    state_sha256,
)
from rotbench.proof import freeze_proof
from rotbench.setup import Loaded, set_up
from rotbench.tasks import chance
from rotbench.train import Trained, fit, predict

#: What the result says of the last epoch, where it was scored.
SCORES = ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss")


def perform(
    request: Mapping[str, Any], store: Path, report: Callable[[Mapping[str, float | None]], None]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Train the run that a request describes; returns what ``result.json`` says and the other files to keep."""
    record = request["run"]
    ready = set_up(request, store)
    network, loaded, train = ready.network, ready.loaded, ready.train
    before = _tensors(network)
    trained = fit(network, ready.feed, ready.policy, train, precision=ready.precision, report=report)
    freeze = freeze_proof(ready.policy.name, parameters_of(network), trained.ever_trained, before, _tensors(network))

    final = backbone_state(network.backbone)
    if record["kind"] == "pretext":
        files = {"backbone.safetensors": save(final)}
    else:
        predicted, confidence = predict(network, ready.feed, ready.precision)
        files = {
            "predictions.safetensors": save(
                {"predicted": predicted.to(torch.int16), "confidence": confidence.to(torch.float16)}
            )
        }
    head = {name: tensor for name, tensor in before.items() if name.startswith("fc.")}
    provenance = {
        "start": {**ready.start, "head_sha256": state_sha256(head)},
        "freeze": {**freeze, "batchnorm": ready.policy.batchnorm},
        "data": _data_proof(record["fingerprint"], loaded),
        "backbone_sha256": state_sha256(final),
        "threads": torch.get_num_threads(),
        "epochs": train.epochs,
        "updates": ready.feed.updates * train.epochs,
    }
    if record["kind"] == "pretext":
        test_images, classes = len(loaded.test.labels), len(loaded.test.classes)
        provenance["chance"] = chance(ready.task, examples=test_images, classes=classes)
    return {**_measured(trained), "provenance": provenance, "device": ready.device, "precision": ready.precision}, files


def _tensors(network: Network) -> dict[str, Tensor]:
    """Copies of all parameters and running statistics by name, on the CPU."""
    buffers = dict(network.backbone.named_buffers())
    buffers.update(network.head.named_buffers(prefix="fc"))
    everything = {**named_parameters(network), **buffers}
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in everything.items()}


def _data_proof(fingerprint: str, loaded: Loaded) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "training_images": len(loaded.subset),
        "validation_images": len(loaded.validation),
        "test_images": len(loaded.test.labels),
        "classes": list(loaded.training.classes),
        "subset_sha256": state_sha256({"subset": loaded.subset}),
        "mean": [float(value) for value in loaded.mean],
        "std": [float(value) for value in loaded.std],
    }


def _measured(trained: Trained) -> dict[str, Any]:
    last = trained.history[-1]
    scored = [name for name in SCORES if name in last]
    return {
        "history": list(trained.history),
        "final": {name: last[name] for name in scored},
        "train_seconds": sum(row["seconds"] or 0.0 for row in trained.history),
        "images_per_second": trained.images_per_second,
        "versions": {
            "python": platform.python_version(),
            "rotbench": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
