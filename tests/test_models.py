from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from rotbench import models, streams

SEED = 3


@pytest.fixture(scope="module")
def backbone() -> torchvision.models.ResNet:
    """Shared: tests that change it build their own."""
    return models.build_backbone("resnet18", "imagenet", SEED)


def equal_states(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Building


def test_the_backbone_is_torchvisions_own_with_its_own_head(backbone: torchvision.models.ResNet) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.stream(SEED, "backbone"))
        whole = torchvision.models.resnet18()
    expected = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("fc.")}
    assert equal_states(models.backbone_state(backbone), expected)
    assert sum(name.endswith("conv1.weight") or "conv2" in name or "downsample.0" in name for name in expected) == 20


def test_the_backbone_depends_on_the_seed_alone(backbone: torchvision.models.ResNet) -> None:
    torch.rand(1)
    again = models.backbone_state(models.build_backbone("resnet18", "imagenet", SEED))
    assert equal_states(models.backbone_state(backbone), again)
    other = models.backbone_state(models.build_backbone("resnet18", "imagenet", SEED + 1))
    assert not torch.equal(again["conv1.weight"], other["conv1.weight"])


def test_a_head_does_not_change_the_backbone() -> None:
    backbone = models.build_backbone("resnet18", "imagenet", SEED)
    before = models.state_sha256(models.backbone_state(backbone))
    network = models.Network(backbone, nn.Linear(512, 10))
    assert models.state_sha256(models.backbone_state(network.backbone)) == before


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    models.build_backbone("resnet18", "cifar", SEED)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_cifar_stem_keeps_the_resolution(backbone: torchvision.models.ResNet) -> None:
    cifar = models.build_backbone("resnet18", "cifar", SEED)
    images = torch.rand(2, 3, 32, 32)
    for one, side in ((cifar, 4), (backbone, 1)):
        assert models.Network(one, nn.Identity(), "map").eval()(images).shape == (2, 512, side, side)
    assert cifar.conv1.weight.shape == (64, 3, 3, 3)
    assert cifar.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)  # He, fan out
    shared, plain = models.backbone_state(cifar), models.backbone_state(backbone)
    assert all(torch.equal(shared[name], plain[name]) for name in plain if name != "conv1.weight")


def test_only_resnets_of_torchvision_and_known_stems_are_built() -> None:
    for name in ("resnet19", "vgg11", "quantized_resnet18", "fcn_resnet50"):
        with pytest.raises(ValueError, match=f'"{name}" is no ResNet of torchvision; there are .*resnet18'):
            models.build_backbone(name, "imagenet", 0)
    with pytest.raises(ValueError, match="there is no stem"):
        models.build_backbone("resnet18", "tiny", 0)


def test_features_is_what_layer4_gives(backbone: torchvision.models.ResNet) -> None:
    assert models.features(backbone) == 512
    assert models.features(models.build_backbone("resnet50", "imagenet", 0)) == 2048


# The network


def test_the_network_computes_what_torchvision_computes() -> None:
    whole = torchvision.models.resnet18(num_classes=7).eval()
    network = models.Network(models.build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 7)).eval()
    state = whole.state_dict()
    models.load_backbone(network.backbone, {name: state[name] for name in state if not name.startswith("fc.")})
    network.head.load_state_dict(whole.fc.state_dict())
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(network(images), whole(images))


def test_a_head_on_the_map_is_fed_the_map() -> None:
    backbone = models.build_backbone("resnet18", "cifar", 0).eval()
    images = torch.rand(2, 3, 32, 32)
    maps = models.Network(backbone, nn.Identity(), "map")(images)
    pooled = models.Network(backbone, nn.Identity(), "pooled")(images)
    assert maps.shape == (2, 512, 4, 4)
    torch.testing.assert_close(pooled, maps.mean(dim=(2, 3)))


class Recorder(nn.Module):
    def forward(self, fed: Tensor) -> Tensor:
        self.fed = fed.dtype
        self.product = (fed @ fed.T).dtype
        return fed


def test_the_head_runs_in_float32_under_autocast() -> None:
    head = Recorder()
    network = models.Network(models.build_backbone("resnet18", "imagenet", 0), head).eval()
    convolved = []
    network.backbone.layer4.register_forward_hook(lambda module, inputs, output: convolved.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(torch.rand(2, 3, 32, 32))
    assert convolved == [torch.bfloat16]
    assert (head.fed, head.product, outputs.dtype) == (torch.float32,) * 3


# Names


def test_every_parameter_has_its_stage_and_kind() -> None:
    head = nn.Sequential(nn.Linear(512, 8), nn.BatchNorm1d(8), nn.PReLU(), nn.Linear(8, 4))
    network = models.Network(models.build_backbone("resnet18", "imagenet", 0), head)
    parameters = models.parameters_of(network)
    assert [one.name for one in parameters] == list(models.named_parameters(network))
    assert len(parameters) == len(list(network.parameters()))
    found = {one.name: (one.stage, one.kind) for one in parameters}
    expected = {
        "conv1.weight": ("stem", "conv"),
        "bn1.bias": ("stem", "batchnorm"),
        "layer1.0.conv2.weight": ("layer1", "conv"),
        "layer2.0.downsample.0.weight": ("layer2", "conv"),
        "layer3.0.downsample.1.weight": ("layer3", "batchnorm"),
        "layer4.1.bn2.weight": ("layer4", "batchnorm"),
        "fc.0.weight": ("fc", "linear"),
        "fc.1.weight": ("fc", "batchnorm"),
        "fc.2.weight": ("fc", "other"),
        "fc.3.bias": ("fc", "linear"),
    }
    assert {name: found[name] for name in expected} == expected
    assert {"module." in name or "backbone." in name for name in found} == {False}
    linear = models.Network(network.backbone, nn.Linear(512, 4))
    assert [one.name for one in models.parameters_of(linear)][-2:] == ["fc.weight", "fc.bias"]


def test_a_parameter_of_no_stage_is_an_error() -> None:
    assert models.stage_of("bn1.running_mean") == "stem"
    with pytest.raises(ValueError, match=r'"head\.weight" belongs to no stage'):
        models.stage_of("head.weight")


# Freezing


def test_frozen_batchnorm_keeps_its_statistics_in_eval_and_moves_them_in_train() -> None:
    modes_seen = 0
    for mode, moved in (("eval", False), ("train", True)):
        network = models.Network(models.build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 4)).eval()
        frozen = [one.name for one in models.parameters_of(network) if one.stage not in ("layer4", "fc")]
        models.freeze_batchnorm(network, frozen, mode)
        before = models.backbone_state(network.backbone)
        network(torch.rand(4, 3, 32, 32))
        after = models.backbone_state(network.backbone)
        buffers = [name for name in before if "running" in name or "tracked" in name]
        assert len(buffers) == 60
        for name in buffers:
            expected = moved or models.stage_of(name) == "layer4"
            assert torch.equal(before[name], after[name]) is not expected, (mode, name)
        modes_seen += 1
    assert modes_seen == 2


def test_unfreezing_puts_batchnorm_back_into_training() -> None:
    network = models.Network(models.build_backbone("resnet18", "imagenet", 0), nn.BatchNorm1d(512))
    everything = list(models.named_parameters(network))
    models.freeze_batchnorm(network, everything, "eval")
    assert not any(module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert not network.head.training
    models.freeze_batchnorm(network, [], "eval")
    assert all(module.training for module in network.modules())
    with pytest.raises(ValueError, match="eval, train or calibrated"):
        models.freeze_batchnorm(network, [], "frozen")


def test_calibrated_statistics_are_those_of_all_images() -> None:
    torch.manual_seed(0)
    network = models.Network(models.build_backbone("resnet18", "imagenet", 0), nn.Linear(512, 4)).eval()
    frozen = [one.name for one in models.parameters_of(network) if one.stage in ("stem", "layer1")]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.rand(7, 3, 32, 32)
    models.calibrate_batchnorm(network, frozen, iter([images[:4], images[4:]]))

    after = network.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    buffers = {name for name in after if name.startswith(("backbone.bn1", "backbone.layer1")) and "run" in name}
    assert {name for name in changed if "tracked" not in name} == buffers
    assert all(name.startswith(("backbone.bn1", "backbone.layer1")) for name in changed)
    assert len(buffers) == 2 * 5
    assert not network.training

    # The first module sees what no other has normalised: its statistics need no network to be told.
    maps = network.backbone.conv1(images).detach().double()
    mean = maps.mean((0, 2, 3))
    variance = (4 * maps[:4].var((0, 2, 3)) + 3 * maps[4:].var((0, 2, 3))) / 7
    torch.testing.assert_close(after["backbone.bn1.running_mean"].double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after["backbone.bn1.running_var"].double(), variance, rtol=1e-5, atol=1e-6)
    # Deeper ones are torch's own cumulative average, which weighs batches of one size alike.
    models.calibrate_batchnorm(network, frozen, iter([images[:3], images[3:6]]))
    reference = models.build_backbone("resnet18", "imagenet", 0)
    torch.optim.swa_utils.update_bn([images[:3], images[3:6]], reference)
    for name in ("layer1.1.bn2.running_mean", "layer1.1.bn2.running_var"):
        torch.testing.assert_close(network.state_dict()[f"backbone.{name}"], reference.state_dict()[name])
    models.freeze_batchnorm(network, frozen, "calibrated")
    assert not network.backbone.bn1.training
    assert network.backbone.layer2[0].bn1.training


# States


def test_a_state_is_a_contiguous_copy() -> None:
    backbone = models.build_backbone("resnet18", "imagenet", 0).to(memory_format=torch.channels_last)
    assert not backbone.conv1.weight.is_contiguous()
    state = models.backbone_state(backbone)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())
    assert not any(name.startswith("fc.") for name in state)
    assert state["bn1.num_batches_tracked"].dtype == torch.int64
    kept = state["conv1.weight"].clone()
    with torch.no_grad():
        backbone.conv1.weight.zero_()
    assert torch.equal(state["conv1.weight"], kept)


def test_the_hash_of_a_state_is_about_values_not_memory() -> None:
    backbone = models.build_backbone("resnet18", "imagenet", 0)
    plain = models.state_sha256(backbone.state_dict())
    assert plain == models.state_sha256(dict(reversed(backbone.state_dict().items())))
    backbone.to(memory_format=torch.channels_last)
    assert plain == models.state_sha256(backbone.state_dict())


def test_the_hash_of_a_state_changes_with_anything_in_it() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.tensor(7)}
    flipped = torch.zeros(2, 3)
    flipped.view(torch.int32)[1, 2] ^= 1
    others = [
        {**state, "a": flipped},
        {**state, "a": -torch.zeros(2, 3)},
        {**state, "a": torch.zeros(3, 2)},
        {**state, "a": torch.zeros(2, 3, dtype=torch.int32)},
        {**state, "b": torch.tensor([7])},
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"]},
    ]
    assert len({models.state_sha256(one) for one in [state, *others]}) == 1 + len(others)


def test_loading_copies_everything_and_back(backbone: torchvision.models.ResNet) -> None:
    other = models.build_backbone("resnet18", "imagenet", SEED + 1)
    state = models.backbone_state(backbone)
    models.load_backbone(other, state)
    assert models.state_sha256(models.backbone_state(other)) == models.state_sha256(state)


def test_loading_what_does_not_fit_names_it_and_changes_nothing(backbone: torchvision.models.ResNet) -> None:
    fitting = models.backbone_state(backbone)
    wrong = {**fitting, "layer9.weight": torch.zeros(1), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    del wrong["bn1.bias"]
    other = models.build_backbone("resnet18", "imagenet", SEED + 1)
    before = models.state_sha256(models.backbone_state(other))
    with pytest.raises(ValueError, match="do not fit") as caught:
        models.load_backbone(other, wrong)
    for part in (
        "1 missing: bn1.bias",
        "1 unexpected: layer9.weight",
        "1 of another shape: conv1.weight (64, 3, 3, 3) for (64, 3, 7, 7)",
    ):
        assert part in str(caught.value)
    assert models.state_sha256(models.backbone_state(other)) == before
    with pytest.raises(ValueError, match=r"120 missing: conv1\.weight, .*, \.\.$"):
        models.load_backbone(other, {})
