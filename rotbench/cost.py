"""What a training costs in arithmetic, counted: the same number on every machine, however fast or busy it is.

A floating-point operation (FLOP) is a multiplication or an addition, so a multiply-add is two. Counted is every
convolution and matrix product that a training step runs, forward, in the loss and backward: a frozen layer costs its
forward pass, and a gradient that is not computed costs nothing.

torch's counter, which does it, does not see what is no such product: BatchNorm, ReLU, pooling, residual additions,
biases, softmax, resizing. Nor is counted what is no part of such a step: the optimiser's own arithmetic, augmentation
and the making of views, evaluation, what an init computes. What is counted is what the method asks for: that
:mod:`rotbench.taps` leaves out products with padding and :mod:`rotbench.prefix` remembers maps saves time and no FLOPs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rotbench.data import epoch_batches
from rotbench.device import autocast
from rotbench.feed import Feed
from rotbench.models import Network, freeze_batchnorm, named_parameters, parameters_of
from rotbench.streams import drawing
from rotbench.taps import keep_padding
from rotbench.tasks import Targets, Task


@dataclass(frozen=True)
class CountedPhase:
    """Epochs ``first`` to ``last``, in which the same parameters are trained, at ``flops`` an epoch."""

    first: int
    last: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """FLOPs of a whole training, by phase, and those of calibrating BatchNorm, which ``training_flops`` leaves out.

    ``training_views``: how many views the training sees, counted as often as they are seen.
    """

    training_flops: int
    flops_by_phase: tuple[CountedPhase, ...]
    calibration_flops: int
    training_views: int

    @property
    def flops_a_view(self) -> float:
        """FLOPs of the training over its views: a mean over phases and batches."""
        return self.training_flops / self.training_views


def step_flops(network: Network, task: Task, views: Tensor, targets: Targets, precision: str) -> int:
    """FLOPs of forward, loss and backward on one batch: a shape's, so that values and precision do not matter.

    ``views``: normalised float32 (M, 3, h, w). What is trained is what requires a gradient. Gradients are dropped
    afterwards, running statistics are not put back. What the network draws comes from a stream of its own.
    """
    network.zero_grad(set_to_none=True)
    with drawing(0, "cost"), _counter() as counter:
        with autocast(views.device.type, precision):
            outputs = network(views)
        task.loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    return _total(counter)


def training_cost(network: Network, feed: Feed, policy: Any, epochs: int, *, precision: str) -> Cost:
    """Count what :func:`rotbench.train.fit` computes in ``epochs`` epochs of a feed under a freeze policy.

    One step is run for every size of batch (an epoch has at most two) and every set of parameters that some epoch
    trains, with BatchNorm as ``fit`` has it. So it is never more work than the training itself, and what compares the
    views of a batch with one another is counted as it is, although it does not grow with the views alone. A task is
    taken to make as many views of each batch of one size. The network is left changed: for after all other use.
    """
    keep_padding(network.modules())
    parameters, tensors = parameters_of(network), named_parameters(network)
    positions = epoch_batches(len(feed.subset), feed.batch_size, feed.updates, feed.seed, feed.kind, 1)
    sizes = Counter(len(position) for _, position in positions)
    batches = {size: _batch(feed, size) for size in sizes}
    counted: dict[frozenset[str], int] = {}
    phases: list[CountedPhase] = []
    before: frozenset[str] | None = None
    for epoch in range(1, epochs + 1):
        trained = frozenset(one.name for one in parameters if policy.trainable(one, epoch, epochs))
        if trained not in counted:
            for name, tensor in tensors.items():
                tensor.requires_grad_(name in trained)
            freeze_batchnorm(network, tensors.keys() - trained, policy.batchnorm)
            counted[trained] = sum(
                number * step_flops(network, feed.task, *batches[size], precision) for size, number in sizes.items()
            )
        first = phases.pop().first if trained == before else epoch
        phases.append(CountedPhase(first, epoch, counted[trained]))
        before = trained
    return Cost(
        training_flops=sum((phase.last - phase.first + 1) * phase.flops for phase in phases),
        flops_by_phase=tuple(phases),
        calibration_flops=_calibration_flops(network, feed) if policy.batchnorm == "calibrated" else 0,
        training_views=epochs * sum(number * len(batches[size][0]) for size, number in sizes.items()),
    )


def _batch(feed: Feed, size: int) -> tuple[Tensor, Targets]:
    """A training batch of the first ``size`` images."""
    few = replace(feed, subset=feed.subset[:size], batch_size=size, updates=1, seen=feed.seen.clone())
    return next(few.training_batches(1))


@torch.no_grad()
def _calibration_flops(network: Network, feed: Feed) -> int:
    """The backbone's forward pass over each image of the subset, none of which depends on another."""
    backbone: nn.Module = network.backbone.eval()
    image = torch.zeros(1, *feed.pixels.shape[1:], device=feed.pixels.device)
    with _counter() as counter:
        backbone(image)
    return len(feed.subset) * _total(counter)


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _total(counter: FlopCounterMode) -> int:
    return int(counter.get_total_flops())


def _convolution_backward(
    grad_output: Sequence[int],
    inputs: Sequence[int],
    weight: Sequence[int],
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
    out_shape: Any = None,
) -> int:
    """Gradients of inputs and of weights, where each is asked for: each has as many multiply-adds as the forward pass.

    All arguments that are tensors arrive as shapes. torch's own formula counts a gradient of the weights of a grouped
    convolution, as ResNeXt has it, ``groups`` times over.
    """
    positions = prod((inputs if transposed else grad_output)[2:])
    macs: int = inputs[0] * positions * prod(weight)
    return 2 * macs * sum(output_mask[:2])
