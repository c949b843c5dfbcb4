"""Probes of real backbones: what is read off them, and that asking for them changes no training."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models.feature_extraction import create_feature_extractor

from rotbench.models import build_backbone, load_backbone
from rotbench.probe import pooled_features
from rotbench.store import Store
from rotbench.taps import skip_padding
from tests.few_images import DATASET, TEST_LABELS, TRAINING_LABELS, few_digits, write_images
from tests.program import command, thorough, wait_for
from tests.shared_studies import made_once
from tests.test_resume import begin, epochs_of

pytestmark = pytest.mark.usefixtures("none_drawn")

TRAINING = (
    """
title = "Probed"
seeds = 1
[train]
epochs = 1
lr = 0.001
schedule = "constant"
[pretext.rotation]
task = "rotation"
epochs = 3
[[matrix]]
init = ["rotation"]
labels_per_class = [5, 20]
updates = "epochs"
"""
    + DATASET
)
PROBED = f"{TRAINING}[probes]\nepochs = [1, 2]\n"
STAGES = ["stem", "layer1", "layer2", "layer3", "layer4"]


def run(folder: Path, text: str, *options: str) -> dict[str, Any]:
    (folder / "study.toml").write_text(text)
    write_images(folder)
    done = command(folder, "run", "study.toml", "-q", *options)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads((folder / "results" / "results.json").read_text())
    return results


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The study, first without probes, then with: its folder, and the results of both."""

    def make(made: Path) -> None:
        run(made, TRAINING)
        shutil.copy(made / "results" / "results.json", made / "before.json")
        run(made, PROBED)

    folder = made_once(tmp_path_factory, "probed", make)
    before, after = (json.loads((folder / name).read_text()) for name in ("before.json", "results/results.json"))
    return folder, before, after


def backbones(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that the pretext run kept, by file."""
    return {path.name: load_file(path) for path in folder.glob("results/runs/pretext-*/backbone*.safetensors")}


@pytest.mark.parametrize(("stem", "images"), [("imagenet", 300), *thorough(("cifar", 20))])
def test_features_are_the_means_of_each_stages_maps_in_eval_mode(stem: str, images: int) -> None:
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    made, plain = build_backbone("resnet18", stem, 3), build_backbone("resnet18", stem, 3)
    for backbone in (made, plain):
        backbone.bn1.running_mean.fill_(0.1)
    skip_padding(made.modules())
    found = pooled_features(made.to(memory_format=torch.channels_last), pixels, mean, std, STAGES, "fp32")
    nodes = {"maxpool": "stem", **{stage: stage for stage in STAGES[1:]}}
    extractor = create_feature_extractor(plain.eval(), nodes).eval()
    with torch.no_grad():
        normalised = (pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        expected = {stage: maps.mean((2, 3)).numpy() for stage, maps in extractor(normalised).items()}
    assert list(found) == STAGES
    for stage, features in found.items():
        assert features.shape == expected[stage].shape
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected[stage], rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
def test_every_init_and_the_random_backbone_are_probed_with_each_choice_of_labels(
    probed: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    _, _, results = probed
    found = {
        (probe["init"], probe["epoch"], probe["variant"]["labels_per_class"]): probe for probe in results["probes"]
    }
    assert list(found) == [
        (init, epoch, labels)
        for labels in (5, 20)
        for init, epoch in (("random", None), ("rotation", 1), ("rotation", 2), ("rotation", None))
    ]
    for (_, _, labels), probe in found.items():
        assert probe["status"] == "done", probe["error"]
        assert probe["provenance"]["bank_images"] == 10 * labels
        assert [stage["stage"] for stage in probe["stages"]] == STAGES
        assert [stage["features"] for stage in probe["stages"]] == [64, 64, 128, 256, 512]
        for stage in probe["stages"]:
            assert 0.1 < stage["knn"] <= 1
            assert 0.1 < stage["linear"] <= 1


@pytest.mark.thorough
def test_a_probe_is_of_the_very_weights_and_of_the_very_labels_of_the_runs_beside_it(
    probed: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    folder, _, results = probed
    pretext = next(one for one in results["runs"] if one["kind"] == "pretext")
    for probe in results["probes"]:
        start = probe["provenance"]["start"]
        if probe["init"] == "random":
            assert start["parent"] is None
            assert start["backbone_sha256"] == start["seed_backbone_sha256"]
        else:
            assert start["parent"] == pretext["id"]
            is_last = start["backbone_sha256"] == pretext["provenance"]["backbone_sha256"]
            assert is_last == (probe["epoch"] is None)
    # What a probe reads off the kept weights, once more by hand.
    from sklearn.neighbors import KNeighborsClassifier

    training, test = (torch.from_numpy(images)[:, None].repeat(1, 3, 1, 1) for images in few_digits())
    own = next(one for one in results["runs"] if one["variant"].get("labels_per_class") == 20)
    data = own["provenance"]["data"]
    from safetensors.numpy import load_file as load_numpy

    seen = load_numpy(folder / "results" / "runs" / own["id"] / "predictions.safetensors")["seen"]
    backbone = build_backbone("resnet18", "imagenet", 0)
    load_backbone(backbone, backbones(folder)["backbone-epoch-000002.safetensors"])
    mean, std = torch.tensor(data["mean"]), torch.tensor(data["std"])
    skip_padding(backbone.modules())
    backbone.to(memory_format=torch.channels_last)
    precision = own["precision"]
    bank = pooled_features(backbone, training[seen], mean, std, ["layer3"], precision)["layer3"]
    tested = pooled_features(backbone, test, mean, std, ["layer3"], precision)["layer3"]
    vote = KNeighborsClassifier(20, metric="cosine").fit(bank, TRAINING_LABELS[seen])
    expected = float(vote.score(tested, TEST_LABELS))
    probe = next(p for p in results["probes"] if (p["epoch"], p["variant"]["labels_per_class"]) == (2, 20))
    told = {stage["stage"]: stage["knn"] for stage in probe["stages"]}
    assert told["layer3"] == pytest.approx(expected, abs=1.01 / len(test))


@pytest.mark.thorough
def test_asking_for_probes_later_trains_nothing_anew_but_the_pretext_run_to_the_same_bits(
    probed: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    folder, before, after = probed
    for one, other in zip(before["runs"], after["runs"], strict=True):
        assert one["id"] == other["id"]
        assert one["provenance"]["backbone_sha256"] == other["provenance"]["backbone_sha256"]
        if one["kind"] == "downstream":
            assert one == other  # its seconds too: it was not trained again
    assert len(list((folder / "results" / "quarantine").iterdir())) == 1
    assert "nothing to train" in command(folder, "plan", "study.toml").stdout


@pytest.mark.thorough
def test_weights_kept_after_an_epoch_are_those_of_a_training_that_ends_there(
    tmp_path: Path, probed: tuple[Path, dict[str, Any], dict[str, Any]]
) -> None:
    run(tmp_path, TRAINING.replace("epochs = 3", "epochs = 2").replace("[5, 20]", "[5]"), "-k", "pretext=rotation")
    kept, ended = backbones(probed[0]), backbones(tmp_path)
    assert set(kept) == {
        "backbone.safetensors",
        "backbone-epoch-000001.safetensors",
        "backbone-epoch-000002.safetensors",
    }
    assert set(ended) == {"backbone.safetensors"}
    for name, tensor in ended["backbone.safetensors"].items():
        assert torch.equal(kept["backbone-epoch-000002.safetensors"][name], tensor), name
        if tensor.is_floating_point():
            assert not torch.equal(kept["backbone-epoch-000001.safetensors"][name], tensor), name


@pytest.mark.parametrize(
    "first", thorough(PROBED, TRAINING), ids=["asked for from the start", "asked for after the stop"]
)
def test_kept_weights_survive_a_stop(
    tmp_path: Path, probed: tuple[Path, dict[str, Any], dict[str, Any]], first: str
) -> None:
    """Stopped after its first or second epoch and run again, a pretext run keeps what one that was never stopped does.

    Where the weights were not asked for before the stop, it begins again.
    """
    (tmp_path / "study.toml").write_text(first)
    write_images(tmp_path)
    process = begin(tmp_path)
    store = Store(tmp_path / "results")
    pretext = next(one["id"] for one in probed[1]["runs"] if one["kind"] == "pretext")
    wait_for(lambda: epochs_of(store, pretext) >= 1, 90)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    run(tmp_path, PROBED, "-k", "pretext=rotation")
    kept, expected = backbones(tmp_path), backbones(probed[0])
    assert set(kept) == set(expected)
    for file, state in expected.items():
        for name, tensor in state.items():
            assert torch.equal(kept[file][name], tensor), (file, name)


@pytest.mark.thorough
def test_what_is_probed_can_be_chosen_on_the_command_line(
    tmp_path: Path, probed: tuple[Path, dict[str, Any], dict[str, Any]]
) -> None:
    told = json.loads(command(probed[0], "plan", "study.toml", "-k", "init=random", "--json").stdout)
    assert told["runs"] == []
    assert {(row["variant"]["probe"], row["state"]) for row in told["probes"]} == {("random", "done")}
    assert len(told["probes"]) == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("epochs = [4]", "no pretext run reaches epoch 4: the longest pretext run has 3 epochs"),
        ("epochs = [2, 1]", "should be a list of rising epochs"),
        ('stages = ["layer4", "layer1"]', "should be a list of stem, layer1, layer2, layer3, layer4, in this order"),
        ('stages = ["fc"]', "should be a list of stem"),
        ("k = 5", "unknown key"),
    ],
)
def test_a_mistake_in_probes_is_told_where_it_is(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "study.toml").write_text(f"{TRAINING}[probes]\n{table}\n")
    checked = command(tmp_path, "check", "study.toml")
    assert checked.returncode == 2
    assert message in checked.stderr
    assert "study.toml:19:" in checked.stderr


@pytest.mark.thorough
def test_a_rehearsal_goes_through_the_probes_too(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(PROBED)
    write_images(tmp_path)
    done = command(tmp_path, "run", "study.toml", "--quick", "-q")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results-quick" / "results.json").read_text())
    told = [(probe["init"], probe["epoch"], probe["status"]) for probe in results["probes"]]
    assert told[:3] == [("random", None, "done"), ("rotation", 1, "done"), ("rotation", None, "done")]
