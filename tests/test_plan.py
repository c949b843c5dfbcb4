"""Runs, their identity, and what they need."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rotbench.errors import BadInput, EnvironmentLacking, StudyFaults
from rotbench.plan import Plan, make_plan
from rotbench.registry import load_registry
from rotbench.source import parse_source
from rotbench.study import understand

STUDY = """
seeds = [0, 1]
[train]
epochs = 2
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", { name = "below", stage = "layer4" }]
"""


def plan(
    text: str = STUDY, *changes: str, only: tuple[str, ...] = (), folder: Path = Path(), plugins: Path | None = None
) -> Plan:
    study, faults = understand(parse_source(text, "e.toml"), folder, changes)
    registry = load_registry([plugins] if plugins else [])
    return make_plan(study, faults, registry, folder, only)


def faults(text: str) -> list[str]:
    with pytest.raises(StudyFaults) as caught:
        plan(text)
    return [str(fault) for fault in caught.value.faults]


def test_a_pretext_run_is_made_once_a_seed_and_shared() -> None:
    runs = plan().runs
    assert [run.kind for run in runs] == (["pretext"] + ["downstream"] * 4) * 2
    for seed in (0, 1):
        (pretext,) = (run for run in runs if run.kind == "pretext" and run.seed == seed)
        for run in runs:
            if run.seed == seed and run.kind == "downstream":
                assert run.needs == ((pretext.id,) if run.variant["init"] == "rotation" else ())


def test_the_variant_is_kept_as_the_file_writes_it_and_the_settings_are_resolved() -> None:
    run = plan().runs[4]
    assert run.variant == {"init": "rotation", "freeze": {"name": "below", "stage": "layer4"}}
    assert run.settings["freeze"] == {"name": "below", "stage": "layer4", "batchnorm": "eval"}
    assert run.settings["init"] == {"name": "pretext", "pretext": "rotation"}
    assert run.settings["train"]["epochs"] == 2
    assert run.settings["train"]["augment"] == ["crop"]  # the digits' own


def test_identity_covers_whatever_changes_the_result() -> None:
    """Each change gives every affected run another id; nothing else does."""
    before = {(r.kind, str(r.variant), r.seed): r.id for r in plan().runs}
    for change in ("train.lr=0.5", "model.stem=cifar", "dataset.name=cifar10", "resources.threads=2"):
        after = {(r.kind, str(r.variant), r.seed): r.id for r in plan(STUDY, change).runs}
        assert before.keys() == after.keys()
        assert not set(before.values()) & set(after.values()), change
    after = {(r.kind, str(r.variant), r.seed): r.id for r in plan(STUDY, "pretext.rotation.epochs=9").runs}
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {key for key in before if key[0] == "pretext" or "'rotation'" in key[1]}
    assert {r.id for r in plan(STUDY, "title=other").runs} == set(before.values())
    assert len(set(before.values())) == 10  # the seed is in it


def test_identity_covers_plugin_code_but_settings_do_not(tmp_path: Path) -> None:
    text = STUDY.replace('task = "rotation"', 'task = "mine"')
    code = (Path(__file__).parent.parent / "plugins" / "rotation.py").read_text().replace('"rotation"', '"mine"')
    (tmp_path / "mine.py").write_text(code)
    before = plan(text, plugins=tmp_path).runs
    (tmp_path / "mine.py").write_text(code + "# changed\n")
    after = plan(text, plugins=tmp_path).runs
    for old, new in zip(before, after, strict=True):
        assert old.settings_sha256 == new.settings_sha256
        assert (old.id != new.id) == (old.kind == "pretext" or bool(old.needs))


def test_a_checkpoint_is_identified_by_its_content(tmp_path: Path) -> None:
    text = '[[matrix]]\ninit = [{ name = "checkpoint", path = "w.pt" }]'
    with pytest.raises(EnvironmentLacking, match="missing"):
        plan(text, folder=tmp_path)
    (tmp_path / "w.pt").write_bytes(b"one")
    first = plan(text, folder=tmp_path).runs[0].id
    (tmp_path / "w.pt").write_bytes(b"two")
    assert plan(text, folder=tmp_path).runs[0].id != first


def test_names_of_folders_are_harmless() -> None:
    text = '[pretext."../../etc/x <script>"]\ntask = "rotation"\n[[matrix]]\ninit = "../../etc/x <script>"'
    for run in plan(text).runs:
        assert set(run.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        assert ".." not in run.id


FAULTS = {
    '[[matrix]]\ninit = "rotatoin"': 'no init "rotatoin"',
    '[pretext.rotation]\ntask = "rotation"\n[[matrix]]\ninit = "rotatoin"': 'did you mean "rotation"?',
    '[[matrix]]\nfreeze = "belw"': 'no freeze policy "belw", did you mean "below"?',
    '[[matrix]]\nfreeze = [{ name = "below", stage = "layer5" }]': "matrix[0].freeze[0].stage: should be",
    '[[matrix]]\nfreeze = [{ name = "below", stge = "layer4" }]': 'stge: unknown key, did you mean "stage"?',
    '[[matrix]]\ninit = [{ name = "checkpoint" }]': 'needs "path"',
    '[dataset]\nname = "cifar11"\n[[matrix]]\ninit = "random"': 'no dataset "cifar11", did you mean "cifar10"?',
    '[pretext.random]\ntask = "rotation"\n[[matrix]]\ninit = "random"': "is the name of an init",
    '[pretext.a]\ntask = "rotatio"': 'no pretext task "rotatio", did you mean "rotation"?',
    '[pretext.a]\ntask = { name = "rotation", turns = "some" }': "pretext.a.task.turns: should be 'one' or 'all'",
    '[pretext.a]\ntask = "rotation"\ninit = "b"\n[pretext.b]\ntask = "rotation"\ninit = "a"': "circle: a -> b -> a",
    '[[matrix]]\ninit = [{ name = "pretext", pretext = "x" }]': 'no pretext run "x"',
    '[train]\nnesterov = true\n[[matrix]]\ninit = "random"': "nesterov needs optimizer sgd",
    '[train]\nwarmup_epochs = 20\n[[matrix]]\ninit = "random"': "leaves none of 20 epochs",
    '[model]\nstem = "cifar"\n[[matrix]]\ninit = "imagenet"': 'do not fit the stem "cifar"',
    '[pretext.a]\ntask = "rotation"\n[[matrix]]\ninit = "a"\nstem = ["cifar"]': "another network",
    '[[matrix]]\nfreeze = ["below", { name = "below", stage = "layer4" }]': "are the same run",
}


@pytest.mark.parametrize(("text", "words"), FAULTS.items())
def test_each_fault_of_names_and_options_is_found(text: str, words: str) -> None:
    lines = faults(text)
    assert len(lines) == 1, lines
    assert words in lines[0]


def test_faults_of_the_file_and_of_plugin_names_are_shown_together() -> None:
    lines = faults("[train]\nlr = -1\n[[matrix]]\ninit = 'rndom'")
    assert len(lines) == 2


def test_conditions_select_variants_and_what_they_need() -> None:
    made = plan(only=("init=rotation", "freeze=below"))
    chosen = [run for run in made.runs if run.id in made.selected]
    assert [run.kind for run in chosen] == ["pretext", "downstream"] * 2
    assert len(made.runs) == 10
    for condition in ("init=nothing", "inti=random", "init"):
        with pytest.raises(BadInput):
            plan(only=(condition,))


def test_plans_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().runs[0].seed = 5  # type: ignore[misc]
