"""The conformance kit: a sound plugin passes, each planted fault fails the one check that is meant for it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rotbench.errors import BadInput
from rotbench.notes import option_notes
from rotbench.testing import checks_of, plugin_class, run_checks
from tests.nonconforming import datasets, freeze_policies, inits, pretext_tasks
from tests.program import ROOT, thorough

MODULES = (pretext_tasks, inits, freeze_policies, datasets)
CASES = [case for module in MODULES for case in module.CASES]


def test_so_many_faults_are_planted_and_every_rule_of_a_kind_is_met_by_one() -> None:
    counts = {module.__name__.rpartition(".")[2]: len(module.CASES) for module in MODULES}
    assert counts == {"pretext_tasks": 27, "inits": 12, "freeze_policies": 7, "datasets": 7}
    missed = set()
    for module in MODULES:
        rules = {check.name for cls, _, _ in module.CASES for check in checks_of(cls)}
        missed |= rules - {check for _, check, _ in module.CASES}
    # The options are the same rules for every kind; a policy cannot reach the weights, which the trainer holds.
    common = {"options-documented", "options-survive-json", "members-spelt"}
    assert missed - common == {"loads", "seeded", "forward-finite", "state-round-trips", *FROM_THE_TRAINER}


FROM_THE_TRAINER = {"frozen-unchanged", "frozen-statistics"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_sound_plugin_passes(module: object) -> None:
    outcomes = run_checks(module.Sound)  # type: ignore[attr-defined]
    assert [(o.check, o.message) for o in outcomes if o.status != "passed"] == []
    assert len(outcomes) >= 9


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [case if place % 24 == 0 else thorough(case)[0] for place, case in enumerate(CASES)],
    ids=[f"{c.__module__}-{c.__name__}" for c, _, _ in CASES],
)
def test_a_planted_fault_fails_its_one_check_in_words(cls: type, check: str, words: str) -> None:
    outcomes = run_checks(cls)
    failed = {outcome.check: outcome.message for outcome in outcomes if outcome.status == "failed"}
    assert list(failed) == [check], failed
    assert words in failed[check]
    assert "\n" not in failed[check]


def test_the_kit_leaves_global_state_as_it_was() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()  # type: ignore[index]
    run_checks(freeze_policies.Sound)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()  # type: ignore[index]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


AUTHORS = """
from rotbench.testing import PluginTests
from tests.nonconforming.datasets import EmptyClass, Sound

class TestSound(PluginTests):
    plugin = Sound()

class TestFaulty(PluginTests):
    plugin = EmptyClass()
"""


def test_an_authors_class_is_one_test_a_check(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(AUTHORS)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-rfs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "TestFaulty.test_contract[classes-agree] ____________________\nthere is no training image of c\n" in done.stdout
    )
    assert "SKIPPED" in done.stdout
    assert "classes-agree failed, which this needs" in done.stdout
    assert "1 failed, 18 passed, 1 skipped" in done.stdout


def test_a_class_of_no_kind_is_told() -> None:
    with pytest.raises(TypeError, match="int should have the methods of one kind of plugin, has those of none"):
        checks_of(3)


def test_a_class_is_found_by_its_name(tmp_path: Path) -> None:
    assert plugin_class("rotation", folder=tmp_path).name == "rotation"
    (tmp_path / "mine.py").write_text("import nothing_of_that_name")
    with pytest.raises(BadInput, match=r'no pretext task "mine"(.|\n)*mine\.py: ModuleNotFoundError'):
        plugin_class("mine", folder=tmp_path)


NOTED = '''
"""Options said in each of the ways."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Annotated, ClassVar
from pydantic import Field
from rotbench import hookimpl

@dataclass(frozen=True)
class Base:
    """Below."""
    #: Inherited, and said
    #: on two lines.
    first: int = 1

@dataclass(frozen=True)
class Noted(Base):
    """Say what options are. The ``third`` is told here. Nothing else is."""
    name: ClassVar[str] = "noted"
    second: Annotated[int, Field(description="Told by pydantic.")] = 2
    third: int = 3
    # no note, since it lacks the colon
    fourth: int = 4

    #: Too far away.

    fifth: int = 5

    def apply(self, model, context):
        return None

@hookimpl
def register_inits():
    return [Noted]
'''


def test_notes_of_options_are_read_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "noted.py").write_text(NOTED)
    assert option_notes(plugin_class("noted", "init", folder=tmp_path)) == {
        "first": "Inherited, and said on two lines.",
        "second": "Told by pydantic.",
        "third": "The ``third`` is told here.",
        "fourth": "",
        "fifth": "",
    }
