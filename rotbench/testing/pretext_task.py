"""What the contract asks of a pretext task, each as a rule."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import re
from typing import Any

import torch
from torch import Generator, Tensor, nn

from rotbench.hookspecs import keywords
from rotbench.models import Network
from rotbench.streams import drawing
from rotbench.tasks import Task, chance
from rotbench.testing.images import (
    CLASSES,
    FEATURES,
    MODEL,
    Batch,
    backbone,
    batch_of,
    global_state,
    same,
    seed_globally,
    tensors_in,
    unit_normalised,
)
from rotbench.testing.members import add_common
from rotbench.testing.outcome import Rules, Skipped, Subject, hold

#: Images in a batch, and updates on one such batch until the loss has to have fallen by a tenth.
IMAGES = 8
UPDATES = 12
FALLEN = 0.9

#: How often the score of random outputs is drawn, and how many standard errors it may lie beside ``chance``.
GUESSES = 400
ERRORS = 5.0

PRETEXT_TASK: Rules[Subject] = Rules()
add_common(PRETEXT_TASK, "pretext task")
rule = PRETEXT_TASK.rule

Made = tuple[Tensor, Any]


def _made(subject: Subject, batch: Batch, seed: int = 0, world: int = 0) -> Made:
    """One training batch, from copies; ``world`` seeds what the task must not draw from."""
    seed_globally(world)
    own = batch.copied()
    return Task(subject.plugin).make_batch(own.images, Generator().manual_seed(seed), own.labels, own.index)


def _scored(subject: Subject, batch: Batch, world: int = 0) -> list[Made]:
    """What a batch of test images is scored on, likewise."""
    seed_globally(world)
    own = batch.copied()
    task = Task(subject.plugin)
    return list(task.evaluation_batches(own.images, Generator().manual_seed(1), own.labels, own.index))


def _network(subject: Subject, views: Tensor, seed: int = 0) -> Network:
    """A ResNet18 in training mode with the task's head, drawn from a seed; the caller's own."""
    return copy.deepcopy(_headed(subject, views.shape[2], views.shape[3], seed))


@functools.lru_cache(maxsize=2)
def _headed(subject: Subject, height: int, width: int, seed: int) -> Network:
    trunk, task = backbone(), Task(subject.plugin)
    with torch.no_grad():
        trunk.eval()
        maps = Network(trunk, nn.Identity(), "map")(torch.zeros(1, 3, height, width))
        trunk.train()
    with drawing(seed, "head"):
        head = task.head(FEATURES, classes=CLASSES, map_size=maps.shape[-1], view_size=width)
    return Network(trunk, head, task.takes)


@functools.lru_cache(maxsize=2)
def _answered(subject: Subject) -> tuple[Any, Any]:
    """Outputs of an untrained network in training mode, without their gradient, and the targets."""
    views, targets = _made(subject, batch_of(IMAGES))
    network = _network(subject, views)
    with torch.no_grad():
        return network(unit_normalised(views)), targets


@rule("loads")
def class_attributes(subject: Subject) -> None:
    """``takes``, ``augments``, ``uses_labels``, ``score_name`` and ``cite`` have the types of the contract."""
    task = subject.plugin
    takes = getattr(task, "takes", "pooled")
    hold(takes in ("pooled", "map"), f'takes should be "pooled" or "map", is {takes!r}')
    for name in ("augments", "uses_labels"):
        value = getattr(task, name, False)
        hold(isinstance(value, bool), f"{name} should be True or False, is {value!r}")
    for name in ("score_name", "cite"):
        value = getattr(task, name, "")
        hold(isinstance(value, str), f"{name} should be text, is {value!r}")


@rule("loads")
def views(subject: Subject) -> None:
    """Views are float32 (M, 3, h, w), with a target for training on them."""
    shown, targets = _made(subject, batch_of(IMAGES))
    hold(len(shown) > 0, "make_batch returned no views")
    hold(shown.shape[2] > 1 and shown.shape[3] > 1, f"views should be images, are {tuple(shown.shape)}")
    whole = isinstance(targets, Tensor) or (
        isinstance(targets, tuple) and all(isinstance(part, Tensor) for part in targets)
    )
    hold(whole, f"targets should be a tensor or a tuple of tensors, are {type(targets).__name__}")
    lengths = {len(part) for part in tensors_in(targets) if part.ndim}
    hold(0 not in lengths, "make_batch returned no targets")


@rule("views")
def view_range(subject: Subject) -> None:
    """Views are finite and in [0, 1]."""
    batch = batch_of(IMAGES)
    for shown, _ in [_made(subject, batch), *_scored(subject, batch)]:
        hold(bool(torch.isfinite(shown).all()), "views hold values that are not finite")
        low, high = float(shown.min()), float(shown.max())
        hold(
            low >= 0 and high <= 1,
            f"views should be in [0, 1], are in [{low:.3g}, {high:.3g}]: rotbench normalises afterwards, the task must "
            "not; clamp what interpolation or noise adds",
        )


@rule("views")
def view_size(subject: Subject) -> None:
    """Every batch has views of the same height and width."""
    shown = [_made(subject, batch_of(count, seed=seed), seed)[0] for seed, count in enumerate((IMAGES, 3, 8, 5, 2))]
    shown += [scored for scored, _ in _scored(subject, batch_of(IMAGES))]
    sizes = sorted({(one.shape[2], one.shape[3]) for one in shown})
    listed = " and ".join(f"{height} x {width}" for height, width in sizes)
    hold(len(sizes) == 1, f"views should have one size for every batch, have {listed}: resize them to the same")


@rule("views")
def seeded(subject: Subject) -> None:
    """The same generator gives the same batch."""
    batch = batch_of(IMAGES)
    hold(
        same(_made(subject, batch), _made(subject, batch)),
        "two generators of one seed gave two different batches: draw from the generator alone, and keep nothing "
        "between batches",
    )


@rule("seeded", "evaluation")
def no_global_chance(subject: Subject) -> None:
    """No batch draws from a global generator of torch, numpy or Python."""
    batch, todo = batch_of(IMAGES), "pass generator=generator to torch's functions, and use no other source of chance"
    hold(
        same(_made(subject, batch), _made(subject, batch, world=1)),
        f"make_batch draws from a global generator, since its batch changes with their seeds: {todo}",
    )
    hold(
        same(_scored(subject, batch), _scored(subject, batch, world=1)),
        f"evaluation_batches draws from a global generator, since its batches change with their seeds: {todo}",
    )
    seed_globally(0)
    before = global_state()
    own = batch.copied()
    Task(subject.plugin).make_batch(own.images, Generator().manual_seed(0), own.labels, own.index)
    hold(global_state() == before, f"make_batch moves a global generator: {todo}")


@rule("views")
def input_unchanged(subject: Subject) -> None:
    """Images, labels and index are as they were after a batch is made of them."""
    task, batch = Task(subject.plugin), batch_of(IMAGES)
    own = batch.copied()
    task.make_batch(own.images, Generator().manual_seed(0), own.labels, own.index)
    _hold_kept(own, batch, "make_batch")
    own = batch.copied()
    list(task.evaluation_batches(own.images, Generator().manual_seed(0), own.labels, own.index))
    _hold_kept(own, batch, "evaluation_batches")


def _hold_kept(own: Batch, batch: Batch, method: str) -> None:
    for name in ("images", "labels", "index"):
        kept = torch.equal(getattr(own, name), getattr(batch, name))
        hold(kept, f"{method} changes its {name}: work on a copy ({name}.clone()), and use no operation ending in _")


@rule("seeded", "evaluation")
def labels_unused(subject: Subject) -> None:
    """A batch depends on labels where ``uses_labels`` says so, and nowhere else."""
    batch = batch_of(IMAGES)
    alike = same(_made(subject, batch), _made(subject, batch.relabelled())) and same(
        _scored(subject, batch), _scored(subject, batch.relabelled())
    )
    if getattr(subject.plugin, "uses_labels", False):
        hold(not alike, "uses_labels is True, but other labels gave the same batch: take uses_labels out")
    else:
        hold(
            alike,
            "other labels gave another batch: labels leak into a task without labels; set uses_labels: ClassVar[bool] "
            "= True if it is meant to see them",
        )


@rule("views")
def evaluation(subject: Subject) -> None:
    """What test images are scored on is there, and the same every time."""
    batch = batch_of(IMAGES)
    first = _scored(subject, batch)
    hold(len(first) > 0, "evaluation_batches yields nothing: yield at least one batch for each batch of test images")
    hold(all(len(shown) for shown, _ in first), "evaluation_batches yields a batch without views")
    hold(
        same(first, _scored(subject, batch)),
        "evaluation_batches gave other batches the second time: scores of two epochs could not be compared; draw from "
        "its generator alone",
    )


@rule("views")
def head(subject: Subject) -> None:
    """The head takes what layer4 gives, and answers in float32."""
    shown, _ = _made(subject, batch_of(IMAGES))
    network = _network(subject, shown)
    hold(isinstance(network.head, nn.Module), f"head should be an nn.Module, is {type(network.head).__name__}")
    outputs = tensors_in(network(unit_normalised(shown)))
    hold(bool(outputs), "the head's outputs hold no tensor")
    for output in outputs:
        hold(output.dtype == torch.float32, f"the head's outputs should be float32, are {output.dtype}")
        hold(bool(torch.isfinite(output).all()), "the head's outputs are not finite for an untrained network")


@rule("head")
def head_seeded(subject: Subject) -> None:
    """The head's weights are drawn from torch's global generator, so that a seed gives them again."""
    shown, _ = _made(subject, batch_of(IMAGES))
    states = []
    for others in (1, 2):
        seed_globally(0, others=others)
        _headed.cache_clear()  # another head, not the same one again
        states.append(_network(subject, shown, seed=5).head.state_dict())
    hold(
        same(*states),
        "two heads of one seed have different weights: let torch's layers draw them, with no generator of their own",
    )


@rule("head-seeded")
def head_state(subject: Subject) -> None:
    """A head that is loaded from a saved state answers as the head that was saved."""
    shown, _ = _made(subject, batch_of(IMAGES))
    one, other = _network(subject, shown, seed=1), _network(subject, shown, seed=2)
    one.train()
    with torch.no_grad():
        one(unit_normalised(shown))  # so that running statistics are no longer those of a new head
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    with torch.no_grad():
        answers = [network.eval()(unit_normalised(shown)) for network in (one, other)]
    hold(
        same(*answers),
        "a head loaded from the state dict of another answers otherwise: keep all that it needs in parameters and "
        "buffers (register_buffer)",
    )


@rule("head")
def loss(subject: Subject) -> None:
    """The loss is a finite number whose gradient reaches the backbone."""
    shown, targets = _made(subject, batch_of(IMAGES))
    network = _network(subject, shown)
    lost = Task(subject.plugin).loss(network(unit_normalised(shown)), targets)
    hold(isinstance(lost, Tensor), f"loss should return a tensor, returns {type(lost).__name__}")
    hold(lost.ndim == 0, f"loss should be one number for the batch, has shape {tuple(lost.shape)}: take its mean")
    hold(bool(torch.isfinite(lost)), f"loss is {float(lost.detach())} for an untrained network")
    hold(lost.requires_grad, "loss has no gradient: it is detached from the head's outputs")
    lost.backward()  # type: ignore[no-untyped-call]
    reached = network.backbone.conv1.weight.grad
    hold(
        reached is not None and bool(reached.abs().sum() > 0),
        "the loss has no gradient that reaches the backbone's first layer: nothing would be learnt; look for detach, "
        "no_grad, argmax or rounding between outputs and loss",
    )


@rule("loss")
def loss_falls(subject: Subject) -> None:
    """A few dozen updates on one small batch make the loss fall."""
    shown, targets = _made(subject, batch_of(IMAGES))
    network, task = _network(subject, shown), Task(subject.plugin)
    fed = unit_normalised(shown)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    seen: list[float] = []
    for _ in range(UPDATES):
        optimizer.zero_grad()
        lost = task.loss(network(fed), targets)
        lost.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(float(lost.detach()))
    best = min(seen[-5:])
    hold(
        best < seen[0] - (1 - FALLEN) * abs(seen[0]),
        f"the loss went from {seen[0]:.4g} to {best:.4g} in {UPDATES} updates on one batch: it should fall; are "
        "targets and outputs of the same order, and is the loss lower where the answer is better?",
    )


@rule("loss")
def loss_is_a_mean(subject: Subject) -> None:
    """A batch that holds every example twice has no larger loss."""
    if Task(subject.plugin).augments and hasattr(subject.plugin, "loss"):
        raise Skipped("the task makes its own views, which may be compared with each other within a batch")
    outputs, targets = _answered(subject)
    lost = float(Task(subject.plugin).loss(outputs, targets))
    twice = float(Task(subject.plugin).loss(_twice(outputs), _twice(targets)))
    if abs(lost) < 1e-6:
        raise Skipped("the loss of an untrained network is 0")
    hold(
        abs(twice) < 1.5 * abs(lost),
        f"the loss of every example twice is {twice:.4g}, of every example once {lost:.4g}: it should be a mean over "
        "examples, or it grows with the batch",
    )


def _twice(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.cat([value, value]) if value.ndim else value
    return type(value)(_twice(part) for part in value)


@rule("head")
def score(subject: Subject) -> None:
    """The score is one finite number an example, a share where it is called accuracy."""
    outputs, targets = _answered(subject)
    scores = Task(subject.plugin).score(outputs, targets)
    hold(scores.ndim == 1, f"score should be (K,), one value an example, has shape {tuple(scores.shape)}: take no mean")
    hold(len(scores) > 0, "score returned no value")
    hold(bool(torch.isfinite(scores).all()), "scores of an untrained network are not finite")
    if getattr(subject.plugin, "score_name", "accuracy") == "accuracy":
        low, high = float(scores.min()), float(scores.max())
        hold(
            low >= 0 and high <= 1,
            f"an accuracy should be in [0, 1], is in [{low:.3g}, {high:.3g}]: give the score another score_name",
        )


@rule("score", "evaluation")
def chance_of_guessing(subject: Subject) -> None:
    """``chance`` is what random answers score, or None."""
    task = Task(subject.plugin)
    said = chance(subject.plugin, examples=IMAGES, classes=CLASSES)
    if said is None:
        return
    real = isinstance(said, (int, float)) and not isinstance(said, bool) and math.isfinite(said)
    hold(real, f"chance should be a number or None, is {said!r}")
    if getattr(subject.plugin, "score_name", "accuracy") != "accuracy":
        return
    hold(0 <= said <= 1, f"chance of an accuracy should be in [0, 1], is {said}")
    outputs, targets = _answered(subject)
    if not isinstance(outputs, Tensor):
        return
    source = Generator().manual_seed(0)
    drawn = torch.cat([task.score(torch.randn(outputs.shape, generator=source), targets) for _ in range(GUESSES)])
    mean, error = float(drawn.mean()), float(drawn.std()) / math.sqrt(len(drawn))
    hold(
        abs(mean - said) <= ERRORS * error + 1e-6,
        f"chance says {said:.4g}, but random answers score {mean:.4g} ({GUESSES} times a batch of {IMAGES} images)",
    )


@rule("head", "loss", "score", "evaluation")
def one_image(subject: Subject) -> None:
    """A batch of one image, and one of an odd number, go through head, loss and score."""
    for count in (1, 3):
        batch = batch_of(count)
        for shown, targets in [_made(subject, batch), *_scored(subject, batch)[:1]]:
            _hold_passes(subject, shown, targets, f"a batch of {count}")
    shown, targets = _made(subject, batch_of(3))
    _hold_passes(subject, shown, targets, "a training batch of 3", training=True)


def _hold_passes(subject: Subject, shown: Tensor, targets: Any, what: str, *, training: bool = False) -> None:
    network, task = _network(subject, shown), Task(subject.plugin)
    network.train(training)
    with _naming(what), torch.no_grad():
        outputs = network(unit_normalised(shown))
        lost, scores = task.loss(outputs, targets), task.score(outputs, targets)
    hold(bool(torch.isfinite(lost).all()), f"{what} has the loss {float(lost.detach())}")
    hold(scores.ndim == 1, f"{what} has scores of shape {tuple(scores.shape)}, should be (K,): squeeze no dimension")
    hold(bool(torch.isfinite(scores).all()), f"{what} has scores that are not finite")


@contextlib.contextmanager
def _naming(what: str) -> Any:
    """Say of an exception what it was raised over; the plugin's line stays with it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        error.args = (f"{what}: {error}",)
        raise


@rule("view-size", "loss", "score")
def other_size(subject: Subject) -> None:
    """Images of another size make batches too, or are refused in words."""
    try:
        made = [_made(subject, batch_of(4, size=48)), *_scored(subject, batch_of(4, size=48))]
    except ValueError as error:
        if re.search(r"\b48\b", str(error)):
            raise Skipped(f"images of 48 x 48 are refused: {error}") from None
        raise
    sizes = {tuple(shown.shape[2:]) for shown, _ in made}
    hold(len(sizes) == 1, f"images of 48 x 48 make views of several sizes: {sorted(sizes)}")
    _hold_passes(subject, *made[0], "a batch of images of 48 x 48", training=True)


def _relabel(subject: Subject) -> None:
    """New labels are labels, the same for the same generator, and the old ones are kept."""
    labels = torch.arange(200) % CLASSES
    made = []
    for others in (0, 1):
        seed_globally(others)
        own = labels.clone()
        made.append(Task(subject.plugin).relabel(own, Generator().manual_seed(0)))
        hold(torch.equal(own, labels), "relabel changes its labels: work on a copy (labels.clone())")
    new = made[0]
    hold(isinstance(new, Tensor), f"relabel should return a tensor, returns {type(new).__name__}")
    hold(
        new.dtype == torch.int64 and new.shape == labels.shape,
        f"relabel should return int64 ({len(labels)},), returns {new.dtype} {tuple(new.shape)}",
    )
    low, high = int(new.min()), int(new.max())
    hold(low >= 0 and high < CLASSES, f"labels 0..{CLASSES - 1} became labels {low}..{high}, of classes that are not")
    hold(same(*made), "relabel gave other labels the second time: draw from its generator alone")


def _pictures(subject: Subject) -> None:
    """Pictures for the report are (3, h, w) in [0, 1], each with a few words."""
    shown, targets = _made(subject, batch_of(IMAGES))
    outputs, _ = _answered(subject)
    pictures = list(subject.plugin.pictures(shown.clone(), outputs, targets))
    hold(bool(pictures), "pictures yields nothing")
    for picture, words in pictures:
        hold(isinstance(words, str), f"the words of a picture should be text, are {type(words).__name__}")
        good = isinstance(picture, Tensor) and picture.ndim == 3 and picture.shape[0] == 3
        hold(good, f"a picture should be (3, h, w), is {tuple(getattr(picture, 'shape', ()))}")
        low, high = float(picture.min()), float(picture.max())
        hold(low >= 0 and high <= 1, f"a picture should be in [0, 1], is in [{low:.3g}, {high:.3g}]: clamp it")


def _notice(subject: Subject) -> None:
    """What plan and report say beside the task is a sentence, or None."""
    notice = subject.plugin.notice
    for stem in ("imagenet", "cifar"):
        given = keywords(notice, epochs=45, batch_size=128, model_name=MODEL, stem=stem)
        said = notice(**given)
        hold(said is None or (isinstance(said, str) and bool(said)), f"notice should be text or None, is {said!r}")


#: Rules for methods that a task may have.
OPTIONAL = (
    ("relabel", _relabel, ()),
    ("pictures", _pictures, ("head",)),
    ("notice", _notice, ()),
)
