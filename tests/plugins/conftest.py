"""Shipped plugin files are loaded by path, as rotbench loads them: they are in no package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="session")
def load_shipped_plugin() -> Iterator[Callable[[str], ModuleType]]:
    """Import ``plugins/NAME.py``; the modules are forgotten at the end of the session."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        module_name = f"shipped_plugin_{name}"
        spec = importlib.util.spec_from_file_location(module_name, PLUGINS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module  # dataclasses look their module up
        loaded.append(module_name)
        spec.loader.exec_module(module)
        return module

    yield load
    for module_name in loaded:
        sys.modules.pop(module_name, None)
