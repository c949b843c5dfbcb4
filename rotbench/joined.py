"""Which variants and pretext runs two studies share, and whether their runs at one seed draw from the same streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotbench.compare import Results, by_variant
from rotbench.partner import Variant, alike, filled
from rotbench.recipe import Run, kept, part


@dataclass(frozen=True)
class Shared:
    """The variants of two studies that mean the same, as A and as B write them, and those that only one has.

    ``pretexts`` are names of pretext runs in both.
    """

    variants: tuple[tuple[Variant, Variant], ...]
    only_a: tuple[Variant, ...]
    only_b: tuple[Variant, ...]
    pretexts: tuple[str, ...]
    pretexts_only_a: tuple[str, ...]
    pretexts_only_b: tuple[str, ...]


def shared(a: Results, b: Results) -> Shared:
    """Join two studies, in A's order.

    First what is written alike, so that a setting that was changed for all variants, or a plugin's default, does not
    part them. Of the rest those whose resolved settings are alike: a name and a table with its default options, or
    an axis and a setting that all variants share. Where more than one would do, none is taken.
    """
    sides = [_variants(results) for results in (a, b)]
    written = {alike(filled(variant)): place for place, (variant, _) in reversed(list(enumerate(sides[1])))}
    partner: dict[int, int] = {}
    for place, (variant, _) in enumerate(sides[0]):
        found = written.pop(alike(filled(variant)), None)
        if found is not None:
            partner[place] = found
    partner |= _resolved_alike(sides[0], sides[1], partner)
    taken = set(partner.values())
    names = [_pretexts(results) for results in (a, b)]
    return Shared(
        variants=tuple((sides[0][place][0], sides[1][partner[place]][0]) for place in sorted(partner)),
        only_a=tuple(variant for place, (variant, _) in enumerate(sides[0]) if place not in partner),
        only_b=tuple(variant for place, (variant, _) in enumerate(sides[1]) if place not in taken),
        pretexts=tuple(name for name in names[0] if name in names[1]),
        pretexts_only_a=tuple(name for name in names[0] if name not in names[1]),
        pretexts_only_b=tuple(name for name in names[1] if name not in names[0]),
    )


def _variants(results: Results) -> list[tuple[Variant, Run]]:
    """Each downstream variant with one of its runs, which have the same settings."""
    return [(variant, runs[0]) for variant, runs in by_variant(results["runs"], "downstream")]


def _pretexts(results: Results) -> list[str]:
    names = (run["variant"].get("pretext") for run in results["runs"] if run["kind"] == "pretext")
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


_Variants = Sequence[tuple[Variant, Run]]


def _resolved_alike(a: _Variants, b: _Variants, joined: Mapping[int, int]) -> dict[int, int]:
    """Of what is not joined yet, the pairs of alike settings that leave no choice, by place in A and in B."""
    taken = set(joined.values())
    ours = {place: _Resolved(*one) for place, one in enumerate(a) if place not in joined}
    theirs = {place: _Resolved(*one) for place, one in enumerate(b) if place not in taken}
    by_plugins: dict[tuple[str, ...], list[int]] = {}
    for place, other in theirs.items():
        by_plugins.setdefault(other.plugins, []).append(place)
    found = {
        place: [at for at in by_plugins.get(one.plugins, []) if one.fits(theirs[at])] for place, one in ours.items()
    }
    chosen = Counter(at for places in found.values() for at in places)
    return {place: at[0] for place, at in found.items() if len(at) == 1 and chosen[at[0]] == 1}


class _Resolved:
    """A variant's values, each as text that is the same for what means the same, and what its run resolved."""

    def __init__(self, variant: Variant, run: Run) -> None:
        whole = filled(variant)
        self.settings = {**part(run, "model"), **part(run, "train")}
        self.plugins = tuple(alike(part(run, key) or whole[key]) for key in ("init", "freeze"))
        self.values = {key: alike(value) for key, value in whole.items() if key not in ("init", "freeze")}

    def value(self, key: str) -> str | None:
        """The value of an axis that this variant sets, or that all runs of its study have; None where none is known."""
        if key in self.values:
            return self.values[key]
        return alike(self.settings[key]) if key in self.settings else None

    def fits(self, other: _Resolved) -> bool:
        """Whether both have the same known value for every key that one of them sets."""
        keys = self.values.keys() | other.values.keys()
        return all(self.value(key) is not None and self.value(key) == other.value(key) for key in keys)


# Random streams

#: What a run recorded of the draws of its seed, and how it is called.
STREAMS = (
    ("start", "seed_backbone_sha256", "random starting weights"),
    ("start", "head_sha256", "head"),
    ("data", "fingerprint", "data"),
    ("data", "subset_sha256", "labelled images"),
)


def parted(a: Sequence[Run], b: Sequence[Run]) -> str:
    """Why the runs of two studies at one seed, a repeat each, are no pair; empty where they are.

    Order and augmentation are drawn from the seed alone, as the weights are; what a run recorded tells whether both
    programs draw the same from it.
    """
    others = {run.get("repeat", 0): run for run in b}
    pairs = [(run, others[run.get("repeat", 0)]) for run in a if run.get("repeat", 0) in others]
    if not pairs:
        return "no repeat is in both"
    for part_of, key, words in STREAMS:
        values = [tuple(kept(run, part_of).get(key) for run in pair) for pair in pairs]
        if any(None in pair for pair in values):
            return f"the {words} {_is(words)} not recorded in both"
        if any(one != other for one, other in values):
            return f"the {words} {_is(words)} not the same"
    return ""


def _is(words: str) -> str:
    return "are" if words.endswith(("weights", "images", "data")) else "is"
