"""Convolutions that leave out padding are torch's own: outputs, gradients, decay, names."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rotbench.models import Network, build_backbone, named_parameters
from rotbench.optimizer import Optimizer
from rotbench.taps import LiveConv2d, keep_padding, live_taps, skip_padding


def pair(*args: Any, **options: Any) -> tuple[nn.Conv2d, LiveConv2d]:
    plain = nn.Conv2d(*args, **options)
    live = LiveConv2d(*args, **options)
    live.load_state_dict(plain.state_dict())
    return plain, live


def passed(module: nn.Module, maps: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """What a module gives for maps, and all gradients."""
    given = maps.clone().requires_grad_()
    output = module(given)
    output.backward(gradient)
    assert given.grad is not None
    named = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    return {"output": output.detach(), "maps": given.grad, **named}


def test_outputs_and_gradients_are_those_of_conv2d_for_all_shapes() -> None:
    torch.manual_seed(0)
    compared = computed_live = 0
    for height, width, kernel, stride, padding, dilation in itertools.product(
        (1, 2, 3, 4), (1, 2, 5), (1, 2, 3, (3, 1), 7), (1, 2, (2, 1)), (0, 1, 3, (1, 0)), (1, 2)
    ):
        bias = compared % 2 == 0
        plain, live = pair(3, 4, kernel, stride, padding, dilation, bias=bias, dtype=torch.float64)
        maps = torch.randn(2, 3, height, width, dtype=torch.float64)
        try:
            shape = plain(maps).shape
        except RuntimeError:  # the kernel does not fit: nor does it here
            with pytest.raises(RuntimeError):
                live(maps)
            continue
        gradient = torch.randn(shape, dtype=torch.float64)
        expected, found = passed(plain, maps, gradient), passed(live, maps, gradient)
        assert expected.keys() == found.keys() == {"output", "maps", "weight", *(["bias"] if bias else [])}
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, msg=f"{name} of {plain} on {height} x {width}")
        compared += 1
        computed_live += live._taps(maps) is not None
    assert compared > 800
    assert computed_live > 400


@pytest.mark.parametrize(
    ("size", "stride", "products", "of"),
    [
        ((1, 1), 1, 1, 9),  # layer4 of 32 x 32 pixels
        ((2, 2), 2, 4, 9),  # its first convolution
        ((2, 2), 1, 16, 36),  # layer3
        ((4, 4), 2, 25, 36),  # its first convolution, which is left as it is
    ],
)
def test_the_products_that_do_not_meet_padding(size: tuple[int, int], stride: int, products: int, of: int) -> None:
    taps = live_taps(size, (3, 3), (stride, stride), (1, 1), (1, 1))
    inside = functional.conv2d(torch.ones(1, 1, *size), torch.ones(1, 1, 3, 3), stride=stride, padding=1)
    assert len(taps.blocks) == products == int(inside.sum())
    assert taps.outputs[0] * taps.outputs[1] * 9 == of
    assert taps.dead == (size == (1, 1) or (size, stride) == ((2, 2), 2))


def test_groups_other_padding_and_large_maps_are_left_to_conv2d() -> None:
    one, large = torch.zeros(2, 4, 1, 1), torch.zeros(2, 4, 8, 8)
    assert LiveConv2d(4, 4, 3, padding=1)._taps(one) is not None
    assert LiveConv2d(4, 4, 3, padding=1)._taps(large) is None
    assert LiveConv2d(4, 4, 3, padding=1, groups=2)._taps(one) is None
    assert LiveConv2d(4, 4, 3, padding="same")._taps(one) is None
    assert LiveConv2d(4, 4, 3, padding=1, padding_mode="circular")._taps(one) is None


@pytest.mark.parametrize("size", [1, 2])
def test_in_bf16_it_is_as_exact_as_bf16_is(size: int) -> None:
    """Inputs, weights and the output are rounded to 8 bits, each by at most 2**-9 of its size."""
    torch.manual_seed(0)
    live = LiveConv2d(64, 32, 3, padding=1, bias=False)
    maps = torch.randn(16, 64, size, size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = live(maps)
    assert output.dtype == torch.bfloat16
    exact = functional.conv2d(maps.double(), live.weight.detach().double(), padding=1)
    bound = functional.conv2d(maps.double().abs(), live.weight.detach().double().abs(), padding=1) * 3.01 * 2**-9
    assert bool(((output.double() - exact).abs() <= bound).all())


@pytest.mark.parametrize(("name", "options"), [("adamw", {}), ("adam", {}), ("sgd", {"momentum": 0.9})])
def test_dead_taps_decay_like_any_other_weight(name: str, options: dict[str, float]) -> None:
    torch.manual_seed(0)
    plain, live = pair(8, 8, 3, padding=1, dtype=torch.float64)
    live.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = live.weight.detach().clone()
    theirs: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    reference = theirs[name](plain.parameters(), lr=0.01, weight_decay=0.1, **options)
    own = Optimizer(
        list(live.parameters()), name, lr=0.01, weight_decay=0.1, momentum=options.get("momentum", 0), nesterov=False
    )
    for _ in range(3):
        maps = torch.randn(4, 8, 1, 1, dtype=torch.float64)
        for module, optimizer in ((plain, reference), (live, own)):
            optimizer.zero_grad()
            module(maps).square().sum().backward()
        reference.step()
        own.step(torch.amp.GradScaler("cpu", enabled=False))
    torch.testing.assert_close(live.weight, plain.weight)
    assert bool((live.weight[:, :, 0, 0] != before[:, :, 0, 0]).all())


def test_a_whole_resnet_gives_the_same_numbers_under_the_same_names() -> None:
    torch.manual_seed(0)
    plain = Network(build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 10)).double()
    live = copy.deepcopy(plain)
    skip_padding(live.modules())
    used = [module for module in live.modules() if isinstance(module, LiveConv2d)]
    assert len(used) == 20
    assert live.state_dict().keys() == plain.state_dict().keys()
    views, targets = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8)
    for network in (plain, live):
        outputs = network.backbone(views)  # the head runs in float32
        functional.cross_entropy(outputs, targets).backward()  # type: ignore[no-untyped-call]
    compared = 0
    for name, parameter in named_parameters(plain).items():
        if name.startswith("fc."):
            continue
        torch.testing.assert_close(named_parameters(live)[name].grad, parameter.grad, msg=name)
        compared += 1
    assert compared == 60
    keep_padding(live.modules())
    assert not any(isinstance(module, LiveConv2d) for module in live.modules())


def test_a_convolution_of_somebody_elses_class_is_left_alone() -> None:
    class Own(nn.Conv2d):
        pass

    own = Own(3, 3, 3)
    skip_padding([own])
    assert type(own) is Own
