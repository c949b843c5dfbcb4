"""What a plan says before anything is trained."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rotbench.plan import Plan, make_plan
from rotbench.preview import groups, plan_heading, plan_rows, plan_summary, plan_table, trained
from rotbench.price import Paces, Price
from rotbench.registry import load_registry
from rotbench.results import describe
from rotbench.source import parse_source
from rotbench.store import Standing
from rotbench.study import understand

STUDY = """
seeds = [0, 1, 2]
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
freeze = ["none", { name = "below", stage = "layer3" }, "head-only"]
"""

OWN_POLICIES = '''
from dataclasses import dataclass
from typing import ClassVar, Literal
from rotbench import hookimpl

@dataclass(frozen=True)
class Then:
    """The head first, everything after half of the epochs."""
    name: ClassVar[str] = "then"
    batchnorm: Literal["eval", "train"] = "eval"
    def trainable(self, parameter, epoch, epochs):
        return parameter.stage == "fc" or epoch > epochs // 2

@dataclass(frozen=True)
class Norms:
    """A shift of the stem, BatchNorm of the first layer, and the head."""
    name: ClassVar[str] = "norms"
    batchnorm: Literal["eval", "train"] = "eval"
    def trainable(self, parameter, epoch, epochs):
        norm = parameter.stage == "layer1" and parameter.kind == "batchnorm"
        return norm or parameter.name == "conv1.bias" or parameter.name == "bn1.bias" or parameter.stage == "fc"

@dataclass(frozen=True)
class Broken:
    """Raises."""
    name: ClassVar[str] = "broken"
    batchnorm: Literal["eval", "train"] = "eval"
    def trainable(self, parameter, epoch, epochs):
        raise RuntimeError("no")

@dataclass(frozen=True)
class Nothing:
    """Trains nothing."""
    name: ClassVar[str] = "nothing"
    batchnorm: Literal["eval", "train"] = "eval"
    def trainable(self, parameter, epoch, epochs):
        return False

@hookimpl
def register_freeze_policies():
    return [Then, Norms, Broken, Nothing]
'''


def plan(text: str = STUDY, plugins: Path | None = None, only: tuple[str, ...] = ()) -> Plan:
    study, faults = understand(parse_source(text, "e.toml"), Path())
    return make_plan(study, faults, load_registry([plugins] if plugins else []), Path(), only)


def all_new(made: Plan) -> dict[str, Standing]:
    return {run.id: Standing("new", "", None) for run in made.runs}


def printed(made: Plan, standing: dict[str, Standing], width: int = 200, *, every_run: bool = False) -> list[str]:
    waiting = [run for run in made.runs if standing[run.id].state == "new"]
    file = io.StringIO()
    Console(file=file, width=width).print(plan_table(made, standing, Paces(), waiting, every_run=every_run))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        # The counts are torchvision's: 11,689,512 parameters, of which the head of 1,000 classes has 513,000.
        ('"none"', "everything, 11.2 M"),
        ('"below"', "layer4 and fc, 8.4 M"),
        ('{ name = "below", stage = "layer2" }', "layer2, layer3, layer4 and fc, 11.0 M"),
        ('{ name = "only", stage = "layer1" }', "layer1 and fc, 153.1 k"),
        ('"head-only"', "fc, 5.1 k"),
        ('"batchnorm-only"', "BatchNorm and fc, 14.7 k"),
        ('"probe-then-tune"', "fc, then everything from epoch 11, 11.2 M"),
        (
            '{ name = "gradual", every = 3 }',
            "fc, also layer4 from epoch 4, layer3 from 7, layer2 from 10, layer1 from 13, stem from 16, 11.2 M",
        ),
        ('"then"', "fc, then everything from epoch 11, 11.2 M"),
        ('"norms"', "part of stem, BatchNorm of layer1 and fc, 5.7 k"),
        ('"broken"', "unknown: RuntimeError"),
        ('"nothing"', "nothing, 0"),
    ],
)
def test_which_stages_train_is_told_by_the_policy_itself(tmp_path: Path, freeze: str, told: str) -> None:
    (tmp_path / "own.py").write_text(OWN_POLICIES)
    made = plan(f'[[matrix]]\ninit = "random"\nfreeze = {freeze}', tmp_path)
    assert trained(made, made.runs[0]) == told


def test_variants_are_rows_with_their_states_and_reasons() -> None:
    made = plan()
    standing = all_new(made)
    random = [run for run in made.runs if run.variant.get("init") == "random" and run.variant["freeze"] == "none"]
    standing[random[0].id] = Standing("done", "", random[0].id)
    standing[random[1].id] = Standing("stale", "plugin freeze.py changed", "x")
    lines = printed(made, standing)
    assert [" ".join(line.split()) for line in lines] == [
        "variant trains runs each why",
        "pretext rotation everything, 11.2 M 3 new ?",
        "random, none everything, 11.2 M 1 done",
        "1 stale plugin freeze.py changed",
        "1 new ?",
        "random, below layer3, layer4 and fc, 10.5 M 3 new ?",
        "random, head-only fc, 5.1 k 3 new ?",
        "rotation, none everything, 11.2 M 3 new ?",
        "rotation, below layer3, layer4 and fc, 10.5 M 3 new ?",
        "rotation, head-only fc, 5.1 k 3 new ?",
    ]
    assert len(printed(made, standing, every_run=True)) == 1 + len(made.runs)


def test_what_is_shared_is_told_once() -> None:
    made = plan()
    (pretext,) = (group for group in groups(made) if group.runs[0].kind == "pretext")
    assert (pretext.words, pretext.shared) == ("pretext rotation", 3)
    lines = plan_summary(made, all_new(made), made.runs, None, 2, 10**12)
    assert lines[0] == "21 runs: 21 new"
    assert lines[1] == "pretext rotation is trained once a seed; 3 downstream runs start from each"
    more = '[pretext.other]\ntask = { name = "rotation", turns = "all" }\n[[matrix]]\ninit = "other"\n'
    made = plan(STUDY.replace("[[matrix]]", more + 'freeze = ["none", "head-only", "batchnorm-only"]\n[[matrix]]'))
    lines = plan_summary(made, all_new(made), made.runs, None, 2, 10**12)
    assert lines[1] == "2 pretext runs are each trained once a seed; 3 downstream runs start from each"
    assert "--measure" in lines[2]
    assert lines[3].endswith("1000.0 GB free")
    assert plan_heading(made, Path("results"))[:2] == ["e", "digits, resnet18, 3 seeds; results in results"]
    assert "NOT ENOUGH" in plan_summary(made, all_new(made), made.runs, None, 2, 10**6)[3]
    assert plan_summary(made, all_new(made), [], None, 2, 10**12)[-1] == "nothing to train"


def test_threads_are_named_where_they_differ() -> None:
    made = plan(STUDY.replace("[pretext.rotation]", "[pretext.rotation]\nthreads = 2"))
    lines = plan_summary(made, all_new(made), made.runs, None, 2, 10**12)
    assert lines[2] == "pretext rotation has 2 threads, other runs have 1"
    rows = plan_rows(made, made.runs, all_new(made), Paces(), made.runs)
    assert {(row["kind"], row.get("threads")) for row in rows} == {("pretext", 2), ("downstream", None)}
    plain = plan()
    assert not [line for line in plan_summary(plain, all_new(plain), plain.runs, None, 2, 10**12) if "thread" in line]


def test_partners_of_as_many_epochs_are_counted_and_priced() -> None:
    made = plan(STUDY + "[report]\ncompute_matched = true\n")
    partners = [run for run in made.runs if "compute_matched" in run.variant]
    lines = plan_summary(made, all_new(made), made.runs, None, 2, 10**12)
    assert f"      {len(partners)} runs for compute_matched" in lines
    whole, without = Price(1000.0, 900.0, 1100.0, "timed"), Price(700.0, 600.0, 800.0, "timed")
    lines = plan_summary(made, all_new(made), made.runs, whole, 2, 10**12, without)
    assert f"      {len(partners)} runs for compute_matched, about 5 min 00 s of it" in lines
    assert len(partners) == 9
    plain = plan()
    assert not [line for line in plan_summary(plain, all_new(plain), plain.runs, None, 2, 10**12) if "matched" in line]


def test_of_a_selection_only_that_is_shown() -> None:
    made = plan(only=("init=random", "freeze=below"))
    assert [" ".join(line.split()) for line in printed(made, all_new(made))[1:]] == [
        "random, below layer3, layer4 and fc, 10.5 M 3 new ?"
    ]
    rows = plan_rows(made, made.runs, all_new(made), Paces(), [])
    assert [row["variant"]["init"] for row in rows] == ["random"] * 3
    assert [row["estimated_seconds"] for row in rows] == [0.0] * 3


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    made = plan()
    standing = {
        run.id: Standing("new", "lr 0.01 -> 0.005, epochs 20 -> 40, optimizer adam -> sgd", None) for run in made.runs
    }
    lines = printed(made, standing, width)
    assert max(map(len, lines)) <= width
    assert "sgd" in " ".join(lines)


OWN_TASK = '''
from dataclasses import dataclass
from typing import ClassVar
from rotbench import hookimpl

@dataclass(frozen=True)
class Wordy:
    """Says what it was asked with."""
    name: ClassVar[str] = "wordy"
    def head(self, features):
        return None
    def make_batch(self, images, generator):
        return images, None
    def notice(self, *, epochs, batch_size, stem):
        if batch_size == 3:
            raise RuntimeError("no")
        return None if epochs == 100 else f"runs {epochs} epochs of {batch_size} on {stem}."

@hookimpl
def register_pretext_tasks():
    return [Wordy]
'''


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("epochs = 7", ["pretext own runs 7 epochs of 128 on imagenet."]),
        ("epochs = 100", []),
        ("batch_size = 3", ["pretext own its notice raised RuntimeError: no"]),
    ],
)
def test_what_a_task_says_of_its_settings_is_in_the_plan(tmp_path: Path, settings: str, told: list[str]) -> None:
    (tmp_path / "own.py").write_text(OWN_TASK)
    made = plan(f'[pretext.own]\ntask = "wordy"\n{settings}\n[[matrix]]\ninit = ["random", "own"]', tmp_path)
    lines = plan_summary(made, all_new(made), list(made.runs), None, 1, 10**12)
    assert [line for line in lines if line.startswith("pretext own ") and "trained once" not in line] == told
    assert describe(made, "rotbench run")["study"]["pretexts"]["own"]["notice"] == "".join(told).removeprefix(
        "pretext own "
    )


def test_a_plan_ends_with_what_will_not_compare() -> None:
    made = plan()
    told = (
        "rotation, below against random, below and 1 more contrast also differ in BatchNorm statistics (of the "
        "pretraining against as built: mean 0, variance 1): no verdict; "
        'batchnorm = "calibrated" or "train" would give both sides statistics of the images'
    )
    assert plan_summary(made, all_new(made), list(made.runs), None, 1, 10**12)[-1] == told
    assert plan_summary(made, all_new(made), [], None, 1, 10**12)[-2:] == [told, "nothing to train"]
    quiet = plan(STUDY.replace('"head-only"', '{ name = "head-only", batchnorm = "train" }').replace("layer3", "stem"))
    assert not [line for line in plan_summary(quiet, all_new(quiet), [], None, 1, 10**12) if "no verdict" in line]
