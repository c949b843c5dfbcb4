"""The page: one HTML file rendered from the results alone, and the same numbers as CSV.

What is said in words is made here, what is shown is in ``templates/``. Every text that comes from a study, a plugin
or an error is data to the templates, which escape it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import jinja2
from markupsafe import Markup

from rotbench import compare, figures
from rotbench.compare import Contrast, Results, Run, Variant, VariantSummary, as_written
from rotbench.resources import templates_folder

MEASURED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "seconds")
CSV_COLUMNS = ("id", "kind", "seed", "repeat", "epoch", *MEASURED)
#: The digits that the page keeps of what is drawn but not compared; test accuracies keep all.
ROUNDED = ("train_loss", "train_accuracy", "test_loss", "lr", "seconds")
DIGITS = 5

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Sentence:
    """One sentence of the answer: a mark (the verdict) and a text; ``tone`` is the mark as one word for its style."""

    tone: str
    mark: str
    text: str
    contrast: Contrast
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FinalRow:
    """One row of the table of final accuracies; ``axes`` are the variant's values in words, in the table's order."""

    label: str
    axes: tuple[str, ...]
    summary: VariantSummary
    contrast: Contrast | None
    is_baseline: bool
    remark: str

    @property
    def faint(self) -> bool:
        """Whether the mean is not that of all planned seeds."""
        return self.summary.diverged or self.summary.n < self.summary.planned


@dataclass(frozen=True)
class PretextRow:
    """The final scores of one pretext task's runs."""

    name: str
    summary: str
    score_name: str
    n: int
    planned: int
    estimate: compare.Estimate | None
    chance: float | None


@dataclass(frozen=True)
class ProofRow:
    """What one run recorded about its start and its frozen part; ``failures`` and ``remarks`` are in words."""

    run: Run
    failures: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class SeedRow:
    """Whether all runs of one seed were built on one random backbone, and all downstream runs on one head.

    ``same_start`` says whether a random downstream run starts from the very backbone that the pretext run started
    from; None where one of the two is not there.
    """

    seed: int
    runs: int
    same_backbone: bool
    same_head: bool
    same_start: bool | None

    @property
    def holds(self) -> bool:
        """Whether nothing that is known of this seed is unequal."""
        return self.same_backbone and self.same_head and self.same_start is not False


@dataclass(frozen=True)
class CurveTable:
    """Mean values by epoch: a column a variant, None where a variant has no mean at that epoch."""

    columns: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]


def render(results: Results) -> str:
    """The report as one HTML document. The same results give the same text."""
    results = tidied(results)
    study = results["study"]
    runs: list[Run] = results["runs"]
    summaries = compare.variants(results)
    contrasts = compare.contrasts(results)
    labels = variant_labels([summary.variant for summary in summaries])
    folder = templates_folder()
    script = Markup((folder / "report.js").read_text(encoding="utf-8"))  # noqa: S704 -- the file that ships
    style = Markup((folder / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    proofs = [proof(run) for run in runs if "start" in run["provenance"]]
    seeds = seed_rows(runs)
    template = environment().get_template("report.html.j2")
    return template.render(
        rotbench=results["rotbench"],
        embedded={**results, "runs": [{key: run[key] for key in run if key != "log"} for run in runs]},
        csv_columns=CSV_COLUMNS,
        study=study,
        runs=runs,
        axes=axes_of([summary.variant for summary in summaries]),
        sentences=sentences(results, contrasts),
        unpaired=[labels[as_written(variant)] for variant in compare.without_partner(results)],
        family=sum(contrast.p_t is not None for contrast in contrasts),
        least_p=min((2.0 ** (1 - contrast.n) for contrast in contrasts if contrast.p is not None), default=None),
        margin=study.get("margin", compare.MARGIN),
        finals=final_rows(results, summaries, contrasts, labels),
        figures=drawings(results, summaries, contrasts, labels),
        curve_table=curve_table(results, "downstream", labels),
        pretext_rows=pretext_rows(results),
        pretext_table=curve_table(results, "pretext", pretext_labels(results)),
        proof=proofs,
        seeds=seeds,
        failing=[row for row in proofs if row.failures],
        unequal=[row for row in seeds if not row.holds],
        troubled=troubled(runs),
        settings=settings_table(runs),
        versions=distinct(runs, "versions"),
        devices=distinct(runs, "device"),
        precisions=distinct(runs, "precision"),
        threads=sorted({run["provenance"]["threads"] for run in runs if "threads" in run["provenance"]}),
        data=distinct([run["provenance"] for run in runs], "data"),
        counts={
            status: sum(run["status"] == status for run in runs) for status in ("done", "failed", "skipped", "missing")
        },
        run_labels={run["id"]: run_label(run, labels) for run in runs},
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def environment() -> jinja2.Environment:
    """Templates in which every value is escaped and a missing name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":"), "allow_nan": False}
    made.filters |= {
        "percent": percent,
        "points": points,
        "span": span,
        "p_value": p_value,
        "exact": exact,
        "short": lambda digest: digest[:12],
        "grouped": lambda number: f"{number:,}",
        "significant": lambda number: f"{number:.3g}",
        "words": compare.value_words,
        "compact": lambda value: json.dumps(value, ensure_ascii=False),
    }
    return made


def tidied(results: Results) -> Results:
    """A copy as a page can hold it: null for what is not finite, no control characters, curves in five digits."""

    def tidy(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, str):
            return _UNPRINTABLE.sub("\ufffd", value)
        if isinstance(value, Mapping):
            return {tidy(key): tidy(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [tidy(item) for item in value]
        return value

    copy: Results = tidy(results)
    for run in copy["runs"]:
        for entry in run["history"]:
            for key in ROUNDED:
                if isinstance(entry.get(key), float):
                    entry[key] = float(f"{entry[key]:.{DIGITS}g}")
    return copy


def results_csv(results: Results) -> str:
    """One row a run and epoch, in the order of the runs; a number that was not measured is an empty field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for run in results["runs"]:
        for entry in run["history"]:
            head = (run["id"], run["kind"], run["seed"], run.get("repeat", 0), entry["epoch"])
            writer.writerow((*head, *(entry.get(key) for key in MEASURED)))
    return stream.getvalue()


def results_of_page(page: str) -> Results:
    """The results that a rendered page carries, from which ``render`` makes the same page again."""
    reader = _Embedded()
    reader.feed(page)
    results: Results = json.loads(reader.results)
    for place, run in enumerate(results["runs"]):
        run["log"] = reader.logs.get(place, "")
    return results


class _Embedded(HTMLParser):
    """The results in a page, and the logs, which stand in it once, where they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.results = ""
        self.logs: dict[int, str] = {}
        self.within: str | int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "script" and named.get("id") == "results":
            self.within = "results"
        elif tag == "pre" and named.get("data-log"):
            self.within = int(named["data-log"] or 0)
            self.logs[self.within] = ""

    def handle_endtag(self, tag: str) -> None:
        self.within = None

    def handle_data(self, data: str) -> None:
        if isinstance(self.within, int):
            self.logs[self.within] += data
        elif self.within:
            self.results += data


# How numbers are written on the page


def percent(fraction: float, digits: int = 1) -> str:
    """0.641 -> ``64.1 %``, with a space that does not break."""
    return f"{100 * fraction:.{digits}f}\N{NO-BREAK SPACE}%"


def points(fraction: float, sign: bool = True) -> str:
    """A difference of accuracies in percentage points, one digit: 0.176 -> ``+17.6``."""
    text = f"{100 * fraction:+.1f}" if sign else f"{100 * fraction:.1f}"
    return text.replace("-0.0", "0.0").replace("+0.0", "0.0").replace("-", "\N{MINUS SIGN}")


def span(interval: tuple[float, float]) -> str:
    """An interval in percentage points: ``16.9 to 18.3``."""
    return f"{points(interval[0], sign=False)} to {points(interval[1], sign=False)}"


def p_value(p: float) -> str:
    """A p value to two or three digits, ``< 0.001`` where smaller."""
    if p < 0.001:
        return "<\N{NO-BREAK SPACE}0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def exact(number: float | None) -> str:
    """The shortest text that reads back as the same float; empty for None."""
    return "" if number is None else repr(float(number))


# Labels


def axes_of(variants: Sequence[Variant]) -> list[str]:
    """Every key that some variant sets, in order of first appearance."""
    return list(dict.fromkeys(key for variant in variants for key in variant))


def _labels_by_axis(variants: Sequence[Variant]) -> dict[str, dict[str, str]]:
    return {
        axis: compare.axis_labels([variant[axis] for variant in variants if axis in variant])
        for axis in axes_of(variants)
    }


def _varying(variants: Sequence[Variant]) -> list[str]:
    """The axes on which the variants differ; the first one alone where they do not."""
    axes = axes_of(variants)
    differing = [axis for axis in axes if len({as_written(variant.get(axis)) for variant in variants}) > 1]
    return differing or axes[:1]


def variant_labels(variants: Sequence[Variant], without: Sequence[str] = ()) -> dict[str, str]:
    """A label for each variant, by ``as_written``: its values on the axes that vary, ``rotation / below``.

    ``without`` are axes to leave out. Numbers and switches carry their axis' name: ``rotation / lr 0.1``.
    """
    by_axis = _labels_by_axis(variants)
    shown = [axis for axis in _varying(variants) if axis not in without]

    def part(axis: str, value: Any) -> str:
        label = by_axis[axis][as_written(value)]
        return label if axis in ("init", "freeze") else f"{axis} {label}"

    return {
        as_written(variant): " / ".join(part(axis, variant[axis]) for axis in shown if axis in variant) or "all"
        for variant in variants
    }


def pretext_labels(results: Results) -> dict[str, str]:
    """The names of the pretext runs, by ``as_written`` of their variant."""
    return {
        as_written(variant): str(variant["pretext"]) for variant, _ in compare.by_variant(results["runs"], "pretext")
    }


def run_label(run: Run, labels: Mapping[str, str]) -> str:
    """A run in words: ``rotation / below, seed 0``."""
    name = f"pretext {run['variant']['pretext']}" if run["kind"] == "pretext" else labels[as_written(run["variant"])]
    return f"{name}, seed {run['seed']}"


# The answer


def sentences(results: Results, contrasts: Sequence[Contrast]) -> list[Sentence]:
    """One sentence a contrast, in the study's order."""
    variants = [summary.variant for summary in compare.variants(results)]
    by_axis = _labels_by_axis(variants)
    trained = _trained_words(results["runs"])
    family = sum(contrast.p_t is not None for contrast in contrasts)
    baseline_keys = list(results["study"]["baseline"])
    condition_axes = [
        axis
        for axis in axes_of(variants)
        if axis not in baseline_keys and (axis == "freeze" or axis in _varying(variants))
    ]
    said = []
    for contrast in contrasts:
        sides = [
            " / ".join(by_axis[axis][as_written(side[axis])] for axis in baseline_keys if axis in side) or "the rest"
            for side in (contrast.variant, contrast.baseline)
        ]
        conditions = []
        for axis in condition_axes:
            if axis in contrast.variant:
                value = as_written(contrast.variant[axis])
                plain = f"{axis} is {by_axis[axis][value]}"
                conditions.append(trained.get(value, plain) if axis == "freeze" else plain)
        when = f" when {' and '.join(conditions)}" if conditions else ""
        tone, mark = _tone(contrast)
        text = _sentence(contrast, sides[0], sides[1], when, family, results["study"]["test_images"])
        said.append(Sentence(tone, mark, text, contrast, tuple(_notes(contrast, results))))
    return said


def _tone(contrast: Contrast) -> tuple[str, str]:
    if contrast.verdict is None:
        return "none", "no verdict"
    return contrast.verdict.split(",")[0].replace(" ", "-"), contrast.verdict


def _sentence(contrast: Contrast, variant: str, baseline: str, when: str, family: int, test_images: int | None) -> str:
    if contrast.difference is None:
        return f"{variant} against {baseline}{when}: {contrast.reason or 'nothing to compare yet'}."
    apart = f"{points(abs(contrast.difference), sign=False)} points {'above' if contrast.difference > 0 else 'below'}"
    if contrast.reason == "one seed":
        error = ""
        if contrast.standard_error is not None:
            error = (
                f" The test set's binomial standard error of this difference is {100 * contrast.standard_error:.2f} "
                f"points ({test_images:,} images); it says nothing about other seeds."
            )
        return f"{variant} is {apart} {baseline}{when}, from one seed.{error}"
    because = ", but a run diverged" if contrast.reason == "diverged" else ""
    if contrast.interval is None:
        return f"{variant} is {apart} {baseline}{when}, from {contrast.n} of {contrast.planned} seeds{because}."
    seeds = f"n = {contrast.n} seeds" if contrast.n == contrast.planned else f"{contrast.n} of {contrast.planned} seeds"
    interval = f"95 % t interval {span(contrast.interval)}, {seeds}"
    if contrast.verdict is None:
        return f"{variant} against {baseline}{when}: {points(contrast.difference)} points ({interval}){because}."
    holm = f" after Holm over {family} contrasts" if family > 1 else ""
    numbers = f"{interval}, p {_equals(contrast.p_holm)}{holm}"
    if contrast.verdict == "not resolved":
        return f"{variant} against {baseline}{when}: {points(contrast.difference)} points ({numbers})."
    if contrast.verdict == "equivalent":
        apart = points(contrast.difference)
        return f"{variant} and {baseline} lie within the margin of each other{when}: {apart} points ({numbers})."
    less = ", by less than the margin" if "," in contrast.verdict else ""
    normal = "; assuming normal differences" if contrast.assumes_normality else ""
    return f"{variant} is {apart} {baseline}{when}{less} ({numbers}{normal})."


def _equals(p: float | None) -> str:
    text = p_value(1.0 if p is None else p)
    return text if text.startswith("<") else f"= {text}"


def _trained_words(runs: Sequence[Run]) -> dict[str, str]:
    """Which stages each freeze policy trained, in words, where that tells the policies apart."""
    words: dict[str, str] = {}
    for run in runs:
        counts = run["provenance"].get("freeze", {}).get("trainable_by_stage")
        if run["kind"] == "downstream" and "freeze" in run["variant"] and counts:
            trained = [stage for stage, count in counts.items() if count]
            everything = len(trained) == len(counts) and not run["provenance"]["freeze"]["frozen_parameters"]
            words[as_written(run["variant"]["freeze"])] = "everything is trained" if everything else _only(trained)
    told = list(words.values())
    return {value: text for value, text in words.items() if told.count(text) == 1}


def _only(stages: Sequence[str]) -> str:
    if not stages:
        return "nothing is trained"
    listed = " and ".join(filter(None, (", ".join(stages[:-1]), stages[-1])))
    return f"{listed} {'is' if len(stages) == 1 else 'are'} trained"


def _notes(contrast: Contrast, results: Results) -> list[str]:
    """What a reader must know to take a contrast for what it is."""
    notes = []
    if contrast.interval is not None and contrast.interval[0] == contrast.interval[1]:
        notes.append("All seeds differ by the same amount, so the interval has no width; more seeds would show one.")
    for summary in compare.variants(results):
        if (
            as_written(summary.variant) in (as_written(contrast.variant), as_written(contrast.baseline))
            and summary.one_set_of_weights
        ):
            notes.append(
                "One side starts from one set of weights: the interval holds for these weights, not for the method."
            )
    sides = (as_written(contrast.variant), as_written(contrast.baseline))
    for run in results["runs"]:
        kept = run["provenance"]
        if run["kind"] == "downstream" and as_written(run["variant"]) in sides and "freeze" in kept:
            untouched = kept["start"]["backbone_sha256"] == kept["start"]["seed_backbone_sha256"]
            body = [
                stage for stage, count in kept["freeze"]["trainable_by_stage"].items() if not count and stage != "fc"
            ]
            if untouched and body and kept["freeze"]["batchnorm"] == "eval":
                notes.append("The frozen BatchNorm of the random side keeps mean 0 and variance 1, as it was built.")
    return list(dict.fromkeys(notes))


# Tables


def final_rows(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> list[FinalRow]:
    """One row a variant, in the study's order."""
    axes = axes_of([summary.variant for summary in summaries])
    by_axis = _labels_by_axis([summary.variant for summary in summaries])
    of = {as_written(contrast.variant): contrast for contrast in contrasts}
    unpaired = {as_written(variant) for variant in compare.without_partner(results)}
    baseline = results["study"]["baseline"]
    rows = []
    for summary in summaries:
        key = as_written(summary.variant)
        cells = tuple(
            by_axis[axis][as_written(summary.variant[axis])] if axis in summary.variant else "" for axis in axes
        )
        is_baseline = bool(baseline) and compare.matches_all(summary.variant, baseline)
        remark = "no partner" if key in unpaired else ""
        rows.append(FinalRow(labels[key], cells, summary, of.get(key), is_baseline, remark))
    return rows


def pretext_rows(results: Results) -> list[PretextRow]:
    """One row a pretext task, with the final scores of its finished runs."""
    rows = []
    for variant, runs in compare.by_variant(results["runs"], "pretext"):
        about = results["study"]["pretexts"].get(variant["pretext"], {})
        scores = [run["final"]["test_accuracy"] for run in runs if compare.finished(run)]
        rows.append(
            PretextRow(
                name=str(variant["pretext"]),
                summary=about.get("summary", ""),
                score_name=about.get("score_name", "accuracy"),
                n=len(scores),
                planned=len({*results["study"]["seeds"], *(run["seed"] for run in runs)}),
                estimate=compare.mean_interval(scores) if scores else None,
                chance=about.get("chance"),
            )
        )
    return rows


def curve_table(results: Results, kind: str, labels: Mapping[str, str]) -> CurveTable:
    """What the curves show, as numbers: the mean test accuracy (or score) of finished seeds by epoch."""
    groups = compare.by_variant(results["runs"], kind)
    means = [figures.mean_curve(_lines(runs)) for _, runs in groups]
    epochs = max((len(mean) for mean in means), default=0)
    rows = [tuple(mean[epoch].mean if epoch < len(mean) else None for mean in means) for epoch in range(epochs)]
    return CurveTable(tuple(labels[as_written(variant)] for variant, _ in groups), tuple(rows))


def proof(run: Run) -> ProofRow:
    """Hold what a run recorded against what it claims."""
    start, freeze = run["provenance"]["start"], run["provenance"].get("freeze", {})
    failures, remarks = [], []
    if start["equals_parent"] is False:
        failures.append("the starting weights are not those of the run it was to start from")
    if start["missing"]:
        failures.append(
            f"{_tensors(len(start['missing']))} of the backbone not found in the source and left at random values"
        )
    if start["claimed"] and not start["changed"]:
        failures.append("the init claims to have set weights, but none changed")
    elif start["changed"] < start["claimed"]:
        remarks.append(f"{_tensors(start['claimed'] - start['changed'])} claimed but left unchanged")
    if start["unexpected"]:
        remarks.append(f"{_tensors(len(start['unexpected']))} of the source not used")
    if freeze.get("largest_change_of_frozen_parameter"):
        failures.append("a frozen parameter changed")
    if freeze.get("batchnorm") == "eval" and freeze.get("largest_change_of_frozen_buffer"):
        failures.append("a running statistic of a frozen BatchNorm changed")
    return ProofRow(run, tuple(failures), tuple(remarks))


def _tensors(count: int) -> str:
    return f"{count} tensor" if count == 1 else f"{count} tensors"


def seed_rows(runs: Sequence[Run]) -> list[SeedRow]:
    """For each seed and model, whether all its runs were built on the same random weights."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        if "start" in run["provenance"]:
            groups.setdefault((run["seed"], as_written(run["settings"].get("model"))), []).append(run)
    rows = []
    for (seed, _), group in sorted(groups.items(), key=lambda item: item[0]):
        starts = [(run["kind"], run["provenance"]["start"]) for run in group]
        built = {start["seed_backbone_sha256"] for _, start in starts}
        heads = {start["head_sha256"] for kind, start in starts if kind == "downstream"}
        pretrained = {start["backbone_sha256"] for kind, start in starts if kind == "pretext" and not start["claimed"]}
        random = {start["backbone_sha256"] for kind, start in starts if kind == "downstream" and not start["claimed"]}
        same_start = len(pretrained | random) == 1 if pretrained and random else None
        rows.append(SeedRow(seed, len(group), len(built) == 1, len(heads) <= 1, same_start))
    return rows


def troubled(runs: Sequence[Run]) -> list[tuple[str, Run, str]]:
    """Runs that are not simply done, each with its state and what is known about it, the worst first."""
    found = []
    for run in runs:
        if run["diverged"]:
            found.append(("diverged", run, run["error"] or "the loss is not a number"))
        elif run["status"] != "done":
            found.append((run["status"], run, run["error"] or ""))
        elif run["stale"]:
            found.append(("stale", run, run["stale"]))
    order = ("failed", "diverged", "skipped", "stale", "missing")
    return sorted(found, key=lambda item: order.index(item[0]))


def settings_table(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Each resolved setting by its dotted name, with its values and how many runs have each."""
    table: dict[str, dict[str, int]] = {}
    for run in runs:
        for name, value in _flat(run["settings"]):
            words = compare.value_words(value)
            values = table.setdefault(name, {})
            values[words] = values.get(words, 0) + 1
    return [(name, list(values.items())) for name, values in table.items()]


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in settings.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and key not in ("init", "freeze", "task"):
            flat += _flat(value, f"{name}.")
        else:
            flat.append((name, value))
    return flat


def distinct(items: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """The different values that ``items`` have under ``key``, in order of first appearance."""
    return list({as_written(item[key]): item[key] for item in items if item.get(key)}.values())


# Figures


def drawings(
    results: Results, summaries: Sequence[VariantSummary], contrasts: Sequence[Contrast], labels: Mapping[str, str]
) -> dict[str, Markup]:
    """Each figure by its name; empty where there is nothing to draw."""
    study = results["study"]
    variants = [summary.variant for summary in summaries]
    styles = styles_of(variants)
    keys = {as_written(variant): f"v{place}" for place, variant in enumerate(variants)}
    drawn: dict[str, str] = {}

    rows = [
        figures.Row(
            key=keys[as_written(summary.variant)],
            label=labels[as_written(summary.variant)],
            style=styles[as_written(summary.variant)],
            values=tuple(summary.accuracies.values()),
            estimate=summary.estimate,
            references=_references(study, summary.variant),
            faint=summary.diverged or summary.n < summary.planned,
        )
        for summary in summaries
        if summary.estimate is not None
    ]
    if rows:
        drawn["finals"] = figures.dots("finals", "Final test accuracy of each variant", rows, study["chance"])

    paired = [
        figures.Row(
            key=keys[as_written(contrast.variant)],
            label=labels[as_written(contrast.variant)],
            style=styles[as_written(contrast.variant)],
            values=tuple(contrast.differences.values()),
            estimate=compare.mean_interval(list(contrast.differences.values())),
            faint=contrast.verdict is None,
        )
        for contrast in contrasts
        if contrast.differences
    ]
    if paired:
        margin = study.get("margin", compare.MARGIN)
        drawn["differences"] = figures.differences("differences", "Paired differences to the baseline", paired, margin)

    panels = curve_panels(results, variants, styles, keys)
    if panels:
        drawn["curves"] = figures.curves("curves", "Test accuracy by epoch", panels)
    pretexts = pretext_panels(results)
    if pretexts:
        drawn["pretexts"] = figures.curves("pretexts", "Pretext score by epoch", pretexts, alone=True)
    names = ("finals", "differences", "curves", "pretexts")
    return {name: Markup(drawn.get(name, "")) for name in names}  # noqa: S704 -- our own SVG, its texts escaped


def styles_of(variants: Sequence[Variant]) -> dict[str, int]:
    """A style for each variant, the same for variants that differ in the freeze policy alone."""
    without = ("freeze",) if len({as_written(v.get("freeze")) for v in variants}) < len(variants) else ()
    names = variant_labels(variants, without)
    order = list(dict.fromkeys(names.values()))
    return {key: order.index(name) for key, name in names.items()}


def curve_panels(
    results: Results, variants: Sequence[Variant], styles: Mapping[str, int], keys: Mapping[str, str]
) -> list[figures.Panel]:
    """Curves of the downstream runs: a panel a freeze policy where there is more than one."""
    chance = results["study"]["chance"]
    levels = ((chance, "chance"),) if chance is not None else ()
    policies = compare.axis_labels([variant["freeze"] for variant in variants if "freeze" in variant])
    faceted = len(policies) > 1 and all("freeze" in variant for variant in variants)
    names = variant_labels(variants, ("freeze",) if faceted else ())
    panels: dict[str, list[figures.Series]] = {}
    for variant, runs in compare.by_variant(results["runs"], "downstream"):
        key = as_written(variant)
        series = figures.Series(keys[key], names[key], styles[key], _lines(runs))
        if series.lines:
            title = f"freeze: {policies[as_written(variant['freeze'])]}" if faceted else ""
            panels.setdefault(title, []).append(series)
    return [figures.Panel(title, tuple(series), levels, "test accuracy", True) for title, series in panels.items()]


def pretext_panels(results: Results) -> list[figures.Panel]:
    """Curves of the pretext runs: a panel a kind of score, since only scores of one kind share a scale."""
    panels: dict[str, list[figures.Series]] = {}
    levels: dict[str, dict[float, list[str]]] = {}
    for place, (variant, runs) in enumerate(compare.by_variant(results["runs"], "pretext")):
        name = variant["pretext"]
        about = results["study"]["pretexts"].get(name, {})
        score = about.get("score_name", "accuracy")
        lines = _lines(runs)
        if not lines:
            continue
        panels.setdefault(score, []).append(figures.Series(f"p{place}", str(name), place, lines))
        if about.get("chance") is not None:
            levels.setdefault(score, {}).setdefault(about["chance"], []).append(str(name))
    return [
        figures.Panel(
            title="" if len(panels) == 1 else score,
            series=tuple(series),
            levels=tuple((level, f"chance: {', '.join(names)}") for level, names in levels.get(score, {}).items()),
            label=f"score on test images ({score})",
            per_cent=score == "accuracy",
        )
        for score, series in panels.items()
    ]


def _lines(runs: Sequence[Run]) -> tuple[figures.Line, ...]:
    """The curves of ``runs`` that have one, each up to the first epoch that was not scored."""
    lines = []
    for run in runs:
        scores = [entry["test_accuracy"] for entry in run["history"]]
        values = tuple(itertools.takewhile(lambda score: score is not None, scores))
        if values:
            lines.append(figures.Line(run["seed"], values, compare.finished(run)))
    return tuple(lines)


def _references(study: Mapping[str, Any], variant: Variant) -> tuple[tuple[float, str], ...]:
    return tuple(
        (reference["test_accuracy"], reference["source"])
        for reference in study["references"]
        if reference.get("match") and compare.matches_all(variant, reference["match"])
    )
