"""What two studies differ in: settings of their runs, machines and versions, code of plugins, study files.

Of each contrast it is told what could have made its difference. Where that is one thing, it is named; where it is
several, none of them is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rotbench.comparability import Difference, Known, between_studies, known, pretexts_between_studies
from rotbench.compare import Results, Run, as_written, by_variant, finished
from rotbench.plan import PLUGIN_SETTINGS
from rotbench.recipe import part
from rotbench.trained import listed
from rotbench.versus import Versus, margin_of

Kind = Literal["training", "machine", "code", "study"]

#: Where and with what a run was made, but for its data.
MACHINE = frozenset({"device", "threads", "torch", "torchvision", "rotbench", "python"})
#: Differs without a consequence: no number that a run computes is Python's.
HARMLESS = frozenset({"python"})

_PRETRAINING = re.compile(r"^(?:earlier )*pretraining (?=.)")


@dataclass(frozen=True)
class Change:
    """One thing in which two studies, or the runs of a variant, differ; both values in words.

    ``seeds`` are those in which they differ so, empty where it is all; ``some``: it is some, and not the same seeds on
    both sides. ``both``: in training and in pretraining.
    """

    setting: str
    of: Kind
    a: str
    b: str
    seeds: tuple[int, ...] = ()
    some: bool = False
    both: bool = False

    @property
    def plain(self) -> str:
        """The setting without saying that it is one of the pretraining."""
        return _PRETRAINING.sub("", self.setting)


@dataclass(frozen=True)
class ChangeRow:
    """A change, and the places of the variants and pretext runs that differ in it; none of a change of the study."""

    change: Change
    variants: tuple[int, ...]
    pretexts: tuple[int, ...]


def changes(a: Results, b: Results, contrasts: Sequence[Versus]) -> list[tuple[Change, ...]]:
    """Of each contrast, a variant or a pretext run, what its runs differ in."""
    ours, theirs = _Studied(a), _Studied(b)
    return [_changes_of(item, ours, theirs) for item in contrasts]


def change_rows(
    a: Results, b: Results, of_variants: Sequence[Sequence[Change]], of_pretexts: Sequence[Sequence[Change]]
) -> list[ChangeRow]:
    """Each change once, those of training first, those of the study files last.

    What differs in pretraining is told of the pretext runs, and not again of what starts from them.
    """
    rows: dict[Change, ChangeRow] = {}
    for place, found in enumerate(of_variants):
        for change in found:
            row = rows.get(change, ChangeRow(change, (), ()))
            rows[change] = replace(row, variants=(*row.variants, place))
    for place, found in enumerate(of_pretexts):
        for change in found:
            rows.pop(change, None)
            own = replace(change, setting=change.setting.removeprefix("pretraining "))
            row = rows.get(own, ChangeRow(own, (), ()))
            rows[own] = replace(row, pretexts=(*row.pretexts, place))
    order: tuple[Kind, ...] = ("training", "machine", "code")
    ordered = sorted(rows.values(), key=lambda row: order.index(row.change.of))
    return [*ordered, *(ChangeRow(change, (), ()) for change in _of_studies(a, b))]


def causes(found: Sequence[Change]) -> tuple[Change, ...]:
    """What could have made a difference, each thing once.

    A setting that differs alike in training and pretraining is one, as it is in a study file that sets it for both.
    So is the code of plugins that stand in one file.
    """
    merged: dict[tuple[str, str, str], Change] = {}
    for change in found:
        if change.plain in HARMLESS:
            continue
        key = (change.of if change.of == "code" else change.plain, change.a, change.b)
        first = merged.setdefault(key, change)
        if first is not change and change.of == "code":
            # ``code of init random and freeze policy none``
            merged[key] = replace(first, setting=f"{first.setting} and {change.setting.removeprefix('code of ')}")
        elif first.setting == first.plain != change.setting:
            merged[key] = replace(first, both=True)
    return tuple(merged.values())


class _Studied:
    """A study made ready for comparing its runs with those of another."""

    def __init__(self, results: Results) -> None:
        self.known: Known = known(results["runs"], results["study"]["pretexts"], ())
        self.by_id: Mapping[str, Run] = {run["id"]: run for run in results["runs"]}
        self.runs: Mapping[tuple[str, str], Sequence[Run]] = {
            (kind, as_written(variant)): runs
            for kind in ("downstream", "pretext")
            for variant, runs in by_variant(results["runs"], kind)
        }
        self.code = {(plugin["kind"], plugin["name"]): plugin["sha256"] for plugin in results["study"]["plugins"]}

    def of(self, variant: Mapping[str, Any]) -> tuple[str, Sequence[Run]]:
        """The kind and the runs of a variant."""
        kind = "pretext" if ("pretext", as_written(variant)) in self.runs else "downstream"
        return kind, self.runs[kind, as_written(variant)]

    def chain(self, run: Run) -> list[Run]:
        """A run, and the pretext runs that led to it."""
        chain = [run]
        while run["needs"] and run["needs"][0] in self.by_id and len(chain) <= len(self.by_id):
            run = self.by_id[run["needs"][0]]
            chain.append(run)
        return chain


def _changes_of(item: Versus, ours: _Studied, theirs: _Studied) -> tuple[Change, ...]:
    (kind, a), (_, b) = ours.of(item.a.variant), theirs.of(item.b.variant)
    pairs = list(_counterparts(a, b, paired=item.method == "paired"))
    differ = pretexts_between_studies if kind == "pretext" else between_studies
    aligned = all(one["seed"] == other["seed"] for one, other in pairs)
    found = [_told(difference, aligned) for difference in differ(pairs, ours.known, theirs.known)]
    chains = [(ours.chain(one), theirs.chain(other)) for one, other in pairs]
    depth = 1 if kind == "pretext" else 0
    further: dict[Change, None] = {}
    for chain in chains:
        further |= dict.fromkeys([*_versions(*chain, depth), *_code(*chain, ours, theirs)])
    return (*found, *further)


def _counterparts(a: Sequence[Run], b: Sequence[Run], *, paired: bool) -> Iterator[tuple[Run, Run]]:
    """Runs of one seed and repeat; where seeds are no pairs, each of the others with a finished run opposite."""
    sides = [{(run["seed"], run.get("repeat", 0)): run for run in runs} for runs in (a, b)]
    yield from ((run, sides[1][place]) for place, run in sides[0].items() if place in sides[1])
    if not paired:
        opposite = [next(filter(finished, runs), runs[0]) for runs in (a, b)]
        yield from ((run, opposite[1]) for place, run in sides[0].items() if place not in sides[1])
        yield from ((opposite[0], run) for place, run in sides[1].items() if place not in sides[0])


def _told(difference: Difference, aligned: bool) -> Change:
    plain = _PRETRAINING.sub("", difference.setting)
    of: Kind = "machine" if plain in MACHINE else "code" if plain == "code or data" else "training"
    told = Change(difference.setting, of, difference.variant, difference.baseline)
    return replace(told, seeds=difference.seeds) if aligned else replace(told, some=bool(difference.seeds))


def _versions(one: Sequence[Run], other: Sequence[Run], depth: int) -> Iterator[Change]:
    """Versions of programs that the comparison of runs leaves out, since within one store they change no number."""
    for step, (first, second) in enumerate(zip(one, other, strict=False), start=depth):
        told = [run.get("versions") or {} for run in (first, second)]
        prefix = "earlier " * (step - 1) + "pretraining " if step else ""
        for name in ("rotbench", "python"):
            if name in told[0] and name in told[1] and told[0][name] != told[1][name]:
                yield Change(f"{prefix}{name}", "machine", str(told[0][name]), str(told[1][name]))


def _code(one: Sequence[Run], other: Sequence[Run], ours: _Studied, theirs: _Studied) -> Iterator[Change]:
    """Plugins that both sides use, of other code."""
    used = [
        {(kind, part(run, key).get("name")): None for run in chain for key, kind in PLUGIN_SETTINGS.items()}
        for chain in (one, other)
    ]
    for plugin in used[0]:
        codes = [code.get(plugin) for code in (ours.code, theirs.code)]
        if plugin in used[1] and None not in codes and codes[0] != codes[1]:
            yield Change(f"code of {' '.join(map(str, plugin))}", "code", str(codes[0])[:12], str(codes[1])[:12])


def _of_studies(a: Results, b: Results) -> Iterator[Change]:
    """What the study files differ in besides what runs show, in words."""
    told: list[tuple[str, Callable[[Results], str]]] = [
        ("title", lambda study: study["title"]),
        ("file", lambda study: study["file"]),
        ("changed on the command line", lambda study: ", ".join(map(str, study.get("changed", []))) or "nothing"),
        ("seeds", lambda study: numbers(study["seeds"])),
        ("repeats", lambda study: str(study.get("repeats", 1))),
        ("rehearsal", lambda study: "yes" if study.get("rehearsal") else "no"),
    ]
    for name, words in told:
        values = [words(results["study"]) for results in (a, b)]
        if values[0] != values[1]:
            yield Change(name, "study", values[0], values[1])
    if margin_of(a) != margin_of(b):
        yield Change("margin", "study", margin_words(a), margin_words(b))


def margin_words(results: Results) -> str:
    """``1 point``, with all its digits."""
    margin = 100 * margin_of(results)
    return f"{margin:.12g} {'point' if f'{margin:.12g}' == '1' else 'points'}"


def numbers(seeds: Sequence[int]) -> str:
    """``0 to 4``; ``0, 2 and 7``."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return listed([str(seed) for seed in seeds])
