"""Helper modules beside a plugin file: imported relatively, part of its identity, executed as they were hashed."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rotbench.errors import BadInput
from rotbench.node import inspect
from rotbench.plugin_file import read_plugin_file
from rotbench.registry import Plugin, load_plugin, load_registry
from rotbench.store import Store, run_record, standings, to_json
from rotbench.worker import described
from tests.program import command
from tests.test_driver import drive, plan_with

pytestmark = pytest.mark.usefixtures("none_drawn")

POLICY = '''
"""A freeze policy."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar, Literal
from rotbench import hookimpl
{top}

@dataclass(frozen=True)
class Mine:
    """Train the head."""

    name: ClassVar[str] = "{name}"
    batchnorm: Literal["eval", "train"] = "eval"

    def trainable(self, parameter, epoch, epochs):
        {late}
        return {answer}

@hookimpl
def register_freeze_policies():
    return [Mine]
'''


def write(folder: Path, top: str = "", late: str = "pass", answer: str = "True", name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(POLICY.format(top=top, late=late, answer=answer, name=name))
    return path


def found(folder: Path, name: str = "mine") -> Plugin:
    registry = load_registry([folder])
    assert registry.unavailable == ()
    plugin = registry.find("freeze policy", name)
    assert plugin is not None
    return plugin


def answered(cls: type) -> Any:
    return cls().trainable(None, 1, 1)


WAYS = {
    "module": ("from . import _answers", "pass", "_answers.ANSWER"),
    "name": ("from ._answers import ANSWER", "pass", "ANSWER"),
    "renamed": ("from . import _answers as given", "pass", "given.ANSWER"),
    "late": ("", "from ._answers import ANSWER", "ANSWER"),
    "late-module": ("", "from . import _answers", "_answers.ANSWER"),
    "of-a-helper": ("from ._first import answer", "pass", "answer()"),
    "of-a-helper-late": ("", "from . import _first", "_first.answer()"),
}


@pytest.mark.parametrize(("top", "late", "answer"), WAYS.values(), ids=WAYS)
def test_a_helper_is_imported_wherever_the_import_stands(tmp_path: Path, top: str, late: str, answer: str) -> None:
    write(tmp_path, top, late, answer)
    (tmp_path / "_first.py").write_text("def answer():\n    from . import _answers\n    return _answers.ANSWER\n")
    (tmp_path / "_answers.py").write_text("ANSWER = 41\n")
    first = found(tmp_path)
    worker = load_plugin(first.reference)
    # Nothing is read again: what is imported late is what was hashed.
    (tmp_path / "_answers.py").write_text("ANSWER = 42\n")
    assert answered(first.cls) == answered(worker) == 41
    second = found(tmp_path)
    assert (answered(second.cls), answered(first.cls)) == (42, 41)
    assert second.reference.sha256 != first.reference.sha256
    with pytest.raises(BadInput, match=r"mine\.py changed while the study was running"):
        load_plugin(first.reference)
    (tmp_path / "_answers.py").unlink()
    with pytest.raises(BadInput, match=r"mine\.py changed while the study was running"):
        load_plugin(second.reference)
    assert not (tmp_path / "__pycache__").exists()


def test_the_identity_is_that_of_the_file_and_of_its_helpers(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "_unused.py").write_text("raise RuntimeError\n")
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found(tmp_path).reference.sha256 == own
    write(tmp_path, "from . import _b", "from ._a import A", "A")
    (tmp_path / "_a.py").write_text("A = 1\n")
    (tmp_path / "_b.py").write_text("from . import _a, mine\n")
    lines = [hashlib.sha256(path.read_bytes()).hexdigest()]
    lines += [f"{name} {hashlib.sha256((tmp_path / f'{name}.py').read_bytes()).hexdigest()}" for name in ("_a", "_b")]
    whole = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert found(tmp_path).reference.sha256 == whole
    (tmp_path / "_unused.py").write_text("changed\n")
    assert found(tmp_path).reference.sha256 == whole


def test_every_plugin_that_shares_a_helper_has_another_identity_when_it_changes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path, "from ._answers import ANSWER", answer="ANSWER", name=name)
    write(tmp_path, name="apart")
    (tmp_path / "_answers.py").write_text("ANSWER = 1\n")
    before = {name: found(tmp_path, name).reference.sha256 for name in ("one", "two", "apart")}
    (tmp_path / "_answers.py").write_text("ANSWER = 2\n")
    after = {name: found(tmp_path, name).reference.sha256 for name in before}
    assert {name for name in before if before[name] != after[name]} == {"one", "two"}


def test_helpers_are_no_plugins_and_a_helper_of_the_same_name_elsewhere_is_another(tmp_path: Path) -> None:
    for place, name in enumerate(("one", "two")):
        write(tmp_path / name, "from ._answers import ANSWER", answer="ANSWER", name=name)
        (tmp_path / name / "_answers.py").write_text(f"ANSWER = {place}\n")
    registry = load_registry([tmp_path / "one", tmp_path / "two"])
    assert registry.unavailable == ()
    policies = [registry.find("freeze policy", name) for name in ("one", "two")]
    assert [answered(policy.cls) for policy in policies if policy] == [0, 1]
    assert not any("_answers" in plugin.origin for plugin in registry.plugins)


FAULTS = {
    "from . import _missing": "broken.py:7: there is no helper module _missing.py beside it",
    "from ._missing import x": "broken.py:7: there is no helper module _missing.py beside it",
    "from . import _needs": "_needs.py:2: there is no helper module _missing.py beside it",
    "from . import _wrong": "_wrong.py:3: SyntaxError",
    "from . import _folder": "broken.py:7: there is no helper module _folder.py beside it",
    "from .._x import y": "broken.py:7: from .._x import y: a helper module is a file in the same folder",
    "from ._folder.x import y": "a helper module is a file in the same folder",
    "from . import *": "a helper module is a file in the same folder",
    "from . import _raises": "ValueError: raised by a helper",
}


@pytest.mark.parametrize(("top", "words"), FAULTS.items())
def test_a_helper_that_cannot_be_used_is_that_plugins_error_alone(tmp_path: Path, top: str, words: str) -> None:
    write(tmp_path, top, name="broken")
    write(tmp_path, name="works")
    (tmp_path / "_needs.py").write_text("x = 1\nfrom . import _missing\n")
    (tmp_path / "_wrong.py").write_text("x = 1\n\ndef f(:\n")
    (tmp_path / "_raises.py").write_text("raise ValueError('raised by a helper')\n")
    (tmp_path / "_folder").mkdir()
    (tmp_path / "_folder" / "__init__.py").touch()
    registry = load_registry([tmp_path])
    (broken,) = registry.unavailable
    assert (broken.origin, words in broken.error) == ("file broken.py", True), broken.error
    assert registry.find("freeze policy", "works")


def test_what_is_not_found_in_the_file_cannot_be_imported(tmp_path: Path) -> None:
    """A helper whose code is not part of the identity would change results unseen."""
    write(tmp_path, late="import importlib; importlib.import_module('._answers', __package__)")
    (tmp_path / "_answers.py").write_text("ANSWER = 1\n")
    with pytest.raises(ModuleNotFoundError):
        answered(found(tmp_path).cls)


def test_a_helper_has_its_file_and_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, late="from . import _answers", answer="_answers.__file__")
    (tmp_path / "_answers.py").write_text("import broken_on_purpose\n")
    plugin = found(tmp_path)
    package = f"rotbench_plugin_{plugin.reference.sha256[:16]}"
    with pytest.raises(ModuleNotFoundError, match="broken_on_purpose"):
        answered(plugin.cls)
    assert f"{package}._answers" not in sys.modules
    (tmp_path / "_answers.py").write_text("")
    assert answered(found(tmp_path).cls) == str(tmp_path / "_answers.py")


def test_a_helper_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "from ._answers import answer", answer="answer()")
    (tmp_path / "_answers.py").write_text("def answer():\n    return 1 / 0\n")
    plugin = found(tmp_path)
    request = {"plugins": [{"location": plugin.reference.location}]}
    with pytest.raises(ZeroDivisionError) as raised:
        answered(plugin.cls)
    assert described(raised.value, request) == "ZeroDivisionError: division by zero (in answer, _answers.py:2)"


def test_a_node_of_a_cluster_compares_helpers_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    store.create()
    path = write(tmp_path / "plugins", "from . import _answers")
    helper = path.with_name("_answers.py")
    helper.write_text("ANSWER = 1\n")
    (store.folder / "sign").write_bytes(to_json({str(path): read_plugin_file(path).sha256}))
    assert inspect(str(store.folder), "sign").lacks == ()
    helper.write_text("ANSWER = 2\n")
    assert inspect(str(store.folder), "sign").lacks == (str(path),)
    helper.unlink()
    assert inspect(str(store.folder), "sign").lacks == (str(path),)


STUDY = """
title = "helpers"
seeds = [0]
[train]
epochs = 2
[[matrix]]
init = ["random"]
freeze = ["none", "mine"]
"""


def test_a_run_is_stale_once_a_helper_was_edited(tmp_path: Path) -> None:
    folder, store = tmp_path / "plugins", Store(tmp_path / "results")
    write(folder, late="from ._answers import ANSWER", answer="ANSWER")
    (folder / "_answers.py").write_text("ANSWER = True\n")
    drive(plan_with(folder, STUDY), store)
    (folder / "_answers.py").write_text("ANSWER = True  # edited\n")
    made = plan_with(folder, STUDY)
    standing = standings(store, [run_record(run) for run in made.runs])
    assert [(stands.state, stands.reason) for stands in standing.values()] == [
        ("done", ""),
        ("stale", "plugin mine.py changed"),
    ]
    study = tmp_path / "study.toml"
    study.write_text(STUDY)
    done = command(tmp_path, "plan", str(study), "--out", str(store.folder), "--json")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in json.loads(done.stdout)["runs"]] == ["done", "stale"]


@pytest.mark.thorough
def test_a_worker_trains_with_helpers_from_beside_the_study_and_from_a_folder(tmp_path: Path) -> None:
    """A rehearsal through the command line: the helpers are imported in the worker's methods alone."""
    for name in ("beside", "given"):
        folder = tmp_path / ("plugins" if name == "beside" else "more")
        write(folder, late="from . import _first", answer="_first.answer(parameter)", name=name)
        (folder / "_first.py").write_text(
            "def answer(parameter):\n    from ._second import is_head\n    return is_head(parameter)\n"
        )
        (folder / "_second.py").write_text("def is_head(parameter):\n    return parameter.stage == 'fc'\n")
    (tmp_path / "study.toml").write_text(STUDY.replace('"none", "mine"', '"beside", "given"'))
    arguments = ["study.toml", "--plugins", "more", "--quick", "--out", "results"]
    done = command(tmp_path, "run", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results-quick" / "results.json").read_bytes())
    assert [run["status"] for run in results["runs"]] == ["done", "done"]
    phases = [run["provenance"]["freeze"]["phases"] for run in results["runs"]]
    assert phases[0] == phases[1]
    assert phases[0][0]["parameters"] == 512 * 10 + 10
