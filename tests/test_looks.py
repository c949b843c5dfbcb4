"""Looks at results before the last seeds: recorded, and said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from rotbench import report
from rotbench.limits import changes_of_seeds
from rotbench.looks import looked, looks
from tests import simulated

pytestmark = pytest.mark.usefixtures("undrawn")


def described(seeds: list[int], **more: Any) -> dict[str, Any]:
    """A ``study.json`` with one pretext and two downstream runs a seed."""
    runs = [{"id": f"p{seed}", "kind": "pretext", "seed": seed} for seed in seeds]
    runs += [{"id": f"{name}{seed}", "kind": "downstream", "seed": seed} for seed in seeds for name in "ab"]
    return {"study": {"seeds": seeds, **more}, "runs": runs}


def ids(seeds: list[int]) -> set[str]:
    return {run["id"] for run in described(seeds)["runs"]}


@pytest.mark.parametrize(
    ("earlier", "done", "now", "expected"),
    [
        ([0, 1, 2], [0, 1, 2], [0, 1, 2, 3, 4], [[0, 1, 2]]),  # added after a look
        ([0, 1, 2], [0, 1, 2], [0, 1, 2], []),  # nothing changed
        ([0, 1, 2], [0, 1, 2], [0, 2], [[0, 1, 2]]),  # one left out after a look
        ([0], [0], [0, 1, 2], []),  # one seed shows no interval
        ([0, 1, 2], [0], [0, 1, 2, 3], []),  # hardly anything could be seen
        ([0, 1, 2], [0, 1], [0, 1, 2, 3], [[0, 1]]),
        ([0, 1, 2], [0, 1], [0, 1, 2], []),  # going on with what was planned is no look
    ],
)
def test_which_changes_of_seeds_follow_a_look(
    earlier: list[int], done: list[int], now: list[int], expected: list[list[int]]
) -> None:
    assert looks(described(earlier), ids(done), now, ids(now)) == expected


def test_a_new_folder_and_another_study_in_its_place_have_no_look() -> None:
    assert looks(None, set(), [0, 1], {"a0"}) == []
    assert looks(described([0, 1, 2]), ids([0, 1, 2]), [0, 1, 2, 3], {"other0", "other1"}) == []


def test_looks_add_up_and_stay() -> None:
    first = looks(described([0, 1, 2]), ids([0, 1, 2]), [0, 1, 2, 3], ids([0, 1, 2, 3]))
    again = looks(described([0, 1, 2, 3], looks=first), ids([0, 1, 2, 3]), [0, 1, 2, 3, 4], ids([0, 1, 2, 3, 4]))
    assert again == [[0, 1, 2], [0, 1, 2, 3]]
    # The same command once more, or a run that was broken off, changes nothing.
    five = described([0, 1, 2, 3, 4], looks=again)
    assert looks(five, ids([0, 1, 2, 3]), [0, 1, 2, 3, 4], ids([0, 1, 2, 3, 4])) == again


def test_in_words() -> None:
    assert looked([0, 1, 2], [0, 1, 2, 3, 4]) == "seeds 3 and 4 were added after the results of seeds 0, 1 and 2"
    assert looked([0, 1, 2], [0, 2]) == "seed 1 was left out after the results of seeds 0, 1 and 2"
    assert looked([0, 1], [0, 2]) == "seed 2 was added and seed 1 was left out after the results of seeds 0 and 1"
    assert looked([0, 1, 2, 3], [0, 1, 2, 3, 4]).endswith("the results of seeds 0 to 3")


def test_the_page_says_that_seeds_were_added_after_a_look() -> None:
    results = simulated.results(seeds=5)
    results["study"]["looks"] = [[0, 1, 2]]
    (said,) = changes_of_seeds(results)
    assert said.startswith("Seeds 3 and 4 were added after the results of seeds 0, 1 and 2 could be seen.")
    assert said in report.render(results)
    results["study"]["looks"] = []
    assert changes_of_seeds(results) == []


def test_looking_again_and_again_does_find_differences_that_are_not_there() -> None:
    """What the warning rests on: null studies, tested after each of seeds 3 to 12, at a nominal 5 %."""
    rng = np.random.default_rng(0)
    studies, found = 4000, 0
    samples = rng.normal(size=(studies, 12))
    for n in range(3, 13):
        part = samples[:, :n]
        t = part.mean(axis=1) / (part.std(axis=1, ddof=1) / np.sqrt(n))
        samples = samples[np.abs(t) < stats.t.ppf(0.975, n - 1)]
        found = studies - len(samples)
    assert 0.15 < found / studies < 0.21
