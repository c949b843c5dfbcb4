"""The plugins that are there: found in folders and installed packages, loaded one by one, described.

One broken plugin never takes the others down: it is listed as unavailable, with its file and its error, and is spoken
of only when a name that could not be found might have been its.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from rotbench.contract import HOOKS, Kind, problem
from rotbench.errors import BadInput, Fault, RotbenchError
from rotbench.hookspecs import PROJECT, Hooks
from rotbench.options import check_table, field_names
from rotbench.plugin_file import PluginFile, read_plugin_file
from rotbench.resources import plugins_folder
from rotbench.source import StudyPath, quoted, suggestion

#: A plugin whose import takes longer is unavailable: nobody would wait for ``rotbench --help`` of a study.
IMPORT_SECONDS = 30.0


@dataclass(frozen=True)
class PluginReference:
    """What a worker needs to load the very same plugin again: plain text, no object crosses a process."""

    kind: Kind
    name: str
    location: str  # a file, or an entry point of an installed package as "module:attribute"
    sha256: str


@dataclass(frozen=True)
class Plugin:
    """A plugin class that can be used. ``origin`` names it to people, without a path."""

    kind: Kind
    name: str
    cls: type
    origin: str
    version: str
    reference: PluginReference

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    @property
    def options(self) -> Mapping[str, str]:
        """The options and, as a study file writes them, their defaults; ``required`` and ``unset`` are no values."""
        return {
            field.name: "required"
            if field.default is dataclasses.MISSING
            else "unset"
            if field.default is None
            else json.dumps(field.default, ensure_ascii=False, default=str)
            for field in dataclasses.fields(self.cls)
        }


@dataclass(frozen=True)
class Unavailable:
    """A plugin file or package that could not be used, and why."""

    origin: str
    location: str
    error: str


@dataclass(frozen=True)
class Registry:
    """All plugins of one command."""

    plugins: tuple[Plugin, ...]
    unavailable: tuple[Unavailable, ...]

    def names(self, kind: Kind) -> list[str]:
        return [plugin.name for plugin in self.plugins if plugin.kind == kind]

    def find(self, kind: Kind, name: str) -> Plugin | None:
        return next((plugin for plugin in self.plugins if (plugin.kind, plugin.name) == (kind, name)), None)

    def unknown(self, kind: Kind, name: str, others: Iterable[str] = ()) -> str:
        """The words for a name that nothing has; broken plugins are named, since the name may be theirs."""
        words = f"no {kind} {quoted(name)}{suggestion(name, [*self.names(kind), *others])}"
        for broken in self.unavailable:
            words += f"\n    unavailable: {broken.origin}: {broken.error}"
        return words

    def resolve(
        self, kind: Kind, name: str, options: Mapping[str, Any], path: StudyPath
    ) -> tuple[Plugin | None, dict[str, Any], list[Fault]]:
        """The plugin of that name, its options with the defaults filled in, and what is wrong with either."""
        plugin = self.find(kind, name)
        if plugin is None:
            return None, {}, [Fault(path, self.unknown(kind, name))]
        also = ("name", "root") if kind == "dataset" else ("name",)
        instance, faults = check_table(plugin.cls, options, path, also)
        if instance is None:
            return plugin, {}, faults
        return plugin, {"name": name, **option_values(instance)}, []


def option_values(instance: object) -> dict[str, Any]:
    """The options of a plugin as plain JSON values: tuples are lists."""
    values = {name: getattr(instance, name) for name in field_names(type(instance))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def load_registry(folders: Sequence[Path] = (), *, shipped_only: bool = False) -> Registry:
    """Load the shipped plugins, then those of ``folders`` in order, then installed packages."""
    shipped = plugins_folder()
    files = [(path, "shipped") for path in _plugin_files(shipped)]
    if not shipped_only:
        files += [(path, f"file {path.name}") for folder in folders for path in _plugin_files(folder)]
    with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no part of what a command prints
        return _load_all(files, shipped_only)


def _load_all(files: Sequence[tuple[Path, str]], shipped_only: bool) -> Registry:
    plugins: list[Plugin] = []
    unavailable: list[Unavailable] = []
    seen: set[str] = set()
    for path, origin in files:
        try:
            file = read_plugin_file(path)
        except OSError as error:
            unavailable.append(Unavailable(origin, str(path), f"cannot be read: {error.strerror}"))
            continue
        except BadInput as error:
            unavailable.append(Unavailable(origin, str(path), error.what))
            continue
        sha256 = file.sha256
        # In a clone the folder beside the study is the shipped one, and a copy of a shipped file is no second plugin.
        if str(path.resolve()) in seen or sha256 in seen:
            continue
        seen |= {str(path.resolve()), sha256}
        classes = _shipped_classes(file) if origin == "shipped" else _file_classes(file)
        _collect(classes, origin, str(path.resolve()), sha256, "", plugins, unavailable)
    if not shipped_only:
        for entry in importlib.metadata.entry_points(group=PROJECT):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            version = entry.dist.version if entry.dist else ""
            classes = _entry_classes(entry)
            _collect(classes, f"package {package}", entry.value, "", version, plugins, unavailable)
    return Registry(tuple(plugins), tuple(unavailable))


def load_plugin(reference: PluginReference) -> type:
    """Load one plugin class again, in a worker. Raises :class:`BadInput` where its code is no longer the same."""
    path = Path(reference.location)
    classes: Iterator[tuple[Kind, type]] = iter(())
    if path.suffix == ".py":
        sha256 = ""
        with contextlib.suppress(BadInput):  # a helper module that was there when the study began is gone
            file = read_plugin_file(path)
            sha256, classes = file.sha256, _file_classes(file)
    else:
        entry = importlib.metadata.EntryPoint(reference.name, reference.location, PROJECT)
        classes = iter(list(_entry_classes(entry)))  # imported now, since the hash is that of what was imported
        sha256 = _module_sha256(entry.module)
    if sha256 != reference.sha256:
        raise BadInput(
            f"{reference.kind} {reference.name}: {path.name} changed while the study was running",
            "Run the command again: the plan is made anew.",
        )
    for kind, cls in classes:
        if kind == reference.kind and getattr(cls, "name", None) == reference.name:
            return cls
    raise BadInput(f"{path.name} has no {reference.kind} {reference.name}", "Run the command again.")


def _plugin_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith(("_", "test_")) and path.name != "conftest.py"
    ]


def _collect(
    classes: Iterator[tuple[Kind, type]],
    origin: str,
    location: str,
    sha256: str,
    version: str,
    plugins: list[Plugin],
    unavailable: list[Unavailable],
) -> None:
    """Add what one file or package brings, all or none. What raises, in its import or in a hook, is noted."""
    try:
        with _time_limit(IMPORT_SECONDS):
            found = list(classes)
        for kind, cls in found:
            fault = problem(kind, cls)
            name = getattr(cls, "name", cls.__name__)
            other = next((p for p in plugins if (p.kind, p.name) == (kind, name)), None)
            if other is not None:
                first = f"{other.origin} ({Path(other.reference.location).name})"
                fault = f'a second {kind} "{name}"; the first is from {first}'
            if fault:
                unavailable.append(Unavailable(origin, location, f"{cls.__name__}: {fault}"))
                continue
            code = sha256 or _module_sha256(location.partition(":")[0])
            plugins.append(Plugin(kind, name, cls, origin, version, PluginReference(kind, name, location, code)))
    except KeyboardInterrupt:
        raise
    except RotbenchError as error:
        unavailable.append(Unavailable(origin, location, error.what))
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        unavailable.append(Unavailable(origin, location, f"{type(error).__name__}: {error}"))


class _TooSlow(BaseException):
    """Raised into a plugin that takes too long; no ``Exception``, which the plugin might catch."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`BadInput` once ``seconds`` have passed inside; without a limit outside of Unix' main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TooSlow:
        raise BadInput(f"its import took more than {seconds:g} s; import heavy packages inside methods") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _file_classes(file: PluginFile) -> Iterator[tuple[Kind, type]]:
    yield from _hook_classes(file.execute(), file.path.name)


def _shipped_classes(file: PluginFile) -> Iterator[tuple[Kind, type]]:
    """The classes of a shipped file, which has no other effect and is executed once per process and content."""
    key = (file.path, file.sha256)
    if key not in _EXECUTED:
        _EXECUTED[key] = tuple(_file_classes(file))
    yield from _EXECUTED[key]


_EXECUTED: dict[tuple[Path, str], tuple[tuple[Kind, type], ...]] = {}


def _entry_classes(entry: importlib.metadata.EntryPoint) -> Iterator[tuple[Kind, type]]:
    yield from _hook_classes(entry.load(), entry.value)


def _module_sha256(module: str) -> str:
    """A hash of a module's code; where it lies in a package, of every Python file of the package."""
    file = getattr(sys.modules[module], "__file__", None)
    top = getattr(sys.modules.get(module.partition(".")[0]), "__path__", None)
    if top is None:
        return hashlib.sha256(Path(file).read_bytes() if file else module.encode()).hexdigest()
    digest = hashlib.sha256()
    for folder in (Path(place) for place in top):
        for path in sorted(folder.rglob("*.py")):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _hook_classes(plugin: object, name: str) -> Iterator[tuple[Kind, type]]:
    """The classes that one plugin's hooks return. A manager each, so that one plugin's fault stays its own."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        misspelt = str(error).partition("unknown hook ")[2].partition(" ")[0].strip("'\"")
        if misspelt:
            raise BadInput(f"unknown hook {quoted(misspelt)}{suggestion(misspelt, HOOKS.values())}") from None
        raise BadInput(" ".join(str(error).split())) from None
    implemented = 0
    for kind, hook in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            implemented += 1
            returned = implementation.function() or ()
            classes = returned if isinstance(returned, list | tuple) else [returned]
            if isinstance(returned, type) or not all(isinstance(cls, type) for cls in classes):
                raise BadInput(f"{hook} should return a list of classes, returns {returned!r}")
            for cls in classes:
                yield kind, cls
    if not implemented:
        raise BadInput(f"{name} implements no hook of rotbench (forgot @hookimpl?)")
