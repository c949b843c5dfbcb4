"""Cases 20 to 24: a plugin that raises, wherever it is called, fails its own runs, is named, and stops nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import command

pytestmark = pytest.mark.usefixtures("none_drawn")

TASK = '''
@dataclass(frozen=True)
class {cls}:
    """Raises in {method}."""
    name: ClassVar[str] = "{name}"
    def head(self, features):
        from torch import nn
        return nn.Linear(features, 2)
    def make_batch(self, images, generator):
        import torch
        return images, torch.zeros(len(images), dtype=torch.int64)
    def {method}(self{arguments}):
        {body}
'''

#: Where a task raises: the method, its arguments, what it does, and what is said of it.
TASKS = {
    "head": (", features", "raise RuntimeError('no')", "RuntimeError: no (in head, raising.py:"),
    "make_batch": (", images, generator", "return 3", "make_batch: a batch should be (views, targets), is int"),
    "evaluation_batches": (", images, generator", "raise KeyError('no')", "(in evaluation_batches, raising.py:"),
    "relabel": (", labels, generator", "raise OSError('no')", "OSError: no (in relabel, raising.py:"),
    "loss": (", outputs, targets", "import sys; sys.exit(0)", "SystemExit: 0 (in loss, raising.py:"),
    "score": (", outputs, targets", "raise MemoryError", "MemoryError (in score, raising.py:"),
    "chance": ("", "return 1 / 0", "ZeroDivisionError: division by zero (in chance, raising.py:"),
}

HEAD = "from dataclasses import dataclass\nfrom typing import ClassVar, Literal\nfrom rotbench import hookimpl\n"

OTHERS = '''
@dataclass(frozen=True)
class Apply:
    """Raises in apply."""
    name: ClassVar[str] = "apply"
    def apply(self, model, context):
        raise RuntimeError("no")

@dataclass(frozen=True)
class Claims:
    """Says that it set what it did not."""
    name: ClassVar[str] = "claims"
    def apply(self, model, context):
        return ["conv1.weight"]

@dataclass(frozen=True)
class Trainable:
    """Raises in trainable."""
    name: ClassVar[str] = "trainable"
    batchnorm: Literal["eval", "train"] = "eval"
    def trainable(self, parameter, epoch, epochs):
        raise RuntimeError("no")

@hookimpl
def register_inits():
    return [Apply, Claims]

@hookimpl
def register_freeze_policies():
    return [Trainable]
'''


@pytest.mark.thorough
def test_a_plugin_that_raises_fails_its_own_runs_with_its_method_and_file(tmp_path: Path) -> None:
    classes = [
        TASK.format(cls=f"Task{number}", name=method, method=method, arguments=arguments, body=body)
        for number, (method, (arguments, body, _)) in enumerate(TASKS.items())
    ]
    listed = ", ".join(f"Task{number}" for number in range(len(TASKS)))
    register = f"@hookimpl\ndef register_pretext_tasks():\n    return [{listed}]\n"
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "raising.py").write_text("\n".join([HEAD, *classes, register, OTHERS]))
    pretexts = "".join(f'[pretext.{method}s]\ntask = "{method}"\n' for method in TASKS)
    (tmp_path / "study.toml").write_text(
        f'title = "raising"\n{pretexts}[[run]]\ninit = "random"\n[[run]]\ninit = "apply"\n[[run]]\ninit = "claims"\n'
        '[[run]]\ninit = "random"\nfreeze = "trainable"\n'
    )
    done = command(tmp_path, "run", "study.toml", "--quick")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    runs = json.loads((tmp_path / "results-quick" / "results.json").read_text())["runs"]
    errors = {run["variant"].get("pretext", json.dumps(run["variant"])): run["error"] for run in runs}
    for method, (_, _, words) in TASKS.items():
        assert words in errors[f"{method}s"], errors[f"{method}s"]
    assert errors['{"init": "random"}'] is None
    assert "RuntimeError: no (in apply, raising.py:" in errors['{"init": "apply"}']
    assert "claims" in errors['{"init": "claims"}']
    assert "RuntimeError: no (in trainable, raising.py:" in errors['{"init": "random", "freeze": "trainable"}']
    assert len(errors) == len(TASKS) + 4
