"""Convolutions that leave out padding are torch's own: outputs, gradients, decay, names."""

from __future__ import annotations

import copy
import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rotbench.driver import surroundings
from rotbench.models import Network, build_backbone, named_parameters
from rotbench.optimizer import Optimizer
from rotbench.plan import make_plan
from rotbench.registry import load_registry
from rotbench.setup import set_up
from rotbench.store import run_record
from rotbench.study import read_study
from rotbench.taps import LiveConv2d, keep_padding, live_taps, skip_padding, trained_by_tap


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
    assert computed_live > 150


@pytest.mark.parametrize(
    ("size", "stride", "products", "of"),
    [
        ((1, 1), 1, 1, 9),  # layer4 of 32 x 32 pixels
        ((2, 2), 2, 4, 9),  # its first convolution
        ((2, 2), 1, 16, 36),  # layer3
        ((4, 4), 2, 25, 36),  # its first convolution
    ],
)
def test_the_products_that_do_not_meet_padding(size: tuple[int, int], stride: int, products: int, of: int) -> None:
    taps = live_taps(size, (3, 3), (stride, stride), (1, 1), (1, 1))
    inside = functional.conv2d(torch.ones(1, 1, *size), torch.ones(1, 1, 3, 3), stride=stride, padding=1)
    assert [window.products for window in taps.windows] == inside.flatten().tolist()
    assert int(inside.sum()) == products
    assert len(taps.windows) * 9 == of


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
    live.to(memory_format=torch.channels_last)
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


def small(size: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A convolution that meets a single tap when ``size`` is 1, with a head; 16 maps with targets."""
    torch.manual_seed(0)
    module = nn.Sequential(LiveConv2d(8, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    module.to(memory_format=torch.channels_last)
    return module, torch.randn(16, 8, size, size), torch.arange(16) % 3


def convolution(module: nn.Sequential) -> LiveConv2d:
    first = module[0]
    assert isinstance(first, LiveConv2d)
    return first


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_trained_tap_by_tap_a_kernel_moves_as_torchs_own_does(name: str) -> None:
    module, maps, targets = small(1)
    reference = copy.deepcopy(module)
    keep_padding(reference.modules())
    theirs: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    options: dict[str, float] = {"momentum": 0.9} if name == "sgd" else {}
    plain = theirs[name](reference.parameters(), lr=0.01, weight_decay=0, **options)
    module(maps)
    with trained_by_tap(module.modules()) as taps:
        (kernel,) = taps
        assert kernel is convolution(module).weight
        parts = [part for parameter in module.parameters() for part in taps.get(parameter, (parameter,))]
        own = Optimizer(parts, name, lr=0.01, weight_decay=0, momentum=0.9, nesterov=False)
        for _ in range(5):
            for network, optimizer in ((reference, plain), (module, own)):
                optimizer.zero_grad()
                functional.cross_entropy(network(maps), targets).backward()  # type: ignore[no-untyped-call]
            plain.step()
            own.step(torch.amp.GradScaler("cpu", enabled=False))
        assert [part.grad is not None for part in taps[kernel]] == [number == 4 for number in range(9)]
    assert convolution(module).leaves is None
    for (label, found), expected in zip(module.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected, msg=label)
    assert not torch.equal(
        convolution(module).weight[:, :, 1, 1], convolution(small(1)[0]).weight[:, :, 1, 1]
    )  # it was trained


def test_trained_tap_by_tap_larger_maps_give_all_taps_their_gradients() -> None:
    module, maps, targets = small(1)
    module(maps)
    compared = 0
    for size in (1, 2, 3, 6):
        _, maps, targets = small(size)
        module.zero_grad()
        functional.cross_entropy(module(maps), targets).backward()  # type: ignore[no-untyped-call]
        expected = convolution(module).weight.grad
        assert expected is not None
        module(small(1)[1])
        with trained_by_tap(module.modules()) as taps:
            functional.cross_entropy(module(maps), targets).backward()  # type: ignore[no-untyped-call]
            for number, part in enumerate(taps[convolution(module).weight]):
                tap = expected[:, :, number // 3, number % 3]
                torch.testing.assert_close(part.grad if part.grad is not None else torch.zeros_like(tap), tap)
                compared += 1
    assert compared == 4 * 9


def test_kernels_that_meet_more_than_one_tap_stay_whole() -> None:
    module, maps, _ = small(2)
    module(maps)
    with trained_by_tap(module.modules()) as taps:
        assert taps == {}


def test_the_optimiser_steps_a_tensor_with_gaps_in_memory_and_nothing_in_them() -> None:
    memory = torch.ones(4, 4)
    parameter = nn.Parameter(memory[:, :2])
    optimizer = Optimizer([parameter], "sgd", lr=1.0, weight_decay=0, momentum=0, nesterov=False)
    parameter.grad = torch.full((4, 2), 0.5)
    optimizer.step(torch.amp.GradScaler("cpu", enabled=False))
    assert torch.equal(memory, torch.tensor([[0.5, 0.5, 1.0, 1.0]] * 4))


@pytest.mark.parametrize("skip", [True, False])
def test_the_setting_switches_it_off(tmp_path: Path, skip: bool) -> None:
    (tmp_path / "study.toml").write_text(
        'title = "Padding"\nseeds = 1\n[dataset]\nname = "digits"\n[train]\nepochs = 1\n'
        f'skip_padding = {str(skip).lower()}\n[[matrix]]\ninit = ["random"]\nfreeze = ["none"]\n'
    )
    study, faults = read_study(tmp_path / "study.toml")
    plan = make_plan(study, faults, load_registry(shipped_only=True), tmp_path)
    (run,) = plan.runs
    request = {"run": run_record(run), "plugins": [asdict(one) for one in run.plugins], **surroundings(plan, "cpu")}
    ready = set_up(request, None)
    assert {type(one) for one in ready.network.modules() if isinstance(one, nn.Conv2d)} == {
        LiveConv2d if skip else nn.Conv2d
    }
