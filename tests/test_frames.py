"""``rotbench.load_results``: a tidy frame of what a study left, and the README's example of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import rotbench
from rotbench.errors import BadInput, StoreUnusable
from rotbench.report import render, results_csv
from tests import simulated
from tests.program import ROOT
from tests.stored import write_store
from tests.test_report import blank

Results = dict[str, Any]
MEASURES = [
    "train_loss", "train_accuracy", "test_loss", "test_accuracy", "validation_loss", "validation_accuracy",
    "lr", "seconds",
]  # fmt: skip
COLUMNS = ["id", "kind", "status", "init", "freeze", "pretext", "seed", "repeat", "epoch", *MEASURES]


def frame_of(folder: Path, results: Results) -> pd.DataFrame:
    (folder / "results.json").write_text(json.dumps(results))
    return rotbench.load_results(folder / "results.json")


def test_a_row_a_run_and_epoch_with_the_axes_of_its_variant(tmp_path: Path) -> None:
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=4)
    frame = frame_of(tmp_path, results)
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 2 * (4 + 4 * 3)
    place = 0
    for run in results["runs"]:
        for entry in run["history"]:
            row = frame.iloc[place]
            told = [row["id"], row["kind"], row["status"], row["seed"], row["repeat"], row["epoch"]]
            assert told == [run["id"], run["kind"], "done", run["seed"], 0, entry["epoch"]]
            measured = [column for column in MEASURES if column in entry]
            assert [row[column] for column in measured] == [entry[column] for column in measured]
            assert pd.isna(row["validation_accuracy"])
            place += 1
    downstream = frame[frame["kind"] == "downstream"]
    counted = downstream.groupby(["init", "freeze"]).size().to_dict()
    assert counted == {(init, freeze): 6 for init in ("random", "rotation") for freeze in ("none", "below")}
    assert downstream["pretext"].isna().all()
    pretext = frame[frame["kind"] == "pretext"]
    assert pretext["init"].isna().all()
    assert set(pretext["pretext"]) == {"rotation"}


def test_the_frame_agrees_with_results_csv(tmp_path: Path) -> None:
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=4)
    for run in results["runs"]:
        for entry in run["history"]:
            entry["validation_accuracy"] = entry["validation_loss"] = 0.5
    (tmp_path / "results.csv").write_text(results_csv(results))
    written = pd.read_csv(tmp_path / "results.csv")
    frame = frame_of(tmp_path, results)
    shared = [column for column in written.columns if column in frame.columns]
    assert shared == list(written.columns)
    for column in shared:
        assert frame[column].tolist() == written[column].tolist()


def test_axes_have_types_that_hold_what_is_missing(tmp_path: Path) -> None:
    results = simulated.results(seeds=1, epochs=1, pretext_epochs=1)
    for place, run in enumerate(results["runs"][1:]):
        run["variant"] = {
            **run["variant"], "lr": 0.1 if place else 1, "epochs": 20 + place, "nesterov": bool(place % 2),
            "augment": ["crop", "flip"], "seed": "clash",
        }  # fmt: skip
    frame = frame_of(tmp_path, results)
    kinds = {column: str(kind) for column, kind in frame.dtypes.items()}
    assert {kinds[column] for column in ("id", "kind", "status", "init", "freeze", "pretext", "augment")} == {"string"}
    assert (kinds["lr_setting"], kinds["epochs"], kinds["nesterov"]) == ("Float64", "Int64", "boolean")
    assert {kinds[column] for column in ("seed", "repeat", "epoch")} == {"int64"}
    assert {kinds[column] for column in MEASURES} == {"float64"}
    assert frame["lr_setting"].tolist()[1:] == [1.0, 0.1, 0.1, 0.1]
    assert frame["nesterov"].tolist()[1:] == [False, True, False, True]
    assert frame["augment"].tolist()[1] == '["crop", "flip"]'
    assert frame["seed_setting"].tolist()[1] == "clash"
    assert frame.iloc[0][["lr_setting", "epochs", "nesterov"]].isna().all()


def test_folders_pages_and_json_give_the_same_frame(tmp_path: Path) -> None:
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=3)
    store = write_store(tmp_path / "results", results)
    whole = rotbench.load_results(str(store.folder))
    assert len(whole) == 2 * 5 * 3
    (tmp_path / "report.html").write_text(render(results))
    (tmp_path / "results.json").write_text(json.dumps(results))
    measured = [column for column in COLUMNS if column != "id"]  # a store of these runs names them anew
    pd.testing.assert_frame_equal(rotbench.load_results(tmp_path)[measured], whole[measured])
    (tmp_path / "results.json").unlink()
    five_digits = rotbench.load_results(tmp_path)
    pd.testing.assert_frame_equal(five_digits[measured], whole[measured], rtol=1e-4)
    assert five_digits["test_accuracy"].tolist() == whole["test_accuracy"].tolist()


@pytest.mark.parametrize("state", ["no run", "missing", "failed"])
def test_a_study_without_a_finished_epoch_gives_a_frame_without_rows(tmp_path: Path, state: str) -> None:
    results = simulated.results(seeds=1, epochs=1, pretext_epochs=1)
    for run in results["runs"]:
        blank(run, status="failed" if state == "failed" else "missing")
    if state == "no run":
        results["runs"] = []
    frame = frame_of(tmp_path, results)
    expected = [column for column in COLUMNS if state != "no run" or column not in ("init", "freeze")]
    assert (list(frame.columns), len(frame)) == (expected, 0)
    assert str(frame["test_accuracy"].dtype) == "float64"


def test_what_holds_no_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no study and no results"):
        rotbench.load_results(tmp_path)
    with pytest.raises(BadInput, match="there is no file"):
        rotbench.load_results(tmp_path / "gone.json")
    (tmp_path / "results.json").write_text('{"format": 99, "study": {}, "runs": []}')
    with pytest.raises(StoreUnusable, match="newer rotbench"):
        rotbench.load_results(tmp_path)


def test_nothing_heavy_is_imported_before_results_are_asked_for() -> None:
    program = (
        "import sys, rotbench; rotbench.load_results; print(*{'pandas', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_readmes_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    examples = [block for block in blocks if "load_results" in block]
    assert examples
    results = simulated.results(seeds=2, epochs=3, pretext_epochs=3)
    write_store(tmp_path / "results", results)
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})  # noqa: S102 -- what readers are told to run
    shown = capsys.readouterr().out
    assert "rotation" in shown
    assert "random" in shown
