"""What a shell offers when Tab is pressed: the conditions of ``-k``, and bash's words put together again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class
from click.shell_completion import split_arg_string as split_words

from rotbench.errors import RotbenchError
from rotbench.study import read_study


def complete_condition(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``-k init=<TAB>``: the keys and values that the variants of the study on the command line have."""
    # Click has given up reading the line at the unfinished -k, so the study is looked for in the words themselves.
    words = split_words(os.environ.get("COMP_WORDS", ""))
    study = next((word for word in words if word.endswith(".toml")), "experiments.toml")
    try:
        read, _ = read_study(Path(study))
    except RotbenchError:
        return []
    variants = [{"pretext": name} for name in read.pretexts] + [dict(variant.values) for variant in read.variants]
    told = {f"{key}={_spelled(value)}" for variant in variants for key, value in variant.items()}
    return [CompletionItem(word) for word in sorted(told) if word.startswith(incomplete)]


def _spelled(value: Any) -> str:
    """A value as a condition can have it: a plugin by its name, anything else as the study file writes it."""
    if isinstance(value, dict):
        return str(value.get("name"))
    return value if isinstance(value, str) else json.dumps(value)


class WholeWords(BashComplete):
    """Bash breaks ``init=random`` at the equals sign, and replaces what follows it alone."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_words(os.environ["COMP_WORDS"])[: int(os.environ["COMP_CWORD"]) + 1]
        words += [""] * (int(os.environ["COMP_CWORD"]) + 1 - len(words))
        joined: list[str] = []
        for word in words:
            if joined and (word == "=" or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        self._broken = "=" in words
        return joined[1:-1], joined[-1]

    def format_completion(self, item: CompletionItem) -> str:
        value = item.value.partition("=")[2] if self._broken and "=" in item.value else item.value
        return f"{item.type},{value}"


add_completion_class(WholeWords)
