"""Plugins: what is loaded, and that a broken one says why and harms nobody."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from rotbench.errors import BadInput
from rotbench.registry import load_plugin, load_registry
from tests.shipped import SHIPPED

FREEZE = '''
"""A freeze policy."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar, Literal
from rotbench import hookimpl

@dataclass(frozen=True)
class Mine:
    """Freeze nothing at all."""

    name: ClassVar[str] = "mine"
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter, epoch, epochs):
        return True

@hookimpl
def register_freeze_policies():
    return [Mine]
'''

TASK = '''
"""A pretext task."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from rotbench import hookimpl

@dataclass(frozen=True)
class Mine:
    """Tell nothing at all."""

    name: ClassVar[str] = "mine"

    def head(self, features):
        return None

    def make_batch(self, images, generator, *, index):
        return images, index

    def loss(self, outputs, targets):
        return outputs.sum()

    def notice(self, *, epochs):
        return None

@hookimpl
def register_pretext_tasks():
    return [Mine]
'''


def test_what_ships_is_there_and_described() -> None:
    registry = load_registry()
    assert registry.unavailable == ()
    for kind, names in SHIPPED.items():
        assert names == set(registry.names(kind))  # type: ignore[arg-type]
    assert len(SHIPPED) == 4
    assert all(plugin.summary.endswith((".", "?")) for plugin in registry.plugins)


def test_a_file_in_a_folder_is_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FREEZE)
    (tmp_path / "_helper.py").write_text("raise RuntimeError")
    (tmp_path / "test_mine.py").write_text("raise RuntimeError")
    (tmp_path / "conftest.py").write_text("raise RuntimeError")
    registry = load_registry([tmp_path])
    plugin = registry.find("freeze policy", "mine")
    assert plugin is not None
    assert plugin.origin == "file mine.py"
    assert plugin.options == {"batchnorm": '"eval"'}
    assert registry.unavailable == ()
    assert load_registry([tmp_path], shipped_only=True).find("freeze policy", "mine") is None


def test_the_same_file_twice_is_one_plugin(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(FREEZE)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "copy.py").write_text(FREEZE)
    registry = load_registry([tmp_path, tmp_path, tmp_path / "b"])
    assert registry.names("freeze policy").count("mine") == 1
    assert registry.unavailable == ()


BROKEN = {
    "import nothing_of_that_name": "ModuleNotFoundError",
    "raise SystemExit(0)": "SystemExit",
    "def f(:": "SyntaxError",
    "x = 1": "implements no hook of rotbench (forgot @hookimpl?)",
    FREEZE.replace(
        "register_freeze_policies", "register_freeze_policy"
    ): 'unknown hook "register_freeze_policy", did you mean "register_freeze_policies"?',
    FREEZE.replace("register_freeze_policies()", "register_freeze_policies(extra)"): "extra",
    FREEZE.replace("return [Mine]", "return Mine"): "register_freeze_policies should return a list of classes, returns",
    FREEZE.replace("return [Mine]", "raise ValueError('no')"): "ValueError: no",
    FREEZE.replace("return [Mine]", "return [Mine()]"): "should return a list of classes",
    FREEZE.replace('"mine"', "3"): "needs a name",
    FREEZE.replace("(frozen=True)", "()"): "frozen dataclass",
    FREEZE.replace('    """Freeze nothing at all."""\n', ""): "needs a docstring",
    FREEZE.replace("def trainable", "def trains"): "needs a method trainable(self, parameter, epoch, epochs)",
    FREEZE.replace("(self, parameter, epoch, epochs)", "(self, parameter)"): (
        "trainable should take (self, parameter, epoch, epochs), takes (self, parameter)"
    ),
    FREEZE.replace("    batchnorm: ", "    norm: "): "needs an option batchnorm",
    FREEZE.replace('"mine"', '"below"'): 'a second freeze policy "below"',
    FREEZE.replace("def trainable", "def restart(self, epoch):\n        return None\n\n    def trainable"): (
        "restart should take (self, epoch, epochs)"
    ),
    TASK.replace("def loss(self, outputs, targets)", "def loss(self, outputs)"): (
        "loss should take (self, outputs, targets)"
    ),
    TASK.replace("def notice(self, *, epochs)", "def notice(self, *, epoch)"): (
        "notice should take (self, *, epochs, batch_size, model_name, stem)"
    ),
}


@pytest.mark.parametrize(("code", "words"), BROKEN.items())
def test_a_broken_plugin_is_listed_with_its_error_and_the_others_work(tmp_path: Path, code: str, words: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    (tmp_path / "works.py").write_text(FREEZE.replace('"mine"', '"works"'))
    registry = load_registry([tmp_path])
    (broken,) = registry.unavailable
    assert words in broken.error
    assert broken.origin == "file broken.py"
    assert registry.find("freeze policy", "works")
    assert "broken.py" in registry.unknown("init", "whatever")


def test_the_tasks_of_these_tests_are_sound(tmp_path: Path) -> None:
    (tmp_path / "freeze.py").write_text(FREEZE)
    (tmp_path / "task.py").write_text(TASK)
    registry = load_registry([tmp_path])
    assert registry.unavailable == ()
    assert registry.find("pretext task", "mine")
    assert registry.find("freeze policy", "mine")


@pytest.mark.parametrize(
    "written",
    [
        "@staticmethod\n    def loss(outputs, targets):\n        return outputs.sum()",
        "@property\n    def loss(self):\n        return max",
        "def chance(self, examples, classes):\n        return 0.5",
        "def score(self, outputs, targets, more=1):\n        return outputs",
        "def chance(self, **offered):\n        return 0.5",
    ],
)
def test_methods_may_be_written_as_python_allows(tmp_path: Path, written: str) -> None:
    before = "def loss(self, outputs, targets):\n        return outputs.sum()"
    assert before in TASK
    (tmp_path / "mine.py").write_text(TASK.replace(before, written))
    registry = load_registry([tmp_path])
    assert registry.unavailable == ()
    assert registry.find("pretext task", "mine")


def test_a_plugin_that_takes_too_long_to_import_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rotbench.registry.IMPORT_SECONDS", 0.2)
    # What a plugin may do about exceptions of its own does not keep it from being stopped.
    (tmp_path / "slow.py").write_text("import time\ntry:\n    time.sleep(60)\nexcept Exception:\n    pass\n")
    (tmp_path / "works.py").write_text(FREEZE)
    before = signal.getsignal(signal.SIGALRM)
    registry = load_registry([tmp_path])
    (slow,) = registry.unavailable
    assert slow.origin == "file slow.py"
    assert slow.error == "its import took more than 0.2 s; import heavy packages inside methods"
    assert registry.find("freeze policy", "mine")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_package_is_identified_by_all_of_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "rotbench_mine"
    package.mkdir()
    (package / "__init__.py").write_text("from rotbench_mine.policy import Mine, register_freeze_policies\n")
    (package / "policy.py").write_text(FREEZE)
    (package / "helper.py").write_text("FACTOR = 1\n")
    installed = tmp_path / "rotbench_mine-1.2.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: rotbench-mine\nVersion: 1.2\n")
    (installed / "entry_points.txt").write_text("[rotbench]\nmine = rotbench_mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rotbench_mine", raising=False)
    plugin = load_registry().find("freeze policy", "mine")
    assert plugin is not None
    assert (plugin.origin, plugin.version) == ("package rotbench-mine 1.2", "1.2")
    assert load_plugin(plugin.reference) is plugin.cls
    (package / "helper.py").write_text("FACTOR = 2\n")
    with pytest.raises(BadInput, match="changed while the study was running"):
        load_plugin(plugin.reference)
    assert load_registry(shipped_only=True).find("freeze policy", "mine") is None


def test_a_worker_refuses_a_plugin_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FREEZE)
    plugin = load_registry([tmp_path]).find("freeze policy", "mine")
    assert plugin is not None
    assert load_plugin(plugin.reference).name == "mine"  # type: ignore[attr-defined]
    path.write_text(FREEZE + "# changed\n")
    with pytest.raises(BadInput, match=r"mine\.py changed"):
        load_plugin(plugin.reference)


def test_options_are_checked_strictly(tmp_path: Path) -> None:
    registry = load_registry()
    cases: list[tuple[str, dict[str, object], str]] = [
        ("below", {"stage": "layer9"}, "stage"),
        ("below", {"batchnorm": True}, "batchnorm"),
        ("below", {"unknown": 1}, "unknown"),
    ]
    for name, options, key in cases:
        _, _, faults = registry.resolve("freeze policy", name, options, ("here",))
        assert [fault.path for fault in faults] == [("here", key)]
    assert len(cases) == 3
