"""The stages at the beginning of a network that nothing changes, and what they make of images that stay the same.

A stage whose weights are frozen and whose BatchNorm normalises by its running statistics maps an image to the same
numbers at every epoch, whatever else is in the batch. So it need be computed once: for what is scored always, since
that is never augmented; for what is trained on where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from rotbench.device import autocast
from rotbench.feed import Feed
from rotbench.models import BACKBONE_STAGES, Network, named_parameters, stage_of
from rotbench.tasks import Targets

#: Maps that would take more bytes than this are computed again every time.
KEPT_BYTES = 256 * 2**20


def frozen_depth(network: Network, frozen: Collection[str], batchnorm: str) -> int:
    """How many stages at the beginning of the backbone are constant.

    ``frozen``: names of the parameters that are not trained. ``batchnorm``: the mode of frozen BatchNorm; with
    ``"train"`` what it gives depends on the batch.
    """
    if batchnorm == "train":
        return 0
    changing = {stage_of(name) for name in named_parameters(network) if name not in frozen}
    return next((depth for depth, stage in enumerate(BACKBONE_STAGES) if stage in changing), len(BACKBONE_STAGES))


class Prefix:
    """The first ``depth`` stages of a network, for as long as they stay as they are.

    Maps are computed when they are first asked for, in the precision of training, and kept where they are small.
    """

    def __init__(self, network: Network, feed: Feed, precision: str, depth: int = 0) -> None:
        self.depth = depth
        self._network = network
        self._feed = feed
        self._precision = precision
        self._kept: dict[str, list[tuple[Tensor, Targets]]] = {}
        self._training: Tensor | None = None
        self._too_large = False

    def with_frozen(self, frozen: Collection[str], batchnorm: str) -> Prefix:
        """The prefix of an epoch, with what is kept if it is as deep as before: what it ends with was frozen since.

        ``frozen``, ``batchnorm``: see :func:`frozen_depth`.
        """
        depth = frozen_depth(self._network, frozen, batchnorm)
        return self if depth == self.depth else Prefix(self._network, self._feed, self._precision, depth)

    def training_maps(self) -> Tensor | None:
        """(K, C, h, w) for the images of the feed's subset; None where they are not constant or too large to keep."""
        if not self.depth or not self._feed.constant or self._too_large:
            return None
        if self._training is None:
            self._training = self._computed()
        return self._training

    def test_batches(self) -> Iterator[tuple[Tensor, Targets]]:
        """What the feed's batches of test images are after ``depth`` stages."""
        return self._scored("test", self._feed.test_batches)

    def validation_batches(self) -> Iterator[tuple[Tensor, Targets]]:
        """Likewise for validation images."""
        return self._scored("validation", self._feed.validation_batches)

    def _scored(
        self, part: str, batches: Callable[[], Iterator[tuple[Tensor, Targets]]]
    ) -> Iterator[tuple[Tensor, Targets]]:
        if part in self._kept or not self.depth:
            yield from self._kept[part] if self.depth else batches()
            return
        made: list[tuple[Tensor, Targets]] = []
        held = 0
        for views, targets in batches():
            maps = self._through(views)
            held += maps.numel() * maps.element_size()
            if held <= KEPT_BYTES:
                made.append((maps, targets))
            yield maps, targets
        if held <= KEPT_BYTES:
            self._kept[part] = made

    def _computed(self) -> Tensor | None:
        """The training maps, unless the first batch says that all of them are too large to keep."""
        maps: Tensor | None = None
        done = 0
        for views in self._feed.constant_batches():
            batch = self._through(views)
            if maps is None:
                shape = (len(self._feed.subset), *batch.shape[1:])
                if math.prod(shape) * batch.element_size() > KEPT_BYTES:
                    self._too_large = True
                    return None
                maps = torch.empty(shape, dtype=batch.dtype, device=batch.device, memory_format=torch.channels_last)
            maps[done : done + len(batch)] = batch
            done += len(batch)
        return maps

    @torch.no_grad()
    def _through(self, views: Tensor) -> Tensor:
        with autocast(views.device.type, self._precision):
            return self._network.maps(views, 0, self.depth)
