"""Which variants are compared: each with the one that differs from it in the baseline's keys alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

#: What a variant starts from and may change where its block does not say.
DEFAULTS: Mapping[str, Any] = {"init": "random", "freeze": "none"}

#: Marks a variant that was added to match the epochs of a pretrained one; it is compared with that one alone.
MATCHED = "compute_matched"

Variant = Mapping[str, Any]


def alike(value: Any) -> str:
    """The same text for values that mean the same: 1 and 1.0 do."""
    if isinstance(value, Mapping):
        return json.dumps({key: alike(part) for key, part in value.items()}, sort_keys=True)
    plain = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return json.dumps(plain, sort_keys=True)


def filled(variant: Variant) -> dict[str, Any]:
    """A variant with the defaults of init and freeze."""
    return {**DEFAULTS, **variant}


def matches(value: Any, wanted: Any) -> bool:
    """Whether a variant's value is the one that is wanted, which may name a table by its name."""
    named = isinstance(wanted, str) and isinstance(value, Mapping) and value.get("name") == wanted
    return named or alike(value) == alike(wanted)


def matches_all(variant: Variant, wanted: Mapping[str, Any]) -> bool:
    """Whether ``variant`` has every key of ``wanted`` with a matching value."""
    whole = filled(variant)
    return all(key in whole and matches(whole[key], value) for key, value in wanted.items())


def pair_up(
    variants: Sequence[Variant], baseline: Mapping[str, Any], ignoring: Collection[str] = ()
) -> list[tuple[Variant, list[Variant]]]:
    """Each variant that is not the baseline, with those that are and are like it in all keys but ``ignoring``.

    Where one of these has the baseline's values as written and others only by name, it alone is the partner.
    """
    if not baseline:
        return []
    left_out = {*baseline, *ignoring}

    def rest(variant: Variant) -> str:
        return alike({key: value for key, value in filled(variant).items() if key not in left_out})

    plain = [variant for variant in variants if MATCHED not in variant]
    sides = [(variant, matches_all(variant, baseline)) for variant in plain]
    by_rest: dict[str, list[Variant]] = {}
    for variant, is_baseline in sides:
        if is_baseline:
            by_rest.setdefault(rest(variant), []).append(variant)
    return [
        (variant, _exact(by_rest.get(rest(variant), []), baseline)) for variant, is_baseline in sides if not is_baseline
    ]


def _exact(found: list[Variant], baseline: Mapping[str, Any]) -> list[Variant]:
    exact = [
        variant for variant in found if all(alike(filled(variant)[key]) == alike(baseline[key]) for key in baseline)
    ]
    return exact or found
