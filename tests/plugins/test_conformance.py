"""The conformance kit held against every plugin that ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rotbench.models import backbone_state, build_backbone
from rotbench.registry import Plugin, load_registry
from rotbench.testing import run_checks

SHIPPED = {(plugin.kind, plugin.name): plugin for plugin in load_registry(shipped_only=True).plugins}

#: How many checks each plugin is held to.
CHECKS = {
    ("pretext task", "colourisation"): 24,
    ("pretext task", "jigsaw"): 24,
    ("pretext task", "reconstruction"): 24,
    ("pretext task", "relative-patch"): 24,
    ("pretext task", "rotation"): 24,
    ("pretext task", "shuffled-labels"): 25,
    ("pretext task", "simclr"): 25,
    ("pretext task", "supervised"): 24,
    ("init", "checkpoint"): 18,
    ("init", "data-dependent"): 17,
    ("init", "imagenet"): 17,
    ("init", "kaiming"): 17,
    ("init", "lsuv"): 17,
    ("init", "orthogonal"): 17,
    ("init", "partial"): 17,
    ("init", "permuted"): 17,
    ("init", "pretext"): 17,
    ("init", "random"): 17,
    ("init", "xavier"): 17,
    ("init", "zero-init-residual"): 17,
    ("freeze policy", "batchnorm-only"): 11,
    ("freeze policy", "below"): 11,
    ("freeze policy", "gradual"): 11,
    ("freeze policy", "head-only"): 11,
    ("freeze policy", "none"): 11,
    ("freeze policy", "only"): 11,
    ("freeze policy", "probe-then-tune"): 11,
    ("dataset", "cifar10"): 10,
    ("dataset", "cifar100"): 10,
    ("dataset", "digits"): 10,
    ("dataset", "fashion-mnist"): 10,
    ("dataset", "image-folder"): 10,
}

#: Options that have no default.
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("init", "pretext"): {"pretext": "any"},
    ("init", "permuted"): {"pretext": "any"},
    ("init", "partial"): {"pretext": "any"},
    ("init", "checkpoint"): {"path": "weights.pt"},
    ("freeze policy", "only"): {"stage": "layer4"},
}

LOADED = ("splits", "load-repeats", "classes-agree", "attributes-hold")
APPLIED = (
    *("claims", "claimed-are-set", "others-are-kept", "tensors-kept", "modes-kept", "no-hooks-left"),
    *("context-unchanged", "seeded", "forward-finite", "few-images", "state-round-trips"),
)

#: What is skipped, with words of the reason: no data set but the digits is in an empty folder.
SKIPPED: dict[tuple[str, str], dict[str, str]] = {
    ("dataset", "cifar10"): dict.fromkeys(LOADED, "cifar10 is not in"),
    ("dataset", "cifar100"): dict.fromkeys(LOADED, "cifar100 is not in"),
    ("dataset", "fashion-mnist"): dict.fromkeys(LOADED, "fashion-mnist is not in"),
    ("dataset", "image-folder"): dict.fromkeys(("fingerprint", *LOADED), "there is no folder"),
    ("init", "imagenet"): {
        **dict.fromkeys(APPLIED, "could not be downloaded"),
        "other-stem": 'ImageNet weights need the stem "imagenet"',
    },
    ("init", "checkpoint"): {"other-stem": "the weights of the file are for another stem"},
    ("pretext task", "simclr"): {"loss-is-a-mean": "compared with each other within a batch"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights unlike those of any seed that the kit uses, buffers included."""
    made = tmp_path_factory.mktemp("conformance")
    state = backbone_state(build_backbone("resnet18", "imagenet", 9))
    source = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        state[name] = tensor + torch.rand(tensor.shape, generator=source) / 50 if tensor.ndim else tensor + 3
    torch.save(state, made / "weights.pt")
    return made


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)


def test_every_plugin_that_ships_is_named_here() -> None:
    assert set(SHIPPED) == set(CHECKS)
    kinds = [kind for kind, _ in CHECKS]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "pretext task": 8, "init": 12, "freeze policy": 7, "dataset": 5,
    }  # fmt: skip
    required = {
        key: {name for name, default in plugin.options.items() if default == "required"}
        for key, plugin in SHIPPED.items()
    }
    assert {key: names for key, names in required.items() if names} == {key: set(OPTIONS[key]) for key in OPTIONS}


@pytest.mark.parametrize("key", CHECKS, ids=[f"{kind}-{name}".replace(" ", "-") for kind, name in CHECKS])
def test_it_does_what_the_contract_asks(key: tuple[str, str], folder: Path) -> None:
    plugin: Plugin = SHIPPED[key]  # type: ignore[index]
    make: Callable[..., Any] = plugin.cls
    outcomes = run_checks(make(**OPTIONS.get(key, {})), plugin.kind, folder=folder, data_dir=folder)
    assert [(o.check, o.message) for o in outcomes if o.status == "failed"] == []
    skipped = {outcome.check: outcome.message for outcome in outcomes if outcome.status == "skipped"}
    assert set(skipped) == set(SKIPPED.get(key, {}))
    assert all(words in skipped[check] for check, words in SKIPPED.get(key, {}).items())
    assert len(outcomes) == CHECKS[key]
