"""Data-dependent inits, which scale weights by the outputs of each convolution on unlabelled training images.

A convolution of a ResNet has no bias, so dividing its weights divides its output, and one pass over the images is
enough: each convolution is scaled before the layers above it are computed. A BatchNorm in training mode cancels that
scale; the norm of the weights still determines their effective learning rate, and the output of a frozen BatchNorm
that keeps its statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rotbench import hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rotbench.hookspecs import InitContext

#: An output whose standard deviation is below this share of its root mean square counts as constant: its variation may
#: be rounding error, which scaling would amplify.
CONSTANT = 1e-4


@dataclass(frozen=True)
class Lsuv:
    """Orthonormal convolutions, scaled layer by layer to outputs of variance 1 (Mishkin and Matas, ICLR 2016).

    Outputs are computed in evaluation mode, in which a new BatchNorm is the identity: the weights themselves keep the
    scale. The paper repeats the division up to a tolerance; without biases the first division is exact.
    """

    name: ClassVar[str] = "lsuv"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{mishkin2016all, title = {All You Need Is a Good Init}, author = {Mishkin, Dmytro and Matas, "
        "Jiri}, booktitle = {ICLR}, year = {2016}}"
    )

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Set and claim the weights of all convolutions; one whose output is constant stays orthonormal."""
        import torch
        from torch import nn

        convolutions = _modules(model, nn.Conv2d)
        for module in convolutions.values():
            nn.init.orthogonal_(module.weight, generator=context.generator)

        def scale(module: nn.Module, _: Any, output: Tensor) -> None:
            variance, mean = torch.var_mean(output, correction=0)  # over images, channels and positions
            divisor = _deviation(variance, mean)
            module.get_parameter("weight").div_(divisor)
            output.div_(divisor)

        _pass(model, context.images, dict.fromkeys(convolutions.values(), scale), {})
        return tuple(f"{name}.weight" for name in convolutions)


@dataclass(frozen=True)
class DataDependent:
    """Channels scaled to variance 1 and centred over training images (Krähenbühl et al., ICLR 2016).

    This is the within-layer normalisation of the paper. The mean becomes the running mean of the following BatchNorm,
    since a convolution here has no bias, and its running variance is 1: evaluation and training mode agree on these
    images. Scales and shifts of BatchNorm are kept, so that pretext weights keep their features. The second step of
    the paper, which equalises the rate of change between layers, is omitted: it scales one layer and undoes that in
    the next, which needs layers in a chain; here BatchNorm undoes every scale, and shortcuts join two paths.
    """

    name: ClassVar[str] = "data-dependent"
    exact: ClassVar[bool] = False
    cite: ClassVar[str] = (
        "@inproceedings{kraehenbuehl2016data, title = {Data-Dependent Initializations of Convolutional Neural "
        'Networks}, author = {Kr{\\"a}henb{\\"u}hl, Philipp and Doersch, Carl and Donahue, Jeff and Darrell, Trevor}, '
        "booktitle = {ICLR}, year = {2016}}"
    )

    #: The name of the [pretext.NAME] whose weights are scaled; if unset, the random weights of the seed.
    pretext: str | None = None

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Set and claim the weights of all convolutions and all running statistics; with ``pretext``, every tensor.

        A channel whose output is constant keeps its weights and is centred. Raise ``ValueError`` if pretext weights
        do not fit.
        """
        import torch
        from torch import nn

        from rotbench.models import load_backbone

        if self.pretext is not None:
            if context.pretext is None:
                raise ValueError(f'the weights of the pretext run "{self.pretext}" are missing')
            load_backbone(model, context.pretext)

        def scale(module: nn.Module, _: Any, output: Tensor) -> None:
            variance, mean = torch.var_mean(output, (0, 2, 3), correction=0)  # (channels,)
            divisor = _deviation(variance, mean).view(-1, 1, 1)
            module.get_parameter("weight").div_(divisor[..., None])
            output.div_(divisor)

        def centre(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            module.get_buffer("running_mean").copy_(inputs[0].mean((0, 2, 3)))
            module.get_buffer("running_var").fill_(1)

        convolutions, norms = _modules(model, nn.Conv2d), _modules(model, nn.BatchNorm2d)
        _pass(
            model,
            context.images,
            dict.fromkeys(convolutions.values(), scale),
            dict.fromkeys(norms.values(), centre),
        )
        if self.pretext is not None:
            return tuple(model.state_dict())
        statistics = [f"{name}.{part}" for name in norms for part in ("running_mean", "running_var")]
        return (*(f"{name}.weight" for name in convolutions), *statistics)


def _modules(model: nn.Module, kind: type[nn.Module]) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def _deviation(variance: Tensor, mean: Tensor) -> Tensor:
    """The standard deviation, or 1 if the output counts as constant."""
    varies = variance > CONSTANT**2 * (variance + mean**2)
    return variance.sqrt().where(varies, 1.0)


def _pass(
    model: nn.Module,
    images: Tensor,
    after: Mapping[nn.Module, Callable[[nn.Module, Any, Tensor], None]],
    before: Mapping[nn.Module, Callable[[nn.Module, tuple[Tensor, ...]], None]],
) -> None:
    """Pass ``images`` through ``model`` in evaluation mode, with hooks after and before modules, which may change them.

    Afterwards the hooks are removed and every module is in its previous mode.
    """
    import torch

    modes = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        for module, hook in after.items():
            stack.callback(module.register_forward_hook(hook).remove)
        for module, pre_hook in before.items():
            stack.callback(module.register_forward_pre_hook(pre_hook).remove)
        for module, training in modes.items():
            stack.callback(setattr, module, "training", training)
        stack.enter_context(torch.no_grad())
        model.eval()(images)


@hookimpl
def register_inits() -> list[type]:
    return [Lsuv, DataDependent]
