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


def test_probes_have_the_threads_of_the_study_whatever_their_pretext_run_has() -> None:
    """Also those of a pretext run that nothing starts from, whose settings are the only ones to take after."""
    made = plan(STUDY + '[pretext.alone]\ntask = "rotation"\n[probes]\n', "pretext.alone.threads=3")
    own = {run.variant.get("pretext", run.kind): run.settings["threads"] for run in made.everything}
    assert own == {"rotation": 1, "alone": 3, "downstream": 1, "probe": 1}
    assert any(run.kind == "probe" and run.variant["probe"] == "alone" for run in made.probes)


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
    after = {(r.kind, str(r.variant), r.seed): r.id for r in plan(STUDY, "pretext.rotation.threads=2").runs}
    assert changed == {key for key in before if before[key] != after[key]}
    assert {r.id for r in plan(STUDY, "pretext.rotation.threads=1").runs} == set(before.values())  # as every run has
    assert {r.id for r in plan(STUDY, "title=other").runs} == set(before.values())
    # The seed is in the hash, not only in the words before it: a run is found by its hash.
    assert len({run_id.rpartition("-")[2] for run_id in before.values()}) == 10


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


def test_repeats_are_further_downstream_runs_from_the_same_pretext_run() -> None:
    once, twice = plan().runs, plan(STUDY, "repeats=2").runs
    assert [run.kind for run in twice] == (["pretext"] + ["downstream"] * 8) * 2
    assert {run.id for run in once} <= {run.id for run in twice}  # asking for repeats later keeps what is done
    assert len({run.id for run in twice}) == len(twice)
    for run in twice:
        if run.variant.get("init") == "rotation":
            (parent,) = (other for other in twice if other.id in run.needs)
            assert (parent.kind, parent.seed, parent.repeat) == ("pretext", run.seed, 0)


def test_the_test_set_is_kept_for_the_last_epoch_where_there_is_validation() -> None:
    assert all(run.settings["train"]["test_each_epoch"] is True for run in plan().runs)
    assert all(run.settings["train"]["test_each_epoch"] is False for run in plan(STUDY, "train.validation=0.1").runs)
    asked = plan(STUDY, "train.validation=0.1", "train.test_each_epoch=true").runs
    assert all(run.settings["train"]["test_each_epoch"] is True for run in asked)


def test_partners_of_equal_cost_train_for_the_epochs_of_both_on_a_stretched_schedule() -> None:
    text = """
    [train]
    epochs = 20
    step_epochs = 10
    milestones = [5, 15]
    warmup_epochs = 2
    [pretext.first]
    task = "rotation"
    epochs = 15
    [pretext.second]
    task = "rotation"
    init = "first"
    epochs = 5
    [[matrix]]
    init = ["random", "first", "second"]
    [report]
    compute_matched = true
    """
    made = plan(text)
    matched = [run for run in made.runs if "compute_matched" in run.variant]
    assert [run.variant for run in matched] == [
        {"init": "random", "compute_matched": 35},
        {"init": "random", "compute_matched": 40},
    ]
    assert [run.needs for run in matched] == [(), ()]
    train = matched[1].settings["train"]
    assert {key: train[key] for key in ("epochs", "step_epochs", "milestones", "warmup_epochs")} == {
        "epochs": 40, "step_epochs": 20, "milestones": [10, 30], "warmup_epochs": 4,
    }  # fmt: skip
    assert [(pair.variant["init"], pair.partner["compute_matched"]) for pair in made.matched] == [
        ("first", 35),
        ("second", 40),
    ]


def test_a_rehearsal_is_the_same_matrix_made_small() -> None:
    text = """
    seeds = 3
    repeats = 4
    [train]
    validation = 0.1
    schedule = "step"
    [pretext.rotation]
    task = "rotation"
    epochs = 45
    [[matrix]]
    init = ["random", "rotation"]
    epochs = [20, 40]
    labels_per_class = [10, 100]
    milestones = [[], [30, 35]]
    exclude = [{ epochs = 20, milestones = [30, 35] }]
    """
    study, found = understand(parse_source(text, "e.toml"), Path())
    full = make_plan(study, found, load_registry(), Path())
    small = make_plan(study, found, load_registry(), Path(), rehearsal=True)
    assert {str(run.variant) for run in small.runs} == {str(run.variant) for run in full.runs}
    assert len(small.runs) == 1 + 2 * 12
    assert len({run.id for run in small.runs}) == len(small.runs)
    assert not {run.id for run in small.runs} & {run.id for run in full.runs}
    for run in small.runs:
        train = run.settings["train"]
        assert (run.seed, train["epochs"], train["step_epochs"], train["batch_size"]) == (0, 2, 1, 128)
        if run.kind == "downstream":
            # Ten labels of which one is kept for validation: fewer would leave none.
            assert train["labels_per_class"] == 10
            assert train["milestones"] == ([1] if run.variant["milestones"] else [])


def test_settings_that_only_some_data_allow_are_held_against_the_data_set() -> None:
    fine = '[[matrix]]\ninit = "random"\nlabels_per_class = [10, 128]'
    assert len(plan(fine).runs) == 2
    (line,) = faults(fine.replace("128", "129"))
    assert "matrix[0].labels_per_class[1]: the smallest class of digits has 128 training images" in line
    (line,) = faults(f"{fine}\nvalidation = 0.05")
    assert "matrix[0].validation: 0.05 of 10 images a class is no image" in line


def test_a_pretext_run_must_not_see_what_its_children_keep_for_validation() -> None:
    text = '[pretext.r]\ntask = "rotation"\n[[matrix]]\ninit = ["random", "r"]\nvalidation = 0.2'
    (line,) = faults(text)
    assert "matrix[0].validation: [pretext.r] would train on images kept for validation here" in line
    assert len(plan(text.replace("[pretext.r]", "[train]\nvalidation = 0.2\n[pretext.r]")).runs) == 3
    assert len(plan(text.replace('"rotation"', '"rotation"\nvalidation = 0.2')).runs) == 3
    # Another share keeps other images, so more is not enough.
    assert len(faults(text.replace('"rotation"', '"rotation"\nvalidation = 0.25'))) == 1
    none = text.replace("validation = 0.2", "").replace('"rotation"', '"rotation"\nvalidation = 0.3')
    assert len(plan(none).runs) == 3


MATCHED = """
[pretext.r]
task = "rotation"
epochs = 5
[[matrix]]
init = ["random", "r"]
freeze = ["none", "below"]
{settings}
[report]
compute_matched = true
baseline = {{ {baseline} }}
"""


def test_partners_are_added_to_whichever_side_is_not_pretrained() -> None:
    matched = plan(MATCHED.format(settings="", baseline='init = "r"')).matched
    assert [(pair.variant, pair.partner) for pair in matched] == [
        ({"init": "random", "freeze": freeze, "compute_matched": 25}, {"init": "r", "freeze": freeze})
        for freeze in ("none", "below")
    ]
    matched = plan(MATCHED.format(settings="", baseline='init = "random"')).matched
    assert [(pair.variant, pair.partner) for pair in matched] == [
        ({"init": "r", "freeze": freeze}, {"init": "random", "freeze": freeze, "compute_matched": 25})
        for freeze in ("none", "below")
    ]


def test_epochs_are_matched_only_where_they_are_a_measure() -> None:
    random = 'init = "random"'
    assert plan(MATCHED.format(settings="labels_per_class = 10", baseline=random)).matched
    few = 'labels_per_class = 10\nupdates = "epochs"'
    (line,) = faults(MATCHED.format(settings=few, baseline=random))
    assert "one of few labels is shorter" in line
    (line,) = faults(MATCHED.format(settings="batch_size = 64", baseline=random))
    assert "batch_size is 128 in pretraining but 64 here" in line
    (line,) = faults(MATCHED.format(settings="", baseline='freeze = "none"'))
    assert "nothing to match: no contrast has one pretrained side" in line


def test_settings_that_others_leave_without_effect_make_no_second_run() -> None:
    for matrix in (
        'optimizer = "adam"\nmomentum = [0.8, 0.9]',
        'schedule = "cosine"\ngamma = [0.1, 0.2]',
        "milestones = [[3]]\nstep_epochs = [1, 2]",
        'updates = ["constant", "epochs"]',
        'augment = ["auto", ["crop"]]',  # the digits\' own
    ):
        (line,) = faults(f"[[matrix]]\n{matrix}")
        assert "are the same run" in line
    assert len(plan('[[matrix]]\noptimizer = "sgd"\nmomentum = [0.8, 0.9]').runs) == 2


def test_a_whole_table_with_set_is_its_settings() -> None:
    study, found = understand(parse_source("[[matrix]]\nlr = [0.1, 0.2]", "e.toml"), Path(), ["train={lr=5}"])
    assert [str(fault) for fault in study.source.faults(found).faults] == [
        "--set train={lr=5}: train.lr: has no effect: lr is set in matrix[0]"
    ]
