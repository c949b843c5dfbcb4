"""The page: one HTML file rendered from the results alone, and the same numbers as CSV.

What is said in words is made here, what is shown is in ``templates/``. Every text that comes from a study, a plugin
or an error is data to the templates, which escape it.
"""

from __future__ import annotations

import base64
import functools
import hashlib

import jinja2
from markupsafe import Markup

from rotbench import compare, inference, recipe
from rotbench.answer import comparability_rows, sentences
from rotbench.canvas import page_svg
from rotbench.classes import agreements, classes
from rotbench.compare import Results, Run, as_written
from rotbench.contrast import family_size
from rotbench.curve import scored_part
from rotbench.drawings import NAMES, drawings, series_of
from rotbench.embedded import embedded, results_of_page, slim_log, tidied
from rotbench.equal_cost import equal_costs
from rotbench.evidence import proof, seed_rows
from rotbench.limits import changes_of_seeds, limits
from rotbench.manuscript import copies, paper_tables
from rotbench.probes import probe_rows
from rotbench.references import reference_rows
from rotbench.resources import templates_folder
from rotbench.tables import (
    curve_tables,
    data_rows,
    distinct,
    final_rows,
    own_settings,
    pretext_rows,
    pretext_table,
    results_frame,
    settings_table,
    transfer_table,
    troubled,
)
from rotbench.trained import TrainedPhase, trained_words
from rotbench.tuning import tuned_sides
from rotbench.views import draws_bands, draws_seeds, views
from rotbench.wording import (
    exact,
    millions,
    p_value,
    percent,
    points,
    run_label,
    shared_values,
    span,
    variant_labels,
    varying,
)

__all__ = ["environment", "render", "results_csv", "results_of_page", "tidied"]


def render(results: Results) -> str:
    """The report as one HTML document. The same results give the same text."""
    results = tidied(results)
    study = results["study"]
    runs: list[Run] = results["runs"]
    summaries = compare.variants(results)
    contrasts = compare.contrasts(results)
    labels = variant_labels([summary.variant for summary in summaries])
    by_id = {run["id"]: run for run in runs}
    proofs = [proof(run, by_id) for run in runs if "start" in run["provenance"]]
    seeds = seed_rows(runs)
    shown = pretext_rows(results)
    by_class = classes(results, summaries, contrasts, labels)
    axes = varying([summary.variant for summary in summaries])
    finals = final_rows(results, summaries, contrasts, labels)
    drawn = drawings(results, summaries, contrasts, labels)
    template = environment().get_template("report.html.j2")
    return template.render(
        rotbench=results["rotbench"],
        embedded=embedded(
            results, [row.shown["id"] for row in shown if row.shown], by_class.pictured if by_class else ()
        ),
        csv_columns=tuple(results_frame(results).columns),
        study=study,
        runs=runs,
        axes=axes,
        shared=shared_values([summary.variant for summary in summaries]),
        sentences=sentences(results, contrasts),
        label_of=lambda variant: labels[as_written(variant)],
        changes_of_seeds=changes_of_seeds(results),
        limits=limits(results, summaries, contrasts),
        references=reference_rows(results, summaries, labels),
        unpaired=[labels[as_written(variant)] for variant in compare.without_partner(results)],
        family=family_size(contrasts),
        scored=scored_part(runs),
        least_p=min((2.0 ** (1 - contrast.n) for contrast in contrasts if contrast.p is not None), default=None),
        margin=study.get("margin", inference.MARGIN),
        finals=finals,
        tuned_sides=tuned_sides(results, summaries, contrasts),
        equal_cost=equal_costs(summaries, contrasts, labels),
        copies=copies(paper_tables(axes, finals, contrasts, labels)),
        # Our own SVG, its texts escaped.
        figures={name: Markup(page_svg(drawn[name]) if name in drawn else "") for name in NAMES},  # noqa: S704
        series=series_of(summaries, labels),
        views=views(results),
        curve_tables=curve_tables(results, labels),
        bands_drawn=draws_bands(results),
        seeds_drawn={kind: draws_seeds(results, kind) for kind in ("downstream", "pretext")},
        pretext_rows=shown,
        pretext_table=pretext_table(results),
        transfer=transfer_table(results),
        probes=probe_rows(results),
        fits=[stage.get("converged", True) for probe in results.get("probes", []) for stage in probe["stages"]],
        probes_planned=len(results.get("probes", [])),
        probe_trouble=[probe for probe in results.get("probes", []) if probe["status"] != "done" or probe["stale"]],
        proof=proofs,
        comparability=comparability_rows(results, contrasts),
        classes=by_class,
        agreements=agreements(results, labels),
        subsets=results.get("subsets", []),
        seeds=seeds,
        failing=[row for row in proofs if row.failures],
        unequal=[row for row in seeds if not row.holds],
        troubled=troubled(runs),
        settings=settings_table(runs),
        own_settings=own_settings(runs),
        versions=distinct(runs, "versions"),
        devices=distinct(runs, "device"),
        precisions=distinct(runs, "precision"),
        threads=sorted({run["provenance"]["threads"] for run in runs if "threads" in run["provenance"]}),
        data=data_rows(runs),
        undrawn=[labels[as_written(item.variant)] for item in summaries if item.estimate is None],
        counts={
            status: sum(run["status"] == status for run in runs) for status in ("done", "failed", "skipped", "missing")
        },
        places={run["id"]: place for place, run in enumerate(runs)},
        run_labels={run["id"]: run_label(run, labels) for run in runs},
        **dressed("report.js", "data.js"),
    )


def dressed(*scripts: str) -> dict[str, str]:
    """The style sheet of a page, its scripts in one, and the hash for which its policy lets them run."""
    folder = templates_folder()
    style = Markup((folder / "report.css").read_text(encoding="utf-8"))  # noqa: S704 -- the files that ship
    lines = [line.strip() for name in scripts for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    # Comments and indentation are for who reads the files; no text in a script goes over the end of a line.
    script = Markup("".join(f"{line}\n" for line in lines if line and not line.startswith("//")))  # noqa: S704
    digest = hashlib.sha256(script.encode()).digest()
    return {"style": style, "script": script, "script_hash": base64.b64encode(digest).decode()}


@functools.cache
def environment() -> jinja2.Environment:
    """Templates in which every value is escaped and a missing name is an error; compiled once per process."""
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
        "millions": millions,
        "short": lambda digest: digest[:12],
        "grouped": lambda number: f"{number:,}",
        "signed": lambda number: f"{number:+.2f}".replace("-", "\N{MINUS SIGN}"),
        "significant": lambda number: f"{number:.3g}",
        "words": recipe.value_words,
        "trained": lambda phases: trained_words([TrainedPhase(**phase) for phase in phases]),
        "slim": slim_log,
    }
    return made


def results_csv(results: Results) -> str:
    """:func:`~rotbench.tables.results_frame` as CSV; a number that was not measured is an empty field."""
    text: str = results_frame(results).to_csv(index=False, lineterminator="\n")
    return text
