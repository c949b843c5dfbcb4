"""What the contract asks of an init, each as a rule."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision.models import ResNet

from rotbench.hookspecs import InitContext, keywords
from rotbench.models import backbone_state, load_backbone
from rotbench.streams import drawing
from rotbench.testing.images import MODEL, backbone, batch_of, same, seed_globally, unit_normalised
from rotbench.testing.members import add_common
from rotbench.testing.outcome import Rules, Skipped, Subject, hold

INIT: Rules[Subject] = Rules()
add_common(INIT, "init")
rule = INIT.rule

#: So many training images rotbench shows to an init, so many are shown here where number does not matter, and so few
#: there may be.
MANY, SOME, FEW = 256, 32, 2


@dataclass(frozen=True)
class Applied:
    """An init applied once: the backbone's state before and after, what was claimed, what else changed."""

    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    claimed: Collection[str] | None
    changed_flags: tuple[str, ...]
    left_hooks: tuple[str, ...]
    changed_context: tuple[str, ...]


def _shaken(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Every tensor a little off, so that one that is set cannot have been there already; variances stay positive."""
    source = Generator().manual_seed(seed)
    return {
        name: tensor * (1 + 0.2 * torch.rand(tensor.shape, generator=source))
        + 0.01 * torch.rand(tensor.shape, generator=source)
        if tensor.is_floating_point()
        else tensor + 7 + seed
        for name, tensor in state.items()
    }


def _context(subject: Subject, stem: str, images: int, seed: int) -> InitContext:
    pretext = None
    if hasattr(subject.plugin, "pretext"):
        pretext = _shaken(backbone_state(backbone(stem, 1)), 3)
    return InitContext(
        pretext=pretext,
        images=unit_normalised(batch_of(images).images),
        generator=Generator().manual_seed(seed),
        folder=subject.folder,
        model_name=MODEL,
        stem=stem,
    )


def _problem(subject: Subject, stem: str) -> str | None:
    problem = getattr(subject.plugin, "problem", None)
    said: str | None = problem(**keywords(problem, model_name=MODEL, stem=stem)) if problem else None
    return said


def _apply(
    subject: Subject, model: ResNet, *, stem: str = "imagenet", images: int = MANY, seed: int = 0, others: int = 0
) -> Applied:
    """Apply the init to ``model``; ``others`` seeds the generators that rotbench does not seed."""
    context = _context(subject, stem, images, seed)
    shown, pretext = context.images.clone(), {name: t.clone() for name, t in (context.pretext or {}).items()}
    before, flags = backbone_state(model), _flags(model)
    seed_globally(0, others=others)
    with drawing(seed, "init", "global"):
        claimed = subject.plugin.apply(model, context)
    context_now = {"images": same(shown, context.images), "pretext": same(pretext, dict(context.pretext or {}))}
    now = _flags(model)
    return Applied(
        before,
        backbone_state(model),
        claimed,
        tuple(name for name, flag in flags.items() if now.get(name) != flag),
        tuple(_hooks(model)),
        tuple(name for name, kept in context_now.items() if not kept),
    )


def _flags(model: ResNet) -> dict[str, object]:
    """Of every module whether it is in training mode, of every parameter whether it takes a gradient, and dtypes."""
    modes: dict[str, object] = {
        f"the training mode of {name or 'the model'}": m.training for name, m in model.named_modules()
    }
    asks = {f"requires_grad of {name}": p.requires_grad for name, p in model.named_parameters()}
    kinds = {
        f"dtype, shape or device of {name}": (t.dtype, t.shape, str(t.device)) for name, t in model.state_dict().items()
    }
    return {**modes, **asks, **kinds}


def _hooks(model: ResNet) -> list[str]:
    places = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    left = [name or "the model" for name, module in model.named_modules() if any(getattr(module, p) for p in places)]
    return left + [name for name, module in model.named_modules() if "forward" in vars(module)]


@functools.lru_cache(maxsize=1)
def _usual(subject: Subject) -> tuple[ResNet, Applied]:
    """A backbone with the random weights of its seed after the init; whoever changes it copies it."""
    model = backbone()
    return model, _apply(subject, model, images=SOME)


@functools.lru_cache(maxsize=1)
def _applied(subject: Subject) -> Applied:
    """Applied to a backbone all of whose tensors are unlike those of any init."""
    _stand(subject, "imagenet")
    model = backbone()
    load_backbone(model, _shaken(backbone_state(model), 2))
    return _apply(subject, model)


def _stand(subject: Subject, stem: str) -> None:
    if problem := _problem(subject, stem):
        raise Skipped(f'not for the stem "{stem}": {problem}')


@rule("loads")
def problem(subject: Subject) -> None:
    """``problem``, where there is one, says why the init cannot start a network, or None."""
    for stem in ("imagenet", "cifar"):
        said = _problem(subject, stem)
        hold(said is None or (isinstance(said, str) and bool(said)), f"problem should be text or None, is {said!r}")


@rule("problem")
def claims(subject: Subject) -> None:
    """``apply`` returns names of tensors that the backbone has, or None."""
    exact = getattr(subject.plugin, "exact", True)
    hold(isinstance(exact, bool), f"exact should be True or False, is {exact!r}")
    applied = _applied(subject)
    if applied.claimed is None:
        return
    good = isinstance(applied.claimed, Collection) and not isinstance(applied.claimed, str)
    hold(good, f"apply should return names of tensors or None, returns {type(applied.claimed).__name__}")
    unknown = sorted(set(applied.claimed) - set(applied.before))
    hold(
        not unknown,
        f"apply claims {', '.join(map(str, unknown[:4]))}, which the backbone does not have: names are those of "
        "model.state_dict()",
    )


@rule("claims", "tensors-kept")
def claimed_are_set(subject: Subject) -> None:
    """Every tensor that is claimed was set."""
    applied = _applied(subject)
    same_still = [n for n in sorted(applied.claimed or ()) if torch.equal(applied.before[n], applied.after[n])]
    hold(
        not same_still,
        f"apply claims {len(applied.claimed or ())} tensors, but did not set {', '.join(same_still[:4])}: return the "
        "names of what it sets alone",
    )


@rule("claims", "tensors-kept")
def others_are_kept(subject: Subject) -> None:
    """Where something is claimed, nothing else was changed."""
    applied = _applied(subject)
    if not applied.claimed:
        return
    others = sorted(set(applied.before) - set(applied.claimed))
    changed = [name for name in others if not torch.equal(applied.before[name], applied.after[name])]
    hold(
        not changed,
        f"apply changes {', '.join(changed[:4])} without claiming it: return its name too, or put it back",
    )


@rule("problem")
def tensors_kept(subject: Subject) -> None:
    """Names, dtypes, shapes and devices of all tensors are as before."""
    applied = _applied(subject)
    hold(set(applied.before) == set(applied.after), "the backbone has other tensors than before: set them in place")
    changed = [name for name in applied.changed_flags if name.startswith("dtype")]
    hold(not changed, f"{changed[0] if changed else ''} is another than before: set tensors in place, with copy_")


@rule("tensors-kept")
def modes_kept(subject: Subject) -> None:
    """Training mode and ``requires_grad`` are as before."""
    changed = [name for name in _applied(subject).changed_flags if not name.startswith("dtype")]
    hold(not changed, f"{changed[0] if changed else ''} is another than before apply: put it back (model.train())")


@rule("tensors-kept")
def no_hooks_left(subject: Subject) -> None:
    """No hook and no replaced ``forward`` is left on the model."""
    left = _applied(subject).left_hooks
    hold(not left, f"apply leaves a hook on {left[0] if left else ''}: call remove() on what register_.. returned")


@rule("tensors-kept")
def context_unchanged(subject: Subject) -> None:
    """The context's images and pretext weights are as before."""
    changed = _applied(subject).changed_context
    hold(not changed, f"apply changes context.{changed[0] if changed else ''}: work on a copy (clone())")


@rule("tensors-kept")
def seeded(subject: Subject) -> None:
    """The same seed gives the same weights, whatever numpy's and Python's generators do; another seed works too."""
    first = _usual(subject)[1].after
    again = _apply(subject, backbone(), images=SOME, others=1).after
    differ = [name for name in first if not torch.equal(first[name], again[name])]
    hold(
        not differ,
        f"two applications of one seed set {differ[0] if differ else ''} differently: draw from context.generator, or "
        "from torch's global generator, which rotbench seeds",
    )
    other = _apply(subject, backbone(), images=FEW, seed=1).after
    _hold_finite(other, "with another seed")


def _hold_finite(state: Mapping[str, Tensor], what: str) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    hold(not broken, f"{what} {broken[0] if broken else ''} has values that are not finite")


def _hold_answers(model: ResNet, what: str) -> None:
    shown = unit_normalised(batch_of(4).images)
    _hold_finite(backbone_state(model), what)
    for training in (False, True):
        model.train(training)
        with torch.no_grad():
            answered = model(shown)
        mode = "training" if training else "evaluation"
        hold(bool(torch.isfinite(answered).all()), f"{what} the features of the backbone are not finite in {mode} mode")


@rule("tensors-kept")
def forward_finite(subject: Subject) -> None:
    """The backbone's features are finite, in evaluation and in training."""
    _hold_answers(copy.deepcopy(_usual(subject)[0]), "afterwards")


@rule("tensors-kept")
def few_images(subject: Subject) -> None:
    """Two training images are enough."""
    model = backbone()
    _apply(subject, model, images=FEW)
    _hold_answers(model, f"with {FEW} images")


@rule("problem")
def other_stem(subject: Subject) -> None:
    """The stem of small images can be started too, or ``problem`` says why not."""
    _stand(subject, "cifar")
    model = backbone("cifar")
    try:
        _apply(subject, model, stem="cifar", images=FEW)
    except ValueError as error:
        if hasattr(subject.plugin, "fingerprint"):
            raise Skipped(f"the weights of the file are for another stem: {error}") from None
        raise
    _hold_answers(model, 'with the stem "cifar"')


@rule("tensors-kept")
def state_round_trips(subject: Subject) -> None:
    """The state can be saved, and a backbone that it is loaded into has the same features."""
    one, other = copy.deepcopy(_usual(subject)[0]), backbone(seed=1)
    load_backbone(other, backbone_state(one))
    shown = unit_normalised(batch_of(4).images)
    with torch.no_grad():
        answers = [model.eval()(shown) for model in (one, other)]
    hold(same(*answers), "a backbone with the saved state has other features: keep nothing outside the state dict")


def _fingerprint(subject: Subject) -> None:
    """What identifies weights of a file is text, and the same every time."""
    made = [subject.plugin.fingerprint(subject.folder) for _ in range(2)]
    hold(isinstance(made[0], str) and bool(made[0]), f"fingerprint should be text, is {made[0]!r}")
    hold(made[0] == made[1], "fingerprint gave something else the second time")


#: Rules for methods that an init may have. ``prepare`` may download, so nothing here calls it.
OPTIONAL = (("fingerprint", _fingerprint, ()),)
