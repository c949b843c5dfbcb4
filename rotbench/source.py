"""The text of a study file: read, bounded, and with the position of every key and value.

tomllib gives values but no positions, and takes gigabytes for a hostile dotted key; tree-sitter gives positions, in a
tree from which the bounds are read before tomllib sees the text.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_toml
from rich.cells import cell_len

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
        lines = _lines(self.text)
        given: list[PlacedFault] = []
        placed: list[tuple[Position, PlacedFault]] = []
        # What many variants share is told once.
        for fault in dict.fromkeys(faults):
            change, path = self._change(fault), spell_path(fault.path)
            if change:
                given.append(PlacedFault(f"--set {shown(change)}", None, None, path, _harmless(fault.message)))
            else:
                position = self._position(fault)
                placed.append((position, _placed(self.name, lines, *position, fault.message, path)))
        placed.sort(key=lambda pair: pair[0])
        return StudyFaults([*given, *(fault for _, fault in placed)], _TODO)

    def _change(self, fault: Fault) -> str:
        """What the command line gave where the fault stands, or below it where the file has no such place, or ""."""
        paths = [".".join(map(str, fault.path[:length])) for length in range(len(fault.path), 0, -1)]
        change = next((self.given[path] for path in paths if path in self.given), "")
        if not change and paths and fault.path not in self.keys and fault.path not in self.values:
            change = next((given for path, given in self.given.items() if path.startswith(f"{paths[0]}.")), "")
        return change

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
    return written_out(spelled)


def quoted(name: str) -> str:
    """A name in quotes, with what cannot be printed written out."""
    return f'"{written_out(name)}"'


def shown(text: str) -> str:
    """Text of a command line as an error shows it: printable, and not longer than a line."""
    text = written_out(text.encode(errors="replace").decode())
    return text if len(text) <= 80 else f"{text[:77]}..."


def suggestion(word: str, known: Iterable[str]) -> str:
    """``, did you mean "freeze"?`` where something known is close to ``word``, else the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f", did you mean {quoted(close[0])}?"
    return f"; known are {written_out(', '.join(known))}" if known else ""


def read_source(path: Path) -> Source:
    """Read a study file. Raises :class:`BadInput` or, for text that is not TOML, :class:`StudyFaults`."""
    try:
        if path.is_dir():
            raise BadInput(f"{path} is a folder, not a study file", "Give the path of a TOML file.")
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise BadInput(f"{path} is not a regular file", "Give the path of a TOML file.")
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


def parse_value(text: str) -> Any:
    """A TOML value such as ``0.1`` or ``["crop"]``. Raises ``ValueError`` where it is none, or beyond all bounds."""
    whole = f"value = {text}"
    beyond = _beyond_bounds(tree_sitter.Parser(_LANGUAGE).parse(whole.encode()).root_node)
    if beyond is not None:
        raise ValueError(beyond[1])
    return tomllib.loads(whole)["value"]


def parse_source(text: str, name: str) -> Source:
    """Parse the text of a study file called ``name``. Raises :class:`StudyFaults` for text that is not TOML."""
    tree = tree_sitter.Parser(_LANGUAGE).parse(text.encode())
    beyond = _beyond_bounds(tree.root_node)
    if beyond is not None:
        (row, column), message = beyond
        raise StudyFaults([_placed(name, _lines(text), row, column, message)], _TODO)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error), re.DOTALL)
        message, line, at = found.groups() if found else (str(error), "1", "1")
        lines = _lines(text)
        row = int(line) - 1 if line else len(lines) - 1
        byte = len(lines[row][: int(at) - 1].encode()) if at else len(lines[row].encode())
        raise StudyFaults([_placed(name, lines, row, byte, f"not TOML: {message}")], _TODO) from None
    keys: dict[StudyPath, Position] = {}
    values: dict[StudyPath, Position] = {}
    _place_document(tree.root_node, keys, values)
    return Source(name, text, data, keys, values)


def _placed(name: str, lines: Sequence[str], row: int, column: int, message: str, path: str = "") -> PlacedFault:
    """A fault at a row and a column in bytes, both from 0, with its line and a caret under the place."""
    row = min(row, len(lines) - 1)
    before = lines[row].encode()[:column].decode(errors="ignore")
    # A window of the line, since a line can be long; control characters would move the caret or the cursor.
    start = max(0, len(before) - 60)
    shown = "".join(c if c.isprintable() else " " for c in lines[row][start : start + 100])
    indent = " " * cell_len(shown[: len(before) - start])
    excerpt = f"    {shown}\n    {indent}^" if shown.strip() else ""
    return PlacedFault(name, row + 1, len(before) + 1, path, _harmless(message), excerpt)


def _lines(text: str) -> list[str]:
    """The lines as TOML and editors count them: a line separator of Unicode ends none."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def _harmless(message: str) -> str:
    """A message that only says what it says: what would move the cursor or colour the terminal is written out."""
    return "".join(c if c.isprintable() or c == "\n" else written_out(c) for c in message)


def written_out(text: str) -> str:
    """Text with what cannot be printed as TOML would write it: ``\\n``, ``\\u001b``."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1].replace("\x7f", "\\u007f") for c in text)


def _beyond_bounds(root: tree_sitter.Node) -> tuple[Position, str] | None:
    """The first place at which the text is deeper, longer or more dotted than a study can need."""
    pending = [(root, 1)]
    depth = 0
    while pending:  # a stack of our own: a hostile file is deeper than Python's
        node, parts = pending.pop()
        # Counted by brackets, since an array that has no end is no array in the tree.
        depth += (node.type in ("[", "{")) - (node.type in ("]", "}"))
        parts = parts + 1 if node.type == "dotted_key" else 1
        if depth > MAX_DEPTH:
            return _start(node), f"nested deeper than {MAX_DEPTH}"
        if parts > MAX_KEY_PARTS:
            return _start(node), f"a key of more than {MAX_KEY_PARTS} parts"
        if node.type in _NUMBERS and node.end_byte - node.start_byte > MAX_NUMBER_CHARACTERS:
            return _start(node), f"a number of more than {MAX_NUMBER_CHARACTERS} characters"
        pending.extend((child, parts) for child in reversed(node.children))
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
