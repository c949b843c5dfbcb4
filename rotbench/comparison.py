"""The page of two studies, and the same as plain JSON: rendered from the results of both alone.

It carries what it says and neither study's results, of which each has a page of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rotbench import __version__
from rotbench.canvas import page_svg
from rotbench.changes import Change, ChangeRow, causes, change_rows, numbers
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import VariantSummary
from rotbench.embedded import printable, tidied
from rotbench.errors import BadInput, EnvironmentLacking
from rotbench.outcome import Outcome, cautions, counted, limits, outcome, sentences
from rotbench.overlays import MOST_PANELS, NAMES, curves_table, drawings
from rotbench.redraw import JSON, OF_COMPARISON, PAGE, check_shape, drawable, read_results
from rotbench.report import dressed, environment
from rotbench.system import write_durably
from rotbench.tables import distinct
from rotbench.versus import SAME, Versus, margin_of

#: Study files of more lines are not laid side by side: that takes time, and nobody reads it.
MOST_LINES = 2000

TWO = "Give the results of two studies: folders, pages or results.json."


# Two results folders, pages or JSON files


def compared(a: Path, b: Path) -> Outcome:
    """Read two studies and compare them.

    Raises as :func:`~rotbench.redraw.read_results`, and :class:`~rotbench.errors.BadInput` where both are one, or have
    nothing in common.
    """
    results = [_read(path) for path in (a, b)]
    if _store_of(a) == _store_of(b):
        raise BadInput(f"{a} and {b} are the same results", TWO)
    if _timed(results[0]) and _recorded(results[0]) == _recorded(results[1]):
        raise BadInput(f"{a} and {b} hold the same results: every run is the same, to the second", TWO)
    with drawable(f"{a} or {b}", "compared"):
        found = outcome(results[0], results[1], (_name(a), _name(b)))
    if not found.contrasts and not found.pretexts:
        has = "; ".join(
            f"{path} has {_some([found.labels[as_written(variant)] for variant in only])}"
            for path, only in ((a, found.joined.only_a), (b, found.joined.only_b))
        )
        raise BadInput(
            f"{a} and {b} have no variant in common: {has}",
            "Compare studies that set the same keys to the same values.",
        )
    return found


def write_page(html: str, path: Path) -> None:
    """Write a page. Raises :class:`~rotbench.errors.BadInput` where it would go over what is no such page."""
    todo = "Give another file with --to."
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder", todo)
        if (path.exists() or path.is_symlink()) and not _is_comparison(path):
            raise BadInput(f"{path} is there already, and is no comparison", todo)
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentLacking(f"{path} cannot be written: {error.strerror}", todo) from None
    write_durably(path, html.encode())


def _is_comparison(path: Path) -> bool:
    return path.is_file() and OF_COMPARISON.encode() in path.read_bytes()


def _read(path: Path) -> Results:
    results = read_results(path)
    check_shape(results, path)
    with drawable(path, "read"):
        return tidied(results)


def _store_of(path: Path) -> Path:
    """The folder of a store, also where one of the files that it is told by was given."""
    there = path.resolve()
    is_within = there.name in (PAGE, JSON) and (there.parent / "study.json").exists()
    return there.parent if is_within else there


def _recorded(results: Results) -> list[Any]:
    """What no second training repeats: of each run the time that it took, beside what came of it."""
    return [[run[key] for key in ("id", "status", "history", "final", "train_seconds")] for run in results["runs"]]


def _timed(results: Results) -> bool:
    return any(run["train_seconds"] is not None for run in results["runs"])


def _name(path: Path) -> str:
    """The last part of what was given: the page tells nobody's folders."""
    return printable(path.name or str(path))


def _some(labels: Sequence[str], most: int = 5) -> str:
    told = [" ".join(label.split()) for label in labels[:most]]
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return f"{', '.join(told)}{more}" if told else "none"


# What the page says


@dataclass(frozen=True)
class FinalRow:
    """One row of the table of final accuracies, or of pretext scores; ``per_cent`` is not given to other scores."""

    label: str
    versus: Versus
    per_cent: bool = True


@dataclass(frozen=True)
class ShownChange:
    """A row of the table of what differs; ``where`` says in what, empty for all variants or the study."""

    change: Change
    where: str


def render(found: Outcome) -> str:
    """The page as one HTML document. The same results under the same names give the same text."""
    drawn = drawings(found)
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            rotbench=__version__,
            found=found,
            studies=[study_facts(side) for side in found.sides],
            sentences=sentences(found),
            counted=counted(found),
            limits=limits(found),
            cautions=cautions(found),
            same=SAME,
            alike={(item.method, item.why) for item in found.contrasts},
            margin=margin_of(found.a),
            changes=shown_changes(found),
            finals=[FinalRow(found.label(item), item) for item in found.contrasts],
            pretexts=[
                FinalRow(item.a.variant["pretext"], item, _score(found, item) == "accuracy") for item in found.pretexts
            ],
            scores=[_score(found, item) for item in found.pretexts],
            # Our own SVG, its texts escaped.
            figures={name: Markup(page_svg(drawn[name]) if name in drawn else "") for name in NAMES},  # noqa: S704
            curves=curves_table(found),
            most_panels=MOST_PANELS,
            unmatched=unmatched(found),
            lines=study_lines(found),
            embedded=as_json(found),
            series=[],
            **dressed("report.js"),
        )
    )


def as_json(found: Outcome) -> dict[str, Any]:
    """What the page says, as plain JSON: fractions at full precision, null where there is no number."""
    labels, joined = found.study_labels, found.joined
    return {
        "studies": [
            {"label": label, "title": side["study"]["title"], "name": name, "seeds": side["study"]["seeds"]}
            for label, side, name in zip(labels, found.sides, found.names, strict=True)
        ],
        "margin": margin_of(found.a),
        "family": found.family,
        "contrasts": [
            {
                "label": found.label(item),
                **_told(item),
                "p": item.p,
                "p_holm": item.p_holm,
                "verdict": item.verdict,
                "assumes_normality": item.assumes_normality,
                "seeds_needed": asdict(item.seeds_needed) if item.seeds_needed else None,
                "differs_in": [_change(change) for change in causes(differing)],
                "sentence": said.text,
            }
            for item, differing, said in zip(found.contrasts, found.changes, sentences(found), strict=True)
        ],
        "pretexts": [
            {"label": item.a.variant["pretext"], **_told(item), "differs_in": [_change(c) for c in causes(differing)]}
            for item, differing in zip(found.pretexts, found.pretext_changes, strict=True)
        ],
        "differences": [
            {"of": row.change.of, **_change(row.change), "where": row.where or None} for row in shown_changes(found)
        ],
        "unmatched": {
            "variants": [list(joined.only_a), list(joined.only_b)],
            "pretexts": [list(joined.pretexts_only_a), list(joined.pretexts_only_b)],
        },
        "cautions": cautions(found),
    }


def _told(item: Versus) -> dict[str, Any]:
    return {
        "a": _side(item.a),
        "b": _side(item.b),
        "method": item.method,
        "why": item.why,
        "n": item.n,
        "difference": item.difference,
        "interval": list(item.interval) if item.interval else None,
        "differences": [{"seed": seed, "difference": value} for seed, value in item.differences.items()],
        "common_seeds": list(item.common),
        "same_seeds": list(item.same),
        "reason": item.reason,
    }


def _side(summary: VariantSummary) -> dict[str, Any]:
    estimate = summary.estimate
    return {
        "variant": summary.variant,
        "n": summary.n,
        "planned": summary.planned,
        "mean": estimate.mean if estimate else None,
        "interval": list(estimate.interval) if estimate and estimate.interval else None,
        "accuracies": [{"seed": seed, "test_accuracy": value} for seed, value in summary.accuracies.items()],
    }


def _change(change: Change) -> dict[str, Any]:
    return {"setting": change.setting, "a": change.a, "b": change.b, "seeds": list(change.seeds)}


def shown_changes(found: Outcome) -> list[ShownChange]:
    """What differs, each thing once, with where it does."""
    rows = change_rows(found.a, found.b, found.changes, found.pretext_changes)
    return [ShownChange(row.change, _where(row, found)) for row in rows]


def _where(row: ChangeRow, found: Outcome) -> str:
    if row.change.of == "study":
        return ""
    told = [found.label(found.contrasts[place]) for place in row.variants]
    if len(told) == len(found.contrasts):
        told = ["all variants"] if len(told) > 1 else told
    told += [f"pretext {found.pretexts[place].a.variant['pretext']}" for place in row.pretexts]
    if row.change.seeds:
        told.append(f"in seed{'s' if len(row.change.seeds) > 1 else ''} {numbers(row.change.seeds)}")
    elif row.change.some:
        told.append("in some runs")
    return ", ".join(told)


def _score(found: Outcome, item: Versus) -> str:
    """What a pretext run is scored by; empty where the two studies do not score it alike."""
    name = item.a.variant["pretext"]
    scores = {side["study"]["pretexts"].get(name, {}).get("score_name", "accuracy") for side in found.sides}
    return str(scores.pop()) if len(scores) == 1 else ""


def unmatched(found: Outcome) -> list[tuple[str, list[str]]]:
    """What only one study has, by name."""
    joined, labels = found.joined, found.labels
    return [
        ("Variants of A", [labels[as_written(variant)] for variant in joined.only_a]),
        ("Variants of B", [labels[as_written(variant)] for variant in joined.only_b]),
        ("Pretext runs of A", list(joined.pretexts_only_a)),
        ("Pretext runs of B", list(joined.pretexts_only_b)),
    ]


def study_facts(results: Results) -> dict[str, Any]:
    """How a study was made, as far as its runs tell."""
    runs: list[Run] = results["runs"]
    provenances = [run["provenance"] for run in runs]
    fingerprints = [data["fingerprint"] for data in distinct(provenances, "data") if "fingerprint" in data]
    return {
        "runs": len(runs),
        "done": sum(run["status"] == "done" for run in runs),
        "seeds": numbers(results["study"]["seeds"]),
        "versions": distinct(runs, "versions"),
        "devices": distinct(runs, "device"),
        "precisions": distinct(runs, "precision"),
        "fingerprints": list(dict.fromkeys(map(str, fingerprints))),
    }


def study_lines(found: Outcome) -> str | None:
    """The lines in which the study files differ, as ``diff -u`` has them; None where they are too long for that."""
    texts = [side["study"]["text"].splitlines() for side in found.sides]
    if max(map(len, texts)) > MOST_LINES:
        return None
    return "\n".join(difflib.unified_diff(texts[0], texts[1], "A", "B", n=2, lineterm=""))
