"""A probe: no network is trained, classes are read off the features of a backbone as it stands."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import sklearn
import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from rotbench import __version__
from rotbench.data import normalise, to_unit
from rotbench.device import autocast, choose_device, choose_precision
from rotbench.feed import EVALUATION_BATCH
from rotbench.models import BACKBONE_STAGES, Network
from rotbench.readout import Features, knn_accuracy, linear_probe
from rotbench.settings import TrainSettings
from rotbench.setup import start
from rotbench.taps import skip_padding

Report = Callable[[Mapping[str, float | None]], None]


def perform_probe(request: Mapping[str, Any], store: Path, report: Report) -> dict[str, Any]:
    """Probe the backbone that a request describes; returns what ``result.json`` says of it.

    The bank are the training images that a downstream run with the same labels is trained on. ``report`` is called
    with ``{"epoch": 1, "step", "steps"}`` as the work goes on.
    """
    began = time.monotonic()
    record, settings = request["run"], request["run"]["settings"]
    train = TrainSettings(**settings["train"])
    started = start(request, store, train)
    device = choose_device(request["device"])
    precision = choose_precision(train.precision, device)
    counted, subset = started.loaded.counted, started.loaded.subset
    # Nothing is trained, so that products with padding can be left out of every network.
    skip_padding(started.backbone.modules())
    backbone = started.backbone.to(memory_format=torch.channels_last).to(device)
    stages = settings["probe"]["stages"]
    steps = 2 + 2 * len(stages)

    def tell(step: int) -> None:
        report({"epoch": 1, "step": step, "steps": steps, "images_per_second": None})

    def read(pixels: Tensor, step: int) -> dict[str, Features]:
        made = pooled_features(backbone, pixels.to(device), counted.mean, counted.std, stages, precision)
        tell(step)
        return made

    bank, test = read(counted.training.pixels[subset], 1), read(counted.test.pixels, 2)
    labels, test_labels = counted.training.labels[subset].numpy(), counted.test.labels.numpy()
    rows = []
    for place, stage in enumerate(stages):
        nearest = knn_accuracy(bank[stage], labels, test[stage], test_labels)
        tell(3 + 2 * place)
        sign = functools.partial(tell, 3 + 2 * place)  # of life: a fit may take minutes
        linear = asdict(linear_probe(bank[stage], labels, test[stage], test_labels, record["seed"], sign))
        tell(4 + 2 * place)
        rows.append(
            {
                "stage": stage,
                "features": bank[stage].shape[1],
                "knn": nearest,
                "linear": linear.pop("accuracy"),
                **linear,
            }
        )
    return {
        "stages": rows,
        "provenance": {
            "start": started.start,
            "bank_images": len(subset),
            "test_images": len(test_labels),
            "threads": torch.get_num_threads(),
        },
        "device": device,
        "precision": precision,
        "probe_seconds": time.monotonic() - began,
        "versions": {
            "python": platform.python_version(),
            "rotbench": __version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }


@torch.no_grad()
def pooled_features(
    backbone: ResNet, pixels: Tensor, mean: Tensor, std: Tensor, stages: list[str], precision: str
) -> dict[str, Features]:
    """By stage the features (N, channels), float32: means over the places of its maps, the backbone in eval mode.

    ``pixels``: uint8 (N, 3, h, w) on the backbone's device, which are normalised and not augmented. The backbone is
    left in eval mode.
    """
    network = Network(backbone, nn.Identity())
    network.eval()
    made: dict[str, list[Features]] = {stage: [] for stage in stages}
    for views in _batches(pixels, mean.to(pixels.device), std.to(pixels.device)):
        maps = views
        with autocast(pixels.device.type, precision):
            for depth, stage in enumerate(BACKBONE_STAGES):
                maps = network.maps(maps, depth, depth + 1)
                if stage in made:
                    made[stage].append(cast(Features, maps.float().mean((2, 3)).cpu().numpy()))
    return {stage: np.concatenate(parts) for stage, parts in made.items()}


def _batches(pixels: Tensor, mean: Tensor, std: Tensor) -> Iterator[Tensor]:
    for batch in torch.split(pixels, EVALUATION_BATCH):
        yield normalise(to_unit(batch), mean, std).contiguous(memory_format=torch.channels_last)
