"""From a request to a result: load the plugins and the data, build the network, train it, prove what was done."""

from __future__ import annotations

import io
import json
import platform
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save
from torch import Tensor

from rotbench import __version__
from rotbench.architecture import Sized
from rotbench.census import class_counts
from rotbench.checkpoint import Schedule
from rotbench.cost import training_cost
from rotbench.device import tf32
from rotbench.feed import EVALUATION_BATCH
from rotbench.models import (
    Network,
    backbone_state,
    named_parameters,
    parameters_of,
    running_statistics,
    state_sha256,
)
from rotbench.pictures import pictures
from rotbench.proof import freeze_proof, label_proof
from rotbench.setup import Setup, set_up
from rotbench.store import Damaged, Store, backbone_file, read_manifest, read_verified, to_json
from rotbench.tasks import chance
from rotbench.train import Snapshot, Trained, answers, fit
from rotbench.trained import trained_phases

#: A state is at most the weights and Adam's two moments of each.
STATE_FACTOR = 3

#: Of so many errors the images are kept, for the report to show.
ERRORS_KEPT = 16

#: What the result says of the last epoch, where it was scored.
SCORES = ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss")


def perform(
    request: Mapping[str, Any],
    store: Path,
    report: Callable[[Mapping[str, float | None]], None],
    resumed: Callable[[Sequence[Mapping[str, Any]]], None],
    schedule: Schedule,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Train the run that a request describes; returns what ``result.json`` says and the other files to keep.

    ``resumed`` is called with the history that a checkpoint brings; ``schedule`` says when one is due. Raises
    :class:`~rotbench.checkpoint.Stopped`.
    """
    record = request["run"]
    keeps = record.get("keeps", [])
    snapshot = snapshot_if_there(store / "attempts" / request["resume"]) if request.get("resume") else None
    if snapshot is not None and any(epoch <= snapshot.epoch and epoch not in snapshot.kept for epoch in keeps):
        # It was made before these weights were asked for, and is past them; left there, it would be taken again for
        # the newest after the next interruption.
        snapshot = None
        Store(store).forget_checkpoints(record["id"])
    ready = set_up(request, store, snapshot)
    network, loaded, train = ready.network, ready.loaded, ready.train
    before = _tensors(network)
    if snapshot is not None:
        resumed(snapshot.history)
    kept = dict(snapshot.kept) if snapshot is not None else {}

    def keep(epoch: int, take: Callable[[], Snapshot]) -> None:
        if epoch in keeps:
            kept[epoch] = backbone_state(network.backbone)
        size = (STATE_FACTOR + len(kept)) * sum(_bytes(tensor) for tensor in before.values())
        schedule.epoch_ended(
            epoch, size, lambda: snapshot_files(replace(take(), calibration=ready.calibration, kept=kept))
        )

    trained = fit(
        network,
        ready.feed,
        ready.policy,
        train,
        precision=ready.precision,
        report=report,
        resume=snapshot,
        keep=keep,
    )
    freeze = freeze_proof(
        ready.policy.name,
        parameters_of(network),
        trained.ever_trained,
        before,
        _tensors(network),
        trained.moved_while_frozen,
    )
    final = backbone_state(network.backbone)
    files = {backbone_file(epoch): save(dict(state)) for epoch, state in kept.items()}
    if record["kind"] == "pretext":
        files[backbone_file()] = save(final)
    if trained.outputs is not None:
        files["predictions.safetensors"] = save(_predictions(ready, trained.outputs))
    head = {name: tensor for name, tensor in before.items() if name.startswith("fc.")}
    provenance = {
        "start": {**ready.start, "head_sha256": state_sha256(head)},
        "freeze": {
            **freeze,
            "batchnorm": ready.policy.batchnorm,
            "calibration": ready.calibration,
            "phases": _phases(ready),
        },
        "data": _data_proof(record["fingerprint"], ready),
        "backbone_sha256": state_sha256(final),
        "threads": torch.get_num_threads(),
        "tf32": tf32(ready.device),
        "epochs": train.epochs,
        "updates": ready.feed.updates * train.epochs,
    }
    if record["kind"] == "pretext":
        examples, classes = min(EVALUATION_BATCH, len(loaded.counted.test.labels)), len(loaded.counted.test.classes)
        provenance["views_per_image"] = trained.views_per_image
        provenance["chance"] = chance(ready.task, examples=examples, classes=classes)
    made = {
        **_measured(trained),
        "provenance": provenance,
        "device": ready.device,
        "precision": ready.precision,
        "checkpoint_seconds": schedule.seconds,
        **(_pictured(ready) if record["kind"] == "pretext" else {}),
    }
    # The last use of the network, which counting leaves changed.
    provenance["cost"] = _cost(ready)
    return made, files


def _predictions(ready: Setup, outputs: Tensor) -> dict[str, Tensor]:
    """What the final network says of each test image, beside its label; and the errors that it is surest of.

    ``error_index`` and ``error_pixels``: the test images with a wrong class, the highest confidence first.
    """
    predicted, confidence = answers(outputs)
    labels, kept = ready.loaded.counted.test.labels, confidence.to(torch.float16)
    wrong = (predicted != labels).nonzero().flatten()
    surest = wrong[kept[wrong].float().sort(descending=True, stable=True).indices[:ERRORS_KEPT]]
    few = ready.train.labels_per_class is not None
    return {
        # With few labels the images that were drawn too, so that subsets can be held against one another.
        **({"seen": ready.feed.seen.cpu().nonzero().flatten().to(torch.int32)} if few else {}),
        "label": labels.to(torch.int16),
        "predicted": predicted.to(torch.int16),
        "confidence": kept,
        "error_index": surest.to(torch.int32),
        "error_pixels": ready.loaded.counted.test.pixels[surest].contiguous(),
    }


def _cost(ready: Setup) -> dict[str, Any] | None:
    """What the training cost, or None: a training is not lost because it could not be counted."""
    try:
        cost = training_cost(ready.network, ready.feed, ready.policy, ready.train.epochs, precision=ready.precision)
    except Exception:  # a plugin may raise anything, and memory may run out
        traceback.print_exc()
        return None
    return asdict(cost)


def _pictured(ready: Setup) -> dict[str, Any]:
    """Pictures of the task, or why there are none: a training is not lost for want of them."""
    try:
        return {"pictures": pictures(ready.network, ready.feed, ready.precision)}
    except Exception as error:  # a plugin may raise anything
        traceback.print_exc()
        return {"pictures": [], "no_pictures": f"{type(error).__name__}: {error}"}


def _phases(ready: Setup) -> list[dict[str, Any]]:
    """What the freeze policy trained and from which epoch on, told of the very network."""
    tensors = named_parameters(ready.network)
    sizes = [Sized(parameter, tensors[parameter.name].numel()) for parameter in parameters_of(ready.network)]
    return [asdict(phase) for phase in trained_phases(ready.policy, sizes, ready.train.epochs)]


def snapshot_files(snapshot: Snapshot) -> dict[str, bytes]:
    """A snapshot as the files of a checkpoint."""
    buffer = io.BytesIO()
    torch.save({**snapshot.states, "kept": dict(snapshot.kept)}, buffer)
    told = {
        "epoch": snapshot.epoch,
        "history": list(snapshot.history),
        "ever_trained": sorted(snapshot.ever_trained),
        "views_seen": snapshot.views_seen,
        "training_seconds": snapshot.training_seconds,
        "moved_while_frozen": dict(snapshot.moved_while_frozen),
        "calibration": snapshot.calibration,
    }
    return {"states.pt": buffer.getvalue(), "progress.json": to_json(told)}


def snapshot_if_there(folder: Path) -> Snapshot | None:
    """What a checkpoint holds, or None: the worker of an attempt that was given up may live on, and throws it away once
    it has newer ones. Who begins anew comes to the same result.
    """
    try:
        return read_snapshot(folder)
    except Damaged:
        return None


def read_snapshot(folder: Path) -> Snapshot:
    """What a checkpoint holds, hashed before it is read. Raises :class:`~rotbench.store.Damaged`."""
    manifest = read_manifest(folder)
    told = json.loads(read_verified(folder, "progress.json", manifest))
    content = io.BytesIO(read_verified(folder, "states.pt", manifest))
    states = torch.load(content, map_location="cpu", weights_only=True)
    return Snapshot(
        epoch=told["epoch"],
        history=tuple(told["history"]),
        ever_trained=frozenset(told["ever_trained"]),
        views_seen=told["views_seen"],
        training_seconds=told["training_seconds"],
        kept=states.pop("kept", {}),
        states=states,
        # What an earlier version saved has neither, and is gone on from all the same.
        moved_while_frozen=told.get("moved_while_frozen", {}),
        calibration=told.get("calibration"),
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(network: Network) -> dict[str, Tensor]:
    """Copies of all parameters and running statistics by name, on the CPU."""
    everything = {**named_parameters(network), **running_statistics(network)}
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in everything.items()}


def _data_proof(fingerprint: str, ready: Setup) -> dict[str, Any]:
    """What the images were that a run was trained and scored on. Raises :class:`~rotbench.proof.Unproven`."""
    loaded, labels = ready.loaded, ready.loaded.counted.training.labels
    classes = len(loaded.counted.training.classes)
    parts = {
        "train": labels,
        "labelled": labels[loaded.subset],
        "validation": labels[loaded.validation],
        "test": loaded.counted.test.labels,
    }
    return {
        "fingerprint": fingerprint,
        "training_images": len(loaded.subset),
        "validation_images": len(loaded.validation),
        "test_images": len(loaded.counted.test.labels),
        "classes": list(loaded.counted.training.classes),
        "class_counts": {part: class_counts(of, classes) for part, of in parts.items()},
        "duplicates": dict(loaded.counted.duplicates),
        **label_proof(ready.feed.seen, loaded.validation, labels, ready.train.labels_per_class, classes),
        "subset_sha256": state_sha256({"subset": loaded.subset}),
        "mean": [float(value) for value in loaded.counted.mean],
        "std": [float(value) for value in loaded.counted.std],
    }


def _measured(trained: Trained) -> dict[str, Any]:
    last = trained.history[-1]
    scored = [name for name in SCORES if name in last]
    return {
        "history": list(trained.history),
        "final": {
            **{name: last[name] for name in scored},
            **({} if trained.score_all_views is None else {"score_all_views": trained.score_all_views}),
        },
        "train_seconds": sum(row["seconds"] or 0.0 for row in trained.history),
        "images_per_second": trained.images_per_second,
        "versions": {
            "python": platform.python_version(),
            "rotbench": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
