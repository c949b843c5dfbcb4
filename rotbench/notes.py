"""What a plugin's author wrote about its options: the comments above the fields, read without running anything."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from rotbench.options import field_names


def option_notes(cls: type) -> dict[str, str]:
    """What is said of each option of a plugin class, in the order of its fields; "" where nothing is.

    The first of these that there is: a ``#:`` comment on the lines directly above the field, ``Field(description=..)``
    of pydantic, the line or sentence of the docstring that names the option in double backquotes. Options that a
    class inherits are looked up where they are written.
    """
    notes = dict.fromkeys(field_names(cls), "")
    for owner in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        for found in (_named_in_docstring(owner, notes), _descriptions(owner), _comments(owner)):
            notes |= {name: note for name, note in found.items() if name in notes and note}
    return notes


def _comments(cls: type) -> dict[str, str]:
    """The ``#:`` comments above the fields in the class's own source; none where the source is not at hand."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or not Path(file).is_file():
        return {}
    text = Path(file).read_text(encoding="utf-8")
    body = _class_body(ast.parse(text), cls.__qualname__.split(".<locals>.")[-1].split("."))
    lines = text.splitlines()
    return {
        field.target.id: _comment_above(lines, field.lineno)
        for field in body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def _class_body(tree: ast.AST, names: list[str]) -> list[ast.stmt]:
    """The statements of the class with this path of names, at whatever depth its first name stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == names[0]:
            return node.body if len(names) == 1 else _class_body(node, names[1:])
    return []


def _comment_above(lines: list[str], number: int) -> str:
    """The block of ``#:`` lines that ends directly above line ``number`` (from 1), as one line."""
    said: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#:"):
            break
        said.insert(0, line.strip().removeprefix("#:").strip())
    return " ".join(said)


def _descriptions(cls: type) -> dict[str, str]:
    """``Field(description=..)``, as the default of a field or inside ``Annotated``."""
    told = {field.name: getattr(field.default, "description", None) for field in dataclasses.fields(cls)}
    try:
        hints: dict[str, Any] = get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):  # annotations that only a type checker can follow say nothing here
        hints = {}
    for name, hint in hints.items():
        for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
            told[name] = told.get(name) or getattr(extra, "description", None)
    return {name: str(note) for name, note in told.items() if note}


def _named_in_docstring(cls: type, names: dict[str, str]) -> dict[str, str]:
    """The sentence of the docstring in which an option stands in double backquotes."""
    sentences = re.split(r"(?<=[.;])\s+", " ".join((inspect.getdoc(cls) or "").split()))
    return {
        name: next((sentence for sentence in sentences if f"``{name}``" in sentence), "")
        for name in names
        if name in vars(cls).get("__annotations__", {})
    }
