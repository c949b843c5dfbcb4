"""What a person sees while a study runs."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from rotbench import compare
from rotbench.plan import Plan, Run, make_plan
from rotbench.price import Paces
from rotbench.registry import load_registry
from rotbench.source import parse_source
from rotbench.spoken import about, duration, megabytes, run_words, variant_words
from rotbench.study import understand
from rotbench.terminal import Bars, Lines, Outlook, clock, final_table, row_words, watcher
from tests import simulated

STUDY = """
seeds = [0, 1]
[train]
epochs = 4
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", { name = "below", stage = "layer4", batchnorm = "train" }]
"""

ROW = {
    "epoch": 1,
    "train_loss": 1.25,
    "train_accuracy": 0.5,
    "test_loss": 1.5,
    "test_accuracy": 0.456,
    "lr": 0.01,
    "seconds": 10.0,
}
BEAT = {"epoch": 2, "step": 5, "steps": 10, "images_per_second": 1234.5}


def plan(text: str = STUDY) -> Plan:
    study, faults = understand(parse_source(text, "e.toml"), Path())
    return make_plan(study, faults, load_registry(), Path())


def tell(watching: Lines | Bars, runs: list[Run]) -> None:
    """A study that goes on: two runs are trained, one ends well and one fails."""
    watching.begin(runs, 3)
    for run in runs[:2]:
        watching.started(run)
        watching.progress(run, ROW)
        watching.progress(run, BEAT)
    watching.note("something to know")
    watching.ended(runs[0], "done", "")
    watching.ended(runs[1], "failed", "loss is nan at epoch 3, step 12")
    watching.close()


def outlook(made: Plan) -> Outlook:
    return Outlook(made.runs, Paces(), 2)


def test_lines_say_epoch_score_speed_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan()
    runs = [run for run in made.runs if run.kind == "downstream"]
    tell(Lines(made.runs, outlook(made)), runs)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    assert "\x1b" not in err
    lines = err.splitlines()
    assert lines[0] == "8 runs to train, 3 done before"
    assert lines[1] == "loading PyTorch and data"
    assert lines[2] == "started   random, none, seed 0"
    assert lines[3] == (
        "  random, none, seed 0: epoch 1/4  test 45.6% (loss 1.500), train 50.0% (loss 1.250), 10.0 s, 30 s left"
    )
    assert "note: something to know" in lines
    ended = r"failed    random, below, seed 0  \(2 of 8, \S.* left\): loss is nan at epoch 3, step 12"
    assert re.fullmatch(ended, lines[-1])


def test_quiet_lines_say_only_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan()
    tell(Lines(made.runs, outlook(made), quiet=True), [run for run in made.runs if run.kind == "downstream"])
    assert [line.partition(" ")[0] for line in capsys.readouterr().err.splitlines()] == ["note:", "failed"]


@pytest.mark.parametrize("width", [80, 120])
def test_bars_have_the_study_and_each_run_and_fit_the_terminal(width: int) -> None:
    made = plan()
    file = io.StringIO()
    console = Console(file=file, width=width, height=30, force_terminal=True, color_system=None, legacy_windows=False)
    bars = Bars(made.runs, outlook(made), console)
    runs = [run for run in made.runs if run.kind == "downstream"]
    bars.begin(runs, 3)
    bars._progress.refresh()
    for run in runs[:2]:
        bars.started(run)
        bars.progress(run, ROW)
        bars.progress(run, BEAT)
    bars.ended(runs[0], "done", "")
    bars._progress.refresh()
    bars.close()
    screens = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in file.getvalue().split("\r")]
    lines = [line for screen in screens for line in screen.splitlines()]
    assert max(map(len, lines)) <= width
    first, *_, top, bottom = [line for line in lines if line.strip()]
    assert first.split()[-5:] == ["0/8", "loading", "PyTorch", "and", "data"]
    assert "loading" not in top
    assert top.startswith("study, 3 runs done before")
    assert "1/8" in top
    assert bottom.startswith("random, below, seed 0")
    for part in ("2/4", "45.6%", "1,234 img/s", "0:25 left"):
        assert part in bottom, bottom


def test_bars_are_for_terminals_that_can_move_them_and_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan()
    chosen: Callable[..., Lines | Bars] = lambda **asked: watcher(made.runs, outlook(made), **asked)  # noqa: E731
    cases = [
        ({"TTY_COMPATIBLE": "0"}, {"quiet": False, "verbose": False}, Lines),
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, {"quiet": False, "verbose": False}, Bars),
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, {"quiet": True, "verbose": False}, Lines),
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, {"quiet": False, "verbose": True}, Lines),
        ({"FORCE_COLOR": "1", "TERM": "xterm", "CI": "true"}, {"quiet": False, "verbose": False}, Lines),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, {"quiet": False, "verbose": False}, Lines),
    ]
    for environment, asked, kind in cases:
        with monkeypatch.context() as patch:
            for name in ("CI", "FORCE_COLOR", "TTY_COMPATIBLE", "TERM"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            assert type(chosen(**asked)) is kind, (environment, asked)
    assert len(cases) == 6


def test_what_is_left_is_told_from_runs_alike_as_soon_as_one_is_known() -> None:
    made = plan()
    runs = [run for run in made.runs if run.variant.get("freeze") == "none"]
    seen = outlook(made)
    seen.begin(runs)
    assert len(runs) == 4
    assert seen.study_seconds() is None
    seen.started(runs[0])
    seen.progress(runs[0], ROW)
    # One epoch of ten seconds: three are left of this run, four of each of the others, two side by side.
    assert seen.run_seconds(runs[0]) == pytest.approx(30)
    assert seen.run_seconds(runs[1]) == pytest.approx(40)
    assert seen.study_seconds() == pytest.approx(80)
    seen.ended(runs[0])
    assert seen.study_seconds() == pytest.approx(80)
    seen.ended(runs[1])
    assert seen.study_seconds() == pytest.approx(40)


def test_an_epoch_without_test_scores_is_told_by_its_validation() -> None:
    row = {**ROW, "test_loss": None, "test_accuracy": None, "validation_loss": 1.1, "validation_accuracy": 0.4}
    assert row_words(row) == "validation 40.0% (loss 1.100), train 50.0% (loss 1.250), 10.0 s"
    # What is no accuracy is no percentage.
    assert row_words(row, "explained variance") == "validation 0.400 (loss 1.100), train 0.500 (loss 1.250), 10.0 s"


def test_the_final_table_has_mean_interval_and_seeds_of_each_variant() -> None:
    results = simulated.results(seeds=3)
    summaries = compare.variants(results)
    file = io.StringIO()
    Console(file=file, width=80).print(final_table(summaries))
    lines = file.getvalue().splitlines()
    assert len(lines) == 1 + 4
    assert max(map(len, lines)) <= 80
    for summary, line in zip(summaries, lines[1:], strict=True):
        assert summary.estimate is not None
        assert summary.estimate.interval is not None
        low, high = summary.estimate.interval
        assert f"{summary.estimate.mean:.1%}" in line
        assert f"{low:.1%} to {high:.1%}" in line
        assert "3 of 3" in line


def test_variants_are_told_by_what_sets_them_apart() -> None:
    below = {"name": "below", "stage": "layer4"}
    words = variant_words(
        [
            {"pretext": "rotation"},
            {"init": "random", "freeze": below, "lr": 0.001, "epochs": 3},
            {"init": "random", "freeze": {**below, "stage": "layer3"}, "lr": 0.001, "epochs": 3},
            {"init": "random", "freeze": "none", "lr": 0.001, "epochs": 3, "compute_matched": 9},
        ]
    )
    assert list(words.values()) == [
        "pretext rotation",
        "random, below layer4",
        "random, below layer3",
        "random, none, compute_matched 9",
    ]
    made = plan(f"repeats = 2\n{STUDY}")
    told = run_words(made.runs)
    assert len(set(told.values())) == len(told)
    assert told[made.runs[-1].id] == "rotation, below, seed 1/1"


@pytest.mark.parametrize(
    ("seconds", "words", "short", "running"),
    [
        (0.4, "0 s", "0 s", "0:00"),
        (45, "45 s", "45 s", "0:45"),
        (59.7, "1 min 00 s", "60 s", "1:00"),
        (272, "4 min 32 s", "5 min", "4:32"),
        (7500, "2 h 05 min", "2.1 h", "2:05:00"),
        (300_000, "3 d 11 h", "3.5 d", "83:20:00"),
    ],
)
def test_times_are_told_in_two_units_or_one(seconds: float, words: str, short: str, running: str) -> None:
    assert (duration(seconds), about(seconds), clock(seconds)) == (words, short, running)


def test_sizes_are_told_in_megabytes_or_more() -> None:
    assert [megabytes(count) for count in (100_000, 1_550_000, 45_000_000, 2_340_000_000)] == [
        "0.1 MB",
        "1.6 MB",
        "45 MB",
        "2.3 GB",
    ]
