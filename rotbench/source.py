"""The text of a study file: read, bounded, and with the position of every key and value.

tomllib gives values but no positions, and takes gigabytes for a hostile dotted key; tree-sitter gives positions, in a
tree from which the bounds are read before tomllib sees the text.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_toml

from rotbench.errors import BadInput, Fault, PlacedFault, StudyFaults

MAX_BYTES = 1024 * 1024
MAX_KEY_PARTS = 16
MAX_DEPTH = 32
MAX_NUMBER_CHARACTERS = 64

StudyPath = tuple[str | int, ...]
Position = tuple[int, int]  # row and column, both from 0, the column in bytes

_LANGUAGE = tree_sitter.Language(tree_sitter_toml.language())
_KEYS = ("bare_key", "quoted_key", "dotted_key")
_NUMBERS = ("integer", "float")
_TODO = "Mend this and run the command again; nothing was started."


@dataclass(frozen=True)
class Source:
    """A study file as read: its name for messages, its text, its values, and where each stands.

    ``given`` are the changes of the command line, as written there, by the dotted path that each sets.
    """

    name: str
    text: str
    data: Mapping[str, Any]
    keys: Mapping[StudyPath, Position]
    values: Mapping[StudyPath, Position]
    given: Mapping[str, str] = field(default_factory=dict)

    def faults(self, faults: Sequence[Fault]) -> StudyFaults:
        """The error that shows ``faults`` in the order of the file, each with its line and a caret."""
        given = [(change, fault) for fault in faults if (change := self._change(fault))]
        placed = [(self._position(fault), fault) for fault in faults if not self._change(fault)]
        placed.sort(key=lambda pair: pair[0])
        return StudyFaults(
            [
                *(PlacedFault(f"--set {change}", None, None, spell_path(f.path), f.message) for change, f in given),
                *(_placed(self.name, self.text, *at, f.message, spell_path(f.path)) for at, f in placed),
            ],
            _TODO,
        )

    def _change(self, fault: Fault) -> str:
        """What the command line gave where the fault stands, or ""."""
        paths = [".".join(map(str, fault.path[:length])) for length in range(len(fault.path), 0, -1)]
        return next((self.given[path] for path in paths if path in self.given), "")

    def _position(self, fault: Fault) -> Position:
        """Where a fault stands; what is missing is shown at the nearest thing around it that is there."""
        first, second = (self.keys, self.values) if fault.at_key else (self.values, self.keys)
        for length in range(len(fault.path), 0, -1):
            path = fault.path[:length]
            if path in first or path in second:
                return first.get(path) or second[path]
        return (0, 0)


def spell_path(path: StudyPath) -> str:
    """``("matrix", 0, "freze")`` as people write it: ``matrix[0].freze``."""
    spelled = ""
    for part in path:
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}" if spelled else str(part)
    return spelled


def suggestion(word: str, known: Iterable[str]) -> str:
    """``, did you mean "freeze"?`` where something known is close to ``word``, else the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f', did you mean "{close[0]}"?'
    return f"; known are {', '.join(known)}" if known else ""


def read_source(path: Path) -> Source:
    """Read a study file. Raises :class:`BadInput` or, for text that is not TOML, :class:`StudyFaults`."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder, not a study file", "Give the path of a TOML file.")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(
            f"there is no study file {path}", "Give the path of one, or write one to start from with: rotbench new"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path} cannot be read: {reason}", "Give the path of a readable TOML file.") from None
    if len(raw) > MAX_BYTES:
        raise BadInput(f"{path} is larger than 1 MiB", "A study file is a few kB: is this the right file?")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: the file is not UTF-8", "Save it as UTF-8 and run the command again.") from None
    return parse_source(text, str(path))


def parse_source(text: str, name: str) -> Source:
    """Parse the text of a study file called ``name``. Raises :class:`StudyFaults` for text that is not TOML."""
    tree = tree_sitter.Parser(_LANGUAGE).parse(text.encode())
    beyond = _beyond_bounds(tree.root_node)
    if beyond is not None:
        (row, column), message = beyond
        raise StudyFaults([_placed(name, text, row, column, message)], _TODO)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error), re.DOTALL)
        message, line, at = found.groups() if found else (str(error), "1", "1")
        lines = text.split("\n")
        row = int(line) - 1 if line else len(lines) - 1
        byte = len(lines[row][: int(at) - 1].encode()) if at else len(lines[row].encode())
        raise StudyFaults([_placed(name, text, row, byte, f"not TOML: {message}")], _TODO) from None
    keys: dict[StudyPath, Position] = {}
    values: dict[StudyPath, Position] = {}
    _place_document(tree.root_node, keys, values)
    return Source(name, text, data, keys, values)


def _placed(name: str, text: str, row: int, column: int, message: str, path: str = "") -> PlacedFault:
    """A fault at a row and a column in bytes, both from 0, with its line and a caret under the place."""
    lines = text.splitlines() or [""]
    row = min(row, len(lines) - 1)
    before = lines[row].encode()[:column].decode(errors="ignore")
    # A window of the line, since a line can be long; control characters would move the caret or the cursor.
    start = max(0, len(before) - 60)
    shown = "".join(c if c.isprintable() else " " for c in lines[row][start : start + 100])
    excerpt = f"    {shown}\n    {' ' * (len(before) - start)}^" if shown.strip() else ""
    return PlacedFault(name, row + 1, len(before) + 1, path, message, excerpt)


def _beyond_bounds(root: tree_sitter.Node) -> tuple[Position, str] | None:
    """The first place at which the text is deeper, longer or more dotted than a study can need."""
    pending = [(root, 0, 1)]
    while pending:  # a stack of our own: a hostile file is deeper than Python's
        node, depth, parts = pending.pop()
        if node.type in ("array", "inline_table"):
            depth += 1
        parts = parts + 1 if node.type == "dotted_key" else 1
        if depth > MAX_DEPTH:
            return _start(node), f"nested deeper than {MAX_DEPTH}"
        if parts > MAX_KEY_PARTS:
            return _start(node), f"a key of more than {MAX_KEY_PARTS} parts"
        if node.type in _NUMBERS and node.end_byte - node.start_byte > MAX_NUMBER_CHARACTERS:
            return _start(node), f"a number of more than {MAX_NUMBER_CHARACTERS} characters"
        pending.extend((child, depth, parts) for child in reversed(node.children))
    return None


def _start(node: tree_sitter.Node) -> Position:
    return (node.start_point.row, node.start_point.column)


def _key_parts(node: tree_sitter.Node) -> Iterator[tuple[str, Position]]:
    if node.type == "dotted_key":
        for child in node.children:
            if child.type in _KEYS:
                yield from _key_parts(child)
    else:
        raw = (node.text or b"").decode()
        name = raw if node.type == "bare_key" else next(iter(tomllib.loads(f"{raw} = 0")))
        yield name, _start(node)


def _place_document(root: tree_sitter.Node, keys: dict[StudyPath, Position], values: dict[StudyPath, Position]) -> None:
    arrays: dict[StudyPath, int] = {}  # how many [[...]] of each path have been met

    def absolute(parts: list[str]) -> StudyPath:
        """The path of a header's parts, with the index of the last element of each array of tables on the way."""
        path: StudyPath = ()
        for part in parts:
            path = (*path, part)
            if path in arrays:
                path = (*path, arrays[path] - 1)
        return path

    for node in root.children:
        if node.type == "pair":
            _place_pair(node, (), keys, values)
            continue
        if node.type not in ("table", "table_array_element"):
            continue
        header = next(child for child in node.children if child.type in _KEYS)
        parts = list(_key_parts(header))
        path = absolute([name for name, _ in parts[:-1]])
        path = (*path, parts[-1][0])
        if node.type == "table_array_element":
            arrays[path] = arrays.get(path, 0) + 1
            keys.setdefault(path, parts[-1][1])
            path = (*path, arrays[path] - 1)
        for length in range(1, len(path) + 1):
            keys.setdefault(path[:length], parts[-1][1])
        for child in node.children:
            if child.type == "pair":
                _place_pair(child, path, keys, values)


def _place_pair(
    node: tree_sitter.Node, path: StudyPath, keys: dict[StudyPath, Position], values: dict[StudyPath, Position]
) -> None:
    key = node.children[0]
    value = next(child for child in node.named_children[1:] if child.type != "comment")
    for name, position in _key_parts(key):
        path = (*path, name)
        keys.setdefault(path, position)
    _place_value(value, path, keys, values)


def _place_value(
    node: tree_sitter.Node, path: StudyPath, keys: dict[StudyPath, Position], values: dict[StudyPath, Position]
) -> None:
    values[path] = _start(node)
    if node.type == "array":
        elements = [child for child in node.named_children if child.type != "comment"]
        for index, child in enumerate(elements):
            _place_value(child, (*path, index), keys, values)
    elif node.type == "inline_table":
        for child in node.named_children:
            if child.type == "pair":
                _place_pair(child, path, keys, values)
