"""The generated parts of ``plugins/README.md``: ``python -m rotbench.manual FILE``.

What a plugin may have is told by the protocols in ``hookspecs``, what ships by the plugins themselves, so that neither
can say anything else than the code does. A test holds the file against this.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rotbench import hookspecs
from rotbench.contract import HOOKS, OPTIONAL_METHODS, Kind
from rotbench.notes import option_notes
from rotbench.registry import Plugin, Registry, load_registry

#: The class that describes each kind, and what the listing calls it.
PROTOCOLS: Mapping[Kind, tuple[type, str]] = {
    "pretext task": (hookspecs.PretextTask, "Pretext tasks"),
    "init": (hookspecs.Init, "Inits"),
    "freeze policy": (hookspecs.FreezePolicy, "Freeze policies"),
    "dataset": (hookspecs.Dataset, "Data sets"),
}

#: What methods of each kind are given, where it is a class of rotbench's own.
GIVEN: Mapping[Kind, type] = {"init": hookspecs.InitContext, "freeze policy": hookspecs.Parameter}

#: Longer lines of code are broken.
WIDTH = 110

#: A generated part stands between two such lines.
BEGIN, END = "<!-- generated: {name} -->", "<!-- end of {name} -->"


def hooks() -> str:
    """The four hooks, and every attribute and method of what they return, as they are written in the code."""
    blocks = []
    for kind, (protocol, title) in PROTOCOLS.items():
        hook = getattr(hookspecs.Hooks, HOOKS[kind])
        code = [f"def {HOOKS[kind]}{_signature(hook, without_self=True)}: ..."]
        code += ["", f"class {protocol.__name__}(Protocol):", *_fields(protocol)]
        for name, method in _methods(protocol).items():
            lacking = "  # optional" if name in OPTIONAL_METHODS[kind] else ""
            code += _broken(f"    def {name}{_signature(method)}: ...{lacking}")
        words = [f"### {title}", _paragraphs(protocol), "\n".join(["```python", *code, "```"]), _said(protocol)]
        if kind in GIVEN:
            given = GIVEN[kind]
            shape = ["```python", "@dataclass(frozen=True)", f"class {given.__name__}:", *_fields(given), "```"]
            words += [_paragraphs(given), "\n".join(shape)]
        blocks.append("\n\n".join(words))
    return "\n\n".join(blocks) + "\n"


def shipped(registry: Registry) -> str:
    """Every plugin of the registry with its options, a table a kind."""
    blocks = []
    for kind, (_, title) in PROTOCOLS.items():
        rows = [f"### {title} that ship", "", "| name | what it is | options | file |", "|---|---|---|---|"]
        for plugin in registry.plugins:
            if plugin.kind == kind:
                file = Path(plugin.reference.location).name
                rows.append(f"| `{plugin.name}` | {_cell(plugin.summary)} | {_options(plugin)} | [{file}]({file}) |")
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks) + "\n"


def filled(text: str, parts: Mapping[str, str]) -> str:
    """``text`` with each generated part put between its marks. Raises ``ValueError`` where a mark is missing."""
    for name, part in parts.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        if begin not in text or end not in text:
            raise ValueError(f"there is no place for {name}: {begin} .. {end}")
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n\n{part}\n{end}{tail}"
    return text


def parts() -> dict[str, str]:
    """All generated parts by name."""
    return {"hooks": hooks(), "shipped": shipped(load_registry(shipped_only=True))}


def _fields(cls: type) -> list[str]:
    return [f"    {name}: {annotation}" for name, annotation in vars(cls).get("__annotations__", {}).items()]


def _methods(protocol: type) -> dict[str, Callable[..., object]]:
    return {
        name: method
        for name, method in vars(protocol).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


def _signature(method: Callable[..., object], *, without_self: bool = False) -> str:
    """As it is written; annotations are kept as text, which ``inspect`` shows in quotes."""
    signature = inspect.signature(method)
    if without_self:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return re.sub(r"""'([^']*)'|"([^"]*)\"""", lambda quoted: quoted[1] or quoted[2], str(signature))


def _broken(line: str) -> list[str]:
    """A definition that is too long for a line: its parameters on a line of their own, as formatters break it."""
    if len(line) <= WIDTH:
        return [line]
    head, _, rest = line.partition("(")
    inner, arrow, tail = rest.rpartition(") -> ")
    return [f"{head}(", f"        {inner}", f"    {arrow}{tail}"]


def _paragraphs(protocol: type) -> str:
    """The docstring as Markdown: double backquotes are single ones, a table of reStructuredText is a list."""
    lines, listed = [], False
    for line in (inspect.getdoc(protocol) or "").splitlines():
        if line.startswith("==="):
            listed = not listed
        elif listed:
            name, _, said = line.partition("``  ") if line.startswith("``") else ("", "", line)
            lines.append(f"- `{name.strip('`')}`: {said.strip()}")
        else:
            lines.append(line)
    return _markdown("\n".join(lines))


def _said(protocol: type) -> str:
    """What each method's docstring says, as a list."""
    said = {name: " ".join((inspect.getdoc(method) or "").split()) for name, method in _methods(protocol).items()}
    return "\n".join(f"- `{name}`: {_markdown(words)}" for name, words in said.items() if words)


def _markdown(text: str) -> str:
    for role in (":class:", ":func:"):
        text = text.replace(role, "")
    return text.replace("``", "`")


def _options(plugin: Plugin) -> str:
    notes = option_notes(plugin.cls)
    told = [
        f"`{name}`{f' ({default})' if default in ('required', 'unset') else f' = `{default}`'}: "
        f"{_cell(_markdown(notes[name]))}"
        for name, default in plugin.options.items()
    ]
    return "<br>".join(told)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> None:
    """Fill the generated parts of a file."""
    path = Path(arguments[0])
    path.write_text(filled(path.read_text(encoding="utf-8"), parts()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
