from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from rotbench.schedule import lr_factor

EPOCHS, UPDATES = 12, 5

plain = functools.partial(lr_factor, step_epochs=4, gamma=0.3, milestones=None, warmup_epochs=0)


def of_torch(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    """The learning rates that torch's schedule gives before each of its steps, from 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def positions() -> list[float]:
    return [epoch - 1 + update / UPDATES for epoch, update in itertools.product(range(1, EPOCHS + 1), range(UPDATES))]


def test_steps_are_those_of_torch_and_hold_through_an_epoch() -> None:
    expected = of_torch(lambda optimizer: StepLR(optimizer, step_size=4, gamma=0.3), EPOCHS)
    assert len(set(expected)) == 3
    for position in positions():
        assert plain("step", position, EPOCHS) == pytest.approx(expected[int(position)])


def test_milestones_are_those_of_torch_and_replace_the_steps() -> None:
    expected = of_torch(lambda optimizer: MultiStepLR(optimizer, milestones=[3, 5, 11], gamma=0.3), EPOCHS)
    for position in positions():
        factor = plain("step", position, EPOCHS, milestones=[3, 5, 11])
        assert factor == pytest.approx(expected[int(position)])


def test_cosine_is_that_of_torch_update_by_update() -> None:
    expected = of_torch(lambda optimizer: CosineAnnealingLR(optimizer, T_max=EPOCHS * UPDATES), EPOCHS * UPDATES)
    found = [plain("cosine", position, EPOCHS) for position in positions()]
    assert found == pytest.approx(expected)
    assert found[0] == 1
    assert 0 < found[-1] < 0.01


def test_constant_is_constant() -> None:
    assert {plain("constant", position, EPOCHS) for position in positions()} == {1.0}


def test_warmup_rises_evenly_and_ends_where_the_schedule_begins() -> None:
    for schedule in ("step", "cosine", "constant"):
        factors = [plain(schedule, position, EPOCHS, warmup_epochs=2) for position in positions()]
        assert factors[: 2 * UPDATES] == pytest.approx([update / (2 * UPDATES) for update in range(2 * UPDATES)])
        assert factors[2 * UPDATES] == 1


def test_cosine_spans_what_the_warmup_leaves() -> None:
    factors = [plain("cosine", position, EPOCHS, warmup_epochs=2) for position in positions()]
    steps = (EPOCHS - 2) * UPDATES
    expected = of_torch(lambda optimizer: CosineAnnealingLR(optimizer, T_max=steps), steps)
    assert factors[2 * UPDATES :] == pytest.approx(expected)


def test_a_warmup_as_long_as_the_run_only_rises() -> None:
    factors = [plain("cosine", position, EPOCHS, warmup_epochs=EPOCHS) for position in positions()]
    assert factors == pytest.approx([position / EPOCHS for position in positions()])


def test_steps_count_from_the_start_of_training() -> None:
    assert plain("step", 4.0, EPOCHS, warmup_epochs=3) == pytest.approx(0.3)


def test_another_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match='no schedule "linear"; there are step, cosine and constant'):
        plain("linear", 0.0, EPOCHS)
