"""The trainer: frozen is frozen, it learns, and the same seed gives the same bits."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rotbench.attempt import read_snapshot, snapshot_files
from rotbench.checkpoint import save_checkpoint
from rotbench.data import channel_statistics, updates_per_epoch
from rotbench.device import choose_precision
from rotbench.feed import Feed
from rotbench.hookspecs import STAGES, BatchNorm, Parameter
from rotbench.models import Network, build_backbone, named_parameters, parameters_of, state_sha256
from rotbench.optimizer import Optimizer
from rotbench.proof import Unproven, freeze_proof, start_proof
from rotbench.settings import TrainSettings
from rotbench.setup import _calibrate
from rotbench.store import to_json
from rotbench.streams import drawing
from rotbench.tasks import Classification, Task
from rotbench.train import (
    Diverged,
    Phase,
    Snapshot,
    Trained,
    answers,
    evaluate,
    fit,
    phases_of,
)
from tests.program import thorough


@dataclass(frozen=True)
class Below:
    """Trains layer4 and the head, from an epoch on."""

    batchnorm: BatchNorm = "eval"
    stage: str = "layer4"
    name: str = "below"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return STAGES.index(parameter.stage) >= STAGES.index(self.stage)


def digits(count: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    grey = torch.tensor(scans[:count]).reshape(-1, 1, 8, 8).mul(15).to(torch.uint8)
    pixels = grey.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1).contiguous()
    return pixels, torch.tensor(labels[:count])


def feed(count: int = 24, batch_size: int = 12, seed: int = 0, augment: tuple[str, ...] = ("crop",)) -> Feed:
    pixels, labels = digits(count)
    mean, std = channel_statistics(pixels)
    return Feed(
        task=Task(Classification()),
        pixels=pixels,
        labels=labels,
        subset=torch.arange(count),
        validation=torch.arange(0),
        test_pixels=pixels,
        test_labels=labels,
        mean=mean,
        std=std,
        augment=augment,
        batch_size=batch_size,
        updates=updates_per_epoch(count, batch_size),
        seed=seed,
        kind="downstream",
        name="classification",
        seen=torch.zeros(len(pixels), dtype=torch.bool),
    )


def network(seed: int = 0) -> Network:
    backbone = build_backbone("resnet18", "imagenet", seed)
    with drawing(seed, "head", "downstream"):
        head = torch.nn.Linear(512, 10)
    made = Network(backbone, head)
    made.to(memory_format=torch.channels_last)
    return made


def tensors(made: Network) -> dict[str, Tensor]:
    buffers = dict(made.backbone.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in {**named_parameters(made), **buffers}.items()}


def trained(made: Network, fed: Feed, policy: Any, **changes: Any) -> Trained:
    torch.set_num_threads(1)
    settings = replace(TrainSettings(epochs=1, lr=0.001), **changes)
    return fit(made, fed, policy, settings, precision="fp32", report=lambda row: None)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_weights_are_bit_equal_even_with_weight_decay(optimizer: str) -> None:
    made = network()
    before = tensors(made)
    trained(made, feed(), Below(), optimizer=optimizer, weight_decay=0.1)
    after = tensors(made)
    for name, tensor in after.items():
        frozen = name.split(".")[0] not in ("layer4", "fc")
        assert torch.equal(tensor, before[name]) == frozen, name
    assert len(after) == 62 + 60  # parameters, and three buffers of each of 20 BatchNorm modules


@dataclass(frozen=True)
class Joining:
    """The head, then layer4 too, by one optimiser."""

    name: str = "joining"
    batchnorm: str = "eval"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.stage == "fc" or (parameter.stage == "layer4" and epoch > 1)


def test_a_stage_that_joins_under_momentum_begins_as_sgd_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    changes: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9, "epochs": 2, "weight_decay": 0.01}
    trained(made, feed(), Joining(), **changes)
    plain = network()
    real = torch.optim.SGD
    monkeypatch.setattr(torch.optim, "SGD", lambda *args, fused, **options: real(*args, foreach=False, **options))
    monkeypatch.setattr("rotbench.optimizer.Optimizer._give_momentum", lambda self: None)
    trained(plain, feed(), Joining(), **changes)
    for name, tensor in tensors(made).items():
        torch.testing.assert_close(tensor, tensors(plain)[name], rtol=1e-4, atol=1e-6, msg=name)


def test_frozen_batchnorm_in_train_mode_moves_its_buffers_and_nothing_else() -> None:
    made = network()
    before = tensors(made)
    done = trained(made, feed(), Below("train"))
    after = tensors(made)
    for name, tensor in after.items():
        moves = name.split(".")[0] in ("layer4", "fc") or "running" in name or "tracked" in name
        assert torch.equal(tensor, before[name]) != moves, name
    proof = freeze_proof("below", parameters_of(made), done.ever_trained, before, after)
    assert proof["largest_change_of_frozen_parameter"] == 0
    assert proof["largest_change_of_frozen_buffer"] > 0
    assert proof["trainable_parameters"] == sum(
        tensor.numel() for name, tensor in named_parameters(made).items() if name.split(".")[0] in ("layer4", "fc")
    )
    assert proof["trainable_by_stage"]["fc"] == 512 * 10 + 10
    assert proof["largest_change_by_stage"]["layer4"] == {"parameters": None, "buffers": None}


def test_a_freeze_that_leaks_is_named() -> None:
    made = network()
    before = tensors(made)
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["layer1.0.conv1.weight"][0, 0, 0, 0] += 1e-7
    with pytest.raises(Unproven, match=r"below leaks: layer1\.0\.conv1\.weight"):
        freeze_proof("below", parameters_of(made), {"fc.weight", "fc.bias"}, before, after)


def leaking(optimizer: Optimizer, tensor: Tensor) -> Optimizer:
    """The optimiser, which with each step moves a tensor that is not its own."""

    @torch.no_grad()
    def after(*_: Any) -> None:
        tensor[(0,) * tensor.ndim] += 0.5

    optimizer.stepped.register_step_post_hook(after)
    return optimizer


@pytest.mark.parametrize(
    ("policy", "leak", "words"),
    [
        (Below(), "layer1.0.conv1.weight", "frozen and changed by 1 in epoch 1"),
        (Joining(), "layer4.0.conv1.weight", "frozen and changed by 1 in epoch 1"),  # which trains it in epoch 2
        (Below(), "bn1.running_mean", "of a frozen BatchNorm in mode eval and changed by 1 in epoch 1"),
    ],
)
def test_a_leak_ends_the_run_in_the_epoch_in_which_it_happens(
    monkeypatch: pytest.MonkeyPatch, policy: Any, leak: str, words: str
) -> None:
    made = network()
    tensor = {**named_parameters(made), **dict(made.backbone.named_buffers())}[leak]
    real = Optimizer
    monkeypatch.setattr(
        "rotbench.train.Optimizer",
        lambda *args, **options: leaking(real(*args, **options), tensor.data),
    )
    with pytest.raises(Unproven, match=rf"leaks: {leak} is {words}"):
        trained(made, feed(), policy, epochs=2)


def test_calibrated_statistics_are_taken_from_the_snapshot_and_not_computed_anew() -> None:
    kept: list[Snapshot] = []
    policy, settings = Below("calibrated"), TrainSettings(epochs=2, lr=0.001)
    made = network()
    first = _calibrate(made, policy, feed(), 2, None)
    assert first is not None
    assert (first["images"], first["buffers"], first["changed"]) == (24, 30, 30)
    statistics = tensors(made)["bn1.running_mean"]
    fit(
        made, feed(), policy, settings, precision="fp32", report=lambda row: None,
        keep=lambda epoch, take: kept.append(replace(take(), calibration=first)),
    )  # fmt: skip
    (snapshot,) = kept
    again = network()
    other = replace(feed(), pixels=255 - feed().pixels)  # images of which statistics would be others
    assert _calibrate(again, policy, other, 2, snapshot) == first
    assert torch.equal(tensors(again)["bn1.running_mean"], statistics)
    assert snapshot.moved_while_frozen["bn1.running_mean"] == 0


def test_an_init_that_changes_nothing_or_claims_too_much_is_named() -> None:
    state = {"conv1.weight": torch.ones(2), "bn1.weight": torch.ones(2)}
    with pytest.raises(Unproven, match="claims 1 tensors and changed none"):
        start_proof("checkpoint", state, state, ["conv1.weight"], set())
    with pytest.raises(Unproven, match="does not have: conv9"):
        start_proof("checkpoint", state, state, ["conv9"], set())
    other = {**state, "conv1.weight": torch.zeros(2)}
    proof = start_proof("checkpoint", state, other, ["conv1.weight"], {"fc.weight"})
    assert (proof["claimed"], proof["changed"], proof["missing"]) == (1, 1, ["bn1.weight"])
    assert proof["unexpected"] == ["fc.weight"]
    assert proof["backbone_sha256"] == state_sha256(other) != proof["seed_backbone_sha256"] == state_sha256(state)


@pytest.mark.thorough
def test_the_loss_falls_to_near_zero_on_32_images() -> None:
    made = network()
    fed = feed(32, 32, augment=())
    done = trained(made, fed, Below(stage="stem"), epochs=25, schedule="cosine")
    first, last = done.history[0]["train_loss"], done.history[-1]["train_loss"]
    assert first is not None
    assert last is not None
    assert first > 1.5
    assert last < 0.05
    assert done.history[-1]["train_accuracy"] == 1


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    hashes = []
    for seed in (0, 0, 1):
        made = network(seed)
        torch.rand(seed + 1)  # what else is drawn from the global generator does not matter
        trained(made, feed(seed=seed), Below(stage="stem"))
        hashes.append(state_sha256(tensors(made)))
    assert hashes[0] == hashes[1] != hashes[2]


def test_history_says_what_was_done() -> None:
    rows: list[Mapping[str, float | None]] = []
    made = network()
    fed = feed()
    settings = TrainSettings(epochs=3, lr=0.01, step_epochs=2)
    done = fit(made, fed, Below(), settings, precision="fp32", report=rows.append)
    assert [row["epoch"] for row in done.history] == [1, 2, 3]
    assert [row["lr"] for row in done.history] == pytest.approx([0.01, 0.01, 0.001])
    assert tuple(row for row in rows if "lr" in row) == done.history
    final = evaluate(made, fed.task, fed.test_batches(), "fp32")
    assert (final.loss, final.score) == (done.history[-1]["test_loss"], done.history[-1]["test_accuracy"])
    assert done.outputs is not None
    predicted, confidence = answers(done.outputs)
    assert float((predicted == fed.test_labels).double().mean()) == done.history[-1]["test_accuracy"]
    assert bool(((confidence >= 0.1) & (confidence <= 1)).all())


def test_a_loss_that_is_not_a_number_ends_the_run_with_epoch_and_step() -> None:
    made = network()
    with torch.no_grad():
        named_parameters(made)["fc.bias"][0] = float("nan")
    with pytest.raises(Diverged, match=r"loss is nan at epoch 1, step 1"):
        trained(made, feed(), Below())


def test_optimisers_are_torchs_own() -> None:
    """One step by hand from the definitions: SGD with nesterov momentum and decay, decoupled decay of AdamW."""
    for name, expected in (("sgd", 1 - 0.1 * (0.5 + 0.1) * 1.9), ("adamw", 1 - 0.1 * 0.1 - 0.1)):
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = Optimizer([weight], name, lr=0.1, weight_decay=0.1, momentum=0.9, nesterov=name == "sgd")
        weight.grad = torch.full((1,), 0.5)
        optimizer.step(torch.amp.GradScaler("cpu", enabled=False))
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_phases() -> None:
    @dataclass(frozen=True)
    class Twice:
        def restart(self, epoch: int, epochs: int) -> float | None:
            return 0.1 if epoch == epochs // 2 + 1 else None

    assert phases_of(Below(), 4) == [Phase(1, 4, 1.0)]
    assert phases_of(Twice(), 4) == [Phase(1, 2, 1.0), Phase(3, 4, 0.1)]


def test_precision_is_chosen_for_the_device() -> None:
    assert choose_precision("fp32", "cpu") == "fp32"
    assert choose_precision("auto", "cpu") in ("bf16", "fp32")
    with pytest.raises(ValueError, match="needs a GPU"):
        choose_precision("fp16", "cpu")


def test_with_validation_the_test_images_are_scored_after_the_last_epoch_alone() -> None:
    made = network()
    fed = replace(feed(), subset=torch.arange(16), validation=torch.arange(16, 24), updates=2)
    settings = TrainSettings(epochs=2, lr=0.001)
    rows: list[Mapping[str, float | None]] = []
    done = fit(made, fed, Below(), settings, precision="fp32", report=rows.append)
    assert [row["test_accuracy"] is None for row in done.history] == [True, False]
    assert [row["test_loss"] is None for row in done.history] == [True, False]
    final = evaluate(made, fed.task, fed.validation_batches(), "fp32")
    assert (final.loss, final.score) == (done.history[-1]["validation_loss"], done.history[-1]["validation_accuracy"])
    # An independent statement of the same score.
    made.eval()
    with torch.no_grad():
        images = (fed.pixels[16:24].float() / 255 - fed.mean.view(3, 1, 1)) / fed.std.view(3, 1, 1)
        right = made(images.contiguous(memory_format=torch.channels_last)).argmax(1) == fed.labels[16:24]
    assert final.score == float(right.double().mean())
    asked = fit(
        network(), fed, Below(), replace(settings, test_each_epoch=True), precision="fp32", report=lambda row: None
    )
    assert all(row["test_accuracy"] is not None for row in asked.history)
    beats = [row for row in rows if "images_per_second" in row]
    assert [(row["step"], row["steps"]) for row in beats if row["step"] == row["steps"]] == [(2, 2)] * 2
    assert all((row["images_per_second"] or 0) > 0 for row in beats)


@dataclass(frozen=True)
class InPhases:
    """The head for two epochs, then everything with a new optimiser at half the learning rate."""

    name: str = "in phases"
    batchnorm: str = "train"

    def trainable(self, parameter: Parameter, epoch: int, epochs: int) -> bool:
        return parameter.stage == "fc" or epoch > 2

    def restart(self, epoch: int, epochs: int) -> float | None:
        return 0.5 if epoch == 3 else None


def without_seconds(rows: Iterable[Mapping[str, float | None]]) -> list[dict[str, float | None]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize(
    ("policy", "optimizer"),
    [
        (InPhases(), "adam"),
        *thorough(
            *itertools.product([Below(stage="stem"), Below("train")], ["adamw", "sgd"]),
            *itertools.product([InPhases()], ["adamw", "sgd"]),
        ),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_training_that_goes_on_from_any_epoch_ends_in_the_same_bits(
    tmp_path: Path, policy: Any, optimizer: str
) -> None:
    """Case 38: the state goes through the files of a checkpoint, as it does after a crash."""
    torch.set_num_threads(1)
    settings = TrainSettings(epochs=4, lr=0.01, optimizer=optimizer, weight_decay=0.01, step_epochs=2)  # type: ignore[arg-type]
    kept: dict[int, dict[str, bytes]] = {}

    def keep(epoch: int, take: Callable[[], Snapshot]) -> None:
        kept[epoch] = snapshot_files(take())

    whole = network()
    done = fit(whole, feed(), policy, settings, precision="fp32", report=lambda row: None, keep=keep)
    assert list(kept) == [1, 2, 3]  # after the last epoch the result itself is committed
    expected = state_sha256(tensors(whole))
    for epoch, files in kept.items():
        save_checkpoint(tmp_path, "run-0", epoch, files)
        made = network(seed=9)  # weights that must not matter
        rows: list[Mapping[str, float | None]] = []
        again = fit(
            made,
            feed(),
            policy,
            settings,
            precision="fp32",
            report=rows.append,
            resume=read_snapshot(tmp_path / f"epoch-{epoch:06}"),
        )
        assert state_sha256(tensors(made)) == expected, epoch
        assert without_seconds(again.history) == without_seconds(done.history)
        assert again.ever_trained == done.ever_trained
        assert again.moved_while_frozen == done.moved_while_frozen
        assert [row["epoch"] for row in rows if "lr" in row] == list(range(epoch + 1, 5))


def test_a_state_that_was_put_in_place_of_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    """Case 37: even with a manifest that fits, what is read are tensors and nothing that runs."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
            return (os.system, (f"touch {tmp_path}/exploded",))

    told = {"epoch": 1, "history": [], "ever_trained": [], "views_seen": 0, "training_seconds": 0.0}
    buffer = io.BytesIO()
    torch.save({"network": Bomb()}, buffer)
    save_checkpoint(tmp_path, "run-0", 1, {"states.pt": buffer.getvalue(), "progress.json": to_json(told)})
    with pytest.raises(Exception, match="Weights only load failed"):
        read_snapshot(tmp_path / "epoch-000001")
    assert not (tmp_path / "exploded").exists()
