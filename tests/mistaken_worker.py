"""The real worker with a mistake in rotbench itself: ``python mistaken_worker.py STORE RUN NUMBER``.

MISTAKE is ``ignored-labels``: whatever was asked for, all images are trained on; or ``wrong-variable``: the
optimiser has the parameters of another network.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from torch import Tensor, nn

from rotbench import data, optimizer, setup, train
from rotbench.worker import main

real_split, real_optimizer = data.split_validation, optimizer.Optimizer


def ignoring(labels: Tensor, per_class: int | None, share: float, seed: int) -> tuple[Tensor, Tensor]:
    return real_split(labels, None, share, seed)


def of_another(parameters: Sequence[nn.Parameter], *args: Any, **options: Any) -> optimizer.Optimizer:
    return real_optimizer([copy.deepcopy(parameter) for parameter in parameters], *args, **options)


if os.environ["MISTAKE"] == "ignored-labels":
    setup.__dict__["split_validation"] = ignoring
if os.environ["MISTAKE"] == "wrong-variable":
    train.__dict__["Optimizer"] = of_another
sys.exit(main(sys.argv[1:]))
