"""Inits with one fault each, and a sound one that they are made from."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Sound:
    """The last convolution drawn anew."""

    name: ClassVar[str] = "sound"

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        return self.draw(model, context)

    @staticmethod
    def draw(model: nn.Module, context: InitContext) -> Collection[str]:
        nn.init.normal_(model.get_parameter("layer4.1.conv2.weight"), std=0.02, generator=context.generator)
        return ["layer4.1.conv2.weight"]


@dataclass(frozen=True)
class ClaimsTooMuch(Sound):
    """Claims a tensor that it does not set."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        return [*self.draw(model, context), "conv1.weight"]


@dataclass(frozen=True)
class ClaimsTheUnknown(Sound):
    """Claims a tensor that is not there."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        return [*self.draw(model, context), "backbone.conv1.weight"]


@dataclass(frozen=True)
class SetsInSilence(Sound):
    """Sets a tensor that it does not claim."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        nn.init.zeros_(model.get_parameter("layer1.0.bn2.weight"))
        return self.draw(model, context)


@dataclass(frozen=True)
class EvalLeft(Sound):
    """Leaves the model in evaluation mode."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        model.eval()
        return self.draw(model, context)


@dataclass(frozen=True)
class HookLeft(Sound):
    """Leaves a hook behind."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        model.get_submodule("layer1").register_forward_hook(lambda module, fed, output: output)
        return self.draw(model, context)


@dataclass(frozen=True)
class DoublePrecision(Sound):
    """Makes a tensor float64."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        if context.stem == "imagenet":
            model.get_submodule("layer4").double()
        return self.draw(model, context)


@dataclass(frozen=True)
class ChangesImages(Sound):
    """Changes the images that it is shown."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        context.images.zero_()
        return self.draw(model, context)


@dataclass(frozen=True)
class PythonDraws(Sound):
    """Draws from Python's own generator."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        claimed = self.draw(model, context)
        with torch.no_grad():
            model.get_parameter("layer4.1.conv2.weight").mul_(1 + random.random())
        return claimed


@dataclass(frozen=True)
class ManyImages(Sound):
    """Cannot do with few images."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        if len(context.images) < 16 and context.stem == "imagenet" and context.generator.initial_seed() == 0:
            raise RuntimeError(f"{len(context.images)} images are too few")
        return self.draw(model, context)


@dataclass(frozen=True)
class WrongProblem(Sound):
    """Answers yes or no where words are asked for."""

    def problem(self) -> Any:
        return 1


@dataclass(frozen=True)
class OneStem(Sound):
    """Works for one stem and does not say so."""

    def apply(self, model: nn.Module, context: InitContext) -> Any:
        weight: Tensor = model.get_parameter("conv1.weight")
        with torch.no_grad():
            weight.copy_(torch.randn(64, 3, 7, 7, generator=context.generator) * 0.02)
        return ["conv1.weight"]


@dataclass(frozen=True)
class NoFingerprint(Sound):
    """Cannot say what its weights are."""

    def fingerprint(self, folder: Path) -> Any:
        return None


#: Each init, the one check that has to fail, and words that have to be said.
CASES: list[tuple[type, str, str]] = [
    (ClaimsTooMuch, "claimed-are-set", "did not set conv1.weight"),
    (ClaimsTheUnknown, "claims", "claims backbone.conv1.weight, which the backbone does not have"),
    (SetsInSilence, "others-are-kept", "changes layer1.0.bn2.weight without claiming it"),
    (EvalLeft, "modes-kept", "the training mode of the model is another than before"),
    (HookLeft, "no-hooks-left", "leaves a hook on layer1"),
    (DoublePrecision, "tensors-kept", "dtype, shape or device of layer4.0.conv1.weight is another"),
    (ChangesImages, "context-unchanged", "changes context.images"),
    (PythonDraws, "seeded", "layer4.1.conv2.weight differently: draw from context.generator"),
    (ManyImages, "few-images", "RuntimeError: 2 images are too few (in apply, inits.py:"),
    (WrongProblem, "problem", "problem should be text or None, is 1"),
    (OneStem, "other-stem", "RuntimeError: The size of tensor a"),
    (NoFingerprint, "fingerprint", "fingerprint should be text, is None"),
]
