"""What a page carries of its results, and how they are read back from it.

A page carries everything once: the logs and pictures of runs and the images of errors where they are seen, the rest as
JSON in the element ``results``.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

Run = dict[str, Any]
Results = dict[str, Any]

#: The digits that the page keeps of what is drawn but not compared; test accuracies keep all.
ROUNDED = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss", "lr", "seconds")
DIGITS = 5

#: What many runs have in common, by its place in a run: a page carries each different value once, in ``shared``.
SHARED = (("variant",), ("settings",), ("versions",), ("provenance", "data"), ("provenance", "cost"))

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """A text without control characters; a browser reads every end of a line as a line feed."""
    return _UNPRINTABLE.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")


def tidied(results: Results) -> Results:
    """A copy as a page can hold it: null for what is not finite, no control characters, curves in five digits."""

    def tidy(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, str):
            return printable(value)
        if isinstance(value, Mapping):
            return {tidy(key): tidy(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [tidy(item) for item in value]
        return value

    tidied_up: Results = tidy(results)
    for run in tidied_up["runs"]:
        for entry in run["history"]:
            for key in ROUNDED:
                if isinstance(entry.get(key), float):
                    entry[key] = float(f"{entry[key]:.{DIGITS}g}")
    return tidied_up


def embedded(results: Results, pictured: Sequence[str], errors: Collection[int] = ()) -> Results:
    """Tidied results without what a page shows of them anyway, each run's history by column.

    ``pictured`` are the ids of the runs whose pictures are on the page, ``errors`` the places of the images of errors
    that are.
    """
    shown = dict(results)
    shown["runs"] = [_embedded_run(run, run["id"] in pictured) for run in results["runs"]]
    shown["shared"] = _take_out_shared(shown["runs"])
    if "error_images" in results:
        shown["error_images"] = [
            {key: value for key, value in image.items() if key != "png" or place not in errors}
            for place, image in enumerate(results["error_images"])
        ]
    return shown


def _embedded_run(run: Run, pictured: bool) -> Run:
    left_out = ("log", "pictures") if pictured else ("log",)
    return {key: by_column(value) if key == "history" else value for key, value in run.items() if key not in left_out}


def _take_out_shared(runs: Sequence[Run]) -> list[Any]:
    """The different values of what runs share, each replaced in the runs by its place in this list."""
    values: list[Any] = []
    places: dict[str, int] = {}
    for run in runs:
        for *outer, name in SHARED:
            holder = run
            for key in outer:
                holder[key] = dict(holder.get(key, {}))
                holder = holder[key]
            if name in holder:
                written = json.dumps(holder[name], sort_keys=False)
                if written not in places:
                    places[written] = len(values)
                    values.append(holder[name])
                holder[name] = places[written]
    return values


def unfolded(results: Results) -> Results:
    """Results as a page carries them, changed in place to what they are in results.json; others stay as they are."""
    _put_back_shared(results["runs"], results.pop("shared", []))
    for run in results["runs"]:
        run["history"] = by_epoch(run["history"])
    return results


def _put_back_shared(runs: Sequence[Run], values: Sequence[Any]) -> None:
    """The inverse of :func:`_take_out_shared`; pages of earlier versions have nothing to put back."""
    for run in runs:
        for *outer, name in SHARED:
            holder = run
            for key in outer:
                holder = holder.get(key, {})
            if isinstance(holder.get(name), int):
                # Each run gets its own, as if it had been read from a file of its own.
                holder[name] = copy.deepcopy(values[holder[name]])


def by_column(history: Sequence[Mapping[str, Any]]) -> Any:
    """``[{"epoch": 1, ..}, ..]`` as ``{"epoch": 2, "lr": [..], ..}``; one whose entries differ in keys stays a list.

    A column is a list; or, where that is shorter, a number n for 1, 2, .. n; or ``{"of": values, "times": counts}``.
    """
    if not history or any(entry.keys() != history[0].keys() for entry in history):
        return history
    return {key: _short_column([entry[key] for entry in history]) for key in history[0]}


def _short_column(values: list[Any]) -> Any:
    if all(type(value) is int for value in values) and values == list(range(1, len(values) + 1)):
        return len(values)
    # Written, since 1, 1.0 and true are equal and are not the same.
    runs = [(value, len(list(same))) for value, same in itertools.groupby(map(json.dumps, values))]
    if 3 * len(runs) > len(values):
        return values
    return {"of": [json.loads(value) for value, _ in runs], "times": [count for _, count in runs]}


def _whole_column(column: Any) -> list[Any]:
    if isinstance(column, int):
        return list(range(1, column + 1))
    if isinstance(column, Mapping):
        return [value for value, count in zip(column["of"], column["times"], strict=True) for _ in range(count)]
    return list(column)


def by_epoch(history: Any) -> Any:
    """The inverse of :func:`by_column`."""
    if not isinstance(history, Mapping):
        return history
    columns = {key: _whole_column(column) for key, column in history.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@dataclass(frozen=True)
class SlimLog:
    """A log whose lines are alike but for some numbers: what they share, ``#`` for each of those, and the numbers."""

    shared: str
    rows: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join((self.shared, *self.rows))


def slim_log(log: str) -> SlimLog | None:
    """The log with what its lines share told once, from which :func:`whole_log` makes it again; None where it cannot.

    Most of a log is the same few words at every epoch.
    """
    lines = log.removesuffix("\n").split("\n")
    numbers = [_NUMBER.findall(line) for line in lines]
    shapes = {_NUMBER.sub("#", line) for line in lines}
    if len(lines) < 2 or len(shapes) > 1 or "#" in log:
        return None
    columns = list(zip(*numbers, strict=True))
    varying = [len(set(column)) > 1 for column in columns]
    told = iter([("#" if varies else column[0]) for column, varies in zip(columns, varying, strict=True)])
    shared = re.sub("#", lambda _: next(told), shapes.pop())
    rows = tuple(" ".join(number for number, varies in zip(row, varying, strict=True) if varies) for row in numbers)
    slim = SlimLog(shared, rows)
    return slim if any(varying) and whole_log(slim.text) == log else None


def whole_log(slim: str) -> str:
    """The log that :func:`slim_log` told in short."""
    shared, *rows = slim.split("\n")
    parts = shared.split("#")
    return "".join(
        "".join(itertools.chain.from_iterable(zip(parts, [*row.split(" "), "\n"], strict=True))) for row in rows
    )


def results_of_page(page: str) -> Results:
    """The results that a rendered page carries, from which the same page can be rendered again.

    Raises :class:`ValueError`, :class:`TypeError`, :class:`KeyError` or :class:`AttributeError` for what is no whole
    page.
    """
    reader = _Page()
    reader.feed(page)
    reader.close()
    results = unfolded(json.loads(reader.results))
    for place, run in enumerate(results["runs"]):
        log = reader.logs.get(place, "")
        run["log"] = whole_log(log) if place in reader.slim else log
        if place in reader.pictures:
            run["pictures"] = reader.pictures[place]
    for place, image in enumerate(results.get("error_images", [])):
        image["png"] = reader.errors.get(place, image.get("png"))
    return results


class _Page(HTMLParser):
    """The results in a page, and the logs and pictures, which stand in it once, where they are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.results = ""
        self.logs: dict[int, str] = {}
        self.pictures: dict[int, list[dict[str, str]]] = {}
        self.errors: dict[int, str] = {}
        self.slim: set[int] = set()
        self.within: str | int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "script" and named.get("id") == "results":
            self.within = "results"
        elif tag == "pre" and named.get("data-log"):
            self.within = int(named["data-log"] or 0)
            self.logs[self.within] = ""
            if "data-slim" in named:
                self.slim.add(self.within)
        elif tag == "img" and (named.get("data-run") or named.get("data-error")):
            png = (named.get("src") or "").partition(",")[2]
            if named.get("data-error"):
                self.errors[int(named["data-error"] or 0)] = png
            else:
                caption = named.get("data-caption") or ""
                self.pictures.setdefault(int(named["data-run"] or 0), []).append({"png": png, "caption": caption})

    def handle_endtag(self, tag: str) -> None:
        self.within = None

    def handle_data(self, data: str) -> None:
        if isinstance(self.within, int):
            self.logs[self.within] += data
        elif self.within:
            self.results += data
