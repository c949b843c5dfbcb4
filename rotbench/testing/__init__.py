"""The conformance kit for authors of plugins: what the contract asks, held against a plugin of one's own.

In a test file::

    from rotbench.testing import PluginTests, plugin_class

    class TestMine(PluginTests):
        plugin = plugin_class("mine", folder=Path(__file__).parent)()

and on the command line ``rotbench plugins check mine``. A check passes, fails with words that name the fault, or is
skipped with a reason. It takes a few seconds a plugin, on one thread of the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rotbench.contract import Kind
from rotbench.errors import BadInput
from rotbench.registry import Registry, load_registry
from rotbench.testing.members import kind_of
from rotbench.testing.outcome import Check, Outcome, Rule, Rules, Subject

if TYPE_CHECKING:
    import pytest

__all__ = ["Check", "Outcome", "PluginTests", "checks_of", "plugin_class", "run_checks"]


def checks_of(
    plugin: Any, kind: Kind | None = None, *, folder: Path = Path(), data_dir: Path = Path("data")
) -> list[Check]:
    """The checks of a plugin: an instance with its options, or a class that needs none.

    ``kind`` is told from the methods where it is not given. ``folder``: where relative paths of options start.
    ``data_dir``: where data sets lie. Raises ``TypeError`` where the class is no plugin of any kind.
    """
    instance = plugin() if isinstance(plugin, type) else plugin
    kind = kind or kind_of(type(instance))
    rules, optional = _rules(kind)
    present = [Rule(name, function, ("loads", *needs)) for name, function, needs in optional if hasattr(instance, name)]
    every = [*rules.all, *present]
    subject = Subject(instance, folder.resolve(), data_dir.resolve())
    return [Check(rule, every, subject) for rule in every]


def _rules(kind: Kind) -> tuple[Rules[Any], Sequence[tuple[str, Any, tuple[str, ...]]]]:
    """The rules of a kind, and those of the methods that it may have. Loaded late: they need torch."""
    if kind == "pretext task":
        from rotbench.testing import pretext_task

        return pretext_task.PRETEXT_TASK, pretext_task.OPTIONAL
    if kind == "init":
        from rotbench.testing import init

        return init.INIT, init.OPTIONAL
    if kind == "freeze policy":
        from rotbench.testing import freeze_policy

        return freeze_policy.FREEZE_POLICY, ()
    from rotbench.testing import dataset

    return dataset.DATASET, ()


def run_checks(
    plugin: Any, kind: Kind | None = None, *, folder: Path = Path(), data_dir: Path = Path("data")
) -> list[Outcome]:
    """What all checks of a plugin come to."""
    return [check.run() for check in checks_of(plugin, kind, folder=folder, data_dir=data_dir)]


def plugin_class(name: str, kind: Kind | None = None, *, folder: Path) -> Any:
    """The class of a plugin in the files of ``folder``, loaded as rotbench loads it.

    Raises :class:`~rotbench.errors.BadInput` where no plugin has the name, with the errors of files that are broken.
    """
    registry: Registry = load_registry([folder])
    for plugin in registry.plugins:
        if plugin.name == name and kind in (None, plugin.kind):
            return plugin.cls
    raise BadInput(registry.unknown(kind or "pretext task", name), "Give the name that the class has.")


class PluginTests:
    """Subclass it as ``class TestMine(PluginTests)`` and set ``plugin``: pytest runs one test a check.

    ``plugin``: an instance with its options. ``folder``: where relative paths of options start. ``data_dir``: where
    data sets lie.
    """

    plugin: ClassVar[Any]
    kind: ClassVar[Kind | None] = None
    folder: ClassVar[Path] = Path()
    data_dir: ClassVar[Path] = Path("data")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Called by pytest: a test for each check, under the check's name."""
        if "check" in metafunc.fixturenames:
            checks = checks_of(self.plugin, self.kind, folder=self.folder, data_dir=self.data_dir)
            metafunc.parametrize("check", checks, ids=[check.name for check in checks])

    def test_contract(self, check: Check) -> None:
        """One thing that the contract asks."""
        import pytest

        outcome = check.run()
        if outcome.status == "skipped":
            pytest.skip(outcome.message)
        if outcome.status == "failed":
            pytest.fail(outcome.message, pytrace=False)
