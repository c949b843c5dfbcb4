"""What comes of comparing two studies, in words: a sentence a variant, what could have made it so, what is not said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotbench.answer import seeds_lacking
from rotbench.changes import Change, causes, changes, margin_words, numbers
from rotbench.compare import Results, as_written
from rotbench.contrast import EQUAL
from rotbench.evidence import proof, seed_rows
from rotbench.joined import Shared, shared
from rotbench.limits import changes_of_seeds
from rotbench.trained import listed
from rotbench.versus import NO_SPREAD, SAME, Versus, margin_of, pretexts, versus
from rotbench.wording import p_value, points, span, variant_labels


@dataclass(frozen=True)
class Outcome:
    """Two studies, A and B, and all that is found in comparing them.

    ``names`` are what the studies are called besides their titles, ``labels`` name variants by ``as_written``: joined
    ones as A writes them. ``changes`` and ``pretext_changes`` go with ``contrasts`` and ``pretexts``.
    """

    a: Results
    b: Results
    names: tuple[str, str]
    joined: Shared
    contrasts: tuple[Versus, ...]
    pretexts: tuple[Versus, ...]
    changes: tuple[tuple[Change, ...], ...]
    pretext_changes: tuple[tuple[Change, ...], ...]
    labels: dict[str, str]

    @property
    def sides(self) -> tuple[Results, Results]:
        return self.a, self.b

    @property
    def same_title(self) -> bool:
        return bool(self.a["study"]["title"] == self.b["study"]["title"])

    @property
    def study_labels(self) -> tuple[str, str]:
        """What each study is called: its title and name, or a letter and the name where both have one title."""
        if self.same_title:
            return f"A: {self.names[0]}", f"B: {self.names[1]}"
        first, second = (
            f"{side['study']['title']} ({name})" for side, name in zip(self.sides, self.names, strict=True)
        )
        return first, second

    @property
    def family(self) -> int:
        """Over how many contrasts Holm's correction is."""
        return sum(item.n > 1 for item in self.contrasts)

    def label(self, item: Versus) -> str:
        return self.labels[as_written(item.a.variant)]


@dataclass(frozen=True)
class Said:
    """One sentence of the answer: a mark (the verdict), ``tone`` being its first word for a style, and a text."""

    tone: str
    mark: str
    text: str
    notes: tuple[str, ...]


def outcome(a: Results, b: Results, names: tuple[str, str]) -> Outcome:
    """Compare two studies, as :func:`~rotbench.embedded.tidied` leaves them."""
    joined = shared(a, b)
    contrasts, scores = versus(a, b, joined), pretexts(a, b, joined)
    found = changes(a, b, [*contrasts, *scores])
    written = [pair[0] for pair in joined.variants]
    return Outcome(
        a,
        b,
        names,
        joined,
        contrasts,
        scores,
        tuple(found[: len(contrasts)]),
        tuple(found[len(contrasts) :]),
        variant_labels([dict(variant) for variant in (*written, *joined.only_a, *joined.only_b)]),
    )


def sentences(found: Outcome) -> list[Said]:
    """One sentence a joined variant, in A's order."""
    return [
        Said(*_mark(item), _text(item, found, causes(differing)), _notes(item, differing))
        for item, differing in zip(found.contrasts, found.changes, strict=True)
    ]


def _mark(item: Versus) -> tuple[str, str]:
    if item.verdict is None:
        return ("equivalent", "the same") if item.reason == SAME else ("none", "no verdict")
    return item.verdict.split(",")[0].replace(" ", "-"), item.verdict


def _text(item: Versus, found: Outcome, why: Sequence[Change]) -> str:
    label, margin = found.label(item), f"{points(margin_of(found.a), sign=False)} points"
    named = f", with {_instead(why[0])}" if len(why) == 1 else ""
    if item.identical:
        return f"{label}: the same to the last digit in {_of_seeds(item)}{_weights(item)}{named}{_but(item)}."
    if item.difference is None:
        return f"{label}: nothing to compare yet ({item.reason})."
    if item.verdict is None:
        numbers = _numbers(item) if item.interval else _seeds(item)
        return f"{label}{named}: {points(item.difference)} points ({numbers}){_but(item)}."
    if item.verdict == "equivalent":
        return (
            f"{label}: B and A differ by less than the margin of {margin}{named}: {points(item.difference)} points "
            f"({_numbers(item, narrow=True)})."
        )
    holm = f" after Holm over {found.family} variants" if found.family > 1 else ""
    told = f"{_numbers(item)}, p {_equals(item.p_holm)}{holm}"
    if item.verdict == "not resolved":
        needed = seeds_lacking(item.seeds_needed, item.n, item.p, found.family)
        return f"{label}{named}: {points(item.difference)} points ({told}){needed}."
    apart = f"{points(abs(item.difference), sign=False)} points {'above' if item.difference > 0 else 'below'}"
    less = f", by less than the margin of {margin}" if "," in item.verdict else ""
    normal = f"; assuming normal {'differences' if item.method == 'paired' else 'accuracies'}"
    return f"{label}: B is {apart} A{less}{named} ({told}{normal if item.assumes_normality else ''})."


def _instead(change: Change) -> str:
    """``lr 0.001 instead of 0.01``."""
    when = f" in {_seed_names(change.seeds)}" if change.seeds else ""
    where = " in training and pretraining" if change.both else when or " in some runs" * change.some
    return f"{change.setting} {change.b} instead of {change.a}{where}"


def _seed_names(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {numbers(seeds)}"


def _numbers(item: Versus, narrow: bool = False) -> str:
    """The interval of the contrast, or the one that equivalence rests on, and its seeds."""
    level, interval = ("90", item.interval_90) if narrow else ("95", item.interval)
    how = "of paired differences" if item.method == "paired" else "of Welch's t"
    return f"{level} % t interval {how} {span(interval)}, {_seeds(item)}" if interval else _seeds(item)


def _seeds(item: Versus) -> str:
    if item.method == "paired":
        return f"n = {item.n} {'seed' if item.n == 1 else 'seeds'}"
    return f"n = {item.a.n} and {item.b.n} seeds"


def _of_seeds(item: Versus) -> str:
    seeds = len(item.common)
    return f"{len(item.same)} of {seeds} {'seed' if seeds == 1 else 'seeds'}"


def _weights(item: Versus) -> str:
    if item.same_weights is None:
        return ""
    return ", and so are the trained backbones" if item.same_weights == item.common else ", but not the backbones"


def _but(item: Versus) -> str:
    """Why nothing is concluded."""
    if item.verdict is not None or item.reason in (None, SAME):
        return ""
    told = {
        "other data": "the two were scored on other images, and intervals cover other seeds alone",
        EQUAL: "all seeds differ by the same amount, which leaves no spread to judge it by",
        NO_SPREAD: "all seeds of a side are equal, which leaves no spread to judge it by",
    }
    reason = told.get(item.reason, item.reason)
    if item.reason.startswith("diverged"):
        reason = f"a run {item.reason}"
    elif item.reason.startswith("one seed"):
        reason += ", which tells nothing of others"
    return f"; no verdict: {reason}"


def _equals(p: float | None) -> str:
    text = p_value(1.0 if p is None else p)
    return text if text.startswith("<") else f"= {text}"


def _notes(item: Versus, differing: Sequence[Change]) -> tuple[str, ...]:
    """What could have made the difference, how seeds were compared, and what a reader may take for more than it is."""
    if item.difference is None:
        return ()
    notes = _about_causes(item, differing)
    if item.method == "Welch":
        notes.append(f"Seeds are not paired: {item.why}.")
        if item.same:
            notes.append(f"The same to the last digit in {_of_seeds(item)} that both have.")
    if item.left_out:
        alone = [
            f"{_seed_names([seed for seed in item.left_out if seed in side.accuracies])} of {letter}"
            for letter, side in (("A", item.a), ("B", item.b))
            if any(seed in side.accuracies for seed in item.left_out)
        ]
        notes.append(f"Left out of the difference, for want of a partner: {listed(alone)}.")
    if item.copied:
        which = "these runs" if item.copied == item.common else f"the runs of {_seed_names(item.copied)}"
        notes.append(f"Nothing was trained anew: {which} are the same trainings, read from two places.")
    return tuple(notes)


def _about_causes(item: Versus, differing: Sequence[Change]) -> list[str]:
    """What could have made the difference, where it is not one thing, which the sentence names."""
    found = causes(differing)
    if len(found) > 1:
        told = listed([change.setting for change in found])
        return [f"{len(found)} things differ, so what each of them does cannot be told: {told}."]
    if found:
        return []
    idle = listed(list(dict.fromkeys(change.plain for change in differing)))
    but = f" but {idle}, which changes no number" if differing else ""
    claims = item.verdict is not None and item.verdict.startswith(("higher", "lower"))
    return [f"Nothing that is recorded differs{but}{', so what made the difference is not known' if claims else ''}."]


def counted(found: Outcome) -> str:
    """All sentences in one: ``Of 4 variants in both: 1 higher in B, 3 not resolved.``"""
    kinds: dict[str, int] = {}
    for item in found.contrasts:
        word = SAME if item.reason == SAME else (item.verdict or "without a verdict").partition(",")[0]
        kinds[word] = kinds.get(word, 0) + 1
    order = ("higher", "lower", "equivalent", SAME, "not resolved", "without a verdict")
    told = [f"{kinds[word]} {word}{' in B' * (word in order[:2])}" for word in order if word in kinds]
    variants = len(found.contrasts)
    return f"Of {variants} {'variant' if variants == 1 else 'variants'} in both studies: {', '.join(told)}."


def limits(found: Outcome) -> list[str]:
    """What the comparison does not say, the gravest first."""
    several = sum(len(causes(differing)) > 1 for differing in found.changes)
    told = []
    if several:
        told.append(
            "What each of several changes did. Studies in which one thing is changed at a time would tell, with the "
            "same seeds."
        )
    told.append(
        "What a change is worth that was chosen by such a page: who tries changes until a comparison shows a "
        "difference will find one by chance. New seeds would tell."
    )
    images = {side["study"]["test_images"] for side in found.sides}
    if len(images) == 1 and None not in images:
        told.append(
            f"How far it holds for other images: intervals cover new seeds on these {images.pop():,} test images."
        )
    return told


def cautions(found: Outcome) -> list[str]:
    """What must be known before a number is used: failed proofs, rehearsals, seeds after a look."""
    told = []
    for letter, side in zip("AB", found.sides, strict=True):
        by_id = {run["id"]: run for run in side["runs"]}
        rows = [proof(run, by_id) for run in side["runs"] if "start" in run["provenance"]]
        if any(row.failures for row in rows) or not all(row.holds for row in seed_rows(side["runs"])):
            told.append(
                f"Do not use the numbers of {letter}: a run did not start from, or did not keep, what it claims. The "
                "study's own page tells which."
            )
        if side["study"].get("rehearsal"):
            told.append(f"{letter} is a rehearsal: no number of it means anything.")
        told += [f"{letter}: {change}" for change in changes_of_seeds(side)]
    if margin_of(found.a) != margin_of(found.b):
        mine, other = (margin_words(side) for side in found.sides)
        told.append(f"The margin of A, {mine}, is used for all verdicts; that of B is {other}.")
    return told
