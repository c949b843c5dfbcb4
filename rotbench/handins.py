"""What a class has handed in: pages, results and results folders, found where they lie and read one by one.

What is read was made by somebody else: its texts are put into one line of characters that can be shown anywhere, and
what is no hand-in, is damaged or too new says so and stops nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rotbench.embedded import tidied
from rotbench.errors import BadInput, RotbenchError
from rotbench.redraw import JSON, PAGE, check_shape, read_results
from rotbench.results import Results
from rotbench.schema import FILE_NAME

#: How a page of hand-ins names its maker, so that it is never taken for one of them.
GENERATOR = "collate of rotbench"

#: Folders within a folder of hand-ins are looked into so deep: ``handins/ann/work/results``.
DEPTH = 3

#: JSON that rotbench writes and that is no results.
_OTHER_JSON = frozenset({FILE_NAME, "export.json", "study.json"})
#: What is heavy in results and tells nothing here.
_HEAVY = ("log", "pictures", "by_class", "errors")
#: Letters of Persian and of many emoji are joined by these, which no terminal takes for more.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class HandIn:
    """A page, a JSON file or a results folder; ``name`` tells it from the others and is no absolute path."""

    name: str
    path: Path


@dataclass(frozen=True)
class Unread:
    """A hand-in that cannot be read, and why, in one line."""

    name: str
    reason: str


def hand_ins(given: Sequence[Path]) -> tuple[HandIn, ...]:
    """The hand-ins among files and folders, each once, in the order given; those in a folder by name.

    A results folder is one hand-in. Any other folder stands for the pages, JSON files and results folders in it, also
    in folders below it; a folder directly in it that holds none is named all the same, to be told as empty.
    """
    found: dict[str, Path] = {}
    for path in given:
        for one in _within(path, DEPTH):
            if not _is_collation(one):
                found.setdefault(os.path.realpath(one), one)
    paths = list(found.values())
    return tuple(HandIn(name, path) for name, path in zip(_names(paths), paths, strict=True))


def read_hand_in(hand_in: HandIn) -> Results:
    """Its results, whatever it is made of, without what is heavy and with every text in one harmless line.

    The study file keeps its lines. Raises a :class:`~rotbench.errors.RotbenchError` for what cannot be read.
    """
    results = read_results(hand_in.path)
    check_shape(results, hand_in.path)
    light = {key: value for key, value in results.items() if key != "error_images"}
    light["runs"] = [
        {key: value for key, value in run.items() if key not in _HEAVY} | {"log": ""} for run in results["runs"]
    ]
    tidy = tidied(light)
    plain: Results = _plain(tidy)
    plain["study"]["text"] = tidy["study"]["text"].strip()
    return plain


def reason_of(error: RotbenchError, hand_in: HandIn) -> str:
    """Why a hand-in cannot be read, in one line without its path."""
    return one_line(error.what.removeprefix(f"{hand_in.path} ").replace(str(hand_in.path), hand_in.name))


def one_line(text: str) -> str:
    """A text in one line, in which nothing can move a cursor, change a colour or turn the direction of reading."""

    def shown(letter: str) -> str:
        if letter.isprintable() or letter in ("\N{NO-BREAK SPACE}", *_JOINERS):
            return letter
        return " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"

    return text if text.isprintable() else "".join(map(shown, text))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return {one_line(str(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _within(path: Path, depth: int) -> Iterator[Path]:
    """The hand-ins that a path stands for; itself where there is none, to be told as what it is."""
    try:
        if not path.is_dir() or _is_results(path):
            yield path
            return
        found = [one for inner in _entries(path) for one in _of_entry(inner, depth)]
    except OSError:  # a folder that may not be looked into
        found = []
    yield from found or [path]


def _of_entry(inner: Path, depth: int) -> Iterator[Path]:
    if not inner.is_dir():
        yield inner
        return
    if depth > 1:
        below = list(_within(inner, depth - 1))
        # Deeper than the first level an empty folder is nobody's hand-in.
        yield from below if depth == DEPTH else [one for one in below if one != inner or _is_results(one)]
    elif _is_results(inner):
        yield inner


def _is_results(folder: Path) -> bool:
    """Whether a folder is one hand-in: a store, or what ``report --from`` writes with no other page beside it."""
    if (folder / "study.json").exists():
        return True
    pages = [path for path in folder.iterdir() if _is_page(path) and path.name != PAGE]
    return any((folder / name).exists() for name in (JSON, PAGE)) and not pages


def _entries(folder: Path) -> list[Path]:
    """What may be a hand-in in a folder of them, by name; results.json says nothing that its page does not."""
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    entries = [path for path in entries if not path.name.startswith((".", "__"))]
    told_elsewhere = _OTHER_JSON | ({JSON} if any(path.name == PAGE for path in entries) else set())
    return [
        path
        for path in entries
        if path.is_dir() or _is_page(path) or (path.suffix.lower() == ".json" and path.name not in told_elsewhere)
    ]


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _is_collation(path: Path) -> bool:
    """Whether a file is a page of hand-ins, which may well lie among them."""
    try:
        with path.open("rb") as file:
            return f'content="{GENERATOR}'.encode() in file.read(2000)
    except (OSError, ValueError):  # what cannot be opened is told when it is read
        return False


def may_be_written(path: Path) -> None:
    """Raise :class:`~rotbench.errors.BadInput` where writing to ``path`` would destroy what collate did not write."""
    if path.exists() and not _is_collation(path):
        raise BadInput(f"{path} is there and was not written by collate", "Give another file with --to.")


def _names(paths: Sequence[Path]) -> list[str]:
    """What each path is called: without the folder that all of them share, and never from the root on."""
    alone = len(paths) == 1
    names: list[str] = []
    for path in paths:
        alike = [other.parent for other in paths if other.is_absolute() == path.is_absolute()]
        shared = Path(os.path.commonpath(alike))
        if path.is_absolute():
            name = Path(*path.parts[-2:]) if len(shared.parts) == 1 else path.relative_to(shared)
        else:
            name = path if alone else path.relative_to(shared)
        plain = one_line(str(name) if name.parts else path.name or ".")
        again = names.count(plain) + sum(other.startswith(f"{plain} (") for other in names)
        names.append(f"{plain} ({again + 1})" if again else plain)
    return names
