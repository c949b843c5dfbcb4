"""The mistakes of public write-ups, planted: each is found by name, and the other runs of the study are not harmed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rotbench.driver import Orders, report_writer, run_study
from rotbench.plan import make_plan
from rotbench.price import Paces
from rotbench.proof import Unproven, label_proof
from rotbench.registry import load_registry
from rotbench.source import parse_source
from rotbench.store import Store
from rotbench.study import understand
from rotbench.terminal import Lines, Outlook
from rotbench.warm_engine import WarmEngine
from tests.few_images import DATASET, write_images
from tests.program import command
from tests.shared_studies import made_once
from tests.test_train import feed

pytestmark = pytest.mark.usefixtures("none_drawn")

PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar

from rotbench import hookimpl


@dataclass(frozen=True)
class ImageNetInstead:
    """Says that it starts from a pretext run, and loads another network."""

    name: ClassVar[str] = "imagenet-instead"
    pretext: str

    def apply(self, model, context):
        from torchvision.models import resnet18

        state = {name: tensor for name, tensor in resnet18().state_dict().items() if not name.startswith("fc.")}
        model.load_state_dict(state)
        return tuple(state)


@dataclass(frozen=True)
class NeverApplied:
    """Reads the weights of a pretext run, claims them and applies none."""

    name: ClassVar[str] = "never-applied"
    pretext: str

    def apply(self, model, context):
        state = dict(model.state_dict())
        state.update(context.pretext)
        return tuple(context.pretext)


@dataclass(frozen=True)
class NotAWord:
    """Reads the weights of a pretext run and says nothing of them."""

    name: ClassVar[str] = "not-a-word"
    pretext: str

    def apply(self, model, context):
        assert context.pretext


@dataclass(frozen=True)
class HalfApplied:
    """Applies what fits by a wrong prefix: layer4 alone, and says so of all."""

    name: ClassVar[str] = "half-applied"
    pretext: str

    def apply(self, model, context):
        state = {name: tensor for name, tensor in context.pretext.items() if name.startswith("layer4")}
        model.load_state_dict(state, strict=False)
        return tuple(context.pretext)


@dataclass(frozen=True)
class WrongVariable:
    """A task whose head trains another network than the one that is kept."""

    name: ClassVar[str] = "wrong-variable"

    def head(self, features):
        from torch import nn

        class Head(nn.Module):
            def __init__(self):
                super().__init__()
                self.other = nn.Linear(features, 2)

            def forward(self, fed):
                return self.other(fed.detach())

        return Head()

    def make_batch(self, images, generator):
        import torch

        return images, torch.zeros(len(images), dtype=torch.int64)


@hookimpl
def register_inits():
    return [ImageNetInstead, NeverApplied, NotAWord, HalfApplied]


@hookimpl
def register_pretext_tasks():
    return [WrongVariable]
'''

STUDY = (
    """
title = "Mistakes"
seeds = [0]
[train]
epochs = 1
labels_per_class = 3
updates = "epochs"
[pretext.rotation]
task = "rotation"
epochs = 1
[pretext.other]
task = "wrong-variable"
epochs = 1
[[matrix]]
init = [
    "random",
    "rotation",
    "other",
    { name = "imagenet-instead", pretext = "rotation" },
    { name = "never-applied", pretext = "rotation" },
    { name = "not-a-word", pretext = "rotation" },
    { name = "half-applied", pretext = "rotation" },
]
[[run]]
init = "random"
labels_per_class = 10
[[run]]
init = "random"
freeze = { name = "below", batchnorm = "eval" }
[[run]]
init = "random"
freeze = { name = "below", batchnorm = "train" }
[[run]]
init = "random"
freeze = { name = "below", batchnorm = "calibrated" }
"""
    + DATASET
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(made: Path) -> None:
        (made / "study.toml").write_text(STUDY)
        write_images(made)
        (made / "plugins").mkdir()
        (made / "plugins" / "mistakes.py").write_text(PLUGIN)
        done = command(made, "run", "study.toml")
        assert done.returncode == 1, done.stderr

    return made_once(tmp_path_factory, "mistakes", make)


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "results" / "results.json").read_text())["runs"])


def with_init(runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The run that differs from the study's defaults in its init alone."""
    inits = [(run["variant"]["init"], run) for run in runs if set(run["variant"]) == {"init"}]
    (found,) = [run for init, run in inits if name == (init["name"] if isinstance(init, dict) else init)]
    return found


@pytest.mark.thorough
def test_each_wrong_start_fails_its_run_and_says_which_weights_it_has(runs: list[dict[str, Any]]) -> None:
    said = {
        "imagenet-instead": "does not start from the weights of pretext run rotation: 120 of 120 tensors are others",
        "never-applied": "init never-applied claims 120 tensors and changed none of them",
        "not-a-word": "was given the weights of pretext run rotation and left the backbone at its random weights",
        "half-applied": "does not start from the weights of pretext run rotation: 90 of 120 tensors are others, ",
    }
    for name, words in said.items():
        run = with_init(runs, name)
        assert run["status"] == "failed"
        assert words in run["error"], run["error"]
    for name in ("random", "rotation"):
        assert with_init(runs, name)["status"] == "done"
    assert len(said) == 4


@pytest.mark.thorough
def test_a_task_that_trains_another_network_fails_after_one_epoch_and_what_needs_it_is_skipped(
    runs: list[dict[str, Any]],
) -> None:
    (pretext,) = [run for run in runs if run["variant"] == {"pretext": "other"}]
    assert pretext["status"] == "failed"
    assert pretext["error"].endswith("trains stem, but no gradient of the loss reaches it")
    assert with_init(runs, "other")["status"] == "skipped"


PLAIN = (
    """
title = "Plain"
seeds = [0]
[train]
epochs = 1
labels_per_class = 3
updates = "epochs"
[[matrix]]
init = "random"
freeze = { name = "below", batchnorm = "train" }
"""
    + DATASET
)


@pytest.fixture(scope="module")
def mistaken() -> Iterator[WarmEngine]:
    """Workers with a mistake in rotbench itself."""
    with contextlib.closing(WarmEngine(worker="tests.mistaken_worker")) as engine:
        yield engine


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("wrong-variable", "freeze policy below trains layer4, but training changed none of its 15 tensors"),
        ("ignored-labels", "labels_per_class = 3 was ignored: 20 images of class 0 were used, 200 images in all"),
    ],
)
@pytest.mark.thorough
def test_a_mistake_of_the_trainer_itself_fails_the_run(
    tmp_path: Path, mistaken: WarmEngine, monkeypatch: pytest.MonkeyPatch, mistake: str, words: str
) -> None:
    monkeypatch.setenv("MISTAKE", mistake)
    study, faults = understand(parse_source(PLAIN, "study.toml"), Path())
    write_images(tmp_path)
    made = make_plan(study, faults, load_registry(shipped_only=True), tmp_path / "images")
    store = Store(tmp_path / "results")
    store.create()
    screen = Lines(made.runs, Outlook(made.runs, Paces(), 1), quiet=True)
    ended = run_study(made, store, mistaken, Orders(jobs=1), screen, "x", report_writer(store))
    assert (ended.done, ended.failed) == (0, 1)
    (run,) = json.loads((store.folder / "results.json").read_text())["runs"]
    assert run["error"].startswith(words), run["error"]


def test_a_number_of_labels_that_is_ignored_is_found_out() -> None:
    fed = feed(count=24)  # all images, whatever was asked for
    for _ in fed.training_batches(1):
        pass
    with pytest.raises(
        Unproven, match=r"labels_per_class = 1 was ignored: \d+ images of class \d were used, 24 images"
    ):
        label_proof(fed.seen, torch.arange(0), fed.labels, 1, 10)
    with pytest.raises(Unproven, match="2 images that were kept for validation were trained on"):
        label_proof(fed.seen, torch.tensor([0, 5]), fed.labels, None, 10)
    assert label_proof(fed.seen, torch.arange(0), fed.labels, None, 10)["seen_images"] == 24


@pytest.mark.thorough
def test_the_number_of_labels_changes_which_images_are_trained_on(folder: Path, runs: list[dict[str, Any]]) -> None:
    drawn = {
        run["settings"]["train"]["labels_per_class"]: run["provenance"]["data"]
        for run in runs
        if run["kind"] == "downstream" and run["status"] == "done"
    }
    assert {labels: data["seen_images"] for labels, data in drawn.items()} == {3: 30, 10: 100}
    assert drawn[3]["class_counts"]["labelled"] == [3] * 10
    rows = json.loads((folder / "results" / "results.json").read_text())["subsets"]
    assert [(row["labels_per_class"], row["images"], row["runs"]) for row in rows] == [(3, 30, 5), (10, 100, 1)]
    assert all(row["same"] and row["balanced"] for row in rows)
    assert [row["nested"] for row in rows] == [True, None]


@pytest.mark.thorough
def test_what_moved_below_the_freeze_line_in_each_mode_of_batchnorm(folder: Path, runs: list[dict[str, Any]]) -> None:
    freeze = {
        run["provenance"]["freeze"]["batchnorm"]: run["provenance"]["freeze"]
        for run in runs
        if "freeze" in run["variant"]
    }
    assert set(freeze) == {"eval", "train", "calibrated"}
    for proof in freeze.values():
        assert proof["largest_change_of_frozen_parameter"] == 0
    assert freeze["eval"]["largest_change_of_frozen_buffer"] == 0
    assert freeze["eval"]["calibration"] is None
    assert freeze["train"]["largest_change_of_frozen_buffer"] > 0
    assert freeze["train"]["largest_change_by_stage"]["stem"]["buffers"] > 0
    assert freeze["calibrated"]["largest_change_of_frozen_buffer"] == 0
    calibration = freeze["calibrated"]["calibration"]
    assert (calibration["images"], calibration["buffers"], calibration["changed"]) == (30, 30, 30)
    assert calibration["largest_change"] > 0
    page = (folder / "results" / "report.html").read_text()
    assert "statistics of frozen BatchNorm went on moving" in page
    assert "30 of 30 statistics of frozen BatchNorm computed once from 30 images, then kept" in page
    told = json.loads(command(folder, "report", "--json").stdout)
    assert [row["holds"] for row in told["proof"]] == [True] * 7
    assert sum("went on moving" in remark for row in told["proof"] for remark in row["remarks"]) == 1
