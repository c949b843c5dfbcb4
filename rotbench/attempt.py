"""From a request to a result: load the plugins and the data, build the network, train it, prove what was done."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from safetensors.torch import load, save
from torch import Tensor

from rotbench import __version__
from rotbench.data import Images, balanced_subset, channel_statistics, normalise, to_unit, updates_per_epoch
from rotbench.errors import BadInput
from rotbench.feed import Feed
from rotbench.hookspecs import InitContext, Parameter
from rotbench.models import (
    Network,
    backbone_state,
    build_backbone,
    features,
    named_parameters,
    parameters_of,
    state_sha256,
)
from rotbench.proof import freeze_proof, start_proof
from rotbench.registry import PluginReference, load_plugin
from rotbench.settings import TrainSettings
from rotbench.store import read_manifest, read_verified
from rotbench.streams import drawing, generator
from rotbench.tasks import Classification, Task, chance
from rotbench.train import Trained, choose_device, choose_precision, fit, predict

#: At most so many training images are shown to an init.
INIT_IMAGES = 256


@dataclass(frozen=True)
class Everything:
    """The freeze policy of a pretext run: everything is trained."""

    name: str = "none"
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return True


@dataclass(frozen=True)
class Loaded:
    """The images of a run, on the CPU, and the statistics of its training part."""

    training: Images
    test: Images
    subset: Tensor
    mean: Tensor
    std: Tensor


def perform(
    request: Mapping[str, Any], store: Path, report: Callable[[dict[str, float]], None]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Train the run that a request describes; returns what ``result.json`` says and the other files to keep."""
    record, settings = request["run"], request["run"]["settings"]
    train = TrainSettings(**{**settings["train"], "milestones": tuple(settings["train"]["milestones"])})
    torch.set_num_threads(settings["threads"])
    torch.use_deterministic_algorithms(train.deterministic)
    device = choose_device(request["device"])
    precision = choose_precision(train.precision, device)
    plugins = {key: _plugin(request["plugins"], settings, key) for key in _KINDS if key in settings}
    loaded = _load(plugins["dataset"], Path(request["root"]), train.labels_per_class, record["seed"])

    parent = _parent_backbone(store, record)
    backbone, start = _start(request, plugins["init"], loaded, parent)
    feed = _feed(record, plugins.get("task", Classification()), loaded, train, device)
    network = _network(feed, backbone, len(loaded.training.classes))
    network.to(memory_format=torch.channels_last).to(device)
    policy = plugins.get("freeze", Everything())
    before = _tensors(network)
    trained = fit(network, feed, policy, train, precision=precision, report=report)
    freeze = freeze_proof(policy.name, parameters_of(network), trained.ever_trained, before, _tensors(network))

    final = backbone_state(network.backbone)
    if record["kind"] == "pretext":
        files = {"backbone.safetensors": save(final)}
    else:
        predicted, confidence = predict(network, feed, precision)
        files = {
            "predictions.safetensors": save(
                {"predicted": predicted.to(torch.int16), "confidence": confidence.to(torch.float16)}
            )
        }
    head = {name: tensor for name, tensor in before.items() if name.startswith("fc.")}
    provenance = {
        "start": {**start, "head_sha256": state_sha256(head)},
        "freeze": {**freeze, "batchnorm": policy.batchnorm},
        "data": _data_proof(record["fingerprint"], loaded),
        "backbone_sha256": state_sha256(final),
        "threads": torch.get_num_threads(),
        "epochs": train.epochs,
        "updates": feed.updates * train.epochs,
    }
    if "task" in plugins:
        test_images, classes = len(loaded.test.labels), len(loaded.test.classes)
        provenance["chance"] = chance(plugins["task"], examples=test_images, classes=classes)
    return {**_measured(trained), "provenance": provenance, "device": device, "precision": precision}, files


_KINDS = {"dataset": "dataset", "init": "init", "task": "pretext task", "freeze": "freeze policy"}


def _plugin(references: list[Mapping[str, Any]], settings: Mapping[str, Any], key: str) -> Any:
    """The plugin of one setting, loaded from the very file that was planned with, with its options."""
    options = {name: value for name, value in settings[key].items() if name != "name"}
    reference = next(r for r in references if (r["kind"], r["name"]) == (_KINDS[key], settings[key]["name"]))
    cls = load_plugin(PluginReference(**reference))
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


def _load(dataset: Any, root: Path, labels_per_class: int | None, seed: int) -> Loaded:
    training, test = dataset.load(root, "train"), dataset.load(root, "test")
    mean, std = channel_statistics(training.pixels)
    return Loaded(training, test, balanced_subset(training.labels, labels_per_class, seed), mean, std)


def _parent_backbone(store: Path, record: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The weights that a pretext run published, hashed before they are read; None for a run that needs none."""
    if not record["needs"]:
        return None
    folder = store / "runs" / record["needs"][0]
    return load(read_verified(folder, "backbone.safetensors", read_manifest(folder)))


def _start(
    request: Mapping[str, Any], init: Any, loaded: Loaded, parent: Mapping[str, Tensor] | None
) -> tuple[Any, dict[str, Any]]:
    """The backbone that training starts from, and the proof of what it is."""
    record, settings = request["run"], request["run"]["settings"]
    model, seed = settings["model"], record["seed"]
    backbone = build_backbone(model["name"], model["stem"], seed)
    random = backbone_state(backbone)
    pixels = loaded.training.pixels
    shown = torch.randperm(len(pixels), generator=generator(seed, "init", "images"))[:INIT_IMAGES]
    context = InitContext(
        pretext=parent,
        images=normalise(to_unit(pixels[shown]), loaded.mean, loaded.std),
        generator=generator(seed, "init", "draws"),
        folder=Path(request["folder"]),
        model_name=model["name"],
        stem=model["stem"],
    )
    with drawing(seed, "init", "global"):
        claimed = init.apply(backbone, context) or ()
    state = backbone_state(backbone)
    proof = start_proof(init.name, random, state, claimed, context.unexpected)
    parent_sha256 = state_sha256(parent) if parent is not None else None
    return backbone, {
        **proof,
        "init": init.name,
        "parent": next(iter(record["needs"]), None),
        "parent_backbone_sha256": parent_sha256,
        "equals_parent": None if parent_sha256 is None else parent_sha256 == proof["backbone_sha256"],
    }


def _feed(record: Mapping[str, Any], task: Any, loaded: Loaded, train: TrainSettings, device: str) -> Feed:
    seed, kind = record["seed"], record["kind"]
    name = record["settings"].get("pretext", task.name)
    adapted = Task(task)
    labels = adapted.relabel(loaded.training.labels, generator(seed, "relabel", name))
    if train.augment == "auto":
        raise BadInput("the augmentation of a run is not resolved", "Run the command again.")
    counted = len(loaded.training.labels) if train.updates == "constant" else len(loaded.subset)
    return Feed(
        task=adapted,
        pixels=loaded.training.pixels.to(device),
        labels=labels.to(device),
        subset=loaded.subset.to(device),
        test_pixels=loaded.test.pixels.to(device),
        test_labels=loaded.test.labels.to(device),
        mean=loaded.mean.to(device),
        std=loaded.std.to(device),
        augment=tuple(train.augment),
        batch_size=train.batch_size,
        updates=updates_per_epoch(counted, train.batch_size),
        seed=seed,
        kind=kind,
        name=name,
    )


def _network(feed: Feed, backbone: Any, classes: int) -> Network:
    """The backbone with the task's head, drawn from a stream of its own, so that it is the same for every init."""
    views, _ = next(feed.training_batches(1))
    with torch.no_grad():
        backbone.eval()
        probe = Network(backbone, torch.nn.Identity(), "map")(torch.zeros(1, *views.shape[1:]))
    with drawing(feed.seed, "head", feed.kind):
        head = feed.task.head(features(backbone), classes=classes, map_size=probe.shape[-1], view_size=views.shape[-1])
    return Network(backbone, head, feed.task.takes)


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
        "test_images": len(loaded.test.labels),
        "classes": list(loaded.training.classes),
        "subset_sha256": state_sha256({"subset": loaded.subset}),
        "mean": [float(value) for value in loaded.mean],
        "std": [float(value) for value in loaded.std],
    }


def _measured(trained: Trained) -> dict[str, Any]:
    last = trained.history[-1]
    return {
        "history": list(trained.history),
        "final": {"test_accuracy": last["test_accuracy"], "test_loss": last["test_loss"]},
        "train_seconds": sum(row["seconds"] for row in trained.history),
        "images_per_second": trained.images_per_second,
        "versions": {
            "python": platform.python_version(),
            "rotbench": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
