"""Shipped plugin files are loaded by path, as rotbench loads them: they are in no package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rotbench.plugin_file import read_plugin_file

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tests run side by side: threads of one that wait for those of another cost more than they bring."""
    torch.set_num_threads(1)


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
