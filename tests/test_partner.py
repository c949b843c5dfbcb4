"""Which variants are compared."""

from __future__ import annotations

from typing import Any

from rotbench.partner import alike, matches, matches_all, pair_up

BELOW = {"name": "below", "stage": "layer3"}


def test_values_are_the_same_where_they_mean_the_same() -> None:
    assert matches(BELOW, "below")
    assert not matches("below", {"name": "below"})
    assert matches(1, 1.0)
    assert matches({"name": "x", "lr": 1}, {"lr": 1.0, "name": "x"})
    assert not matches(1, True)
    assert not matches("1", 1)
    assert alike([]) != alike(["crop"])


def test_a_variant_that_does_not_say_its_init_or_freeze_policy_has_the_default() -> None:
    assert matches_all({"lr": 0.1}, {"init": "random", "freeze": "none"})
    assert not matches_all({"lr": 0.1}, {"init": "rotation"})
    assert not matches_all({"init": "random"}, {"lr": 0.1})
    plain, rotation = {"freeze": "below"}, {"init": "rotation", "freeze": "below"}
    assert pair_up([plain, rotation], {"init": "random"}) == [(rotation, [plain])]


def test_partners_differ_in_the_keys_of_the_baseline_alone() -> None:
    random, rotation = ({"init": init, "freeze": "none", "lr": 0.1} for init in ("random", "rotation"))
    other = {**random, "lr": 0.2}
    assert pair_up([random, rotation, other], {"init": "random"}) == [(rotation, [random])]
    assert pair_up([other, rotation], {"init": "random"}) == [(rotation, [])]
    assert pair_up([other, rotation], {"init": "random"}, ignoring=["lr"]) == [(rotation, [other])]
    assert pair_up([random, rotation], {}) == []
    assert pair_up([random, rotation], {"init": "random", "freeze": "none"}) == [(rotation, [random])]


def test_a_baseline_may_name_a_table_and_prefers_what_is_written_the_same() -> None:
    plain, tabled = {"freeze": "below"}, {"freeze": BELOW}
    other: dict[str, Any] = {"freeze": "none"}
    assert pair_up([tabled, other], {"freeze": "below"}) == [(other, [tabled])]
    assert pair_up([tabled, plain, other], {"freeze": "below"}) == [(other, [plain])]


def test_what_was_added_to_match_epochs_is_no_side_of_an_ordinary_contrast() -> None:
    random, rotation = {"init": "random"}, {"init": "rotation"}
    assert pair_up([random, rotation, {**random, "compute_matched": 9}], {"init": "random"}) == [(rotation, [random])]
