from __future__ import annotations

import urllib.error
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from rotbench.errors import EnvironmentLacking
from rotbench.hookspecs import InitContext
from rotbench.models import backbone_state, build_backbone, state_sha256


@pytest.fixture(scope="module")
def plugin(shipped_classes: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return shipped_classes("checkpoint_init", "imagenet_init")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A backbone unlike that of seed 0, buffers included."""
    state = backbone_state(build_backbone("resnet18", "imagenet", 1))
    state["bn1.running_mean"] += 0.5
    state["bn1.num_batches_tracked"] += 9
    return state


@pytest.fixture
def model() -> torchvision.models.ResNet:
    return build_backbone("resnet18", "imagenet", 0)


def context(folder: Path, stem: str = "imagenet") -> InitContext:
    return InitContext(
        pretext=None,
        images=torch.zeros(2, 3, 32, 32),
        generator=torch.Generator(),
        folder=folder,
        model_name="resnet18",
        stem=stem,
    )


def sha(model: torchvision.models.ResNet) -> str:
    return state_sha256(backbone_state(model))


def with_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**weights, "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def test_a_checkpoint_is_read_in_all_its_common_shapes(
    plugin: SimpleNamespace, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    full = with_head(weights)
    cases: list[tuple[str, Any, set[str]]] = [
        ("plain.pt", weights, set()),
        ("head.pth", full, {"fc.weight", "fc.bias"}),
        ("nested.pt", {"epoch": 3, "state_dict": full}, {"fc.weight", "fc.bias"}),
        ("model.pt", {"model": prefixed("module.", full), "optimizer": {}}, {"fc.weight", "fc.bias"}),
        ("both.pt", {"state_dict": {"model": prefixed("module.backbone.", weights)}}, set()),
    ]
    for name, content, _ in cases:
        torch.save(content, tmp_path / name)
    save_file(full, tmp_path / "full.safetensors")
    cases.append(("full.safetensors", None, {"fc.weight", "fc.bias"}))
    for name, _, unexpected in cases:
        model, given = build_backbone("resnet18", "imagenet", 0), context(tmp_path)
        claimed = plugin.Checkpoint(name).apply(model, given)
        assert sha(model) == state_sha256(weights), name
        assert set(claimed) == set(weights), name
        assert given.unexpected == unexpected, name
    assert len(cases) == 6


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(
    plugin: SimpleNamespace, model: torchvision.models.ResNet, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    without = {name: tensor for name, tensor in weights.items() if name != "layer2.0.conv1.weight"}
    cases: list[tuple[Any, str]] = [
        (without, r"1 missing: layer2\.0\.conv1\.weight"),
        ({**weights, "projector.weight": torch.zeros(2)}, r"1 unexpected: projector\.weight"),
        ({**weights, "conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1\.weight \(64, 3, 3, 3\) for \(64, 3, 7, 7\)"),
        (prefixed("encoder.", weights), "120 unexpected|122 unexpected"),
        ({**weights, "module.bn1.bias": torch.zeros(64)}, r"two tensors for bn1\.bias"),
        ({"state_dict": {"epoch": 3}}, "contains no state dict"),
        ([1, 2], "contains no state dict"),
    ]
    before = sha(model)
    for content, message in cases:
        torch.save(content, tmp_path / "wrong.pt")
        with pytest.raises(ValueError, match=message):
            plugin.Checkpoint("wrong.pt").apply(model, context(tmp_path))
        assert sha(model) == before
    assert len(cases) == 7


def test_a_checkpoint_of_before_the_batch_counter_fits(
    plugin: SimpleNamespace, model: torchvision.models.ResNet, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    old = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pt")
    claimed = plugin.Checkpoint("old.pt").apply(model, context(tmp_path))
    assert set(claimed) == set(old)
    assert torch.equal(model.bn1.running_mean, weights["bn1.running_mean"])
    assert int(model.bn1.num_batches_tracked) == 0


class Payload:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("executed").touch, ())


def test_a_checkpoint_runs_no_code(
    plugin: SimpleNamespace, model: torchvision.models.ResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, "evil.pt")
    Path("text.pt").write_text("no weights")
    Path("text.safetensors").write_text("no weights")
    for name in ("evil.pt", "text.pt", "text.safetensors"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as weights"):
            plugin.Checkpoint(name).apply(model, context(tmp_path))
    assert not Path("executed").exists()


def test_a_missing_checkpoint_is_told_before_anything_runs(plugin: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacking, match=r"the weights here\.pt are missing") as caught:
        plugin.Checkpoint("here.pt").prepare(tmp_path)
    assert str(tmp_path) in caught.value.todo
    (tmp_path / "here.pt").touch()
    plugin.Checkpoint("here.pt").prepare(tmp_path)


# Weights of torchvision: its list is bent to a small file of the test


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of torch, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_imagenet_loads_the_file_of_torchs_cache(
    plugin: SimpleNamespace,
    model: torchvision.models.ResNet,
    weights: dict[str, Tensor],
    hub: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        plugin.ImageNet.apply.__globals__, "_check_sha256", lambda file, digits: checked.append((file.name, digits))
    )
    checked: list[tuple[str, str]] = []
    hub.mkdir(parents=True)
    torch.save(with_head(weights), hub / "resnet18-f37072fd.pth")
    given = context(hub)
    claimed = plugin.ImageNet().apply(model, given)
    assert sha(model) == state_sha256(weights)
    assert set(claimed) == set(weights)
    assert given.unexpected == {"fc.weight", "fc.bias"}
    assert checked == [("resnet18-f37072fd.pth", "f37072fd")]


def test_imagenet_without_network_says_what_to_download(plugin: SimpleNamespace, hub: Path) -> None:
    with pytest.raises(EnvironmentLacking, match=r"could not be downloaded \(no network in tests\)") as caught:
        plugin.ImageNet().prepare(hub, model_name="resnet18", stem="imagenet")
    assert torchvision.models.ResNet18_Weights.DEFAULT.url in caught.value.todo
    assert not list(hub.glob("*"))


def test_imagenet_refuses_a_damaged_file(plugin: SimpleNamespace, hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "resnet18-f37072fd.pth").write_bytes(b"half a download")
    with pytest.raises(EnvironmentLacking, match="is damaged: its sha256 should begin with f37072fd"):
        plugin.ImageNet().prepare(hub, model_name="resnet18", stem="imagenet")


def test_imagenet_refuses_another_stem_and_unknown_weights(
    plugin: SimpleNamespace, model: torchvision.models.ResNet, hub: Path
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: plugin.ImageNet().prepare(hub, model_name="resnet18", stem="cifar"),
        lambda: plugin.ImageNet().apply(model, context(hub, stem="cifar")),
    ]
    for call in calls:
        with pytest.raises(ValueError, match='do not fit the stem "cifar"'):
            call()
    with pytest.raises(ValueError, match=r'no weights "V9" for resnet18; it has .*IMAGENET1K_V1'):
        plugin.ImageNet("V9").prepare(hub, model_name="resnet18", stem="imagenet")


def test_they_register_themselves(plugin: SimpleNamespace) -> None:
    assert [one.name for one in vars(plugin).values()] == ["checkpoint", "imagenet"]
