"""Looks at results before the last seeds: what a reader of p values must know.

A test at 5 % is one at 5 % where the number of seeds was settled beforehand. Who looks, adds seeds and looks again
gets more false "higher" and "lower" than that; so every look that a change of seeds has followed is recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def looks(
    earlier: Mapping[str, Any] | None, finished: Collection[str], seeds: Sequence[int], planned: Collection[str]
) -> list[list[int]]:
    """The seeds whose results could be seen each time before the study's seeds were changed, in order.

    ``earlier`` is what ``study.json`` held until now, or None; ``finished`` are the ids of the runs that were done;
    ``seeds`` and ``planned`` (ids of runs) are what the study asks for now. A look needs two seeds, since fewer show no
    interval, and runs that still count: after a change of every setting the study is another one.
    """
    if earlier is None:
        return []
    recorded = [list(look) for look in earlier["study"].get("looks", [])]
    downstream = [run for run in earlier["runs"] if run["kind"] == "downstream"]
    unfinished = {run["seed"] for run in downstream if run["id"] not in finished}
    seen = sorted({run["seed"] for run in downstream} - unfinished)
    still = {run["id"] for run in downstream} & set(finished) & set(planned)
    changed = set(earlier["study"]["seeds"]) != set(seeds)
    return [*recorded, seen] if still and changed and len(seen) > 1 and seen not in recorded else recorded


def looked(seen: Sequence[int], seeds: Collection[int]) -> str:
    """What followed one look, as a sentence: seeds added, and seeds left out."""
    added, dropped = sorted(set(seeds) - set(seen)), sorted(set(seen) - set(seeds))
    told = []
    if added:
        told.append(f"{_named(added)} {'was' if len(added) == 1 else 'were'} added")
    if dropped:
        told.append(f"{_named(dropped)} {'was' if len(dropped) == 1 else 'were'} left out")
    return f"{' and '.join(told)} after the results of {_named(seen)}"


def _named(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 3 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds[:-1]))} and {seeds[-1]}"
