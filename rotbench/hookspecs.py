"""What a plugin can be, and the four hooks through which rotbench learns of it.

A plugin is a frozen dataclass whose fields are its options. There is no base class: a class is a pretext task
because it has the members below, and what it lacks takes the default that is named beside the member. Methods get
the keyword arguments that they name and no others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import pluggy

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from rotbench.data import Images

PROJECT = "rotbench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

#: The stages of a torchvision ResNet from the image to the class scores. ``fc`` is the head.
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "fc")

Stage = Literal["stem", "layer1", "layer2", "layer3", "layer4", "fc"]

#: What a frozen BatchNorm module does: see :class:`FreezePolicy`.
BatchNorm = Literal["eval", "train", "calibrated"]


class Hooks:
    """The hooks. Each returns a list of classes; an empty list is fine, ``None`` counts as one."""

    @hookspec
    def register_pretext_tasks(self) -> list[type]:  # type: ignore[empty-body]
        """Called once when plugins are loaded; return classes like :class:`PretextTask`."""

    @hookspec
    def register_inits(self) -> list[type]:  # type: ignore[empty-body]
        """Called once when plugins are loaded; return classes like :class:`Init`."""

    @hookspec
    def register_freeze_policies(self) -> list[type]:  # type: ignore[empty-body]
        """Called once when plugins are loaded; return classes like :class:`FreezePolicy`."""

    @hookspec
    def register_datasets(self) -> list[type]:  # type: ignore[empty-body]
        """Called once when plugins are loaded; return classes like :class:`Dataset`."""


class PretextTask(Protocol):
    """A task whose targets come from the images themselves.

    Required: ``name``, ``head`` and ``make_batch``. Optional, with what a lack of them means:

    ======================  ========================================================================
    ``takes``               ``"pooled"``: the head is fed (M, features); ``"map"``: (M, features, h, w)
    ``augments``            ``False``: images arrive flipped and cropped as the data set's training does
    ``uses_labels``         ``False``: the batches are the same whatever the labels are
    ``score_name``          ``"accuracy"``
    ``cite``                ``""``: there is no paper; else one BibTeX entry
    ``evaluation_batches``  one ``make_batch`` per batch of test images, from a fixed generator
    ``relabel``             labels stay what they are
    ``loss``                cross entropy, a mean over examples
    ``score``               1 where the largest output is the target's, else 0
    ``chance``              unknown
    ``pictures``            the views, with target, prediction and confidence where targets are classes
    ``notice``              nothing to say
    ======================  ========================================================================
    """

    name: ClassVar[str]
    takes: ClassVar[Literal["pooled", "map"]]
    augments: ClassVar[bool]
    uses_labels: ClassVar[bool]
    score_name: ClassVar[str]
    cite: ClassVar[str]

    def head(self, features: int, *, classes: int, map_size: int, view_size: int) -> nn.Module:
        """The module put on layer4: fed float32 (M, features) or (M, features, map_size, map_size).

        Its weights are drawn from torch's global generator, which rotbench has seeded. It may fold its first
        dimension, (images x tiles, ..) to (images, ..).
        """
        ...

    def make_batch(
        self, images: Tensor, generator: Generator, *, labels: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """Views and targets of one batch.

        ``images`` is float32 (N, 3, H, W) in [0, 1] on the run's device and is not to be changed; ``generator`` a
        seeded CPU generator, the only source of chance; ``labels`` int64 (N,); ``index`` int64 (N,), where the images
        stand in the data set. Returns float32 views (M, 3, h, w) in [0, 1], which rotbench normalises, with the same
        h and w for every batch, and targets.
        """
        ...

    def evaluation_batches(
        self, images: Tensor, generator: Generator, *, labels: Tensor, index: Tensor
    ) -> Iterable[tuple[Tensor, Tensor | tuple[Tensor, ...]]]:
        """What one batch of test images is scored on; the same at every epoch.

        Several batches of as many views as there are images are taken to show each image once each, in the order of
        the images. Every epoch then scores one view of each image, after the last epoch all of them once. Anything
        else is scored whole at every epoch.
        """
        ...

    def relabel(self, labels: Tensor, generator: Generator) -> Tensor:
        """Once a run, int64 (N,) training labels to int64 (N,) labels."""
        ...

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """A scalar to minimise, a mean over examples; ``outputs`` are the head's, float32."""
        ...

    def score(self, outputs: Any, targets: Any) -> Tensor:
        """(K,) one value an example, higher is better; their mean is the score."""
        ...

    def chance(self, *, examples: int, classes: int) -> float | None:
        """The score of guessing, where it is known. ``examples``: images in a batch that is scored."""
        ...

    def pictures(self, views: Tensor, outputs: Any, targets: Any) -> Iterable[tuple[Tensor, str]]:
        """What the report shows of a trained network: images, (3, h, w) in [0, 1], each with a few words.

        ``views`` are as ``make_batch`` returned them for a few test images, ``outputs`` the head's.
        """
        ...

    def notice(self, *, epochs: int, batch_size: int, model_name: str, stem: str) -> str | None:
        """A sentence that plan and report show beside the task, such as how far the recipe is from the paper's.

        Planning calls it: no torch.
        """
        ...


@dataclass(frozen=True)
class InitContext:
    """What an init may use. All tensors are on the CPU.

    ``pretext``: the backbone state of the pretext run that the init depends on (its option ``pretext``), or None.
    ``images``: float32 (256 or fewer, 3, H, W), normalised training images. ``generator``: a seeded CPU generator.
    ``model_name`` and ``stem``: the study's ``[model]``, such as ``"resnet18"`` and ``"imagenet"``.
    ``folder``: the folder of the study file, from which relative paths start. ``unexpected``: names of tensors that
    the init found in its source and did not use; it adds to the set, and the report shows it.
    """

    pretext: Mapping[str, Tensor] | None
    images: Tensor
    generator: Generator
    folder: Path
    model_name: str
    stem: str
    unexpected: set[str] = field(default_factory=set)


class Init(Protocol):
    """What a run's backbone starts from. Required: ``name`` and ``apply``.

    An option called ``pretext`` names the pretext run that must be trained first. ``exact`` is ``True`` unless given:
    what comes from a pretext run or a file is all there and as it was there, which rotbench checks. ``False``: the
    init means to set a part of the backbone, or to change what it loads. ``cite``: one BibTeX entry, or "".
    """

    name: ClassVar[str]
    exact: ClassVar[bool]
    cite: ClassVar[str]

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str] | None:
        """Set weights of ``model``, a torchvision ResNet without its fc, float32 on the CPU, in place.

        ``model`` arrives with the random weights of its seed. Returns the names of the state-dict tensors that the
        init claims to have set, which rotbench checks by their hashes; ``None`` claims nothing.
        """
        ...

    def problem(self, *, model_name: str, stem: str) -> str | None:
        """Why the init cannot start this network, or None. Planning calls it: no torch."""
        ...

    def prepare(self, folder: Path, *, model_name: str, stem: str) -> None:
        """Before any training: get or check what is needed; ``EnvironmentLacking`` where something is missing."""
        ...

    def fingerprint(self, folder: Path) -> str:
        """What identifies weights that come from a file: other weights are another run. Planning calls it."""
        ...


@dataclass(frozen=True)
class Parameter:
    """A parameter as a freeze policy sees it: ``layer4.0.bn1.weight``, ``layer4``, ``batchnorm``."""

    name: str
    stage: Stage
    kind: Literal["conv", "batchnorm", "linear", "other"]


class FreezePolicy(Protocol):
    """Which parameters a run may change. Required: ``name``, ``trainable`` and an option ``batchnorm``.

    ``batchnorm`` says what a BatchNorm module does whose weight is frozen: ``"eval"`` keeps its running statistics
    and uses them; ``"train"`` goes on using, and updating them from, each batch; ``"calibrated"`` is ``"eval"`` with
    statistics that are computed anew from the run's training images before the first epoch. Planning calls the
    methods too: no torch. ``cite``: one BibTeX entry, or "".
    """

    name: ClassVar[str]
    cite: ClassVar[str]
    batchnorm: BatchNorm

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        """Whether ``parameter`` is trained in ``epoch`` (from 1) of ``epochs``."""
        ...

    def restart(self, epoch: int, epochs: int) -> float | None:
        """A factor on lr if a phase begins at ``epoch``: optimiser and schedule start afresh; else None."""
        ...


class Dataset(Protocol):
    """Where images come from. Required: ``name``, ``fingerprint`` and ``load``.

    ``size``: side of an image in pixels, and ``classes``: number of classes, where known beforehand (else None).
    ``images_per_class``: training images in the smallest class, where known beforehand (else None), so that a study
    that asks for more labels is refused before anything is trained. ``augment``: names of the default augmentation.
    ``notice``: a sentence that opens the report, or "". ``cite``: one BibTeX entry, or "".
    """

    name: ClassVar[str]
    size: ClassVar[int | None]
    classes: ClassVar[int | None]
    images_per_class: ClassVar[int | None]
    augment: ClassVar[tuple[str, ...]]
    notice: ClassVar[str]
    cite: ClassVar[str]

    def fingerprint(self, root: Path) -> str:
        """What identifies the data: an official checksum, or a hash of the files' content. Planning calls it."""
        ...

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        """The images of one split, checked against the fingerprint.

        ``rotbench.data.Images``: ``pixels`` uint8 (N, 3, H, W), ``labels`` int64 (N,), ``classes`` a tuple of names.
        """
        ...

    def prepare(self, root: Path) -> None:
        """Before any training: check the data, download what is missing; ``EnvironmentLacking`` where it cannot."""
        ...


def keywords(method: Callable[..., Any], **offered: Any) -> dict[str, Any]:
    """Of ``offered``, what ``method`` names among its parameters (all of it where it takes ``**kwargs``)."""
    parameters = inspect.signature(method).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return offered
    return {name: value for name, value in offered.items() if name in parameters}
