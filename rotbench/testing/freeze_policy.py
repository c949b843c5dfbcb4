"""What the contract asks of a freeze policy, each as a rule."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rotbench.feed import Feed
from rotbench.hookspecs import BatchNorm, Parameter
from rotbench.models import Network, build_backbone, features, parameters_of
from rotbench.settings import TrainSettings
from rotbench.streams import drawing
from rotbench.tasks import Classification, Task
from rotbench.testing.images import CLASSES, backbone, batch_of
from rotbench.testing.members import add_common
from rotbench.testing.outcome import Rules, Skipped, Subject, hold
from rotbench.train import fit

#: Lengths of trainings that a policy is asked about.
EPOCHS = (1, 2, 5, 20)

#: So long is the training that shows whether frozen means unchanged.
TRAINED_EPOCHS = 2

FREEZE_POLICY: Rules[Subject] = Rules()
add_common(FREEZE_POLICY, "freeze policy")
rule = FREEZE_POLICY.rule


@functools.cache
def _parameters(model: str) -> tuple[Parameter, ...]:
    """The parameters of a ResNet with a linear head, as a policy sees them."""
    trunk = build_backbone(model, "imagenet", 0)
    return parameters_of(Network(trunk, nn.Linear(features(trunk), CLASSES)))


def _answers(subject: Subject, model: str, epochs: int) -> dict[tuple[str, int], bool]:
    return {
        (one.name, epoch): subject.plugin.trainable(one, epoch, epochs)
        for epoch in range(1, epochs + 1)
        for one in _parameters(model)
    }


@rule("loads")
def answers(subject: Subject) -> None:
    """``trainable`` answers True or False for every parameter of ResNet18 and ResNet50 in every epoch."""
    for model in ("resnet18", "resnet50"):
        for epochs in EPOCHS:
            for (name, epoch), answer in _answers(subject, model, epochs).items():
                hold(
                    isinstance(answer, bool),
                    f"trainable should return True or False, returns {answer!r} for {name}, epoch {epoch} of {epochs}",
                )


@rule("answers")
def repeatable(subject: Subject) -> None:
    """Asked twice, ``trainable`` and ``restart`` say the same."""
    first, second = (_answers(subject, "resnet18", 5) for _ in range(2))
    differ = [name for (name, _), answer in first.items() if second[name, _] != answer]
    hold(not differ, f"trainable says something else of {differ[0] if differ else ''} when it is asked again")
    starts = [[_restart(subject, epoch, 5) for epoch in range(1, 6)] for _ in range(2)]
    hold(starts[0] == starts[1], "restart says something else when it is asked again")


@rule("answers")
def trains(subject: Subject) -> None:
    """Something is trained in every epoch, and the head in some."""
    for model in ("resnet18", "resnet50"):
        for epochs in EPOCHS:
            trained = {key for key, answer in _answers(subject, model, epochs).items() if answer}
            idle = sorted(set(range(1, epochs + 1)) - {epoch for _, epoch in trained})
            hold(
                not idle, f"nothing is trained in epoch {idle[0] if idle else 0} of {epochs}: there is no step to take"
            )
            headed = any(name.startswith("fc.") for name, _ in trained)
            hold(headed, f"the head is trained in none of {epochs} epochs: its random weights would answer")


@rule("loads")
def batchnorm_modes(subject: Subject) -> None:
    """``batchnorm`` is a mode that the trainer knows, and so is every other value that its annotation allows."""
    modes = typing.get_args(BatchNorm)
    cls = type(subject.plugin)
    allowed = typing.get_args(typing.get_type_hints(cls)["batchnorm"]) or (subject.plugin.batchnorm,)
    for value in (subject.plugin.batchnorm, *allowed):
        hold(value in modes, f"batchnorm should be one of {', '.join(modes)}, not {value!r}")
        dataclasses.replace(subject.plugin, batchnorm=value)


def _restart(subject: Subject, epoch: int, epochs: int) -> float | None:
    restart = getattr(subject.plugin, "restart", None)
    answer: float | None = restart(epoch, epochs) if restart else None
    return answer


@rule("loads")
def restarts(subject: Subject) -> None:
    """``restart`` is None or a factor above 0."""
    for epochs in EPOCHS:
        for epoch in range(1, epochs + 1):
            factor = _restart(subject, epoch, epochs)
            real = isinstance(factor, (int, float)) and not isinstance(factor, bool)
            hold(
                factor is None or (real and math.isfinite(factor) and factor > 0),
                f"restart should be None or a factor on the learning rate above 0, is {factor!r} at epoch {epoch} of "
                f"{epochs}: return None where no phase begins",
            )


@functools.lru_cache(maxsize=2)
def _trained(subject: Subject) -> tuple[frozenset[str], Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Names of what two short epochs trained, and all tensors before and after, by name."""
    images = batch_of(16)
    pixels = (images.images * 255).to(torch.uint8)
    labels = images.labels % 4
    with drawing(0, "head"):
        network = Network(backbone(), nn.Linear(512, 4))
    before = _tensors(network)
    feed = Feed(
        task=Task(Classification()),
        pixels=pixels,
        labels=labels,
        subset=torch.arange(16),
        validation=torch.arange(0),
        test_pixels=pixels[:4],
        test_labels=labels[:4],
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        augment=(),
        batch_size=8,
        updates=2,
        seed=0,
        kind="downstream",
        name="classification",
        seen=torch.zeros(len(pixels), dtype=torch.bool),
    )
    settings = TrainSettings(epochs=TRAINED_EPOCHS, batch_size=8, weight_decay=0.01)
    trained = fit(network, feed, subject.plugin, settings, precision="fp32", report=lambda row: None)
    return trained.ever_trained, before, _tensors(network)


def _tensors(network: Network) -> dict[str, Tensor]:
    backbone = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    return backbone | {f"fc.{name}": tensor.clone() for name, tensor in network.head.state_dict().items()}


@rule("trains", "batchnorm-modes", "restarts")
def frozen_unchanged(subject: Subject) -> None:
    """After two short epochs what no epoch trains is as it was, to the bit, and what one trains is not."""
    ever_trained, before, after = _trained(subject)
    said = {name for (name, _), answer in _answers(subject, "resnet18", TRAINED_EPOCHS).items() if answer}
    hold(ever_trained == said, "the trainer was told something else than was told here: answer the same every time")
    frozen = [one.name for one in _parameters("resnet18") if one.name not in ever_trained]
    moved = [name for name in frozen if not torch.equal(before[name], after[name])]
    hold(not moved, f"{moved[0] if moved else ''} is frozen in every epoch and changed")
    still = [name for name in sorted(ever_trained) if torch.equal(before[name], after[name])]
    hold(len(still) < len(ever_trained), "nothing changed of all that is trained")


@rule("frozen-unchanged")
def frozen_statistics(subject: Subject) -> None:
    """With ``batchnorm = "eval"`` the running statistics of frozen BatchNorm are as they were, too."""
    if subject.plugin.batchnorm != "eval":
        raise Skipped(f'batchnorm is "{subject.plugin.batchnorm}", which lets running statistics change')
    ever_trained, before, after = _trained(subject)
    frozen = {one.name.rpartition(".")[0] for one in _parameters("resnet18") if one.kind == "batchnorm"}
    frozen -= {name.rpartition(".")[0] for name in ever_trained if name.endswith(".weight")}
    for module in sorted(frozen):
        for name in (f"{module}.running_mean", f"{module}.running_var"):
            hold(
                torch.equal(before[name], after[name]), f"{module} is frozen, and its {name.rpartition('.')[2]} changed"
            )
