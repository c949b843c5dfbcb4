"""Random streams: every random choice is drawn from (seed, purpose, ..), never from a state that something else moved.

Two runs of one seed that ask for the same purpose get the same draws, whatever else they did before. That makes
a contrast paired, and a rerun or a resumed run the same to the bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream(seed: int, *purpose: str | int) -> int:
    """The seed of one stream, in [0, 2**63).

    JSON keeps the parts apart: ``("a", "bc")`` and ``("ab", "c")``, ``1`` and ``"1"`` are different streams.
    """
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator at the start of its stream."""
    return torch.Generator().manual_seed(stream(seed, *purpose))


@contextmanager
def drawing(seed: int, *purpose: str | int) -> Iterator[None]:
    """Inside, torch's global generator stands at the start of the stream; afterwards the CPU's is as it was before.

    For what cannot be handed a generator: layers that draw their weights, dropout. The generators of other devices
    are seeded too and not put back, so nothing may rely on their state outside such a block.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, *purpose))
        yield
