"""A table of a study file held against the fields of a dataclass: types, ranges, unknown keys.

The tables of the study and the options of plugins are checked by the same few lines, so that they fail alike.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from rotbench.errors import Fault
from rotbench.source import StudyPath, suggestion

T = TypeVar("T")

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def field_names(cls: type) -> tuple[str, ...]:
    """The options of a dataclass, in its order."""
    return tuple(field.name for field in fields(cls) if field.init)


def check_table(
    cls: type[T], table: Mapping[str, Any], path: StudyPath, also: Collection[str] = ()
) -> tuple[T | None, list[Fault]]:
    """An instance of the dataclass ``cls`` from ``table``, or every fault of the table, placed below ``path``.

    ``also`` are keys that the table may have beside those of ``cls`` and that were taken out of it: a misspelt key may
    be meant for one of them.
    """
    try:
        # Through JSON, since a list is a tuple there while strictness still tells "3" from 3 and 1 from true.
        instance: T = _adapter(cls).validate_json(json.dumps(table, default=str), strict=True)
        return instance, []
    except ValidationError as error:
        return None, _faults(cls, table, path, error, also)


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema of a table that :func:`check_table` accepts for ``cls``; empty where its types have none."""
    try:
        return _adapter(cls).json_schema()
    except PydanticInvalidForJsonSchema:
        return {"properties": {name: {} for name in field_names(cls)}}


def _adapter(cls: type) -> TypeAdapter[Any]:
    if cls in _ADAPTERS:
        return _ADAPTERS[cls]
    # pydantic reads the configuration from the class; without it unknown keys are dropped in silence.
    if "__pydantic_config__" not in vars(cls):
        cls.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
    _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def _faults(
    cls: type, table: Mapping[str, Any], path: StudyPath, error: ValidationError, also: Collection[str]
) -> list[Fault]:
    faults: dict[StudyPath, Fault] = {}
    for detail in error.errors(include_url=False):
        location = _present(table, detail["loc"])
        kind, message, value = detail["type"], detail["msg"], detail["input"]
        if kind in ("unexpected_keyword_argument", "extra_forbidden"):
            unknown = str(detail["loc"][-1])
            known = {*field_names(cls), *also} - set(table)
            faults.setdefault(location, Fault((*path, *location), f"unknown key{suggestion(unknown, known)}", True))
            continue
        if kind in ("missing", "missing_argument"):
            message = f'needs "{detail["loc"][-1]}"'
        else:
            message = message.removeprefix("Input ").removeprefix("Value error, ")
            if detail["loc"]:  # what __post_init__ raises is about the whole table, in the plugin's own words
                message = f"{message}, is {_spelled(value)}"
            if kind == "literal_error" and isinstance(value, str):
                close = suggestion(value, _choices(cls, str(detail["loc"][0])))
                message += close if "did you mean" in close else ""
        faults.setdefault(location, Fault((*path, *location), message))  # one fault a place, the first
    return list(faults.values())


def _present(table: Mapping[str, Any], location: tuple[str | int, ...]) -> StudyPath:
    """The part of pydantic's location that stands in the table (it adds the names of union members)."""
    value: Any = table
    present: StudyPath = ()
    for part in location:
        if isinstance(value, Mapping) and part in value:
            value = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            break
        present = (*present, part)
    return present


def _choices(cls: type, name: str) -> list[str]:
    annotation = typing.get_type_hints(cls).get(name)
    return [choice for choice in typing.get_args(annotation) if isinstance(choice, str)]


def _spelled(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
