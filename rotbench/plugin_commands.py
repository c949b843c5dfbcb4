"""``rotbench plugins``: which plugins there are, a plugin to start from, and the contract held against one."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from rotbench.contract import Kind
from rotbench.errors import EXIT_OK, EXIT_RUN_FAILED, BadInput, EnvironmentLacking
from rotbench.invocation import data_root, json_option, no_plugins_option, plugins_option
from rotbench.options import check_table
from rotbench.registry import Plugin, Registry, load_registry
from rotbench.resources import templates_folder
from rotbench.source import quoted, suggestion
from rotbench.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

    from rotbench.testing import Check, Outcome

#: The kinds of plugins as a command line writes them.
KINDS: dict[str, Kind] = {kind.replace(" ", "-"): kind for kind in get_args(Kind)}

#: Where a plugin of each kind stands in a study file.
STUDY_LINES: dict[Kind, str] = {
    "pretext task": '[pretext.{name}]  with  task = "{name}"',
    "init": '[[run]]  with  init = "{name}"',
    "freeze policy": '[[run]]  with  freeze = "{name}"',
    "dataset": '[dataset]  with  name = "{name}"',
}

#: What a list of the plugins of each kind is called.
TITLES: dict[Kind, str] = {
    "pretext task": "pretext tasks",
    "init": "inits",
    "freeze policy": "freeze policies",
    "dataset": "data sets",
}

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.group(invoke_without_command=True)
@plugins_option
@no_plugins_option
@json_option
@click.pass_context
def plugins(context: click.Context, plugin_folders: Sequence[Path], no_plugins: bool, as_json: bool) -> None:
    """List the plugins that are there, and those that cannot be used."""
    if context.invoked_subcommand is None:
        show_plugins(load_registry([Path("plugins"), *plugin_folders], shipped_only=no_plugins), as_json=as_json)


def show_plugins(registry: Registry, *, as_json: bool) -> None:
    """Print what is there, then what cannot be used and why."""
    rows: list[dict[str, Any]] = [
        {
            "kind": plugin.kind,
            "name": plugin.name,
            "origin": plugin.origin,
            "version": plugin.version,
            "summary": plugin.summary,
            "options": dict(plugin.options),
            "error": None,
        }
        for plugin in registry.plugins
    ]
    rows += [
        {
            "kind": None,
            "name": Path(broken.location).stem,
            "origin": broken.origin,
            "version": "",
            "summary": "",
            "options": {},
            "error": broken.error,
        }
        for broken in registry.unavailable
    ]
    if as_json:
        click.echo(json.dumps({"plugins": rows}, indent=1))
        return
    console().print(plugins_table(registry))


def plugins_table(registry: Registry) -> Table:
    """The plugins of each kind with what they say of themselves and their options, then what cannot be used."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for kind, title in TITLES.items():
        table.add_row(Text(title, "bold"), "")
        for plugin in sorted((p for p in registry.plugins if p.kind == kind), key=lambda p: p.origin != "shipped"):
            origin = "" if plugin.origin == "shipped" else f" ({plugin.origin})"
            table.add_row(Text(f"  {plugin.name}"), Text(f"{plugin.summary}{origin}"))
            options = ", ".join(
                f"{name} ({default})" if default in ("required", "unset") else f"{name} = {default}"
                for name, default in plugin.options.items()
            )
            if options:
                table.add_row("", Text(options, "dim"))
    if registry.unavailable:
        table.add_row(Text("unavailable", "bold red"), "")
    for broken in registry.unavailable:
        table.add_row(Text(f"  {Path(broken.location).stem}"), Text(f"{broken.origin}: {broken.error}"))
    return table


@plugins.command()
@click.argument("name")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the plugin: turns=all")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Which, where several kinds share the name.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where data sets lie. Else ROTBENCH_DATA.")
@plugins_option
@json_option
def check(
    name: str,
    options: Sequence[str],
    kind: str | None,
    data_dir: Path | None,
    plugin_folders: Sequence[Path],
    as_json: bool,
) -> None:
    """Hold the contract of plugins against the plugin NAME; it takes some seconds, and downloads nothing."""
    for folder in plugin_folders:
        if not folder.is_dir():
            raise BadInput(f"--plugins {folder}: no such folder", "Give a folder with plugin files.")
    plugin = find_plugin(load_registry([Path("plugins"), *plugin_folders]), name, KINDS[kind] if kind else None)
    instance = make_instance(plugin, options)
    from rotbench.testing import checks_of

    outcomes: list[tuple[Check, Outcome]] = []
    checks = checks_of(instance, plugin.kind, folder=Path(), data_dir=data_root(data_dir, None, Path()))
    for one in checks:
        with redirect_stdout(sys.stderr):  # what a plugin prints is no part of what a command prints
            outcome = one.run()
        outcomes.append((one, outcome))
        if not as_json:
            click.echo(f"{outcome.status:<8} {one.name:<20} {outcome.message or one.says}")
    failed = sum(outcome.status == "failed" for _, outcome in outcomes)
    if as_json:
        rows = [{**asdict(outcome), "says": one.says} for one, outcome in outcomes]
        told = {"name": plugin.name, "kind": plugin.kind, "origin": plugin.origin, "checks": rows}
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(in_sum([outcome for _, outcome in outcomes]))
    sys.exit(EXIT_RUN_FAILED if failed else EXIT_OK)


def in_sum(outcomes: Sequence[Outcome]) -> str:
    """Such as ``17 checks ran, 16 passed, 1 failed; 2 skipped: why``."""
    count = {status: sum(o.status == status for o in outcomes) for status in ("passed", "failed", "skipped")}
    words = f"{count['passed'] + count['failed']} checks ran, {count['passed']} passed, {count['failed']} failed"
    reasons = dict.fromkeys(outcome.message for outcome in outcomes if outcome.status == "skipped")
    return f"{words}; {count['skipped']} skipped: {'; '.join(reasons)}" if reasons else words


def find_plugin(registry: Registry, name: str, kind: Kind | None) -> Plugin:
    """The plugin of that name. Raises :class:`BadInput` where there is none, a broken one, or one of several kinds."""
    found = [plugin for plugin in registry.plugins if plugin.name == name and kind in (None, plugin.kind)]
    if len(found) > 1:
        kinds = " or ".join(f"--kind {plugin.kind.replace(' ', '-')}" for plugin in found)
        raise BadInput(f'there are several plugins "{name}", of different kinds', f"Say which: {kinds}.")
    if found:
        return found[0]
    for broken in registry.unavailable:
        if name in (Path(broken.location).stem.replace("_", "-"), Path(broken.location).stem):
            raise BadInput(f"{broken.origin} cannot be used: {broken.error}", "Mend the file, then check it again.")
    names = {plugin.name for plugin in registry.plugins if kind in (None, plugin.kind)}
    words = f"no {kind or 'plugin'} {quoted(name)}{suggestion(name, names)}"
    for broken in registry.unavailable:
        words += f"\n    unavailable: {broken.origin}: {broken.error}"
    raise BadInput(words, "Give one of the names that rotbench plugins lists.")


def make_instance(plugin: Plugin, given: Sequence[str]) -> Any:
    """The plugin with options of the form ``KEY=VALUE``, a TOML value or text as it stands.

    The pretext run that an init starts from needs no name here, since its weights are made up.
    """
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadInput(f"--option {text}: not of the form KEY=VALUE", "Give it such as --option turns=all.")
        options[key.strip()] = _value(value.strip())
    required = {f.name for f in dataclasses.fields(plugin.cls) if f.default is f.default_factory is dataclasses.MISSING}
    if plugin.kind == "init" and "pretext" in required:
        options.setdefault("pretext", "made-up")
    instance, faults = check_table(plugin.cls, options, ())
    if instance is None:
        words = "; ".join(f"{'.'.join(map(str, fault.path))}: {fault.message}".removeprefix(": ") for fault in faults)
        raise BadInput(f"{plugin.kind} {plugin.name}: {words}", "Give options such as --option KEY=VALUE.")
    return instance


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@plugins.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("plugins"),
    show_default=True,
    help="Where the files are written.",
)
def new(kind: str, name: str, folder: Path) -> None:
    """Write a plugin to start from, which works as it is, and its test: NAME is in kebab-case."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{quoted(name)} is no name of a plugin", "Give small letters, digits and hyphens, such as upside-down."
        )
    module = name.replace("-", "_")
    if module.startswith("test_") or module == "conftest":
        raise BadInput(f"{quoted(name)} would be taken for a test file", "Give another name.")
    files = {"plugin": folder / f"{module}.py", "test": folder / f"test_{module}.py"}
    for path in files.values():
        if path.exists():
            raise BadInput(f"{path} exists already", "Move it away, or give another name.")
    if load_registry([Path("plugins"), folder]).find(KINDS[kind], name):
        article = "an" if kind == "init" else "a"
        raise BadInput(f'{article} {KINDS[kind]} "{name}" is there already', "Give another name.")
    written = {path: _scaffold(f"{kind}.{part}.py.j2", name) for part, path in files.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in written.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentLacking(f"{folder} cannot be written: {error.strerror}", "Give another folder.") from None
    for path in written:
        click.echo(f"{path} is written")
    also = "" if folder == Path("plugins") else f" --plugins {folder}"
    click.echo(f"check it: rotbench plugins check {name}{also}")
    click.echo(f"use it in a study: {STUDY_LINES[KINDS[kind]].format(name=name)}")


def _scaffold(template: str, name: str) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder() / "scaffold"),
        autoescape=jinja2.select_autoescape(),  # of HTML, which this is not
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    cls = "".join(part.capitalize() for part in name.split("-"))
    return environment.get_template(template).render(name=name, cls=cls)
