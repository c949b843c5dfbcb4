"""What a study file means, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rotbench.errors import BadInput
from rotbench.source import parse_source
from rotbench.study import Study, understand


def read(text: str, *changes: str) -> tuple[Study, list[str]]:
    source = parse_source(text, "e.toml")
    study, faults = understand(source, Path(), changes)
    return study, [str(fault) for fault in study.source.faults(faults).faults]


def values(text: str) -> list[dict[str, object]]:
    study, faults = read(text)
    assert faults == []
    return [dict(variant.values) for variant in study.variants]


def test_a_matrix_is_the_product_of_its_lists_in_the_order_of_the_file() -> None:
    below = {"name": "below", "stage": "layer4"}
    assert values(
        '[[matrix]]\ninit = ["a", "b"]\nfreeze = ["none", { name = "below", stage = "layer4" }]\nlr = 0.1'
    ) == [
        {"init": "a", "freeze": "none", "lr": 0.1},
        {"init": "a", "freeze": below, "lr": 0.1},
        {"init": "b", "freeze": "none", "lr": 0.1},
        {"init": "b", "freeze": below, "lr": 0.1},
    ]


def test_exclude_together_and_single_runs() -> None:
    text = """
    [[matrix]]
    init = ["a", "b"]
    freeze = ["none", { name = "below" }]
    exclude = [{ init = "b", freeze = "below" }]
    together = [{ optimizer = "adam", lr = 0.01 }, { optimizer = "sgd", lr = 0.1 }]
    [[run]]
    init = "c"
    augment = ["crop"]
    """
    found = values(text)
    assert len(found) == 3 * 2 + 1
    assert {(variant.get("optimizer"), variant.get("lr")) for variant in found} == {
        ("adam", 0.01),
        ("sgd", 0.1),
        (None, None),
    }
    assert {"init": "b", "freeze": {"name": "below"}} not in [
        {key: variant[key] for key in ("init", "freeze") if key in variant} for variant in found
    ]
    assert found[-1] == {"init": "c", "augment": ["crop"]}


def test_a_key_whose_value_is_a_list_takes_a_list_of_lists_as_axis() -> None:
    assert values('[[matrix]]\naugment = ["crop"]') == [{"augment": ["crop"]}]
    assert values('[[matrix]]\naugment = [[], ["crop", "flip"], "auto"]') == [
        {"augment": []},
        {"augment": ["crop", "flip"]},
        {"augment": "auto"},
    ]


def test_seeds_are_a_list_or_a_count() -> None:
    assert read("seeds = 3\n[[matrix]]\ninit = 'a'")[0].seeds == (0, 1, 2)
    assert read("seeds = [7, 3]\n[[matrix]]\ninit = 'a'")[0].seeds == (7, 3)


def test_baseline_is_the_first_init_unless_the_report_says_otherwise() -> None:
    assert read('[[matrix]]\ninit = ["a", "b"]')[0].report.baseline == {"init": "a"}
    assert read('[[matrix]]\ninit = ["a", "b"]\n[report]\nbaseline = { init = "b" }')[0].report.baseline == {
        "init": "b"
    }


FAULTS = {
    'titel = "x"\n[[matrix]]\ninit = "a"': 'titel: unknown key, did you mean "title"?',
    "seeds = []\n[[matrix]]\ninit = 'a'": "seeds: should be a list of whole numbers",
    "seeds = [1, 1]\n[[matrix]]\ninit = 'a'": "seeds: a seed stands twice",
    "seeds = true\n[[matrix]]\ninit = 'a'": "seeds: should be a list of whole numbers",
    "": "nothing to run",
    "[train]\nlr = 'fast'\n[[matrix]]\ninit = 'a'": "train.lr: should be a valid number",
    "[train]\nlr = nan\n[[matrix]]\ninit = 'a'": "train.lr: should be a finite number",
    "[train]\nlr = -1.0\n[[matrix]]\ninit = 'a'": "train.lr: should be greater than 0",
    "[train]\nepochs = true\n[[matrix]]\ninit = 'a'": "train.epochs: should be a valid integer",
    "[train]\noptimizer = 'adm'\n[[matrix]]\ninit = 'a'": 'did you mean "adam"?',
    "[train]\naugment = ['blur']\n[[matrix]]\ninit = 'a'": "train.augment: should be",
    "[train]\nmilestones = [3, 2]\n[[matrix]]\ninit = 'a'": "train.milestones: should be a list of rising epochs",
    "[model]\nname = 'vgg16'\n[[matrix]]\ninit = 'a'": "model.name: should be 'resnet18'",
    "[pretext.r]\n[[matrix]]\ninit = 'a'": "pretext.r.task: should name a pretext task",
    "[pretext.r]\ntask = 'x'\nlabels_per_class = 3\n[[matrix]]\ninit = 'a'": "a pretext run sees all training images",
    "[pretext.r]\ntask = 'x'\nepoch = 3\n[[matrix]]\ninit = 'a'": 'did you mean "epochs"?',
    "[pretext.r]\ntask = 'x'\nthreads = 0\n[[matrix]]\ninit = 'a'": "pretext.r.threads: should be greater than",
    "[pretext.r]\ntask = 'x'\nthreads = 1.5\n[[matrix]]\ninit = 'a'": "pretext.r.threads: should be a valid integer",
    "[pretext.r]\ntask = 'x'\nthread = 2\n[[matrix]]\ninit = 'a'": 'did you mean "threads"?',
    "[train]\nthreads = 2\n[[matrix]]\ninit = 'a'": "train.threads: unknown key",
    "[[matrix]]\nfreze = 'a'": 'matrix[0].freze: unknown key, did you mean "freeze"?',
    "[[matrix]]\ninit = []": "matrix[0].init: an empty list gives no variant",
    "[[matrix]]\ninit = ['a', 'a']": "matrix[0].init[1]: stands twice",
    "[[matrix]]\ninit = [3]": "matrix[0].init[0]: should be a name",
    "[[matrix]]\ninit = 'a'\n[[matrix]]\ninit = 'a'": "is in matrix[0] already",
    "[[matrix]]\ninit = 'a'\nexclude = [{ init = 'b' }]": "matrix[0].exclude[0]: excludes nothing",
    "[[matrix]]\ninit = 'a'\nexclude = [{ init = 'a' }]": "excludes every variant",
    "[[matrix]]\ninit = 'a'\nlr = 1\ntogether = [{ lr = 2 }]": "is an axis of this matrix already",
    "[[matrix]]": "sets no axis",
    "[matrix]\ninit = 'a'": "matrix: should be an array of tables",
    "[[matrix]]\ninit = 'a'\n[report]\nbaseline = { init = 'b' }": 'no variant has init = "b"',
    "[[matrix]]\ninit = 'a'\n[[reference]]\ntest_accuracy = 64.0\nsource = 'x'\nmatch = {}": "less than or equal to 1",
    "[[matrix]]\ninit = 'a'\n[[reference]]\ntest_accuracy = 0.6\nsource = 'x'": 'needs either "match"',
    "[resources]\nthreads = 0\n[[matrix]]\ninit = 'a'": "resources.threads: should be greater than or equal to 1",
}


@pytest.mark.parametrize(("text", "words"), FAULTS.items())
def test_each_fault_is_found_with_its_position(text: str, words: str) -> None:
    _, lines = read(text)
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert lines[0].startswith("e.toml:")


def test_all_faults_are_shown_at_once_in_the_order_of_the_file() -> None:
    _, lines = read("[train]\nlr = -1\nepochs = 0\n[[matrix]]\nfreze = 'a'\ninit = 'a'")
    assert [line.split(" ")[1] for line in lines] == ["train.lr:", "train.epochs:", "matrix[0].freze:"]


def test_a_matrix_of_a_thousand_million_is_refused_before_it_is_expanded() -> None:
    lists = "\n".join(f"{key} = {[n + 1 for n in range(1000)]}" for key in ("epochs", "lr", "step_epochs"))
    _, lines = read(f"seeds = 2\n[[matrix]]\n{lists}")
    assert "more than 100,000 runs" in lines[0]


def test_set_changes_the_table_and_beats_what_a_pretext_sets_itself() -> None:
    text = "[train]\nepochs = 20\n[pretext.r]\ntask = 'x'\nepochs = 45\ngamma = 0.5\n[[matrix]]\ninit = 'a'"
    study, faults = read(text, "train.epochs=1", "seeds=2", "train.optimizer=sgd")
    assert faults == []
    assert study.train == {"epochs": 1, "optimizer": "sgd"}
    assert study.pretexts["r"].train == {"gamma": 0.5}
    assert study.seeds == (0, 1)
    both, _ = read(text, "train.epochs=1", "pretext.r.epochs=3")
    assert both.pretexts["r"].train == {"epochs": 3, "gamma": 0.5}


def test_threads_of_a_pretext_are_its_own_and_no_setting_of_training() -> None:
    text = "[pretext.r]\ntask = 'x'\n[pretext.s]\ntask = 'x'\nthreads = 3\nlr = 1\n[[matrix]]\ninit = 'a'"
    study, faults = read(text, "pretext.r.threads=2")
    assert faults == []
    assert {name: pretext.threads for name, pretext in study.pretexts.items()} == {"r": 2, "s": 3}
    assert study.pretexts["s"].train == {"lr": 1}
    assert study.resources.threads == 1
    plain, _ = read(text)
    assert plain.pretexts["r"].threads is None


def test_set_is_refused_where_it_would_do_nothing_or_make_no_sense() -> None:
    text = "[[matrix]]\ninit = 'a'\nlr = [0.1, 0.2]"
    _, lines = read(text, "train.lr=0.3")
    assert lines == ["--set train.lr=0.3: train.lr: has no effect: lr is set in matrix[0]"]
    _, lines = read(text, "train.epochs=0")
    assert lines == ["--set train.epochs=0: train.epochs: should be greater than or equal to 1, is 0"]
    for change in ("train.lr", "=1", "matrix.lr=1", "pretext.q.epochs=1"):
        with pytest.raises(BadInput, match="--set"):
            read(text, change)
