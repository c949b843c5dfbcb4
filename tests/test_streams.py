from __future__ import annotations

import hashlib
import itertools

import pytest
import torch

from rotbench import streams


def test_a_stream_is_the_hash_of_its_purpose() -> None:
    digest = hashlib.sha256(b'[7, "order", "downstream", 3, 0]').digest()
    assert streams.stream(7, "order", "downstream", 3, 0) == int.from_bytes(digest[:8], "big") // 2


def test_no_two_purposes_share_a_stream() -> None:
    purposes: list[tuple[str | int, ...]] = [
        (), ("",), ("a", "bc"), ("ab", "c"), ("abc",),
        ("a", 1), ("a", "1"), ("a", 1, 1), ("a", 11), ('a", "b',), ("a", "b"),
    ]  # fmt: skip
    found = {streams.stream(seed, *purpose) for seed, purpose in itertools.product(range(3), purposes)}
    assert len(found) == 3 * len(purposes)
    assert all(0 <= one < 2**63 for one in found)


def test_a_generator_starts_its_stream_anew_each_time() -> None:
    first = torch.rand(5, generator=streams.generator(0, "task"))
    torch.rand(3)  # what others draw does not matter
    assert torch.equal(first, torch.rand(5, generator=streams.generator(0, "task")))
    assert not torch.equal(first, torch.rand(5, generator=streams.generator(1, "task")))
    assert not torch.equal(first, torch.rand(5, generator=streams.generator(0, "order")))


def test_drawing_draws_from_the_stream_and_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    with streams.drawing(4, "head", "pretext"):
        drawn = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, torch.rand(5, generator=streams.generator(4, "head", "pretext")))


def test_drawing_leaves_the_global_state_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="from inside"), streams.drawing(4, "head"):
        raise ValueError(f"{torch.rand(5)} from inside")
    assert torch.equal(torch.get_rng_state(), before)
