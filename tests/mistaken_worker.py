"""The real worker with a mistake in rotbench itself, forked by test_mistakes.

MISTAKE is ``ignored-labels``: whatever was asked for, all images are trained on; or ``wrong-variable``: the
optimiser has the parameters of another network.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rotbench import data, optimizer, setup, train, worker

real_split, real_optimizer = data.split_validation, optimizer.Optimizer


def ignoring(labels: Tensor, per_class: int | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    return real_split(labels, None, share, seed)


def of_another(parameters: Sequence[nn.Parameter], *args: Any, **options: Any) -> optimizer.Optimizer:
    return real_optimizer([copy.deepcopy(parameter) for parameter in parameters], *args, **options)


def main(arguments: list[str], began: float) -> int:
    """What ``rotbench.worker.main`` does, and takes."""
    if os.environ["MISTAKE"] == "ignored-labels":
        setup.__dict__["split_validation"] = ignoring
    if os.environ["MISTAKE"] == "wrong-variable":
        train.__dict__["Optimizer"] = of_another
    return worker.main(arguments, began)
