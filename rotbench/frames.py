"""Results as a tidy pandas frame, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rotbench.compare import Results, as_written
from rotbench.redraw import check_shape, read_results
from rotbench.tables import MEASURED, VALIDATION_COLUMNS
from rotbench.wording import axes_of, labels_by_axis

MEASURES = (*MEASURED[:4], *VALIDATION_COLUMNS, *MEASURED[4:])
FIXED = ("id", "kind", "status", "pretext", "seed", "repeat", "epoch", *MEASURES)


def load_results(place: str | Path) -> pd.DataFrame:
    """See :func:`rotbench.load_results`."""
    results = read_results(Path(place))
    check_shape(results, Path(place))
    return results_frame(results)


def results_frame(results: Results) -> pd.DataFrame:
    """A row a run and epoch, in the order of the runs; ``rotbench.load_results`` names the columns."""
    variants = [run["variant"] for run in results["runs"] if run["kind"] == "downstream"]
    axes = {axis: f"{axis}_setting" if axis in FIXED else axis for axis in axes_of(variants)}
    labels = labels_by_axis(variants)

    def told(axis: str, value: Any) -> Any:
        return value if isinstance(value, bool | int | float | str) else labels[axis][as_written(value)]

    rows = []
    for run in results["runs"]:
        downstream = run["kind"] == "downstream"
        about = {
            "id": run["id"],
            "kind": run["kind"],
            "status": run["status"],
            "pretext": None if downstream else run["variant"].get("pretext"),
            "seed": run["seed"],
            "repeat": run.get("repeat", 0),
            **dict.fromkeys(axes.values()),
        }
        if downstream:
            about |= {axes[axis]: told(axis, value) for axis, value in run["variant"].items()}
        rows += [{**about, **{key: entry.get(key) for key in ("epoch", *MEASURES)}} for entry in run["history"]]
    columns = ["id", "kind", "status", *axes.values(), "pretext", "seed", "repeat", "epoch", *MEASURES]
    frame = pd.DataFrame(rows, columns=columns)
    types: dict[str, Any] = dict.fromkeys(("id", "kind", "status", "pretext"), "string")
    types |= dict.fromkeys(("seed", "repeat", "epoch"), "int64") | dict.fromkeys(MEASURES, "float64")
    for axis, column in axes.items():
        types[column] = _type([told(axis, variant[axis]) for variant in variants if axis in variant])
    for column, kind in types.items():
        values = frame[column].map(str, na_action="ignore") if kind == "string" else frame[column]
        frame[column] = values.astype(kind)
    return frame


def _type(values: Sequence[Any]) -> str:
    """The narrowest of pandas' nullable types that holds all values of an axis."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "Int64"
    return "Float64" if kinds and kinds <= {int, float} else "string"
