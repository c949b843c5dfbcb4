"""The learning rate over a run, as a factor on the study's ``lr``."""

from __future__ import annotations

import math
from collections.abc import Sequence


def lr_factor(
    schedule: str,
    position: float,
    epochs: int,
    *,
    step_epochs: int,
    gamma: float,
    milestones: Sequence[int] | None,
    warmup_epochs: float,
) -> float:
    """The factor on ``lr`` for one update, in [0, 1] where ``gamma`` is.

    ``position``: epochs completed when the update begins, epoch - 1 + update / updates with updates counted from 0.

    - ``"step"``: times ``gamma`` after every ``step_epochs``, or after each of ``milestones`` where those are given.
    - ``"cosine"``: at every update, from 1 after the warm-up towards 0 at the end of ``epochs``.
    - ``"constant"``: 1.

    During the first ``warmup_epochs`` the factor is multiplied by ``position / warmup_epochs``: it rises from 0 at the
    very first update, and the first update after the warm-up has the schedule's own factor. Steps and milestones
    count from the start of training, warm-up included. Raises ``ValueError`` for another schedule.
    """
    if schedule == "step":
        completed = math.floor(position)
        if milestones:
            factor = gamma ** sum(milestone <= completed for milestone in milestones)
        else:
            factor = gamma ** (completed // step_epochs)
    elif schedule == "cosine":
        after_warmup = max(0.0, position - warmup_epochs)
        factor = (1 + math.cos(math.pi * after_warmup / (epochs - warmup_epochs))) / 2 if after_warmup else 1.0
    elif schedule == "constant":
        factor = 1.0
    else:
        raise ValueError(f'there is no schedule "{schedule}"; there are step, cosine and constant')
    return factor * position / warmup_epochs if position < warmup_epochs else factor
