"""A plugin file and the helper modules beside it: what identifies them, and how they are executed.

A helper module is a Python file in the same folder that the plugin file, or another of its helpers, imports by a
relative import (``from . import _turns``), wherever in the file the import stands. Its code is part of the plugin's
identity. All code is executed from the bytes that were hashed, so that the hash is the hash of what runs, and no
``__pycache__`` is written beside a study.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

from rotbench.errors import BadInput

#: What every relative import matches; to parse each plugin file would take longer than to execute it.
_MAY_BE_RELATIVE = re.compile(rb"from[\s\\]*\.")


@dataclass(frozen=True)
class PluginFile:
    """The code of a plugin file and, by module name, of its helper modules."""

    path: Path
    code: bytes
    helpers: Mapping[str, bytes]

    @property
    def sha256(self) -> str:
        """The identity of the code: the hash of the file's bytes, or of the file and its helper modules."""
        own = hashlib.sha256(self.code).hexdigest()
        if not self.helpers:
            return own
        lines = [f"{name} {hashlib.sha256(code).hexdigest()}\n" for name, code in sorted(self.helpers.items())]
        return hashlib.sha256("".join([f"{own}\n", *lines]).encode()).hexdigest()

    def execute(self) -> types.ModuleType:
        """Execute the file as a new module; helper modules are executed when they are first imported."""
        # The package is known by the hash: of two versions of a file in one process each finds its own helpers.
        package = f"rotbench_plugin_{self.sha256[:16]}"
        if package not in sys.modules:
            parent = types.ModuleType(package)
            parent.__path__ = []
            sys.modules[package] = parent
        _FINDER.files[package] = self
        if _FINDER not in sys.meta_path:
            sys.meta_path.append(_FINDER)
        module = types.ModuleType(f"{package}.{self.path.stem}")
        module.__package__ = package
        sys.modules[module.__name__] = module  # dataclasses look their module up while it is being executed
        try:
            _execute(self.code, self.path, module)
        except BaseException:
            del sys.modules[module.__name__]
            raise
        return module


def read_plugin_file(path: Path) -> PluginFile:
    """Read a plugin file and every helper module that it or another of its helpers imports.

    Raises OSError if the plugin file cannot be read, and :class:`~rotbench.errors.BadInput`, with file and line, if a
    helper cannot be found or parsed. A fault in the plugin file itself is left to its execution.
    """
    code = path.read_bytes()
    helpers: dict[str, bytes] = {}
    try:
        pending = list(_relative_imports(code, path)) if _MAY_BE_RELATIVE.search(code) else []
    except (SyntaxError, ValueError, RecursionError):
        pending = []
    while pending:
        name, place = pending.pop()
        if name in helpers or name == path.stem:
            continue
        helper = path.with_name(f"{name}.py")
        try:
            helpers[name] = helper.read_bytes()
            pending += _relative_imports(helpers[name], helper)
        except FileNotFoundError:
            raise BadInput(f"{place}: there is no helper module {helper.name} beside it") from None
        except OSError as error:
            raise BadInput(f"{place}: the helper module {helper.name} cannot be read: {error.strerror}") from None
        except SyntaxError as error:
            raise BadInput(f"{helper.name}:{error.lineno}: SyntaxError: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{helper.name}: {type(error).__name__}: {error}") from None
    return PluginFile(path, code, helpers)


@functools.lru_cache
def _relative_imports(code: bytes, path: Path) -> tuple[tuple[str, str], ...]:
    """The modules that a file imports relatively, each with ``FILE:LINE`` of the import."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(code, path)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        place = f"{path.name}:{node.lineno}"
        names = [node.module] if node.module else [alias.name for alias in node.names]
        if node.level > 1 or any("." in name or name == "*" for name in names):
            raise BadInput(
                f"{place}: {ast.unparse(node)}: a helper module is a file in the same folder, "
                "imported as: from . import _NAME"
            )
        found += ((name, place) for name in names)
    return tuple(found)


class _HelperFinder(MetaPathFinder):
    """Finds the helper modules of plugin files that were executed."""

    def __init__(self) -> None:
        self.files: dict[str, PluginFile] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        file = self.files.get(package)
        if file is None or name not in file.helpers:
            return None
        return ModuleSpec(fullname, _HelperLoader(file.helpers[name], file.path.with_name(f"{name}.py")))


@dataclass(frozen=True)
class _HelperLoader(Loader):
    """Executes a helper module from the bytes that were hashed."""

    code: bytes
    path: Path

    def exec_module(self, module: types.ModuleType) -> None:
        _execute(self.code, self.path, module)


def _execute(code: bytes, path: Path, module: types.ModuleType) -> None:
    module.__file__ = str(path)
    exec(compile(code, path, "exec"), module.__dict__)  # noqa: S102  running plugin files is what this is for


_FINDER = _HelperFinder()
