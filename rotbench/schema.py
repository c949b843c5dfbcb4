"""The JSON Schema of a study file, from the settings and from the plugins that are there: for editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rotbench.contract import Kind
from rotbench.options import json_schema
from rotbench.registry import Plugin, Registry
from rotbench.settings import (
    ModelSettings,
    PretextSettings,
    ProbeSettings,
    Reference,
    ReportSettings,
    Resources,
    TrainSettings,
)

Schema = dict[str, Any]

#: What ``rotbench new`` calls the schema that it writes beside a study.
FILE_NAME = "rotbench.schema.json"


def study_schema(registry: Registry) -> Schema:
    """A schema, draft 2020-12, that accepts every study which ``rotbench check`` accepts with these plugins.

    It is looser in what a schema cannot say: that an init may be the name of a pretext run of the file, that an
    exclude matches something, that a seed is not given twice by two blocks.
    """
    train, model = _properties(TrainSettings), _properties(ModelSettings)
    init = _written(registry, "init", named_by_file=True)
    freeze, task = _written(registry, "freeze policy"), _written(registry, "pretext task")
    axes = {
        "init": _said(init, "what the backbone starts from: an init, or the name of a [pretext.NAME]"),
        "freeze": _said(freeze, "what a run may change"),
        **train,
        **model,
    }
    some = {key: {**_bare(value), "description": value.get("description", "")} for key, value in axes.items()}
    matrix = {
        **{key: _axis(value) for key, value in axes.items()},
        "exclude": _said(_array(_table(some)), "variants to leave out: those that have all of a table's values"),
        "together": _said(_array(_table(some)), "keys that change together: one table a place on this axis"),
    }
    pretext = {
        "task": _said(task, "what is predicted"),
        "init": _said(init, "what pretraining starts from: an init, or another pretext run"),
        **{key: value for key, value in _properties(PretextSettings).items() if key != "labels_per_class"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A study of rotbench",
        **_table(
            {
                "title": {"type": "string", "minLength": 1, "description": "the headline of the report"},
                "seeds": _SEEDS,
                "repeats": _said({"type": "integer", "minimum": 1}, "downstream runs from each pretext run"),
                "dataset": _dataset(registry),
                "model": _said(_table(model), "which network"),
                "train": _said(_table(train), "how every run is trained, unless it says otherwise"),
                "pretext": {
                    "type": "object",
                    "description": "pretext runs, each trained once a seed; its name is an init",
                    "additionalProperties": _table(pretext, required=["task"]),
                },
                "matrix": _said(_array(_table(matrix)), "variants: every list is an axis, the block is their product"),
                "run": _said(_array(_table(axes)), "single variants"),
                "report": _said(_table(_report(axes)), "how variants are compared"),
                "reference": _said(_array(_reference(some)), "published numbers to show beside measured ones"),
                "probes": _said(_table(_properties(ProbeSettings)), "what is read off frozen features"),
                "resources": _said(_table(_properties(Resources)), "what a run may use"),
            }
        ),
    }


_SEEDS: Schema = {
    "description": "one repetition each: a list of whole numbers, or how many",
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 100_000},
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 2**31},
            "minItems": 1,
            "uniqueItems": True,
        },
    ],
}


def _report(axes: Mapping[str, Schema]) -> dict[str, Schema]:
    """``[report]``, whose conditions have the keys of a variant."""
    report = _properties(ReportSettings)
    conditions = _table({key: {} for key in axes})
    for key in ("baseline", "primary"):
        report[key] = {**conditions, "description": report[key]["description"]}
    return report


def _reference(axes: Mapping[str, Schema]) -> Schema:
    properties = _properties(Reference)
    properties["match"] = {**_table({key: {} for key in axes}), "description": properties["match"]["description"]}
    either = [
        {"required": ["match"], "not": {"required": ["pretext"]}},
        {"required": ["pretext"], "not": {"required": ["match"]}},
    ]
    return {**_table(properties, required=["test_accuracy", "source"]), "oneOf": either}


def _dataset(registry: Registry) -> Schema:
    """``[dataset]``: the options of the named data set, digits if none is named, and where it lies."""
    root = {"root": {"type": "string", "description": "the folder of the data; --data-dir and ROTBENCH_DATA go before"}}
    choices = []
    for plugin in _plugins(registry, "dataset"):
        required = [] if plugin.name == "digits" else ["name"]
        choices.append(_plugin_table(plugin, root, required))
    return {"description": "which images", "anyOf": choices} if choices else {"type": "object"}


def _written(registry: Registry, kind: Kind, *, named_by_file: bool = False) -> Schema:
    """A plugin as a study writes it: its name, or a table with name and options."""
    plugins = _plugins(registry, kind)
    names: Schema = {"enum": [plugin.name for plugin in plugins]}
    names["x-taplo"] = {"docs": {"enumValues": [plugin.summary for plugin in plugins]}}
    choices: list[Schema] = [names, *(_plugin_table(plugin, {}, ["name"]) for plugin in plugins)]
    if named_by_file:
        choices.append({"type": "string", "minLength": 1})
        # The name of a pretext run as a table; of one that is no plugin, since its options would go unchecked.
        other = {"type": "string", "not": {"enum": names["enum"]}}
        choices.append(_table({"name": other}, required=["name"]))
    return {"anyOf": choices}


def _plugins(registry: Registry, kind: Kind) -> list[Plugin]:
    return [plugin for plugin in registry.plugins if plugin.kind == kind]


def _plugin_table(plugin: Plugin, more: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    options = _properties(plugin.cls)
    needed = [field for field, default in plugin.options.items() if default == "required"]
    name = {"const": plugin.name, "description": plugin.summary}
    return {**_table({"name": name, **options, **more}, required=[*required, *needed]), "title": plugin.name}


def _properties(cls: type) -> dict[str, Schema]:
    """The fields of a dataclass as properties; null is left out, since TOML has none."""
    schema = json_schema(cls)
    definitions = schema.get("$defs", {})
    return {name: _plain(value, definitions) for name, value in schema.get("properties", {}).items()}


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A part of pydantic's schema without titles, references and nulls."""
    if isinstance(schema, list):
        return [_plain(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    plain = {
        key: _plain(value, definitions)
        for key, value in schema.items()
        if key != "title" and not (key == "default" and value is None)
    }
    choices = plain.get("anyOf")
    if choices:
        plain["anyOf"] = choices = [choice for choice in choices if choice != {"type": "null"}]
        if len(choices) == 1:
            plain = {**{key: value for key, value in plain.items() if key != "anyOf"}, **choices[0]}
    return plain


def _table(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    table: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**table, "required": list(required)} if required else table


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _axis(value: Schema) -> Schema:
    """One value, or a list of different ones."""
    choices = {"anyOf": [_bare(value), {"type": "array", "items": _bare(value), "minItems": 1, "uniqueItems": True}]}
    return _said(choices, value.get("description", ""))


def _bare(value: Schema) -> Schema:
    return {key: part for key, part in value.items() if key not in ("description", "default")}


def _said(schema: Schema, description: str) -> Schema:
    return {"description": description, **schema} if description else dict(schema)
