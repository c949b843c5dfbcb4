"""Results that were saved: read from a page, from JSON or from a results folder, and drawn again without a study.

What is read may be years old, cut off in the mail or made by somebody else: its shape is checked before anything relies
on it, and what cannot be drawn in spite of that is told as such.
"""

from __future__ import annotations

import contextlib
import csv
import graphlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from rotbench.embedded import results_of_page, unfolded
from rotbench.errors import BadInput, EnvironmentLacking, RotbenchError, StoreUnusable
from rotbench.results import Results, collect
from rotbench.store import FORMAT, Store, to_json
from rotbench.system import lacking, write_durably

#: What rotbench writes of results, and what a person may find again.
PAGE, JSON, CSV = "report.html", "results.json", "results.csv"

GIVE = "Give a report.html or a results.json that rotbench wrote."

_OPENING = '<script type="application/json" id="results">'
#: What a page of two studies carries instead of results, by which it is known again.
OF_COMPARISON = '<script type="application/json" id="comparison">'


class _Shape(BaseModel):
    """What is not named is let through: newer results hold more."""

    model_config = ConfigDict(strict=True)


class _Entry(_Shape):
    epoch: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    lr: float | None = None
    seconds: float | None = None


class _Final(_Shape):
    test_accuracy: float | None
    score_all_views: float | None = None  # of a pretext run; earlier versions have none
    validation_accuracy: float | None = None


class _Picture(_Shape):
    png: str
    caption: str


class _ErrorImage(_Shape):
    run: str
    index: int
    png: str


class _Run(_Shape):
    id: str
    kind: Literal["pretext", "downstream"]
    variant: dict[str, Any]
    seed: int
    repeat: int = 0
    status: Literal["done", "failed", "skipped", "missing"]
    error: str | None
    diverged: bool
    stale: str | None
    needs: list[str]
    history: list[_Entry]
    final: _Final | None
    provenance: dict[str, Any]
    settings: dict[str, Any]
    log: str
    train_seconds: float | None
    images_per_second: float | None
    device: str | None
    precision: str | None
    versions: dict[str, str]
    pictures: list[_Picture] = []
    no_pictures: str | None = None


class _Dataset(_Shape):
    name: str


class _Reference(_Shape):
    test_accuracy: float
    source: str
    match: dict[str, Any] = {}
    pretext: str = ""


class _About(_Shape):
    task: str
    summary: str
    score_name: str
    chance: float | None = None
    notice: str = ""


class _Plugin(_Shape):
    kind: str
    name: str
    summary: str
    origin: str
    sha256: str
    cite: str = ""


class _Study(_Shape):
    title: str
    file: str
    text: str
    command: str
    seeds: list[int]
    repeats: int = 1
    rehearsal: bool = False
    dataset: _Dataset
    notice: str
    classes: list[str]
    test_images: int | None
    chance: float | None
    baseline: dict[str, Any]
    primary: dict[str, Any] = {}
    margin: float = 0.0
    tune: list[str] = []
    interactions: bool = False
    matched: list[dict[str, Any]] = []
    references: list[_Reference]
    pretexts: dict[str, _About]
    plugins: list[_Plugin]


class _Stage(_Shape):
    stage: str
    features: int
    knn: float
    linear: float


class _Probe(_Shape):
    id: str
    variant: dict[str, Any]
    init: str | dict[str, Any]
    epoch: int | None
    seed: int
    status: Literal["done", "failed", "skipped", "missing"]
    error: str | None
    stale: str | None
    needs: list[str]
    stages: list[_Stage]
    provenance: dict[str, Any]
    settings: dict[str, Any]


class _Results(_Shape):
    rotbench: str
    study: _Study
    runs: list[_Run]
    probes: list[_Probe] = []
    pairs: list[dict[str, Any]] = []
    subsets: list[Any] = []
    seconds_shared_by: dict[str, int] = {}
    error_images: list[_ErrorImage] = []


def read_results(path: Path) -> Results:
    """The results in a file, which may be a page or JSON, or in a results folder.

    Raises :class:`~rotbench.errors.BadInput` for what rotbench did not write or what is damaged, and
    :class:`~rotbench.errors.StoreUnusable` for what a newer rotbench wrote or a damaged store.
    """
    if not path.is_dir():
        return read_results_file(path)
    written = [path / name for name in (JSON, PAGE) if (path / name).exists()]
    # A folder that was copied without its runs still has what was written of them.
    if (path / "runs").is_dir() or not written:
        with contextlib.suppress(FileNotFoundError):
            return collect(Store(path))
    if written:
        return read_results_file(written[0])
    raise BadInput(f"{path} holds no study and no results", "Give a folder that rotbench run or report --from wrote.")


def read_results_file(path: Path) -> Results:
    """The results in a page or a JSON file; raises as :func:`read_results`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"there is no file {path}", GIVE) from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder", f"{GIVE} A results folder is given with --out.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} holds no text", GIVE) from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise EnvironmentLacking(f"{path} cannot be read: {reason}", GIVE) from None
    is_page = _OPENING in text
    if not is_page and not text.lstrip().startswith("{"):
        cut = 'name="generator" content="rotbench' in text
        what = "is cut off: the results that a page carries at its end are missing" if cut else "is not rotbench's"
        if OF_COMPARISON in text:
            what = "is a comparison of two studies, which carries the results of neither"
        raise BadInput(f"{path} {what}", GIVE)
    try:
        results = results_of_page(text) if is_page else json.loads(text)
        check_format(results, path)
        results = unfolded(results)
    except RotbenchError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, IndexError) as error:
        raise BadInput(f"{path} is damaged: {_told(error)}", GIVE) from None
    check_shape(results, path)
    return dict(results)


def check_format(results: Any, path: Path) -> None:
    """Raise unless these are results, of a format that this rotbench knows."""
    if not isinstance(results, Mapping) or not {"format", "study", "runs"} <= results.keys():
        raise BadInput(f"{path} is not rotbench's", GIVE)
    version = results["format"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BadInput(f"{path} is damaged: its format is no number", GIVE)
    if version > FORMAT:
        raise StoreUnusable(
            f"{path} was written by a newer rotbench (format {version}; this one knows {FORMAT})", "Upgrade rotbench."
        )


def check_shape(results: Any, path: Path) -> None:
    """Raise :class:`~rotbench.errors.BadInput` where results are not shaped as the page needs them."""
    try:
        shaped = _Results.model_validate(results)
    except (ValidationError, RecursionError) as error:
        raise BadInput(f"{path} is damaged: {_told(error)}", GIVE) from None
    if len({run.id for run in shaped.runs}) < len(shaped.runs):
        raise BadInput(f"{path} is damaged: two runs have one id", GIVE)
    try:
        graphlib.TopologicalSorter({run.id: run.needs for run in shaped.runs}).prepare()
    except graphlib.CycleError:
        raise BadInput(f"{path} is damaged: runs need one another in a circle", GIVE) from None


def _told(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON at line {error.lineno}, column {error.colno}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@contextlib.contextmanager
def drawable(path: Path | str, done: str = "drawn") -> Iterator[None]:
    """Turn whatever is raised where saved results are ``done`` something with into an error about their files."""
    try:
        yield
    except RotbenchError:
        raise
    except Exception as error:
        todo = "It was changed after rotbench wrote it, or this is a bug: then report it, with the file."
        raise BadInput(f"{path} holds results that cannot be {done}: {_told(error)}", todo) from error


def redraw(source: Path, folder: Path) -> Results:
    """Write the page, the JSON and the CSV of the results in the file ``source`` into ``folder``; returns the results.

    Raises as :func:`read_results`, and :class:`~rotbench.errors.BadInput` where ``folder`` holds a store or other
    results; then nothing is written.
    """
    results = read_results_file(source)
    with drawable(source):
        files = files_of(_finite(results))
    refuse_other_results(results, source, folder)
    with lacking(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_files(files, folder)
    return results


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write each file whole or not at all."""
    for name, content in files.items():
        write_durably(folder / name, content)


def files_of(results: Results) -> dict[str, bytes]:
    """What is written of results, by file name."""
    from rotbench.report import render, results_csv  # late: they import matplotlib and pandas

    return {
        JSON: to_json(results),
        CSV: results_csv(results).encode(),
        PAGE: render(results).encode(),
    }


def _finite(results: Results) -> Results:
    """JSON has no word for what is not finite; a file of another program may hold it all the same."""
    finite: Results = json.loads(json.dumps(results, ensure_ascii=False), parse_constant=lambda _: None)
    return finite


def refuse_other_results(results: Results, source: Path, folder: Path) -> None:
    """Raise where writing into ``folder`` would overwrite what is not ``source`` or results of the same study."""
    todo = "Give another --out."
    if (folder / "study.json").exists():
        raise BadInput(f"{folder} holds the runs of a study", todo)
    ours: dict[str, Callable[[Path], bool]] = {
        PAGE: lambda path: _same_study(path, results),
        JSON: lambda path: _same_study(path, results),
        CSV: lambda path: _same_runs(path, results),
    }
    for name, is_ours in ours.items():
        path = folder / name
        if path.exists() and not path.samefile(source) and not is_ours(path):
            raise BadInput(f"{path} is not of the study in {source}", todo)


def _same_study(path: Path, results: Results) -> bool:
    """Whether the results in a file share a run with ``results``, or are of a study file with the same text."""
    try:
        there = read_results_file(path)
    except RotbenchError:
        return False
    same_text = all(there["study"][key] == results["study"][key] for key in ("title", "text"))
    return same_text or not _ids(there).isdisjoint(_ids(results))


def _same_runs(path: Path, results: Results) -> bool:
    """Whether the table in a file shares a run with ``results``."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, csv.Error):
        return False
    return not _ids(results).isdisjoint(row.get("id") for row in rows)


def _ids(results: Results) -> set[str]:
    return {run["id"] for run in results["runs"]}
