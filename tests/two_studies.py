"""Two simulated studies, A and B, whose final accuracies and seeds a test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from tests import simulated

Results = dict[str, Any]
Run = dict[str, Any]

#: The variants of a simulated study in its order, as the pages name them.
NAMES = ("random / none", "random / below", "rotation / none", "rotation / below")


def study(accuracies: Mapping[str, Sequence[float]], seeds: Sequence[int] = (), second: float = 9.5) -> Results:
    """A study of the variants that ``accuracies`` names, each with its final test accuracies by seed.

    ``seeds`` are those of the first so many accuracies, 0, 1, .. where they are not given; ``second`` are the seconds
    of an epoch, by which two trainings are told from one that was copied.
    """
    seeds = seeds or range(max(map(len, accuracies.values())))
    results = simulated.results(seeds=max(seeds) + 1, epochs=2, pretext_epochs=2)
    results["study"]["seeds"] = list(seeds)
    places = {seed: place for place, seed in enumerate(seeds)}
    for run in results["runs"]:
        run["train_seconds"] = 2 * second
        for entry in run["history"]:
            entry["seconds"] = second
    kept = [run for run in results["runs"] if run["kind"] == "pretext" and run["seed"] in places]
    for name, values in accuracies.items():
        for run in runs_of(results, name):
            if run["seed"] in places:
                run["final"]["test_accuracy"] = run["history"][-1]["test_accuracy"] = values[places[run["seed"]]]
                kept.append(run)
    results["runs"] = kept
    return results


def runs_of(results: Results, name: str) -> list[Run]:
    """The runs of a variant by its name, ``rotation / below``."""
    init, freeze = name.split(" / ")

    def named(value: Any) -> Any:
        return value["name"] if isinstance(value, dict) else value

    return [
        run
        for run in results["runs"]
        if run["variant"].get("init") == init and named(run["variant"].get("freeze", "none")) == freeze
    ]


def again(results: Results, second: float = 7.25) -> Results:
    """The same study trained a second time, with the same results."""
    other = deepcopy(results)
    for run in other["runs"]:
        run["train_seconds"] = len(run["history"]) * second
        for entry in run["history"]:
            entry["seconds"] = second
    return other


def unpair(results: Results) -> Results:
    """The same study, its heads drawn from other streams."""
    for run in results["runs"]:
        run["provenance"]["start"]["head_sha256"] = simulated.digest("another head", run["seed"])
    return results


def from_nothing(init: str, seed: int, final: float = 0.8) -> Run:
    """A run of another init, which needs no pretext run."""
    run = simulated.run("downstream", {"init": "random", "freeze": "none"}, seed, final, 0.5, 2)
    run |= {"id": f"{init}-s{seed}", "variant": {"init": init, "freeze": "none"}}
    run["settings"]["init"] = {"name": init}
    return run
