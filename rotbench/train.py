"""Training one run: the same loop for pretext tasks and for classification.

No step waits for the device: losses and scores are summed there and read once an epoch.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rotbench.device import autocast
from rotbench.feed import Feed
from rotbench.models import Network, freeze_batchnorm, named_parameters, parameters_of, running_statistics
from rotbench.optimizer import Optimizer
from rotbench.prefix import Prefix
from rotbench.proof import epoch_proof, frozen_buffers, gradient_proof
from rotbench.schedule import lr_factor
from rotbench.settings import TrainSettings
from rotbench.streams import drawing
from rotbench.taps import trained_by_tap
from rotbench.tasks import Targets, Task

HEARTBEAT_SECONDS = 1.0

Row = dict[str, float | None]
Report = Callable[[Mapping[str, float | None]], None]


class Diverged(Exception):
    """The loss is not a number any more. That is a result: the words say at which epoch and step."""


@dataclass(frozen=True)
class Phase:
    """Epochs ``first`` to ``last``, trained by one optimiser; ``factor`` multiplies the learning rate."""

    first: int
    last: int
    factor: float


@dataclass(frozen=True)
class Means:
    """What a pass over batches comes to: loss and score, means over examples."""

    loss: float
    score: float


@dataclass(frozen=True)
class Trained:
    """A finished training: a row an epoch, and the names of the parameters that some epoch trained.

    ``moved_while_frozen``: the most that any value of a tensor moved in an epoch in which the tensor was frozen.
    ``images_per_second`` counts training views over training time, without evaluation. ``outputs``: what a classifier
    said of the test images after the last epoch, (N, classes). ``score_all_views``: the score of any other task on all
    ``views_per_image`` views of each test image after the last epoch, where the history has one view of each.
    """

    history: tuple[Row, ...]
    ever_trained: frozenset[str]
    images_per_second: float
    moved_while_frozen: Mapping[str, float]
    outputs: Tensor | None = None
    score_all_views: float | None = None
    views_per_image: int = 1


def phases_of(policy: Any, epochs: int) -> list[Phase]:
    """The phases of a freeze policy; without ``restart`` there is one."""
    restart: Callable[[int, int], float | None] = getattr(policy, "restart", lambda epoch, epochs: None)
    starts = [(epoch, factor) for epoch in range(1, epochs + 1) if (factor := restart(epoch, epochs)) is not None]
    if not starts or starts[0][0] > 1:
        starts.insert(0, (1, 1.0))
    lasts = [first - 1 for first, _ in starts[1:]] + [epochs]
    return [Phase(first, last, factor) for (first, factor), last in zip(starts, lasts, strict=True)]


@dataclass(frozen=True)
class Snapshot:
    """All that training goes on from after an epoch; what is random is drawn anew from (seed, purpose, epoch).

    ``states`` are the state dicts of network, optimiser and scaler, and which images were seen, tensors on the training
    device. ``calibration`` is what was recorded when the running statistics of a frozen BatchNorm were computed.
    ``kept`` are backbones as they were after earlier epochs, by epoch.
    """

    epoch: int
    history: tuple[Row, ...]
    ever_trained: frozenset[str]
    views_seen: int
    training_seconds: float
    states: dict[str, Any]
    moved_while_frozen: Mapping[str, float]
    calibration: Mapping[str, Any] | None = None
    kept: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)


#: Called after each epoch but the last with its number and what makes a snapshot of it.
Keep = Callable[[int, Callable[[], Snapshot]], None]


def fit(
    network: Network,
    feed: Feed,
    policy: Any,
    settings: TrainSettings,
    *,
    precision: str,
    report: Report,
    resume: Snapshot | None = None,
    keep: Keep = lambda epoch, take: None,
) -> Trained:
    """Train ``network`` in place, from the start or on from a snapshot: the weights come out the same to the bit.

    ``policy`` is a freeze policy. ``report`` is called with a history row after each epoch and, about once a second,
    with ``{"epoch", "step", "steps", "images_per_second"}``, views over time within the epoch; in a history row a part
    that was not scored has None. Raises :class:`Diverged`, and :class:`~rotbench.proof.Unproven` at the end of an epoch
    in which something frozen moved or no gradient reached a stage that is trained.
    """
    # Decay moves taps that nothing else moves, so with it kernels are trained as a whole.
    with trained_by_tap(() if settings.weight_decay else network.modules()) as taps:
        device = feed.pixels.device.type
        parameters, tensors = parameters_of(network), named_parameters(network)
        # What the optimiser is given for each parameter: the tensor itself or its parts.
        stepped = {name: taps.get(tensor, (tensor,)) for name, tensor in tensors.items()}
        scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
        test_each_epoch = not len(feed.validation) if settings.test_each_epoch == "auto" else settings.test_each_epoch
        history: list[Row] = list(resume.history) if resume else []
        ever_trained: set[str] = set(resume.ever_trained) if resume else set()
        views_seen, training_seconds = (resume.views_seen, resume.training_seconds) if resume else (0, 0.0)
        moved: dict[str, float] = dict(resume.moved_while_frozen) if resume else {}
        done = resume.epoch if resume else 0
        if resume:
            network.load_state_dict(resume.states["network"])
            scaler.load_state_dict(resume.states["scaler"])
            feed.seen.logical_or_(resume.states.get("seen", feed.seen).to(feed.seen.device))
        everything = {**tensors, **running_statistics(network)}
        prefix = Prefix(network, feed, precision)
        # What is said after the last epoch is kept of a classifier alone: other tasks may answer with whole images.
        said: list[Tensor] | None = [] if feed.task.is_classification else None
        for phase in phases_of(policy, settings.epochs):
            if phase.last <= done:
                continue
            optimizer = Optimizer(
                [part for parts in stepped.values() for part in parts],
                settings.optimizer,
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
            )
            if resume and done >= phase.first:
                optimizer.load_state_dict(resume.states["optimizer"])
            for epoch in range(max(phase.first, done + 1), phase.last + 1):
                began = time.monotonic()
                chosen = [p for p in parameters if policy.trainable(p, epoch, settings.epochs)]
                trained = {parameter.name for parameter in chosen}
                frozen = tensors.keys() - trained
                held = {
                    name: everything[name].detach().clone()
                    for name in sorted(frozen | frozen_buffers(everything, frozen))
                }
                ever_trained |= trained
                _require_gradients(tensors, stepped, trained)
                freeze_batchnorm(network, frozen, policy.batchnorm)
                prefix = prefix.with_frozen(frozen, policy.batchnorm)

                def rate(step: int, phase: Phase = phase, epoch: int = epoch) -> float:
                    return (
                        settings.lr
                        * phase.factor
                        * lr_factor(
                            settings.schedule,
                            epoch - phase.first + step / feed.updates,
                            phase.last - phase.first + 1,
                            step_epochs=settings.step_epochs,
                            gamma=settings.gamma,
                            milestones=settings.milestones,
                            warmup_epochs=settings.warmup_epochs,
                        )
                    )

                with drawing(feed.seed, "noise", feed.kind, epoch):  # for a head with dropout
                    means, views = _train_epoch(
                        network, feed, prefix, epoch, optimizer, scaler, rate, precision, report
                    )
                # Here, so that a leak or a head that is cut off costs one epoch and not all of them.
                unreached = [name for name in trained if all(part.grad is None for part in stepped[name])]
                gradient_proof(policy.name, chosen, unreached)
                for name, change in epoch_proof(policy.name, policy.batchnorm, epoch, held, everything).items():
                    moved[name] = max(moved.get(name, 0.0), change)
                training_seconds += time.monotonic() - began
                views_seen += views
                row: Row = {"epoch": epoch, "train_loss": means.loss, "train_accuracy": means.score}
                if len(feed.validation):
                    row |= _scores(
                        "validation",
                        evaluate(network, feed.task, prefix.validation_batches(), precision, prefix.depth),
                        epoch,
                    )
                # Where a choice is made on validation images the test set is looked at once, at the end.
                if test_each_epoch or epoch == settings.epochs:
                    batches, kept = prefix.test_batches(), said if epoch == settings.epochs else None
                    row |= _scores("test", evaluate(network, feed.task, batches, precision, prefix.depth, kept), epoch)
                else:
                    row |= {"test_loss": None, "test_accuracy": None}
                row |= {"lr": rate(feed.updates - 1), "seconds": time.monotonic() - began}
                history.append(row)
                report(row)
                if epoch < settings.epochs:
                    parts = {"network": network, "optimizer": optimizer, "scaler": scaler}
                    reached = (epoch, tuple(history), frozenset(ever_trained), views_seen, training_seconds)
                    keep(epoch, functools.partial(_snapshot, *reached, dict(moved), feed.seen, parts))
        done_with = (tuple(history), frozenset(ever_trained), views_seen / training_seconds, moved)
        if feed.task.is_classification:
            return Trained(*done_with, torch.cat(said) if said else None)
        return Trained(*done_with, None, *_score_all_views(network, feed, precision, history[-1]))


def _require_gradients(
    tensors: Mapping[str, nn.Parameter], stepped: Mapping[str, tuple[nn.Parameter, ...]], trained: Collection[str]
) -> None:
    for name, tensor in tensors.items():
        for part in (tensor, *stepped[name]):
            part.requires_grad_(name in trained)


def _snapshot(
    epoch: int,
    history: tuple[Row, ...],
    ever_trained: frozenset[str],
    views_seen: int,
    training_seconds: float,
    moved: Mapping[str, float],
    seen: Tensor,
    parts: Mapping[str, Any],
) -> Snapshot:
    states = {**{name: part.state_dict() for name, part in parts.items()}, "seen": seen}
    return Snapshot(epoch, history, ever_trained, views_seen, training_seconds, states, moved)


def _train_epoch(
    network: Network,
    feed: Feed,
    prefix: Prefix,
    epoch: int,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    rate: Callable[[int], float],
    precision: str,
    report: Report,
) -> tuple[Means, int]:
    """One epoch of updates: means over its views as they were when seen, and how many views there were."""
    losses: list[Tensor] = []
    views_in: list[int] = []
    scores: list[Tensor] = []
    began = heartbeat = time.monotonic()
    maps = prefix.training_maps()
    depth = 0 if maps is None else prefix.depth
    for step, (views, targets) in enumerate(feed.training_batches(epoch, maps)):
        optimizer.set_lr(rate(step))
        optimizer.zero_grad()
        with autocast(views.device.type, precision):
            outputs = network(views, depth)
        loss = feed.task.loss(outputs, targets)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step(scaler)
        scaler.update()
        losses.append(loss.detach())
        views_in.append(len(views))
        with torch.no_grad():
            scores.append(feed.task.score(outputs, targets))
        if time.monotonic() - heartbeat >= HEARTBEAT_SECONDS:
            heartbeat = time.monotonic()
            rate_seen = sum(views_in) / (heartbeat - began)
            report({"epoch": epoch, "step": step + 1, "steps": feed.updates, "images_per_second": rate_seen})
    read = torch.stack(losses).double().cpu()
    rate_seen = sum(views_in) / (time.monotonic() - began)
    report({"epoch": epoch, "step": feed.updates, "steps": feed.updates, "images_per_second": rate_seen})
    broken = (~torch.isfinite(read)).nonzero()
    if len(broken):
        step = int(broken[0])
        raise Diverged(f"loss is {float(read[step])} at epoch {epoch}, step {step + 1}")
    return _means(read, views_in, scores), sum(views_in)


def _scores(part: str, means: Means, epoch: int) -> Row:
    """What a row of the history says of one part. Raises :class:`Diverged`."""
    if not math.isfinite(means.loss):
        raise Diverged(f"{part} loss is {means.loss} at epoch {epoch}")
    return {f"{part}_loss": means.loss, f"{part}_accuracy": means.score}


def _score_all_views(network: Network, feed: Feed, precision: str, last: Row) -> tuple[float | None, int]:
    """The score on all views of the test images, and how many there are of each; that of the last row where it is one.

    Raises :class:`Diverged`.
    """
    views = feed.views_per_image()
    if views == 1:
        return last["test_accuracy"], views
    means = evaluate(network, feed.task, feed.every_test_view(), precision)
    return _scores("test", means, int(last["epoch"] or 0))["test_accuracy"], views


@torch.no_grad()
def evaluate(
    network: Network,
    task: Task,
    batches: Iterable[tuple[Tensor, Targets]],
    precision: str,
    depth: int = 0,
    said: list[Tensor] | None = None,
) -> Means:
    """Loss and score on batches of views and targets, the network in eval mode.

    Instead of views there may be what the first ``depth`` stages make of them. A list ``said`` is given the outputs of
    each batch.
    """
    network.eval()
    losses: list[Tensor] = []
    views_in: list[int] = []
    scores: list[Tensor] = []
    for views, targets in batches:
        with autocast(views.device.type, precision):
            outputs = network(views, depth)
        losses.append(task.loss(outputs, targets))
        if said is not None:
            said.append(outputs)
        views_in.append(len(views))
        scores.append(task.score(outputs, targets))
    return _means(torch.stack(losses).double().cpu(), views_in, scores)


def answers(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Of a classifier's outputs (N, classes): the class given to each image, int64 (N,), and its probability (N,)."""
    top = outputs.float().softmax(1).max(1)
    return top.indices.cpu(), top.values.cpu()


def _means(losses: Tensor, views: Sequence[int], scores: Sequence[Tensor]) -> Means:
    """Batch losses are means over their views, scores are one an example: both become means over all examples."""
    weights = torch.tensor(views, dtype=torch.float64)
    return Means(float((losses * weights).sum() / weights.sum()), float(torch.cat(list(scores)).double().mean()))
