"""The batches that a run sees: of which images, in which order, augmented how, as the task shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rotbench.data import augment, augmentation_draws, epoch_batches, normalise, to_unit, updates_per_epoch
from rotbench.scoring import Batch, one_view_each, show_each_image, view_ranks
from rotbench.streams import generator
from rotbench.tasks import Targets, Task

#: Images to an evaluation batch. Fixed, since another size may give other bits.
EVALUATION_BATCH = 250


@dataclass(frozen=True)
class Feed:
    """Batches of one run. All tensors lie on the training device, whole data sets as uint8.

    ``pixels``, ``labels``: the training images, uint8 (N, 3, H, W) and int64 (N,), labels as the task relabelled
    them. ``subset``: int64 (K,), which of them are trained on. ``validation``: int64 (V,), which are scored on and
    never trained on. ``test_pixels``, ``test_labels``: likewise. ``mean``, ``std``: float32 (3,). ``augment``: of
    ``data.AUGMENTATIONS``. ``updates``: batches to an epoch. ``seed`` and ``kind`` ("pretext", "downstream", or the
    latter with the number of a repeat) name the streams of order and augmentation, ``name`` that of the task. ``seen``:
    bool (N,), the one thing here that changes: a training image is marked when a training batch is made of it.
    """

    task: Task
    pixels: Tensor
    labels: Tensor
    subset: Tensor
    validation: Tensor
    test_pixels: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    augment: tuple[str, ...]
    batch_size: int
    updates: int
    seed: int
    kind: str
    name: str
    seen: Tensor

    @property
    def constant(self) -> bool:
        """Whether a training image is the same view at every epoch: classification without augmentation."""
        return not self.augment and self.task.is_classification

    def training_batches(self, epoch: int, maps: Tensor | None = None) -> Iterator[Batch]:
        """The ``updates`` batches of an epoch: views, normalised float32 (M, 3, h, w), and the task's targets.

        ``maps``: (K, C, h, w), of a feed that is constant what the first stages of a network make of the images of
        ``subset``; they are then given instead of views.
        """
        device = self.pixels.device
        positions = epoch_batches(len(self.subset), self.batch_size, self.updates, self.seed, self.kind, epoch)
        drawn = -1
        for batch, (pass_, position) in enumerate(positions):
            if maps is not None:
                chosen = position.to(device, non_blocking=True)
                index = self.subset[chosen]
                self.seen[index] = True
                yield maps[chosen], self.labels[index]
                continue
            if pass_ != drawn:
                draws = augmentation_draws(len(self.pixels), self.seed, self.kind, epoch, pass_)
                flip, top, left = (draw.to(device, non_blocking=True) for draw in (draws.flip, draws.top, draws.left))
                drawn = pass_
            index = self.subset[position.to(device, non_blocking=True)]
            images = self.pixels[index]  # (B, 3, H, W)
            self.seen[index] = True
            if not self.task.augments:
                crops, flips = "crop" in self.augment, "flip" in self.augment
                images = augment(
                    images,
                    flip[index] if flips else None,
                    top[index] if crops else None,
                    left[index] if crops else None,
                )
            source = generator(self.seed, "task", self.name, epoch, batch)
            views, targets = self.task.make_batch(to_unit(images), source, self.labels[index], index)
            yield self._prepared(views), targets

    def test_batches(self) -> Iterator[Batch]:
        """What the test images are scored on every epoch: one view of each, without augmentation.

        The batches are the same at every epoch. A task whose batches do not show each image once is scored on all of
        them, see :mod:`rotbench.scoring`.
        """
        for batches, ranks in self._test_images():
            yield from self._ready(one_view_each(batches, ranks))

    def every_test_view(self) -> Iterator[Batch]:
        """All views of the test images, which are scored on after the last epoch."""
        for batches, _ in self._test_images():
            yield from self._ready(batches)

    def views_per_image(self) -> int:
        """How many views of a test image there are where :meth:`test_batches` has one of them; else 1."""
        several = (len(batches) for batches, ranks in self._test_images() if show_each_image(batches, len(ranks)))
        return next(several, 1)

    def validation_batches(self) -> Iterator[Batch]:
        """What the validation images are scored on every epoch, likewise."""
        for batches, ranks in self._evaluated(self.pixels, self.labels, self.validation, "validation"):
            yield from self._ready(one_view_each(batches, ranks))

    def shown_batch(self, count: int) -> tuple[Tensor, Tensor, Targets]:
        """What the task makes of ``count`` test images from all over the set: views in [0, 1], normalised, targets."""
        length = len(self.test_pixels)
        index = torch.linspace(0, length - 1, min(count, length), device=self.test_pixels.device).long()
        source = generator(self.seed, "shown", self.name)
        views, targets = self.task.make_batch(to_unit(self.test_pixels[index]), source, self.test_labels[index], index)
        return views, self._prepared(views), targets

    def constant_batches(self) -> Iterator[Tensor]:
        """The images of ``subset`` in its order, as a constant feed shows them: normalised float32 (M, 3, H, W)."""
        for chosen in torch.split(self.subset, EVALUATION_BATCH):
            yield self._prepared(to_unit(self.pixels[chosen]))

    def calibration_batches(self) -> Iterator[Tensor]:
        """The images that are trained on, each once, without augmentation: normalised float32 (M, 3, H, W).

        They are mixed, since a batch of one class would have statistics of its own.
        """
        count = len(self.subset)
        updates = updates_per_epoch(count, EVALUATION_BATCH)
        for _, position in epoch_batches(count, EVALUATION_BATCH, updates, self.seed, "calibration", 0):
            yield self._prepared(to_unit(self.pixels[self.subset[position.to(self.pixels.device)]]))

    def _test_images(self) -> Iterator[tuple[Sequence[Batch], Tensor]]:
        index = torch.arange(len(self.test_pixels), device=self.test_pixels.device)
        return self._evaluated(self.test_pixels, self.test_labels, index, "evaluation")

    def _evaluated(
        self, pixels: Tensor, labels: Tensor, index: Tensor, purpose: str
    ) -> Iterator[tuple[Sequence[Batch], Tensor]]:
        """What the task makes of :data:`EVALUATION_BATCH` images at a time, and their ranks in the whole set."""
        ranks = torch.split(view_ranks(labels[index].cpu()), EVALUATION_BATCH)
        for batch, (chosen, own) in enumerate(zip(torch.split(index, EVALUATION_BATCH), ranks, strict=True)):
            source = generator(self.seed, purpose, self.name, batch)
            made = self.task.evaluation_batches(to_unit(pixels[chosen]), source, labels[chosen], chosen)
            yield list(made), own

    def _ready(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        for views, targets in batches:
            yield self._prepared(views), targets

    def _prepared(self, views: Tensor) -> Tensor:
        return normalise(views, self.mean, self.std).contiguous(memory_format=torch.channels_last)
