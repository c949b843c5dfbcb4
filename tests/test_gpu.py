"""What only a GPU can show. Skipped where there is none; nothing about GPUs is claimed from a machine without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rotbench.device import choose_precision
from rotbench.feed import Feed
from rotbench.models import Network, state_sha256
from rotbench.settings import TrainSettings
from rotbench.train import Trained, fit
from tests.test_train import Below, feed, network, tensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]


def on_gpu(fed: Feed) -> Feed:
    names = ("pixels", "labels", "subset", "validation", "test_pixels", "test_labels", "mean", "std", "seen")
    return replace(fed, **{name: getattr(fed, name).to("cuda") for name in names})


def trained(made: Network, fed: Feed, precision: str, policy: Below) -> Trained:
    return fit(made, fed, policy, TrainSettings(epochs=2, lr=0.001), precision=precision, report=lambda row: None)


def test_fp32_on_a_gpu_is_fp32_on_a_processor_but_for_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = network(), network().to("cuda")
    monkeypatch.setattr(torch.backends, "fp32_precision", "ieee")
    on_cpu, on_cuda = trained(here, feed(), "fp32", Below()), trained(there, on_gpu(feed()), "fp32", Below())
    for one, other in zip(on_cpu.history, on_cuda.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("policy", [Below(), Below(stage="stem")])
def test_the_same_bits_twice_with_deterministic_algorithms(precision: str, policy: Below) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        hashes = []
        for _ in range(2):
            made = network().to("cuda")
            trained(made, on_gpu(feed()), precision, policy)
            hashes.append(state_sha256(tensors(made)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert hashes[0] == hashes[1]


def test_no_step_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many steps make as many synchronisations: they are of the epoch."""
    made, waits = network().to("cuda"), []
    for updates in (4, 8):
        fed = on_gpu(replace(feed(), updates=updates))
        torch.cuda.set_sync_debug_mode("warn")
        with pytest.warns(UserWarning, match="called a synchronizing CUDA operation") as caught:
            trained(made, fed, "bf16", Below())
        torch.cuda.set_sync_debug_mode("default")
        waits.append(len(caught))
    assert waits[0] == waits[1]


def test_precision_is_chosen_by_what_the_gpu_computes_in() -> None:
    expected = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    assert choose_precision("auto", "cuda") == expected
