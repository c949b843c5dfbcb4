"""The schema that editors check a study with: it agrees with what rotbench accepts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rotbench.plan import make_plan
from rotbench.registry import load_registry
from rotbench.schema import study_schema
from rotbench.source import parse_source
from rotbench.study import understand
from tests.program import ROOT, command

STUDIES = [ROOT / "experiments.toml", *sorted((ROOT / "studies").glob("*.toml"))]


def validator(*folders: Path) -> jsonschema.Draft202012Validator:
    schema = study_schema(load_registry(list(folders)))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


SHIPPED = validator()


def faults(text: str) -> list[str]:
    return [error.message for error in SHIPPED.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.name))
def test_every_shipped_study_is_valid_and_names_its_schema(path: Path) -> None:
    text = path.read_text()
    assert faults(text) == []
    directive, _, where = text.partition("\n")[0].partition(" ")
    assert directive == "#:schema"
    assert (path.parent / where).resolve() == ROOT / "rotbench.schema.json"  # what `make` writes


def test_all_studies_were_found() -> None:
    names = {path.stem for path in STUDIES}
    assert {"experiments", "cs444", "cs444-sgd", "few-labels", "label-efficiency", "pretexts"} <= names


VALID = {
    "everything": """
        title = "x"
        seeds = 3
        repeats = 2
        [dataset]
        name = "cifar10"
        root = "data"
        [model]
        stem = "cifar"
        [train]
        milestones = [3, 5]
        test_each_epoch = true
        [pretext.rotation]
        task = { name = "rotation", turns = "all" }
        [pretext.more]
        task = "rotation"
        init = "rotation"
        validation = 0.5
        threads = 2
        [[matrix]]
        init = ["random", "rotation", { name = "pretext", pretext = "more" }]
        freeze = ["none", { name = "below", stage = "layer4" }]
        augment = [[], ["crop"], "auto"]
        exclude = [{ init = "random", freeze = "none" }]
        together = [{ optimizer = "adam", lr = 0.01 }, { optimizer = "sgd", lr = 1 }]
        [[run]]
        init = "random"
        milestones = [4]
        [report]
        baseline = { init = "random", freeze = "none" }
        primary = { init = "rotation" }
        margin = 0.02
        compute_matched = true
        [resources]
        threads = 2
        gpus = 0.5
        [[reference]]
        match = { init = "rotation" }
        test_accuracy = 0.64
        source = "a paper"
    """,
    "the least": '[[run]]\ninit = "random"',
}


@pytest.mark.parametrize("name", VALID)
def test_what_the_format_allows_is_valid(name: str) -> None:
    _, found = understand(parse_source(VALID[name], "e.toml"), ROOT)
    assert found == []
    assert faults(VALID[name]) == []


WRONG = {
    "unknown key at the top": 'titel = "x"',
    "no title": 'title = ""',
    "seeds of the wrong type": 'seeds = "3"',
    "no seeds": "seeds = []",
    "a seed twice": "seeds = [1, 1]",
    "a negative seed": "seeds = [-1]",
    "no repeats": "repeats = 0",
    "an unknown data set": '[dataset]\nname = "cifar11"',
    "a data set without its name, with an option of none": "[dataset]\nsize = 3",
    "an unknown network": '[model]\nname = "vgg16"',
    "an unknown stem": '[model]\nstem = "small"',
    "an unknown setting": "[train]\nlearning_rate = 0.1",
    "text for a number": '[train]\nlr = "0.1"',
    "lr of zero": "[train]\nlr = 0.0",
    "epochs below one": "[train]\nepochs = 0",
    "half an epoch": "[train]\nepochs = 1.5",
    "an unknown optimiser": '[train]\noptimizer = "adagrad"',
    "a number for a switch": "[train]\nnesterov = 1",
    "an unknown augmentation": '[train]\naugment = ["blur"]',
    "validation of everything": "[train]\nvalidation = 1.0",
    "a pretext without a task": "[pretext.r]\nepochs = 3",
    "an unknown task": '[pretext.r]\ntask = "rotatoin"',
    "an unknown option of a task": '[pretext.r]\ntask = { name = "rotation", turn = "all" }',
    "a wrong option of a task": '[pretext.r]\ntask = { name = "rotation", turns = "some" }',
    "labels of a pretext": '[pretext.r]\ntask = "rotation"\nlabels_per_class = 3',
    "an unknown axis": '[[matrix]]\nfreze = "none"',
    "an unknown policy": '[[matrix]]\nfreeze = "belw"',
    "an unknown stage": '[[matrix]]\nfreeze = { name = "below", stage = "layer5" }',
    "an empty axis": "[[matrix]]\ninit = []",
    "a value twice": '[[matrix]]\ninit = ["random", "random"]',
    "an init that is a number": "[[matrix]]\ninit = 3",
    "an init without what it needs": '[[matrix]]\ninit = { name = "checkpoint" }',
    "an exclude that is no list": '[[matrix]]\ninit = "random"\nexclude = { init = "random" }',
    "a list in a single run": "[[run]]\nlr = [0.1, 0.2]",
    "a matrix that is no array": '[matrix]\ninit = "random"',
    "an unknown key of the report": "[report]\nmargn = 0.01",
    "a margin in per cent": "[report]\nmargin = 1.0",
    "a baseline of an unknown key": "[report]\nbaseline = { int = 1 }",
    "a reference in per cent": '[[reference]]\npretext = "r"\ntest_accuracy = 64.0\nsource = "x"',
    "a reference to nothing": '[[reference]]\ntest_accuracy = 0.64\nsource = "x"',
    "a reference to two things": '[[reference]]\nmatch = {}\npretext = "r"\ntest_accuracy = 0.64\nsource = "x"',
    "no threads": "[resources]\nthreads = 0",
    "no threads of a pretext": '[pretext.r]\ntask = "rotation"\nthreads = 0',
    "threads of training": "[train]\nthreads = 2",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_format_forbids_is_not_valid(name: str) -> None:
    assert faults(WRONG[name])


def test_the_schema_has_the_plugins_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    code = (ROOT / "plugins" / "rotation.py").read_text().replace('"rotation"', '"mine"')
    (tmp_path / "plugins" / "mine.py").write_text(code)
    study = tomllib.loads('[pretext.r]\ntask = { name = "mine", turns = "all" }')
    assert list(validator(tmp_path / "plugins").iter_errors(study)) == []
    assert list(SHIPPED.iter_errors(study))
    done = command(tmp_path, "schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(jsonschema.Draft202012Validator(json.loads(done.stdout)).iter_errors(study)) == []
    without = json.loads(command(tmp_path, "schema", "--no-plugins").stdout)
    assert list(jsonschema.Draft202012Validator(without).iter_errors(study))


def test_every_setting_says_what_it_is() -> None:
    properties = study_schema(load_registry())["properties"]
    tables = ("train", "model", "resources", "report")
    told: list[dict[str, Any]] = [entry for table in tables for entry in properties[table]["properties"].values()]
    told += properties["reference"]["items"]["properties"].values()
    assert all(entry.get("description") for entry in (*told, *properties.values()))
    assert len(told) > 30


def test_a_new_study_has_its_schema_beside_it(tmp_path: Path) -> None:
    assert command(tmp_path, "new", "few-labels", "mine").returncode == 0
    text = (tmp_path / "mine" / "few-labels.toml").read_text()
    where = text.partition("\n")[0].removeprefix("#:schema ")
    schema = json.loads((tmp_path / "mine" / where).read_text())
    jsonschema.Draft202012Validator(schema).validate(tomllib.loads(text))
    # All but the first line is the shipped study.
    assert text.partition("\n")[2] == (ROOT / "studies" / "few-labels.toml").read_text().partition("\n")[2]


def test_the_studies_still_plan() -> None:
    registry = load_registry()
    for path in STUDIES:
        study, found = understand(parse_source(path.read_text(), path.name), ROOT)
        assert make_plan(study, found, registry, ROOT).runs
    assert len(STUDIES) == 9
