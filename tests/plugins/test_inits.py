from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from rotbench.hookspecs import STAGES, InitContext
from rotbench.models import backbone_state, build_backbone, state_sha256
from tests.few_images import DATASET, write_images
from tests.program import command

pytestmark = pytest.mark.usefixtures("none_drawn")


@pytest.fixture(scope="module")
def inits(shipped_classes: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return shipped_classes("random_init", "pretext_init", "permuted_init", "partial_init")


def unlike(stem: str) -> dict[str, Tensor]:
    """A backbone every tensor of which differs from that of seed 0, and all of whose values but few are distinct."""
    state = backbone_state(build_backbone("resnet18", stem, 1))
    source = torch.Generator().manual_seed(2)
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.add_(9)
        elif tensor.ndim == 1:
            tensor.add_(0.1 + torch.rand(tensor.shape, generator=source))
    return state


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return unlike("imagenet")


@pytest.fixture
def model() -> torchvision.models.ResNet:
    return build_backbone("resnet18", "imagenet", 0)


def context(pretext: dict[str, Tensor] | None = None, stem: str = "imagenet", seed: int = 0) -> InitContext:
    return InitContext(
        pretext=pretext,
        images=torch.zeros(2, 3, 32, 32),
        generator=torch.Generator().manual_seed(seed),
        folder=Path(),
        model_name="resnet18",
        stem=stem,
    )


def sha(model: torchvision.models.ResNet) -> str:
    return state_sha256(backbone_state(model))


def test_random_leaves_the_model(inits: SimpleNamespace, model: torchvision.models.ResNet) -> None:
    before = sha(model)
    assert inits.Random().apply(model, context()) is None
    assert sha(model) == before


def test_pretext_sets_and_claims_every_tensor(
    inits: SimpleNamespace, model: torchvision.models.ResNet, weights: dict[str, Tensor]
) -> None:
    claimed = inits.Pretext("rotation").apply(model, context(weights))
    assert set(claimed) == set(model.state_dict())
    assert sha(model) == state_sha256(weights)


def test_without_its_pretext_weights_an_init_is_an_error_and_leaves_the_model(
    inits: SimpleNamespace, model: torchvision.models.ResNet, weights: dict[str, Tensor]
) -> None:
    lacking = {name: tensor for name, tensor in weights.items() if name != "bn1.bias"}
    other = {**weights, "conv1.weight": torch.zeros(64, 3, 3, 3)}
    before, checked = sha(model), 0
    for init in (inits.Pretext("rotation"), inits.Permuted("rotation"), inits.Partial("rotation")):
        with pytest.raises(ValueError, match='weights of the pretext run "rotation" are missing'):
            init.apply(model, context())
        with pytest.raises(ValueError, match=r"1 missing: bn1\.bias"):
            init.apply(model, context(lacking))
        with pytest.raises(ValueError, match=r"conv1\.weight \(64, 3, 3, 3\) for \(64, 3, 7, 7\)"):
            init.apply(model, context(other))
        assert sha(model) == before
        checked += 1
    assert checked == 3


# Permuted


def test_permuted_keeps_the_values_of_each_tensor_and_claims_all(inits: SimpleNamespace) -> None:
    for stem in ("imagenet", "cifar"):
        model, given = build_backbone("resnet18", stem, 0), unlike(stem)
        before = {name: tensor.clone() for name, tensor in given.items()}
        claimed = inits.Permuted("rotation").apply(model, context(given, stem))
        after = backbone_state(model)
        assert set(claimed) == set(given) == set(after)
        assert len(after) == 120
        assert state_sha256(given) == state_sha256(before)
        for name, tensor in before.items():
            assert np.array_equal(np.sort(after[name].numpy(), axis=None), np.sort(tensor.numpy(), axis=None)), name
            assert after[name].dtype == tensor.dtype
            assert tensor.numel() == 1 or not torch.equal(after[name], tensor), name


def destinations(before: Tensor, after: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct value stood and where it stands, in flat positions."""
    old, new = (tensor.numpy().ravel() for tensor in (before, after))
    values, counts = np.unique(old, return_counts=True)
    distinct = values[counts == 1]
    by_old, by_new = np.argsort(old), np.argsort(new)
    return by_old[np.searchsorted(old[by_old], distinct)], by_new[np.searchsorted(new[by_new], distinct)]


@pytest.mark.thorough
def test_permuted_takes_all_orders_alike(
    inits: SimpleNamespace, model: torchvision.models.ResNet, weights: dict[str, Tensor]
) -> None:
    inits.Permuted("rotation").apply(model, context(weights))
    after = backbone_state(model)
    checked = fixed = 0
    for name, tensor in weights.items():
        if tensor.ndim == 4:
            stood, stands = destinations(tensor, after[name])
            # Under random order a correlation over n places has mean 0 and standard deviation 1 / sqrt(n - 1).
            bound = 5 / np.sqrt(len(stood) - 1)
            assert abs(np.corrcoef(stood, stands)[0, 1]) < bound, name
            assert abs(np.corrcoef(tensor.numpy().ravel(), after[name].numpy().ravel())[0, 1]) < bound, name
            # Places within a kernel are mixed as well: 49 of the first convolution, 9 or 1 of the others.
            places = tensor[0, 0].numel()
            if places > 1:
                assert abs(np.corrcoef(stood % places, stands % places)[0, 1]) < bound, name
            fixed += int((stood == stands).sum())
            checked += 1
    assert checked == 20
    # Each permutation has a Poisson number of fixed points with mean 1.
    assert fixed < 20 + 5 * np.sqrt(20)


def test_permuted_gives_tensors_of_one_shape_orders_of_their_own(
    inits: SimpleNamespace, model: torchvision.models.ResNet, weights: dict[str, Tensor]
) -> None:
    one, other = "layer1.0.conv1.weight", "layer1.0.conv2.weight"
    inits.Permuted("rotation").apply(model, context({**weights, other: weights[one]}))
    after = backbone_state(model)
    stood, stands = destinations(after[one], after[other])
    assert abs(np.corrcoef(stood, stands)[0, 1]) < 5 / np.sqrt(len(stood) - 1)


@pytest.mark.thorough
def test_permuted_orders_come_from_the_generator_of_the_context(
    inits: SimpleNamespace, weights: dict[str, Tensor]
) -> None:
    made = {}
    for case, (seed, elsewhere) in {"first": (0, 5), "again": (0, 6), "other": (1, 5)}.items():
        model = build_backbone("resnet18", "imagenet", 0)
        torch.manual_seed(elsewhere)
        # A dict's order is not part of what the weights are.
        given = weights if case == "first" else dict(reversed(weights.items()))
        inits.Permuted("rotation").apply(model, context(given, seed=seed))
        made[case] = sha(model)
    assert made["first"] == made["again"] != made["other"]


# Partial


def test_partial_sets_and_claims_the_stages_up_to_its_own(inits: SimpleNamespace) -> None:
    prefixes = {"stem": ("conv1.", "bn1."), **{stage: (f"{stage}.",) for stage in STAGES[1:5]}}
    checked = []
    for stem in ("imagenet", "cifar"):
        given = unlike(stem)
        for count, stage in enumerate(prefixes, 1):
            model = build_backbone("resnet18", stem, 0)
            before = backbone_state(model)
            claimed = inits.Partial("rotation", stage=stage).apply(model, context(given, stem))
            lower = tuple(prefix for one in list(prefixes)[:count] for prefix in prefixes[one])
            after = backbone_state(model)
            assert set(claimed) == {name for name in before if name.startswith(lower)}
            for name, tensor in after.items():
                source, other = (given, before) if name.startswith(lower) else (before, given)
                assert torch.equal(tensor, source[name]), (stage, name)
                assert not torch.equal(tensor, other[name]), (stage, name)
            checked.append(len(claimed))
    assert checked == 2 * [6, 30, 60, 90, 120]


def test_partial_knows_no_head(inits: SimpleNamespace) -> None:
    assert get_args(get_type_hints(inits.Partial)["stage"]) == STAGES[:-1]


def test_they_register_themselves(inits: SimpleNamespace) -> None:
    assert [one.name for one in vars(inits).values()] == ["random", "pretext", "permuted", "partial"]


# Every init that needs no file, through the command line

STUDY = """
title = "All inits"
seeds = [0]
[train]
epochs = 1
batch_size = 64
[pretext.rotation]
task = "rotation"
[[matrix]]
init = [
  "random",
  "rotation",
  { name = "permuted", pretext = "rotation" },
  { name = "partial", pretext = "rotation", stage = "layer2" },
  { name = "kaiming", mode = "fan_out", distribution = "uniform" },
  "xavier",
  { name = "orthogonal", gain = 1.4 },
  "zero-init-residual",
  "lsuv",
  "data-dependent",
  { name = "data-dependent", pretext = "rotation" },
]
labels_per_class = 2
updates = "epochs"
"""

#: Of each variant: tensors that are claimed, and whether it starts from the pretext run.
CLAIMS = [
    ("random", 0, False),
    ("pretext", 120, True),
    ("permuted", 120, True),
    ("partial", 60, True),
    ("kaiming", 20, False),
    ("xavier", 20, False),
    ("orthogonal", 20, False),
    ("zero-init-residual", 8, False),
    ("lsuv", 20, False),
    ("data-dependent", 60, False),
    ("data-dependent", 120, True),
]


@pytest.mark.thorough
def test_a_study_of_all_inits_is_trained_and_proven(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY + DATASET)
    write_images(tmp_path)
    done = command(tmp_path, "run", "study.toml")
    assert done.returncode == 0, done.stderr
    pretext, *runs = json.loads((tmp_path / "results" / "results.json").read_text())["runs"]
    starts = [run["provenance"]["start"] for run in runs]
    assert [(start["init"], start["claimed"], start["parent"] == pretext["id"]) for start in starts] == CLAIMS
    assert len({start["backbone_sha256"] for start in starts}) == len(CLAIMS)
    assert all(0 <= run["final"]["test_accuracy"] <= 1 for run in runs)
    assert starts[3]["tensors_of_parent"] >= 60
    assert (tmp_path / "results" / "report.html").exists()
