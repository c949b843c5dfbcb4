"""What holds for plugins of every kind: the class, its options, the names of its members."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any

from rotbench.contract import ATTRIBUTES, METHODS, OPTIONAL_METHODS, Kind, problem
from rotbench.notes import option_notes
from rotbench.options import check_table, field_names
from rotbench.registry import option_values
from rotbench.testing.outcome import Rules, Subject, hold

#: The members that each kind of plugin can have, options aside.
MEMBERS: Mapping[Kind, frozenset[str]] = {
    kind: frozenset((*METHODS[kind], *OPTIONAL_METHODS[kind], *ATTRIBUTES[kind])) for kind in METHODS
}

#: How alike two names are, by difflib, from where on one is taken for the other misspelt.
_ALIKE = 0.8


def kind_of(cls: type) -> Kind:
    """The kind whose required methods the class has; ``TypeError`` where it has those of none, or of several."""
    kinds = [kind for kind, methods in METHODS.items() if all(callable(getattr(cls, name, None)) for name in methods)]
    if len(kinds) != 1:
        has = "those of several" if kinds else "those of none"
        required = "; ".join(f"{kind}: {', '.join(methods)}" for kind, methods in METHODS.items())
        raise TypeError(f"{cls.__name__} should have the methods of one kind of plugin, has {has} ({required})")
    return kinds[0]


def add_common(rules: Rules[Any], kind: Kind) -> None:
    """Put the rules that all kinds share first among those of one kind."""

    @rules.rule()
    def loads(subject: Subject) -> None:
        """rotbench takes the class for a plugin, and ``cite``, where it has one, is text."""
        fault = problem(kind, type(subject.plugin))
        hold(not fault, fault)
        cite = getattr(subject.plugin, "cite", "")
        hold(isinstance(cite, str), f"cite should be text, is {cite!r}")

    @rules.rule()
    def options_documented(subject: Subject) -> None:
        """Every option says what it is."""
        silent = [name for name, note in option_notes(type(subject.plugin)).items() if not note]
        hold(
            not silent,
            f"nothing is said of the option {', '.join(silent)}: write a comment that begins with #: above the field",
        )

    @rules.rule()
    def options_survive_json(subject: Subject) -> None:
        """The options can be written into a study's record and make the same plugin again."""
        cls, values = type(subject.plugin), option_values(subject.plugin)
        try:
            text = json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            hold(False, f"the options cannot be written as JSON: {error}; use text, numbers, truth values and tuples")
        again, faults = check_table(cls, json.loads(text), ())
        words = "; ".join(f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in faults)
        hold(again is not None, f"the options do not fit their own annotations: {words}")
        changed = [name for name in field_names(cls) if getattr(again, name) != getattr(subject.plugin, name)]
        hold(not changed, f"the option {', '.join(changed)} comes back from JSON as another value")

    @rules.rule()
    def members_spelt(subject: Subject) -> None:
        """No member has nearly the name of one that rotbench looks for."""
        cls = type(subject.plugin)
        has = {name for owner in cls.__mro__[:-1] for name in vars(owner) if not name.startswith("_")}
        has |= {field.name for field in dataclasses.fields(cls)}
        lacks = sorted(MEMBERS[kind] - has)
        for name in sorted(has - MEMBERS[kind]):
            close = difflib.get_close_matches(name, lacks, n=1, cutoff=_ALIKE)
            hold(
                not close, f'rotbench does not look for "{name}": did you mean "{"".join(close)}"? Else begin it with _'
            )
