from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet

from rotbench.hookspecs import InitContext
from rotbench.models import backbone_state, build_backbone, state_sha256
from tests.program import thorough

#: The plugin computes in float32, and BatchNorm adds 1e-5 to a variance. A thousandth is well above either, and well
#: below what a variance over n - 1 would be off by, 1/24 where a channel has one place in each of 24 images.
CLOSE = 1e-3

NETWORKS = [("resnet18", "imagenet"), ("resnet18", "cifar"), ("resnet50", "imagenet")]
TRIED = [NETWORKS[0], *thorough(*NETWORKS[1:])]


@pytest.fixture(scope="module")
def plugin(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("data_driven")


def pictures(count: int = 24, size: int = 32) -> Tensor:
    """Coloured blobs of mean 0, correlated from pixel to pixel and brighter in some images than in others."""
    source = torch.Generator().manual_seed(7)
    coarse = torch.randn(count, 3, size // 4, size // 4, generator=source)
    images = functional.interpolate(coarse, size=size, mode="bilinear")
    images = images * (0.5 + torch.rand(count, 1, 1, 1, generator=source))
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


def pretext_of(model: str, stem: str) -> dict[str, Tensor]:
    """Weights such as a pretext run ends with: other kernels, scales, shifts and statistics."""
    state = backbone_state(build_backbone(model, stem, 1))
    source = torch.Generator().manual_seed(2)
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.add_(9)
        elif tensor.ndim == 1:
            tensor.add_(torch.rand(tensor.shape, generator=source) - 0.3)
    return state


def context(
    images: Tensor, pretext: Mapping[str, Tensor] | None = None, model: str = "resnet18", stem: str = "imagenet"
) -> InitContext:
    return InitContext(pretext, images, torch.Generator().manual_seed(0), Path(), model, stem)


def layers(state: Mapping[str, Tensor], images: Tensor, model: str, stem: str) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The forward pass of a ResNet in evaluation mode, in float64: of each convolution its name, output, and output
    after BatchNorm. Written after the papers' (He et al., 2016; stride in the 3 x 3 of a bottleneck), not torchvision.
    """
    double = {name: tensor.double() for name, tensor in state.items()}

    def layer(conv: str, norm: str, maps: Tensor, stride: int) -> tuple[str, Tensor, Tensor]:
        kernel = double[f"{conv}.weight"]
        output = functional.conv2d(maps, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, variance, scale, shift = (
            double[f"{norm}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return conv, output, (output - mean) / (variance + 1e-5).sqrt() * scale + shift

    first = layer("conv1", "bn1", images.double(), 2 if stem == "imagenet" else 1)
    yield first
    maps = first[2].relu()
    if stem == "imagenet":
        maps = functional.max_pool2d(maps, 3, stride=2, padding=1)
    depths, parts, strided = {"resnet18": ((2, 2, 2, 2), 2, 1), "resnet50": ((3, 4, 6, 3), 3, 2)}[model]
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            branch = shortcut = maps
            for part in range(1, parts + 1):
                one = layer(f"{name}.conv{part}", f"{name}.bn{part}", branch, stride if part == strided else 1)
                yield one
                branch = one[2].relu() if part < parts else one[2]
            if f"{name}.downsample.0.weight" in double:
                one = layer(f"{name}.downsample.0", f"{name}.downsample.1", shortcut, stride)
                yield one
                shortcut = one[2]
            maps = (branch + shortcut).relu()


def norm_of(conv: str) -> str:
    return conv.replace("downsample.0", "downsample.1").replace("conv", "bn")


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    return {name for name in after if not torch.equal(before[name], after[name])}


def test_the_forward_pass_of_these_tests_is_that_of_the_network() -> None:
    for name, stem in NETWORKS:
        model, images = build_backbone(name, stem, 0), pictures(4)
        model.load_state_dict(pretext_of(name, stem))
        seen: dict[nn.Module, Tensor] = {}

        def note(module: nn.Module, _: Any, output: Tensor, seen: dict[nn.Module, Tensor] = seen) -> None:
            seen[module] = output.clone()  # what follows is done in place

        norms = {one: module for one, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
        for module in norms.values():
            module.register_forward_hook(note)
        with torch.no_grad():
            model.double().eval()(images.double())
        told = {norm_of(conv): normalised for conv, _, normalised in layers(backbone_state(model), images, name, stem)}
        assert list(map(norms.get, told)) == list(seen)  # in the order of the pass
        assert all(torch.allclose(seen[norms[one]], told[one]) for one in norms)


# LSUV


@pytest.mark.parametrize(("name", "stem"), TRIED)
def test_lsuv_gives_each_convolution_output_of_variance_one(plugin: ModuleType, name: str, stem: str) -> None:
    model, images = build_backbone(name, stem, 0), pictures(size=32 if stem == "imagenet" else 16)
    before = backbone_state(model)
    claimed = plugin.Lsuv().apply(model, context(images, model=name, stem=stem))
    state = backbone_state(model)
    outputs = {conv: output for conv, output, _ in layers(state, images, name, stem)}
    assert set(claimed) == {f"{conv}.weight" for conv in outputs} == changed(before, state)
    assert len(outputs) == {"resnet18": 20, "resnet50": 53}[name]
    for conv, output in outputs.items():
        assert np.isclose(output.numpy().var(), 1, rtol=0, atol=CLOSE), conv


@pytest.mark.parametrize(("name", "stem"), NETWORKS[:2])
def test_lsuv_weights_are_a_multiple_of_an_orthonormal_matrix(plugin: ModuleType, name: str, stem: str) -> None:
    model = build_backbone(name, stem, 0)
    claimed = plugin.Lsuv().apply(model, context(pictures(4, 16), model=name, stem=stem))
    factors = set()
    for tensor in claimed:
        matrix = model.state_dict()[tensor].numpy().reshape(len(model.state_dict()[tensor]), -1).astype(np.float64)
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        product = matrix @ matrix.T
        factor = product.trace() / len(product)
        rounding = matrix.shape[1] * float(np.finfo(np.float32).eps)
        assert np.allclose(product / factor, np.eye(len(product)), rtol=0, atol=rounding), tensor
        factors.add(round(factor, 6))
    assert len(factors) == len(claimed)  # each has a scale of its own


# Data-dependent


@pytest.mark.parametrize(("name", "stem"), TRIED)
@pytest.mark.parametrize("pretrained", [False, True])
def test_data_dependent_gives_each_channel_mean_zero_and_variance_one(
    plugin: ModuleType, name: str, stem: str, pretrained: bool
) -> None:
    model, images = build_backbone(name, stem, 0), pictures(size=32 if stem == "imagenet" else 16)
    before = backbone_state(model)
    pretext = pretext_of(name, stem) if pretrained else None
    init = plugin.DataDependent(pretext="rotation" if pretrained else None)
    claimed = init.apply(model, context(images, pretext, name, stem))
    state = backbone_state(model)
    source = pretext or before
    checked = 0
    for conv, output, normalised in layers(state, images, name, stem):
        norm = norm_of(conv)
        assert np.allclose(output.numpy().var((0, 2, 3)), 1, rtol=0, atol=CLOSE), conv
        assert torch.equal(state[f"{norm}.running_var"], torch.ones(output.shape[1]))
        # The scale and the shift of BatchNorm are those that were there: 1 and 0 for random weights.
        scale, shift = source[f"{norm}.weight"], source[f"{norm}.bias"]
        assert torch.equal(state[f"{norm}.weight"], scale)
        assert torch.equal(state[f"{norm}.bias"], shift)
        assert np.allclose(normalised.numpy().mean((0, 2, 3)), shift.numpy(), rtol=0, atol=CLOSE), conv
        assert np.allclose(normalised.numpy().std((0, 2, 3)), scale.abs().numpy(), rtol=0, atol=CLOSE), conv
        if not pretrained:
            assert np.allclose(normalised.numpy().mean((0, 2, 3)), 0, rtol=0, atol=CLOSE), conv
            assert np.allclose(normalised.numpy().var((0, 2, 3)), 1, rtol=0, atol=CLOSE), conv
        # Each filter points where it pointed.
        old, new = (tensors[f"{conv}.weight"].double().flatten(1) for tensors in (source, state))
        cosine = functional.cosine_similarity(old, new)
        assert torch.allclose(cosine, torch.ones_like(cosine), rtol=0, atol=1e-6), conv
        checked += 1
    assert checked == {"resnet18": 20, "resnet50": 53}[name]
    assert len(claimed) == len(set(claimed)) == (6 * checked if pretrained else 3 * checked)
    # The running variance of a fresh BatchNorm is 1 already.
    assert changed(before, state) == {one for one in claimed if not one.endswith("running_var")}


def test_data_dependent_makes_evaluation_and_training_agree(plugin: ModuleType) -> None:
    for pretext in (None, pretext_of("resnet18", "imagenet")):
        model, images = build_backbone("resnet18", "imagenet", 0), pictures(64)
        plugin.DataDependent(pretext="rotation" if pretext else None).apply(model, context(images, pretext))
        with torch.no_grad():
            evaluated, trained = model.eval()(images), model.train()(images)
        assert torch.allclose(evaluated, trained, rtol=1e-2, atol=1e-2)
        assert evaluated.std() > 0.1


def test_data_dependent_without_its_pretext_weights_is_an_error_and_leaves_the_model(plugin: ModuleType) -> None:
    model = build_backbone("resnet18", "imagenet", 0)
    before = state_sha256(backbone_state(model))
    with pytest.raises(ValueError, match='weights of the pretext run "rotation" are missing'):
        plugin.DataDependent(pretext="rotation").apply(model, context(pictures(4)))
    lacking = {name: tensor for name, tensor in pretext_of("resnet18", "imagenet").items() if name != "bn1.bias"}
    with pytest.raises(ValueError, match=r"1 missing: bn1\.bias"):
        plugin.DataDependent(pretext="rotation").apply(model, context(pictures(4), lacking))
    assert state_sha256(backbone_state(model)) == before


# Both


def both(plugin: ModuleType) -> list[Any]:
    return [plugin.Lsuv(), plugin.DataDependent(), plugin.DataDependent(pretext="rotation")]


def test_the_model_comes_back_in_its_modes_without_hooks_and_the_images_as_they_were(plugin: ModuleType) -> None:
    pretext = pretext_of("resnet18", "imagenet")
    checked = 0
    for init in both(plugin):
        for training in (False, True):
            model, images = build_backbone("resnet18", "imagenet", 0), pictures(4)
            kept, weights = images.clone(), state_sha256(pretext)
            model.train(training)
            model.layer2.train(not training)
            modes = [module.training for module in model.modules()]
            init.apply(model, context(images, pretext))
            assert [module.training for module in model.modules()] == modes
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
            assert torch.equal(images, kept)
            assert state_sha256(pretext) == weights
            assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
            assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
            assert torch.is_grad_enabled()
            checked += 1
    assert checked == 6


def test_a_pass_that_fails_leaves_no_hook_and_no_other_mode(plugin: ModuleType) -> None:
    for init in both(plugin)[:2]:
        model = build_backbone("resnet18", "imagenet", 0)
        with pytest.raises(RuntimeError):
            init.apply(model, context(torch.zeros(2, 4, 32, 32)))
        assert all(module.training for module in model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def lame(model: ResNet) -> dict[str, Tensor]:
    """Its state, with a first convolution one of whose filters is 0."""
    state = backbone_state(model)
    state["conv1.weight"][5] = 0
    return state


def test_a_channel_without_variance_keeps_its_weights(plugin: ModuleType) -> None:
    model, images = build_backbone("resnet18", "imagenet", 0), pictures(8)
    pretext = lame(model)
    # Behind a shift that no ReLU lets through, all that the next convolution sees is 0.
    pretext["layer1.0.bn1.bias"] -= 100
    plugin.DataDependent(pretext="rotation").apply(model, context(images, pretext))
    state = backbone_state(model)
    assert not state["conv1.weight"][5].any()
    assert torch.equal(state["layer1.0.conv2.weight"], pretext["layer1.0.conv2.weight"])
    assert not state["layer1.0.bn2.running_mean"].any()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    told = {conv: output for conv, output, _ in layers(state, images, "resnet18", "imagenet")}
    assert np.allclose(np.delete(told["conv1"].numpy().var((0, 2, 3)), 5), 1, rtol=0, atol=CLOSE)


def test_equal_images_and_maps_of_one_place_leave_nothing_to_scale(plugin: ModuleType) -> None:
    # In layer4 of images of 32 x 32 every channel is one number an image, here the same for all images up to rounding.
    images = pictures(1).expand(16, -1, -1, -1).contiguous()
    model = build_backbone("resnet18", "imagenet", 0)
    before = backbone_state(model)
    plugin.DataDependent().apply(model, context(images))
    state = backbone_state(model)
    kernels = [name for name in state if name.startswith("layer4") and state[name].ndim == 4]
    assert len(kernels) == 5
    for name in kernels:
        assert torch.equal(state[name], before[name])
    assert not torch.equal(state["layer1.0.conv1.weight"], before["layer1.0.conv1.weight"])


def test_lsuv_leaves_orthonormal_what_has_no_variance(plugin: ModuleType) -> None:
    model = build_backbone("resnet18", "imagenet", 0)
    plugin.Lsuv().apply(model, context(torch.zeros(4, 3, 32, 32)))
    kernel = model.conv1.weight.detach().flatten(1).double()
    assert torch.allclose(kernel @ kernel.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=147 * 1.2e-7)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


@pytest.mark.thorough
def test_draws_come_from_the_generator_of_the_context_alone(plugin: ModuleType) -> None:
    made = []
    for seed, elsewhere in ((0, 1), (0, 2), (1, 1)):
        model = build_backbone("resnet18", "imagenet", 0)
        torch.manual_seed(elsewhere)
        given = context(pictures(4))
        given.generator.manual_seed(seed)
        plugin.Lsuv().apply(model, given)
        made.append(state_sha256(backbone_state(model)))
    assert made[0] == made[1] != made[2]


def test_they_register_themselves(plugin: ModuleType) -> None:
    assert [one.name for one in plugin.register_inits()] == ["lsuv", "data-dependent"]
