"""What a run is made of, before it is trained: plugins, images, batches, and the network with its first weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor
from torchvision.models import ResNet

from rotbench.data import (
    first_of_each_class,
    normalise,
    split_validation,
    to_unit,
    updates_per_epoch,
)
from rotbench.device import choose_device, choose_precision
from rotbench.errors import BadInput
from rotbench.feed import Feed
from rotbench.hookspecs import BatchNorm, InitContext, Parameter
from rotbench.mapped import Counted, count, layout_name, map_images
from rotbench.models import (
    Network,
    backbone_state,
    build_backbone,
    calibrate_batchnorm,
    features,
    parameters_of,
    published_weights,
    running_statistics,
    state_sha256,
)
from rotbench.plan import PLUGIN_SETTINGS
from rotbench.proof import frozen_buffers, start_proof
from rotbench.registry import PluginReference, load_plugin
from rotbench.settings import TrainSettings
from rotbench.store import backbone_file, read_manifest, read_verified
from rotbench.streams import drawing, generator
from rotbench.taps import skip_padding
from rotbench.tasks import Classification, Task
from rotbench.train import Snapshot

#: At most so many training images are shown to an init.
INIT_IMAGES = 256


@dataclass(frozen=True)
class Everything:
    """The freeze policy of a pretext run: everything is trained."""

    name: str = "none"
    batchnorm: BatchNorm = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return True


@dataclass(frozen=True)
class Loaded:
    """The data set of a run, and which of its training images the run may see: int64, ascending."""

    counted: Counted
    subset: Tensor
    validation: Tensor
    shown: Tensor  # the training images that no run of this seed keeps for validation


@dataclass(frozen=True)
class Setup:
    """A run that is ready to be trained. ``start`` is the proof of the weights that it starts from."""

    train: TrainSettings
    device: str
    precision: str
    policy: Any
    task: Any
    loaded: Loaded
    feed: Feed
    network: Network
    start: Mapping[str, Any]
    calibration: Mapping[str, Any] | None


@dataclass(frozen=True)
class Started:
    """The data set of a run, and the backbone with the weights that the run starts from; ``start`` proves them."""

    plugins: Mapping[str, Any]
    loaded: Loaded
    backbone: ResNet
    start: Mapping[str, Any]


def start(request: Mapping[str, Any], store: Path | None, train: TrainSettings) -> Started:
    """Load what a run is made of, see :func:`set_up`; a probe is made of no more."""
    record, settings = request["run"], request["run"]["settings"]
    torch.set_num_threads(settings["threads"])
    torch.use_deterministic_algorithms(train.deterministic)
    plugins = {key: _plugin(request["plugins"], settings, key) for key in PLUGIN_SETTINGS if key in settings}
    loaded = _split(_counted(request, store, plugins["dataset"]), train, record["seed"])
    backbone = build_backbone(settings["model"]["name"], settings["model"]["stem"], record["seed"])
    proof = _start(request, plugins["init"], backbone, loaded, _parent_backbone(store, record)) if store else {}
    return Started(plugins, loaded, backbone, proof)


def set_up(request: Mapping[str, Any], store: Path | None, resume: Snapshot | None = None) -> Setup:
    """Make ready the run that a request describes, with the weights of the pretext run that it needs from ``store``.

    Without a store the network keeps the random weights of its seed: enough to time a step. ``resume`` is what training
    will go on from: calibrated statistics are taken from it, since another processor might compute other last bits.
    Raises :class:`~rotbench.proof.Unproven` where an init does not do what it says.
    """
    record, settings = request["run"], request["run"]["settings"]
    train = TrainSettings(**{**settings["train"], "milestones": tuple(settings["train"]["milestones"])})
    started = start(request, store, train)
    device, loaded = choose_device(request["device"]), started.loaded
    task = started.plugins.get("task", Classification())
    feed = _feed(record, task, loaded, train, device)
    if train.skip_padding:
        skip_padding(started.backbone.modules())
    network = _network(feed, started.backbone, len(loaded.counted.training.classes))
    network.to(memory_format=torch.channels_last).to(device)
    precision = choose_precision(train.precision, device)
    policy = started.plugins.get("freeze", Everything())
    calibration = _calibrate(network, policy, feed, train.epochs, resume) if policy.batchnorm == "calibrated" else None
    return Setup(train, device, precision, policy, task, loaded, feed, network, started.start, calibration)


def _calibrate(
    network: Network, policy: Any, feed: Feed, epochs: int, resume: Snapshot | None
) -> Mapping[str, Any] | None:
    """Compute the statistics of frozen BatchNorm modules, or take those of a snapshot; returns what that changed."""
    frozen = [one.name for one in parameters_of(network) if not policy.trainable(one, 1, epochs)]
    buffers = running_statistics(network)
    chosen = sorted(frozen_buffers(buffers, frozen))
    if resume is not None:
        for name in chosen:
            key = f"head.{name.removeprefix('fc.')}" if name.startswith("fc.") else f"backbone.{name}"
            buffers[name].copy_(resume.states["network"][key])
        return resume.calibration
    before = {name: buffers[name].clone() for name in chosen}
    images = calibrate_batchnorm(network, frozen, feed.calibration_batches())
    change = [float((buffers[name] - before[name]).abs().max()) for name in chosen]
    return {
        "images": images,
        "buffers": len(chosen),
        "changed": sum(one > 0 for one in change),
        "largest_change": max(change, default=0.0),
    }


def _plugin(references: list[Mapping[str, Any]], settings: Mapping[str, Any], key: str) -> Any:
    """The plugin of one setting, loaded from the very file that was planned with, with its options."""
    options = {name: value for name, value in settings[key].items() if name != "name"}
    reference = next(r for r in references if (r["kind"], r["name"]) == (PLUGIN_SETTINGS[key], settings[key]["name"]))
    cls = load_plugin(PluginReference(**reference))
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})


def _counted(request: Mapping[str, Any], store: Path | None, dataset: Any) -> Counted:
    """The data set: mapped where it was laid out when the study began, else loaded; a rehearsal has a part of it."""
    settings, root = request["run"]["settings"], request["root"]
    counted = None
    if store is not None:
        reference = next(one for one in request["plugins"] if one["kind"] == "dataset")
        name = layout_name(reference, settings["dataset"], root, request["run"]["fingerprint"])
        counted = map_images(store / "attempts" / "prepare", name)
    if counted is None:
        counted = count(dataset.load(Path(root), "train"), dataset.load(Path(root), "test"))
    rehearsal = settings.get("rehearsal")
    if rehearsal is None:
        return counted
    images, classes = rehearsal["images"], len(counted.training.classes)
    return count(
        first_of_each_class(counted.training, max(math.ceil(images / classes), rehearsal["per_class"])),
        first_of_each_class(counted.test, math.ceil(images / classes)),
    )


def _split(counted: Counted, train: TrainSettings, seed: int) -> Loaded:
    labels = counted.training.labels
    subset, held = split_validation(labels, train.labels_per_class, train.validation, seed)
    shown, _ = split_validation(labels, None, train.validation, seed)
    return Loaded(counted, subset, held, shown)


def _parent_backbone(store: Path, record: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The weights that a pretext run published, hashed before they are read; None for a run that needs none.

    A probe may be of what they were after an earlier epoch.
    """
    if not record["needs"]:
        return None
    folder = store / "runs" / record["needs"][0]
    name = backbone_file(record["settings"].get("probe", {}).get("epoch"))
    return load(read_verified(folder, name, read_manifest(folder)))


def _start(
    request: Mapping[str, Any], init: Any, backbone: Any, loaded: Loaded, parent: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """Give the backbone the weights that training starts from; returns the proof of what they are."""
    record, settings = request["run"], request["run"]["settings"]
    model, seed = settings["model"], record["seed"]
    random = backbone_state(backbone)
    pixels = loaded.counted.training.pixels
    drawn = torch.randperm(len(loaded.shown), generator=generator(seed, "init", "images"))[:INIT_IMAGES]
    context = InitContext(
        pretext=parent,
        images=normalise(to_unit(pixels[loaded.shown[drawn]]), loaded.counted.mean, loaded.counted.std),
        generator=generator(seed, "init", "draws"),
        folder=Path(request["folder"]),
        model_name=model["name"],
        stem=model["stem"],
    )
    with drawing(seed, "init", "global"):
        claimed = init.apply(backbone, context) or ()
    state = backbone_state(backbone)
    exact = bool(getattr(init, "exact", True))
    parent_id, weights = next(iter(record["needs"]), None), record.get("weights_sha256")
    source = f"pretext run {settings['init'].get('pretext', parent_id)}" if parent_id else "a file" if weights else None
    proof = start_proof(
        init.name, random, state, claimed, context.unexpected, exact=exact, parent=parent, source=source
    )
    parent_sha256 = state_sha256(parent) if parent is not None else None
    return {
        **proof,
        "init": init.name,
        "weights_sha256": weights,
        "published": published_weights(weights) if weights else None,
        "parent": parent_id,
        "parent_backbone_sha256": parent_sha256,
        "equals_parent": parent_sha256 == proof["backbone_sha256"] if parent_sha256 is not None and exact else None,
        "tensors_of_parent": None
        if parent is None
        else sum(name in parent and torch.equal(parent[name], tensor) for name, tensor in state.items()),
    }


def _feed(record: Mapping[str, Any], task: Any, loaded: Loaded, train: TrainSettings, device: str) -> Feed:
    seed, kind = record["seed"], record["kind"]
    if record["repeat"]:
        # A repeat has its own order, augmentation and head on the same labelled images and starting weights.
        kind = f"{kind} {record['repeat']}"
    name = record["settings"].get("pretext", task.name)
    adapted = Task(task)
    labels = adapted.relabel(loaded.counted.training.labels, generator(seed, "relabel", name)).clone()
    labels[loaded.validation] = loaded.counted.training.labels[loaded.validation]
    if train.augment == "auto":
        raise BadInput("the augmentation of a run is not resolved", "Run the command again.")
    rehearsal = record["settings"].get("rehearsal", {})
    counted = len(loaded.shown) if train.updates == "constant" else len(loaded.subset)
    return Feed(
        task=adapted,
        pixels=loaded.counted.training.pixels.to(device),
        labels=labels.to(device),
        subset=loaded.subset.to(device),
        validation=loaded.validation.to(device),
        test_pixels=loaded.counted.test.pixels.to(device),
        test_labels=loaded.counted.test.labels.to(device),
        mean=loaded.counted.mean.to(device),
        std=loaded.counted.std.to(device),
        augment=tuple(train.augment),
        batch_size=train.batch_size,
        updates=min(updates_per_epoch(counted, train.batch_size), rehearsal.get("updates", math.inf)),
        seed=seed,
        kind=kind,
        name=name,
        seen=torch.zeros(len(loaded.counted.training.labels), dtype=torch.bool, device=device),
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
