"""Shipped plugin files are loaded by path, as rotbench loads them: they are in no package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rotbench.plugin_file import read_plugin_file

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="session")
def load_shipped_plugin() -> Callable[[str], ModuleType]:
    """Execute ``plugins/NAME.py`` with its helper modules."""
    return lambda name: read_plugin_file(PLUGINS / f"{name}.py").execute()


@pytest.fixture(scope="session")
def shipped_classes(load_shipped_plugin: Callable[[str], ModuleType]) -> Callable[..., SimpleNamespace]:
    """Load the plugin classes of several files of ``plugins/``."""

    def load(*names: str) -> SimpleNamespace:
        modules = [load_shipped_plugin(name) for name in names]
        hooks = [getattr(module, name) for module in modules for name in vars(module) if name.startswith("register_")]
        return SimpleNamespace(**{cls.__name__: cls for hook in hooks for cls in hook()})

    return load
