"""Random initialisation schemes from the literature, which need no data.

Only the convolutions of the backbone are drawn; its BatchNorm modules start at scale 1 and shift 0. Fans are counted
as torch does, over all groups for fan_out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Kaiming:
    """Convolutions of variance 2 / fan, which preserves the scale of signals through ReLUs (He et al., ICCV 2015)."""

    name: ClassVar[str] = "kaiming"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{he2015delving, title = {Delving Deep into Rectifiers: Surpassing Human-Level Performance on "
        "ImageNet Classification}, author = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian}, "
        "booktitle = {ICCV}, year = {2015}}"
    )

    #: What keeps its variance: the activations ("fan_in"), or the gradients ("fan_out", as in the init "random").
    mode: Literal["fan_in", "fan_out"] = "fan_in"
    #: The distribution of the weights; both have the same variance.
    distribution: Literal["normal", "uniform"] = "normal"

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Draw and claim the weights of all convolutions."""
        from torch.nn import init

        draw = init.kaiming_normal_ if self.distribution == "normal" else init.kaiming_uniform_
        kernels = _kernels(model)
        for kernel in kernels.values():
            draw(kernel, mode=self.mode, nonlinearity="relu", generator=context.generator)
        return tuple(kernels)


@dataclass(frozen=True)
class Xavier:
    """Convolutions of variance 2 / (fan_in + fan_out), derived for tanh (Glorot and Bengio, AISTATS 2010)."""

    name: ClassVar[str] = "xavier"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{glorot2010understanding, title = {Understanding the Difficulty of Training Deep Feedforward "
        "Neural Networks}, author = {Glorot, Xavier and Bengio, Yoshua}, booktitle = {AISTATS}, year = {2010}}"
    )

    #: The distribution of the weights; both have the same variance.
    distribution: Literal["normal", "uniform"] = "uniform"

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Draw and claim the weights of all convolutions."""
        from torch.nn import init

        draw = init.xavier_normal_ if self.distribution == "normal" else init.xavier_uniform_
        kernels = _kernels(model)
        for kernel in kernels.values():
            draw(kernel, generator=context.generator)
        return tuple(kernels)


@dataclass(frozen=True)
class Orthogonal:
    """Convolutions with orthogonal rows or columns, as a matrix (out, in x height x width) (Saxe et al., ICLR 2014)."""

    name: ClassVar[str] = "orthogonal"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{saxe2014exact, title = {Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear "
        "Neural Networks}, author = {Saxe, Andrew M. and McClelland, James L. and Ganguli, Surya}, booktitle = {ICLR}, "
        "year = {2014}}"
    )

    #: The norm of each row, or of each column if there are more rows than columns.
    gain: Annotated[float, Field(gt=0)] = 1.0

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Draw and claim the weights of all convolutions."""
        from torch.nn import init

        kernels = _kernels(model)
        for kernel in kernels.values():
            init.orthogonal_(kernel, gain=self.gain, generator=context.generator)
        return tuple(kernels)


@dataclass(frozen=True)
class ZeroInitResidual:
    """Random weights with residual branches that output 0: each block starts as its shortcut (Goyal et al., 2017)."""

    name: ClassVar[str] = "zero-init-residual"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@misc{goyal2017accurate, title = {Accurate, Large Minibatch {SGD}: Training {ImageNet} in 1 Hour}, author = "
        "{Goyal, Priya and Doll{\\'a}r, Piotr and Girshick, Ross and Noordhuis, Pieter and Wesolowski, Lukasz and "
        "Kyrola, Aapo and Tulloch, Andrew and Jia, Yangqing and He, Kaiming}, howpublished = {arXiv:1706.02677}, year "
        "= {2017}}"
    )

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Set and claim the scale of the last BatchNorm of each residual branch."""
        from torch import nn
        from torchvision.models.resnet import BasicBlock, Bottleneck

        last = {BasicBlock: "bn2", Bottleneck: "bn3"}
        scales = [f"{name}.{last[type(block)]}.weight" for name, block in model.named_modules() if type(block) in last]
        for name in scales:
            nn.init.zeros_(model.get_parameter(name))
        return tuple(scales)


def _kernels(model: nn.Module) -> dict[str, Tensor]:
    """The weights of all convolutions by name, (out, in / groups, height, width), in the order of the state dict."""
    from torch import nn

    return {f"{name}.weight": module.weight for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


@hookimpl
def register_inits() -> list[type]:
    return [Kaiming, Xavier, Orthogonal, ZeroInitResidual]
