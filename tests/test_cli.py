"""The command line: exit codes, two lines an error, nothing created by a command that cannot begin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rotbench.cli import cli, main
from rotbench.errors import EnvironmentLacking
from rotbench.report import render
from tests import simulated
from tests.program import ROOT, command, thorough
from tests.stored import write_store
from tests.test_layout import loaded_by

pytestmark = pytest.mark.usefixtures("undrawn")

STUDY = """
title = "small"
seeds = [0]
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


BAD = {
    ("run", "gone.toml"): (2, "there is no study file gone.toml", "rotbench new"),
    ("run",): (2, "there is no study file experiments.toml", "rotbench new"),
    ("run", "."): (2, "is a folder", "Give the path"),
    ("run", "study.toml", "--set", "train.lr=-1"): (2, "train.lr: should be greater than 0", "Mend"),
    ("run", "study.toml", "--set", "train.lrr=1"): (2, 'did you mean "lr"?', "Mend"),
    ("run", "study.toml", "--set", "pretext.rotation.task=rotatoin"): (2, 'did you mean "rotation"?', "Mend"),
    ("run", "study.toml", "-k", "init=x"): (2, "no variant matches", "rotbench plan"),
    ("run", "study.toml", "--jobs", "none"): (2, "not a whole number", "Give how many"),
    ("run", "study.toml", "--plugins", "gone"): (2, "no such folder", "Give a folder"),
    ("run", "study.toml", "--device", "nonsense"): (4, "there is no device nonsense", "--device"),
    ("run", "study.toml", "--engine", "cloud"): (2, "cloud", ""),
    ("run", "study.toml", "--set", "dataset.name=image-folder", "--data-dir", "gone"): (4, "no folder", "--data-dir"),
    ("plan", "gone.toml"): (2, "there is no study file", "rotbench new"),
    ("check", "study.toml", "--set", "seeds=0"): (2, "seeds: should be", "Mend"),
    ("report",): (2, "results holds no study", "--out"),
    ("report", "--from", "gone.html"): (2, "there is no file gone.html", "Give a report.html"),
    ("report", "--from", "."): (2, ". is a folder", "--out"),
    ("report", "--from", "study.toml"): (2, "study.toml is not rotbench's", "Give a report.html"),
    ("report", "--from", "study.toml/below"): (2, "there is no file", "Give a report.html"),
    ("export", "--to", "paper"): (2, "results holds no study", "--out"),
    ("export", "--from", "study.toml", "--to", "paper"): (2, "study.toml is not rotbench's", "Give a report.html"),
    ("export",): (2, "--to", ""),
    ("verify", "--out", "gone"): (2, "gone holds no study", "--out"),
    ("new", "cs44"): (2, 'no study "cs44" ships, did you mean "cs444"?', "Give one"),
    ("frobnicate",): (2, "No such command", ""),
}


@pytest.mark.parametrize(("arguments", "expected"), BAD.items())
def test_bad_input_is_told_in_words_with_the_right_exit_code_and_nothing_is_created(
    study: Path, arguments: tuple[str, ...], expected: tuple[int, str, str]
) -> None:
    code, what, todo = expected
    before = sorted(study.rglob("*"))
    done = command(study, *arguments)
    assert done.returncode == code, done.stderr
    assert what in done.stderr
    assert todo in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(study.rglob("*")) == before


def test_missing_cifar10_says_where_it_was_looked_for_and_where_it_comes_from(study: Path) -> None:
    """The download is made to fail by a proxy that is not there: no network is used either way."""
    nowhere = "http://127.0.0.1:9"
    done = command(
        study, "run", "study.toml", "--set", "dataset.name=cifar10", "--data-dir", "data",
        http_proxy=nowhere, https_proxy=nowhere, HTTPS_PROXY=nowhere, no_proxy="",
    )  # fmt: skip
    assert done.returncode == 4
    assert str(study / "data") in done.stderr
    assert "cifar-10-python.tar.gz" in done.stderr
    assert "--data-dir" in done.stderr
    assert [path.name for path in study.iterdir()] == ["study.toml"]


def test_plan_as_json_is_json_and_nothing_else(study: Path) -> None:
    done = command(study, "plan", "study.toml", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    runs = json.loads(done.stdout)["runs"]
    assert [(run["kind"], run["variant"], run["state"]) for run in runs] == [
        ("pretext", {"pretext": "rotation"}, "new"),
        ("downstream", {"init": "random"}, "new"),
        ("downstream", {"init": "rotation"}, "new"),
    ]
    assert runs[2]["needs"] == [runs[0]["id"]]
    assert set(runs[0]) == {"id", "kind", "variant", "seed", "needs", "state", "reason", "estimated_seconds"}
    assert not (study / "results").exists()


def test_a_results_folder_of_a_newer_rotbench_is_left_alone(study: Path) -> None:
    (study / "results").mkdir()
    (study / "results" / "study.json").write_text('{"format": 99}')
    for verb in ("run", "plan"):
        done = command(study, verb, "study.toml")
        assert (done.returncode, "newer rotbench" in done.stderr) == (3, True)
    assert [path.name for path in (study / "results").iterdir()] == ["study.json"]


def test_check_and_plugins_as_json(study: Path) -> None:
    assert json.loads(command(study, "check", "study.toml", "--json").stdout) == {"faults": []}
    done = command(study, "check", "study.toml", "--json", "--set", "train.lr=-1")
    assert done.returncode == 2
    (fault,) = json.loads(done.stdout)["faults"]
    assert (fault["file"], fault["line"], fault["column"], fault["path"]) == (
        "--set train.lr=-1",
        None,
        None,
        "train.lr",
    )
    assert "greater than 0" in fault["message"]
    (study / "plugins").mkdir()
    (study / "plugins" / "broken.py").write_text("raise RuntimeError('no')")
    listed = json.loads(command(study, "plugins", "--json").stdout)["plugins"]
    assert {"kind", "name", "origin", "version", "summary", "options", "error"} == set(listed[0])
    assert [entry["error"] for entry in listed if entry["error"]] == ["RuntimeError: no"]
    # A broken plugin is no fault of a study that does not need it, and is named where a name is not found.
    assert command(study, "check", "study.toml").returncode == 0
    done = command(study, "check", "study.toml", "--set", "pretext.rotation.task=mine")
    assert "broken.py: RuntimeError: no" in done.stderr
    done = command(study, "check", "study.toml", "--set", "pretext.rotation.task=mine", "--no-plugins")
    assert "broken.py" not in done.stderr


def test_new_writes_a_study_and_never_over_another(tmp_path: Path) -> None:
    assert command(tmp_path, "new").returncode == 0
    assert command(tmp_path, "check").returncode == 0
    done = command(tmp_path, "new")
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    assert command(tmp_path, "new", "cs444", "sub/folder").returncode == 0
    assert (tmp_path / "sub" / "folder" / "cs444.toml").exists()


def test_a_reader_who_leaves_is_no_error(study: Path) -> None:
    done = subprocess.run(  # noqa: S602  the pipe is what is tested
        f"{sys.executable} -m rotbench plan study.toml | head -n 1",
        shell=True,
        cwd=study,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""


def completions(folder: Path, words: str) -> list[str]:
    """What bash would offer for a command line that ends where the cursor is."""
    done = command(
        folder,
        _ROTBENCH_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_completion_knows_commands_options_studies_and_variants(study: Path) -> None:
    assert {"run", "plan", "check", "schema", "new"} <= set(completions(study, "rotbench "))
    assert "--rerun-stale" in completions(study, "rotbench run --re")
    assert completions(study, "rotbench new cs") == ["cs444", "cs444-sgd"]
    assert completions(study, "rotbench run study.toml -k init=r") == ["init=random", "init=rotation"]
    lrs = study / "lrs.toml"
    lrs.write_text('[[matrix]]\nlr = [0.001, 0.01]\nnesterov = false\naugment = [["crop"]]\n')
    offered = completions(study, "rotbench run lrs.toml -k ")
    assert offered == ['augment=["crop"]', "lr=0.001", "lr=0.01", "nesterov=false"]
    for condition in (*offered, "lr=1e-3", "init=random", "freeze=none"):
        assert command(study, "plan", "lrs.toml", "-k", condition).returncode == 0, condition
    # As bash itself has it: broken at the equals sign.
    assert completions(study, "rotbench run study.toml -k init = r") == ["random", "rotation"]
    assert completions(study, "rotbench run study.toml -k init =") == ["random", "rotation"]
    assert completions(study, "rotbench run gone.toml -k init=r") == []
    assert completions(study, "rotbench completion ") == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_written_for_each_shell(tmp_path: Path, shell: str) -> None:
    done = command(tmp_path, "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_ROTBENCH_COMPLETE={shell}_complete" in done.stdout


def test_plan_and_dry_run_say_the_same_and_write_nothing(study: Path) -> None:
    plan, dry = command(study, "plan", "study.toml"), command(study, "run", "study.toml", "--dry-run")
    # Somebody else may write to the disk between the two.
    assert re.sub(r"\S+ \S+ free", "", plan.stdout) == re.sub(r"\S+ \S+ free", "", dry.stdout)
    assert (plan.returncode, dry.returncode) == (0, 0)
    assert "pretext rotation is trained once a seed; 1 downstream run starts from each" in plan.stdout
    assert "3 runs: 3 new" in plan.stdout
    assert [path.name for path in study.iterdir()] == ["study.toml"]


@pytest.mark.thorough
def test_a_few_timed_steps_price_a_study_and_leave_nothing_behind(study: Path) -> None:
    done = command(study, "plan", "study.toml", "--measure", "--json", "--set", "train.batch_size=32")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(run["estimated_seconds"] > 0 for run in told["runs"])
    assert told["estimate"]["basis"] == "timed"
    assert 0 < told["estimate"]["low"] < told["estimate"]["seconds"] < told["estimate"]["high"]
    assert [path.name for path in study.iterdir()] == ["study.toml"]
    missing = ("plan", "study.toml", "--measure", "--set", "dataset.name=image-folder", "--data-dir", "gone")
    assert command(study, *missing).returncode == 4


def test_check_needs_no_data(study: Path) -> None:
    elsewhere = ("--set", "dataset.name=image-folder")
    assert command(study, "check", "study.toml", *elsewhere).returncode == 0
    assert command(study, "plan", "study.toml", *elsewhere, "--data-dir", "gone").returncode == 4


def test_check_as_json_tells_what_keeps_a_file_from_being_read(study: Path) -> None:
    done = command(study, "check", "gone.toml", "--json")
    assert done.returncode == 2
    (fault,) = json.loads(done.stdout)["faults"]
    assert (fault["file"], fault["line"], fault["message"]) == ("gone.toml", None, "there is no study file gone.toml")
    (study / "bad.toml").write_text("seeds = 3\n[train]\nlr = 0\nepochs = 'x'\n")
    done = command(study, "check", "bad.toml", "--json")
    assert [(fault["line"], fault["column"], fault["path"]) for fault in json.loads(done.stdout)["faults"]] == [
        (3, 6, "train.lr"), (4, 10, "train.epochs"),
    ]  # fmt: skip


def test_an_error_is_json_too_where_json_was_asked_for(study: Path) -> None:
    done = command(study, "plan", "gone.toml", "--json")
    assert json.loads(done.stdout)["error"]["what"] == "there is no study file gone.toml"
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (2, 2)


def test_what_a_plugin_prints_is_no_part_of_the_output(study: Path) -> None:
    (study / "plugins").mkdir()
    (study / "plugins" / "loud.py").write_text("print('hello')\nraise RuntimeError('no')")
    for arguments in (("plan", "study.toml", "--json"), ("check", "study.toml", "--json"), ("schema",)):
        done = command(study, *arguments)
        assert done.stderr == "hello\n"
        assert json.loads(done.stdout)


@pytest.mark.parametrize("arguments", ["plan study.toml", "plan study.toml --json", "schema", "plugins"])
def test_a_closed_pipe_is_no_failed_run(study: Path, arguments: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m rotbench {arguments} | true; echo ${{PIPESTATUS[0]}}"],
        cwd=study,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.stderr, done.stdout.strip()) == ("", "141")


def test_a_results_path_that_is_a_file_is_refused_by_plan_and_run(study: Path) -> None:
    (study / "file").write_text("precious")
    for verb in ("plan", "run"):
        for out in ("file", "file/below"):
            done = command(study, verb, "study.toml", "--out", out)
            assert (done.returncode, "file is not a folder" in done.stderr) == (4, True)
    assert (study / "file").read_text() == "precious"


def test_damaged_stores_are_no_bugs(study: Path) -> None:
    (study / "results").mkdir()
    (study / "results" / "study.json").write_text('{"format": 1}')
    for arguments in (("plan", "study.toml"), ("run", "study.toml"), ("report",), ("verify",)):
        done = command(study, *arguments)
        assert (done.returncode, "is damaged" in done.stderr) == (3, True), arguments


def test_timing_that_is_ended_leaves_nothing_behind(study: Path) -> None:
    """SIGTERM, as a batch system sends it."""
    (study / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "rotbench", "plan", "study.toml", "--measure"],
        cwd=study,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(study / "tmp")},
    )
    waited = 0.0
    while not list((study / "tmp").iterdir()) and waited < 30:
        time.sleep(0.05)
        waited += 0.05
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in error
    assert list((study / "tmp").iterdir()) == []


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder with the store of a finished study in ``results`` and its report."""
    write_store(tmp_path / "results", simulated.results(seeds=2, epochs=3, pretext_epochs=3), predictions=True)
    assert command(tmp_path, "report").returncode == 0
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.drawn
@pytest.mark.thorough
def test_a_page_is_drawn_again_from_itself_where_nothing_else_is(finished: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "old.html").write_bytes((finished / "results" / "report.html").read_bytes())
    done = command(elsewhere, "report", "--from", "old.html", "--out", "new/folder")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == (elsewhere / "new" / "folder" / "report.html").as_uri()
    made, first = files(elsewhere / "new" / "folder"), files(finished / "results")
    assert set(made) == {"report.html", "results.json", "results.csv"}
    assert made["report.html"] == first["report.html"]
    one, other = (json.loads(some["results.json"]) for some in (made, first))
    assert [run["final"] for run in one["runs"]] == [run["final"] for run in other["runs"]]
    assert one["error_images"] == other["error_images"] != []
    # Again, over its own files; and from results.json, which holds every digit.
    assert command(elsewhere, "report", "--from", "new/folder/report.html", "--out", "new/folder").returncode == 0
    assert files(elsewhere / "new" / "folder") == made
    (elsewhere / "old.json").write_bytes(first["results.json"])
    done = command(elsewhere, "report", "--from", "old.json", "--out", "whole", "--json")
    assert (done.returncode, json.loads(done.stdout)["variants"][0]["planned"]) == (0, 2)
    assert files(elsewhere / "whole") == {name: first[name] for name in made}


def test_what_stands_in_the_page_as_json_can_be_saved_and_drawn(finished: Path) -> None:
    """As the page says to those without JavaScript: logs and pictures stand elsewhere in it, histories by column."""
    page = (finished / "results" / "report.html").read_text()
    raw = page.partition('id="results">')[2].partition("</script>")[0]
    held = json.loads(raw)
    for image in held["error_images"]:
        assert set(image) == {"run", "index"}
    held.pop("error_images")
    for run in held["runs"]:
        run["log"] = ""
    (finished / "saved.json").write_text(json.dumps(held))
    assert command(finished, "report", "--from", "saved.json", "--out", "new").returncode == 0
    assert (finished / "new" / "results.csv").read_bytes().count(b"\n") == 1 + 10 * 3


def test_other_results_are_not_written_over(finished: Path) -> None:
    other = simulated.results(seeds=1, epochs=2, pretext_epochs=2)
    other["study"] |= {"title": "another", "text": "seeds = 1"}
    (finished / "other.json").write_text(json.dumps(other))
    before = files(finished)
    done = command(finished, "report", "--from", "other.json")
    assert (done.returncode, done.stderr.splitlines()) == (
        2, ["error: results holds the runs of a study", "Give another --out."],
    )  # fmt: skip
    assert files(finished) == before
    assert command(finished, "report", "--from", "results/report.html", "--out", "mine").returncode == 0
    before = files(finished)
    for left in ("report.html", "results.json", "results.csv"):
        for name in {"report.html", "results.json", "results.csv"} - {left}:
            (finished / "mine" / name).unlink(missing_ok=True)
        done = command(finished, "report", "--from", "other.json", "--out", "mine")
        assert (done.returncode, f"mine/{left} is not of the study in other.json" in done.stderr) == (2, True)
        assert set(files(finished / "mine")) == {left}
        # The same study's results are.
        assert command(finished, "report", "--from", "results/results.json", "--out", "mine").returncode == 0
        assert len(files(finished / "mine")) == 3


def test_results_of_a_study_whose_title_was_corrected_are_written_over(finished: Path) -> None:
    assert command(finished, "report", "--from", "results/report.html", "--out", "titled").returncode == 0
    corrected = json.loads((finished / "results" / "results.json").read_bytes())
    corrected["study"] |= {"title": "corrected", "text": "title = 'corrected'"}
    corrected["runs"] = corrected["runs"][1:]
    (finished / "corrected.json").write_text(json.dumps(corrected))
    for left in ("report.html", "results.json", "results.csv"):
        for name in {"report.html", "results.json", "results.csv"} - {left}:
            (finished / "titled" / name).unlink(missing_ok=True)
        done = command(finished, "report", "--from", "corrected.json", "--out", "titled")
        assert done.returncode == 0, (left, done.stderr)
    assert json.loads((finished / "titled" / "results.json").read_bytes())["study"]["title"] == "corrected"


def changed(results: dict[str, Any], *path: Any, to: Any) -> str:
    """Results as JSON with one value, at ``path``, replaced by ``to``, or taken out where that is ``...``."""
    copy = json.loads(json.dumps(results))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return json.dumps(copy)


def damaged_files() -> dict[str, tuple[int, str]]:
    """Texts that are no results, or damaged or hostile ones, with the exit code and words of the error."""
    results = simulated.results(seeds=1, epochs=2, pretext_epochs=2)
    whole, page = json.dumps(results), render(results)
    deep = "[" * 100_000 + "]" * 100_000
    text = {
        "": (2, "is not rotbench's"),
        "<html></html>": (2, "is not rotbench's"),
        "{}": (2, "is not rotbench's"),
        whole[: len(whole) // 2]: (2, "is damaged: no JSON at line 1"),
        whole[:-1]: (2, "is damaged"),
        page[: len(page) // 2]: (2, "is cut off"),
        page[: page.index('id="results">') + 200]: (2, "is damaged"),
        '{"format": 1, "study": {}, "runs": ' + deep + "}": (2, "is damaged: it is nested too deeply"),
        changed(results, "format", to=99): (3, "newer rotbench (format 99"),
        changed(results, "format", to="1"): (2, "its format is no number"),
        changed(results, "format", to=True): (2, "its format is no number"),
        changed(results, "runs", to=3): (2, "is damaged"),
        changed(results, "runs", 0, to=3): (2, "is damaged"),
        changed(results, "runs", 0, "history", to={"epoch": [1, 2], "test_accuracy": [0.1]}): (2, "is damaged"),
        changed(results, "runs", 0, "history", 0, "test_accuracy", to="high"): (2, "history.0.test_accuracy"),
        changed(results, "runs", 0, "final", to=0.5): (2, "runs.0.final"),
        changed(results, "runs", 0, "status", to="great"): (2, "runs.0.status"),
        changed(results, "runs", 0, "needs", to=[results["runs"][0]["id"]]): (2, "in a circle"),
        changed(results, "runs", 1, "id", to=results["runs"][0]["id"]): (2, "two runs have one id"),
        changed(results, "runs", 0, "variant", to=...): (2, "runs.0.variant: field required"),
        changed(results, "runs", 0, "provenance", "freeze", to=[1]): (2, "cannot be drawn"),
        changed(results, "runs", 0, "provenance", "start", to={}): (2, "cannot be drawn"),
        changed(results, "study", to=[]): (2, "is damaged"),
        changed(results, "study", "seeds", to="all"): (2, "study.seeds"),
        changed(results, "study", "pretexts", "rotation", to=None): (2, "study.pretexts.rotation"),
        changed(results, "error_images", to=[{"run": 1}]): (2, "error_images.0"),
    }
    assert len(text) == 26
    return text


def test_damaged_and_hostile_files_are_two_lines_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tried = 0
    for content, (code, words) in damaged_files().items():
        (tmp_path / "file").write_text(content)
        for arguments in (("report", "--from", "file", "--out", "new"), ("export", "--from", "file", "--to", "new")):
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            told = capsys.readouterr().err
            assert (ended.value.code, len(told.splitlines())) == (code, 2), told
            assert words in told
            assert [path.name for path in tmp_path.iterdir()] == ["file"]
            tried += 1
    assert tried == 52
    (tmp_path / "file").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SystemExit):
        main(["report", "--from", "file", "--out", "new"])
    assert "file holds no text" in capsys.readouterr().err


def test_a_page_from_the_mail_is_drawn_with_other_ends_of_lines_and_a_mark_of_its_encoding(finished: Path) -> None:
    page = (finished / "results" / "report.html").read_bytes()
    (finished / "mailed.html").write_bytes(b"\xef\xbb\xbf" + page.replace(b"\n", b"\r\n"))
    assert command(finished, "report", "--from", "mailed.html", "--out", "new").returncode == 0
    assert (finished / "new" / "report.html").read_bytes() == page


@pytest.mark.parametrize(
    "arguments",
    thorough(["report", "--from", "results/report.html", "--out", "new"], ["export", "--to", "paper"]),
)
def test_redrawing_and_exporting_load_no_torch(finished: Path, arguments: list[str]) -> None:
    loaded = loaded_by(arguments, finished)
    assert "matplotlib" in loaded
    assert not loaded & {"torch", "torchvision", "sklearn"}


def test_help_names_every_command(tmp_path: Path) -> None:
    done = command(tmp_path, "--help")
    commands = (
        "run",
        "plan",
        "report",
        "export",
        "compare",
        "collate",
        "check",
        "plugins",
        "verify",
        "new",
        "schema",
        "completion",
    )
    assert all(f"  {name} " in done.stdout for name in commands)
    assert command(tmp_path, "--version").stdout.startswith("rotbench, version 0.1.0")


@pytest.mark.parametrize("committed", [False, True])
def test_an_error_takes_a_new_folder_away_but_no_committed_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """As where the head of a cluster is lost before the first run is published."""

    def lose(plan: Any, store: Any, *_: Any) -> None:
        checkpoint = store.attempts / "run.1" / "epoch-000080"
        checkpoint.mkdir(parents=True)
        if committed:
            (checkpoint / "manifest.json").touch()
        raise EnvironmentLacking("the head is gone", "Run the command again.")

    monkeypatch.setattr("rotbench.driver.run_study", lose)
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text('[[matrix]]\ninit = ["random"]\n')
    with pytest.raises(EnvironmentLacking):
        cli(["run", "study.toml"], standalone_mode=False)
    assert (tmp_path / "results" / "attempts" / "run.1" / "epoch-000080").exists() == committed
    assert (tmp_path / "results").exists() == committed
