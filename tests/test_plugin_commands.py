"""``rotbench plugins``, ``plugins check`` and ``plugins new`` as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rotbench.plugin_commands import KINDS
from rotbench.registry import load_registry
from tests.program import ROOT, command

FAULTY = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar, Literal
from rotbench import hookimpl

print("loud")

@dataclass(frozen=True)
class Mine:
    """Freeze all."""
    name: ClassVar[str] = "mine"
    #: What a frozen BatchNorm module does.
    batchnorm: Literal["eval", "train"] = "eval"
    #: Whether to train nothing.
    idle: bool = True

    def trainable(self, parameter, epoch, epochs):
        print("loud")
        return not self.idle

    def trainables(self):
        """No member that anybody asks for, and near to one that is there: no fault."""

@dataclass(frozen=True)
class Second:
    """Share a name with a policy, and nothing else."""
    name: ClassVar[str] = "mine"

    def apply(self, model, context):
        return None

@hookimpl
def register_freeze_policies():
    return [Mine]

@hookimpl
def register_inits():
    return [Second]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mine.py").write_text(FAULTY)
    (tmp_path / "more" / "broken_one.py").write_text("raise RuntimeError('no')")
    return tmp_path


def test_check_prints_a_line_a_check_and_a_sum(folder: Path) -> None:
    policy = ("plugins", "check", "mine", "--plugins", "more", "--kind", "freeze-policy")
    done = command(folder, *policy)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert len(lines) == 12
    assert [line.split()[:2] for line in lines[:3]] == [
        ["passed", "loads"], ["passed", "options-documented"], ["passed", "options-survive-json"],
    ]  # fmt: skip
    assert "failed   trains               nothing is trained in epoch 1 of 1: there is no step to take" in lines
    assert lines[-1] == ("9 checks ran, 8 passed, 1 failed; 2 skipped: trains failed, which this needs")
    mended = command(folder, *policy, "--option", "idle=false", "--option", "batchnorm=train", "--json")
    told = json.loads(mended.stdout)
    assert mended.returncode == 0
    assert (told["name"], told["kind"], told["origin"]) == ("mine", "freeze policy", "file mine.py")
    statuses = [row["status"] for row in told["checks"]]
    assert (statuses.count("passed"), statuses.count("skipped"), len(statuses)) == (10, 1, 11)
    assert all(row["says"].endswith(".") for row in told["checks"])


#: What follows ``rotbench plugins check``, and what is said.
REFUSED = [
    (("mine", "--plugins", "more"), "Say which: --kind init or --kind freeze-policy."),
    (("rotatoin",), 'no plugin "rotatoin", did you mean "rotation"?'),
    (("belw", "--kind", "freeze-policy"), 'did you mean "below"?'),
    (("below", "--kind", "init"), 'no init "below"'),
    (("broken-one", "--plugins", "more"), "file broken_one.py cannot be used: RuntimeError: no"),
    (("nothing-like-it", "--plugins", "more"), "unavailable: file broken_one.py: RuntimeError: no"),
    (("below", "--option", "stage=layer9"), 'stage: should be'),
    (("below", "--option", "stag=layer1"), 'unknown key, did you mean "stage"?'),
    (("below", "--option", "stage"), "--option stage: not of the form KEY=VALUE"),
    (("checkpoint",), 'needs "path"'),
    (("below", "--plugins", "gone"), "--plugins gone: no such folder"),
]  # fmt: skip


def test_what_cannot_be_checked_is_told_in_two_lines(folder: Path) -> None:
    for arguments, words in REFUSED:
        done = command(folder, "plugins", "check", *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr, arguments
        assert done.stdout == ""
    assert len(REFUSED) == 11


@pytest.mark.thorough
def test_a_plugin_to_start_from_works_as_it_is(tmp_path: Path) -> None:
    for kind in KINDS:
        done = command(tmp_path, "plugins", "new", kind, f"my-{kind}")
        module = f"my_{kind.replace('-', '_')}"
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[:2] == [f"plugins/{module}.py is written", f"plugins/test_{module}.py is written"]
        assert lines[2] == f"check it: rotbench plugins check my-{kind}"
        assert f'"my-{kind}"' in lines[3]
    checked = command(tmp_path, "plugins", "check", "my-pretext-task")  # pytest runs those of all four, below
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.splitlines()[-1] == "23 checks ran, 23 passed, 0 failed"
    assert len(KINDS) == 4
    assert len(list((tmp_path / "plugins").iterdir())) == 8
    registry = load_registry([tmp_path / "plugins"])
    assert registry.unavailable == ()
    own = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-W", "error", "-p", "no:cacheprovider", "plugins"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert own.returncode == 0, own.stdout
    assert "failed" not in own.stdout
    assert own.stdout.count("skipped") == 0


def test_what_is_written_is_clean(tmp_path: Path) -> None:
    for kind in KINDS:
        assert command(tmp_path, "plugins", "new", kind, f"my-{kind}", "--dir", "here").returncode == 0
    for arguments in (["check", "--ignore", "S101"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--config", str(ROOT / "pyproject.toml"), "here"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_nothing_is_written_over_and_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "test_mine.py").write_text("precious")
    cases = [
        (("init", "Mine"), '"Mine" is no name of a plugin'),
        (("init", "my_init"), "is no name of a plugin"),
        (("init", "../mine"), "is no name of a plugin"),
        (("init", "2-fast"), "is no name of a plugin"),
        (("init", "mine"), "plugins/test_mine.py exists already"),
        (("init", "random"), 'an init "random" is there already'),
        (("freeze-policy", "below"), 'a freeze policy "below" is there already'),
        (("init", "test-mine"), "would be taken for a test file"),
        (("inits", "yours"), "is not one of"),
    ]
    for arguments, words in cases:
        done = command(tmp_path, "plugins", "new", *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), (arguments, done.stderr)
    assert len(cases) == 9
    assert [path.name for path in (tmp_path / "plugins").iterdir()] == ["test_mine.py"]
    assert (tmp_path / "plugins" / "test_mine.py").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["plugins"]


def test_the_bare_command_lists(folder: Path) -> None:
    listed = json.loads(command(folder, "plugins", "--json", "--plugins", "more").stdout)["plugins"]
    assert {"rotation", "mine", "broken_one"} <= {row["name"] for row in listed}
    shipped = json.loads(command(folder, "plugins", "--json", "--plugins", "more", "--no-plugins").stdout)["plugins"]
    assert "mine" not in {row["name"] for row in shipped}
