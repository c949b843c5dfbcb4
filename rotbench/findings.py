"""What whoever reads a hand-in must know of it before its numbers: what fails, does not compare, or is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotbench.answer import ComparabilityRow
from rotbench.compare import Results, Run
from rotbench.evidence import proof, seed_rows
from rotbench.looks import looked
from rotbench.spoken import counted
from rotbench.wording import enumerated, some_runs, variant_and_seed

#: What can be counted, as one of it is called; other words stay as they are.
_NOUNS = ("failed proof", "unlike seed", "unlike subset", "impossible run")

#: Of titles and errors so many characters are told.
_LONG = 240


@dataclass(frozen=True)
class Finding:
    """One thing to look at, ``text`` being a sentence without its full stop.

    ``kind`` says what it is about. ``short`` is the same in a few words; where there is a ``count`` of runs, seeds or
    contrasts, it is what these are. What is not ``grave`` is worth knowing and no fault.
    """

    kind: str
    short: str
    text: str
    count: int | None = None
    grave: bool = True


def in_short(found: Sequence[Finding]) -> list[tuple[str, bool]]:
    """Findings in a few words, those of one sort added up, and whether they are grave."""
    counts: dict[tuple[str, bool], int | None] = {}
    for one in found:
        key = (one.short, one.grave)
        counts[key] = None if one.count is None else one.count + (counts.get(key) or 0)
    return [
        (short if count is None else counted(count, short) if short in _NOUNS else f"{count} {short}", grave)
        for (short, grave), count in counts.items()
    ]


def findings(
    results: Results, comparability: Sequence[ComparabilityRow], labels: Mapping[str, str]
) -> tuple[Finding, ...]:
    """What is to be looked at in one study by itself, the gravest first; ``labels`` name variants."""
    found = []
    if results["study"].get("rehearsal"):
        found.append(Finding("rehearsal", "a rehearsal", "a rehearsal: no number in it means anything"))
    found += _failed_proofs(results, labels)
    found += _unlike_seeds(results)
    found += _unlike_subsets(results)
    found += _incomparable(comparability)
    found += _looks(results)
    found += _not_done(results["runs"], labels)
    return tuple(found)


def _failed_proofs(results: Results, labels: Mapping[str, str]) -> list[Finding]:
    runs = results["runs"]
    by_id = {run["id"]: run for run in runs}
    failing: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if "start" in run["provenance"] and (failures := proof(run, by_id).failures):
            failing.setdefault(failures, []).append(run)
    return [
        Finding(
            "proof",
            "failed proof",
            f"proof fails for {_of(those, runs)} ({_named(those, labels)}): {'; '.join(failures)}",
            len(those),
        )
        for failures, those in failing.items()
    ]


def _unlike_seeds(results: Results) -> list[Finding]:
    """Seeds whose runs do not share what they must share."""
    unlike: dict[str, list[int]] = {}
    for row in seed_rows(results["runs"]):
        for holds, words in (
            (row.same_backbone, "runs were not built on the same random weights"),
            (row.same_head, "downstream runs do not have the same head"),
            (row.same_start is not False, "pretraining and random weights do not start from equal weights"),
        ):
            if not holds:
                unlike.setdefault(words, []).append(row.seed)
    return [
        Finding("proof", "unlike seed", f"proof fails: {words} ({_seeds(seeds)})", len(seeds))
        for words, seeds in unlike.items()
    ]


def _unlike_subsets(results: Results) -> list[Finding]:
    """Labelled images that are not what ``labels_per_class`` promises."""
    unlike: dict[str, list[int]] = {}
    for row in results.get("subsets", []):
        for key, words in (
            ("balanced", "are not as many of each class"),
            ("same", "are not the same in all runs"),
            ("nested", "are not part of those of the next larger number"),
            ("own", "are those of another seed too"),
        ):
            if row[key] is False:
                labelled = f"the images of labels_per_class {row['labels_per_class']} {words}"
                unlike.setdefault(labelled, []).append(row["seed"])
    return [
        Finding("proof", "unlike subset", f"proof fails: {words} ({_seeds(seeds)})", len(seeds))
        for words, seeds in unlike.items()
    ]


def _incomparable(rows: Sequence[ComparabilityRow]) -> list[Finding]:
    found = []
    confounded: dict[tuple[str, ...], list[ComparabilityRow]] = {}
    for row in rows:
        if row.confounds:
            confounded.setdefault(row.confounds, []).append(row)
    for confounds, those in confounded.items():
        differ = "also differs" if len(those) == 1 else "also differ"
        text = f"{_contrasts(those)} {differ} in {'; '.join(confounds)}: what makes the difference cannot be told"
        found.append(Finding("confounded", "confounded", text, len(those)))
    same = [row for row in rows if row.same_start]
    if same:
        text = f"{_contrasts(same)}: nothing is compared, since both sides start from the very same weights"
        found.append(Finding("same start", "comparing nothing", text, len(same)))
    return found


def _looks(results: Results) -> list[Finding]:
    seeds = results["study"]["seeds"]
    followed = [look for look in results["study"].get("looks", []) if set(look) != set(seeds)]
    return [
        Finding(
            "looks", "seeds after a look", f"{looked(look, seeds)} could be seen: p values and verdicts claim too much"
        )
        for look in followed
    ]


def _not_done(runs: Sequence[Run], labels: Mapping[str, str]) -> list[Finding]:
    """Runs that failed, with what they said; and those that were skipped, are not there, or are stale."""
    found = []
    failed: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run["diverged"] or run["status"] == "failed":
            state = "diverged" if run["diverged"] else "failed"
            failed.setdefault((state, run["error"] or ""), []).append(run)
    for (state, error), those in failed.items():
        told = f": {shortened(error)}" if error else ""
        text = f"{_of(those, runs)} {state} ({_named(those, labels)}){told}"
        found.append(Finding("not done", state, text, len(those)))
    for status, words in (("skipped", "skipped, since what they start from failed"), ("missing", "not done")):
        those = [run for run in runs if run["status"] == status and not run["diverged"]]
        if those:
            text = f"{_of(those, runs)} {'is' if len(those) == 1 else 'are'} {words} ({_named(those, labels)})"
            found.append(Finding("not done", status, text, len(those)))
    if not runs:
        found.append(Finding("not done", "no runs", "the study has no run"))
    stale = [run for run in runs if run["stale"]]
    if stale:
        text = f"{_of(stale, runs)} {'is' if len(stale) == 1 else 'are'} stale: {shortened(stale[0]['stale'])}"
        found.append(Finding("stale", "stale", text, len(stale)))
    return found


def _of(those: Sequence[Run], runs: Sequence[Run]) -> str:
    return f"{len(those)} of {counted(len(runs))}"


def _named(those: Sequence[Run], labels: Mapping[str, str]) -> str:
    return some_runs(variant_and_seed(run, labels) for run in those)


def _contrasts(rows: Sequence[ComparabilityRow]) -> str:
    first = f"{rows[0].variant} against {rows[0].baseline}"
    return first if len(rows) == 1 else f"{first} and {counted(len(rows) - 1, 'more contrast')}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {enumerated(map(str, seeds))}"


def shortened(text: str) -> str:
    """A text that somebody else wrote, in a few lines at most."""
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
