"""Whatever a study file or a command line holds: a clear word and the right exit code, never a traceback.

A study that ``check`` accepts is one that ``plan`` plans, with as many runs, and that the schema for editors accepts;
one that ``check`` refuses is refused by ``plan`` too.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotbench.cli import main
from rotbench.registry import load_registry
from rotbench.schema import study_schema

ROOT = Path(__file__).parent.parent

#: Above so many runs the plan of a study is not made here: it would take its time and show nothing new.
PLANNED = 100


@dataclass
class Bench:
    """A folder with a study file, the commands that read it, and how many studies they accepted."""

    study: Path
    validator: jsonschema.Draft202012Validator = field(repr=False)
    accepted: list[str] = field(default_factory=list, repr=False)

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        out, error = io.StringIO(), io.StringIO()
        code: int | str | None = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main(arguments)
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return code, out.getvalue(), error.getvalue()

    def holds(self, content: bytes, *changes: str) -> None:
        """What is promised of any study file and any ``--set``."""
        self.study.write_bytes(content)
        given_with = [f"--set={change}" for change in changes]
        code, out, error = self.command("check", str(self.study), "--no-plugins", *given_with)
        assert code in (0, 2), error
        if code == 0:
            assert error == ""
            self._planned(out, given_with)
            if not changes:
                self._fits_the_schema(content.decode("utf-8-sig"))
            self.accepted.append(out)
            return
        assert out == ""
        self.refused(error)
        planned, out, again = self.plan(*given_with)
        assert (planned, again) == (2, error)
        self.told_as_json(out)

    def refused(self, error: str) -> None:
        """That an error is told as one: where it stands, and what to do."""
        assert re.match(rf"{re.escape(str(self.study))}:\d+:\d+: .|--set .|error: .", error), error
        assert error.count("\n") >= 2
        assert not re.search("Traceback|a bug in rotbench", error), error

    def told_as_json(self, out: str) -> None:
        """That what was asked for as JSON is JSON where it is an error too."""
        told = json.loads(out, parse_constant=_no_number)
        assert set(told) == {"error"}
        assert told["error"]["what"]

    def plan(self, *more: str) -> tuple[int, str, str]:
        out = self.study.parent / "results"
        return self.command("plan", str(self.study), "--json", "--no-plugins", f"--out={out}", *more)

    def _planned(self, said: str, changes: list[str]) -> None:
        found = re.search(r": no faults; (\d+) pretext runs, (\d+) downstream runs\n$", said)
        assert found, said
        pretext, downstream = map(int, found.groups())
        assert pretext + downstream > 0
        if pretext + downstream > PLANNED:
            return
        code, out, error = self.plan(*changes)
        if code == 4:  # data or weights that are not there, which check does not look at
            self.refused(error)
            return
        assert (code, error) == (0, "")
        runs = json.loads(out, parse_constant=_no_number)["runs"]
        kinds = [run["kind"] for run in runs]
        assert (kinds.count("pretext"), kinds.count("downstream")) == (pretext, downstream)
        assert len({run["id"] for run in runs}) == len(runs)

    def _fits_the_schema(self, text: str) -> None:
        # Dates are text to rotbench; JSON has none.
        errors = list(self.validator.iter_errors(json.loads(json.dumps(tomllib.loads(text), default=str))))
        assert not errors, jsonschema.exceptions.best_match(errors)


def _no_number(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    schema = study_schema(load_registry(shipped_only=True))
    jsonschema.Draft202012Validator.check_schema(schema)
    return Bench(tmp_path_factory.mktemp("any") / "study.toml", jsonschema.Draft202012Validator(schema))


def toml(value: object) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = {character: f"\\U{ord(character):08x}" for character in value if not character.isalnum()}
        return f'"{"".join(plain.get(character, character) for character in value)}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{toml(key)} = {toml(part)}' for key, part in value.items())} }}"
    return repr(value)


FULL = """
title = "All keys"
seeds = [0, 1]
repeats = 2
[dataset]
name = "digits"
root = "data"
[model]
name = "resnet18"
stem = "imagenet"
[train]
epochs = 20
lr = 0.01
validation = 0.1
augment = ["crop"]
milestones = [5, 10]
[pretext.rotation]
task = { name = "rotation", turns = "all" }
epochs = 10
[pretext.further]
task = "rotation"
init = "rotation"
[[matrix]]
init = ["random", "rotation", { name = "pretext", pretext = "further" }]
freeze = ["none", { name = "below", stage = "layer4", batchnorm = "train" }]
labels_per_class = [10, 100]
exclude = [{ freeze = "none", labels_per_class = 100 }]
together = [{ optimizer = "sgd", weight_decay = 0.1 }, { optimizer = "adam", weight_decay = 0.0 }]
[[run]]
init = "random"
freeze = "head-only"
[report]
baseline = { init = "random" }
primary = { labels_per_class = 10 }
margin = 0.02
[[reference]]
test_accuracy = 0.9
source = "a paper"
match = { init = "rotation" }
n = 3
sd = 0.01
[[reference]]
test_accuracy = 0.5
source = "another"
pretext = "rotation"
at_least = true
[resources]
threads = 1
cpus = 1
"""
TUNED = """
seeds = 2
[train]
validation = 0.2
[pretext.r]
task = "rotation"
[[matrix]]
init = ["random", "r"]
lr = [0.1, 0.01]
[report]
tune = ["lr"]
compute_matched = true
"""
VALID = [FULL, TUNED, *(path.read_text() for path in sorted((ROOT / "studies").glob("*.toml")))]
VALID.append((ROOT / "experiments.toml").read_text())

KEYS = sorted({word for text in VALID for word in re.findall(r"^(\w+) =", text, re.MULTILINE)})
NAMES = ["random", "rotation", "r", "none", "below", "head-only", "layer4", "digits", "cifar10", "imagenet", "pretext"]

#: What may stand where a value is meant: right in one place, wrong in the others.
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.sampled_from([*NAMES, "sgd", "step", "auto", "crop", "", "a\x00b", "é日🔄", "\u2028", "../x"]),
        st.integers(-2, 130),
        st.integers(),
        st.floats(),
        st.sampled_from([0.1, 0.5, 1.0]),
        st.booleans(),
        st.text(max_size=5),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, "name", "stage", "", "π"]), inner, max_size=3)
        | st.fixed_dictionaries({"name": inner}, optional={"pretext": inner, "stage": inner, "path": inner})
    ),
    max_leaves=6,
)
written = values.map(toml) | st.sampled_from(["", "1979-05-27", "07:32:00", "0x10", "1_000", "'a'", "[", "{", "nan"])


@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.text(alphabet="matrixun[]{}=\"'.,# \n\r\t01-_éπ\u2028\x85\\", max_size=60).map(str.encode)
)
def test_any_text_and_any_bytes_are_refused_or_read(bench: Bench, content: bytes) -> None:
    bench.holds(content)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A study that was right before somebody edited it in a hurry."""
    lines = draw(st.sampled_from(VALID)).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        match draw(st.sampled_from(["delete", "twice", "swap", "value", "value", "value", "insert"])):
            case "delete" if len(lines) > 1:
                del lines[at]
            case "twice":
                lines.insert(other, lines[at])
            case "swap":
                lines[at], lines[other] = lines[other], lines[at]
            case "value":
                settings_at = [number for number, line in enumerate(lines) if " = " in line] or [at]
                at = draw(st.sampled_from(settings_at))
                lines[at] = f"{lines[at].partition(' = ')[0]} = {draw(written)}"
            case _:
                key = draw(st.sampled_from(KEYS) | st.text(max_size=4).map(toml))
                lines.insert(at, f"{key} = {draw(written)}")
    return "\n".join(lines)


@pytest.mark.thorough
def test_an_edited_study_is_refused_or_planned(bench: Bench) -> None:
    @given(text=mutated())
    def holds(text: str) -> None:
        bench.holds(text.encode())

    bench.accepted.clear()
    holds()
    assert len(bench.accepted) >= 15  # else what is promised of accepted studies is promised of nothing


def maybe(*right: Any) -> st.SearchStrategy[Any]:
    """A value that is right, nine times in ten."""
    return st.integers(0, 9).flatmap(lambda number: st.sampled_from(right) if number else values)


def axis(*right: Any) -> st.SearchStrategy[Any]:
    return st.lists(maybe(*right), min_size=1, max_size=2, unique_by=repr) | maybe(*right)


def table(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some of these keys, now and then with another."""
    some = st.fixed_dictionaries({}, optional=keys)
    odd = st.tuples(some, st.sampled_from(KEYS), values).map(lambda made: {**made[0], made[1]: made[2]})
    return st.integers(0, 9).flatmap(lambda number: some if number else odd)


BELOW = {"name": "below", "stage": "layer3"}
STARTS = ("random", "a", "b", {"name": "pretext", "pretext": "a"}, {"name": "a"}, "imagenet")
TRAIN = {
    "epochs": (1, 5),
    "lr": (0.1, 1, 1e-30),
    "optimizer": ("adam", "sgd"),
    "augment": ("auto", ["crop"], []),
    "milestones": ([2, 3], []),
    "warmup_epochs": (0, 1),
    "nesterov": (False, True),
    "validation": (0, 0.1, 0.2),
    "labels_per_class": (10, 128),
    "updates": ("constant", "epochs"),
    "test_each_epoch": (True, "auto"),
}
MODEL = {"name": ("resnet18", "resnet50"), "stem": ("imagenet", "cifar")}
ONE = {"init": maybe(*STARTS), "freeze": maybe("none", "below", BELOW)}
TRAINED = {key: maybe(*right) for key, right in TRAIN.items()}
MODELLED = {key: maybe(*right) for key, right in MODEL.items()}
CONDITIONS = table(**ONE, **TRAINED, **MODELLED)
AXES = {key: axis(*right) for key, right in {**TRAIN, **MODEL, "freeze": ("none", "below", BELOW)}.items()}


def some_of(strategies: dict[str, st.SearchStrategy[Any]], most: int) -> st.SearchStrategy[dict[str, Any]]:
    """A table with few of many keys, so that the product of a matrix stays small."""
    return st.sets(st.sampled_from(sorted(strategies)), max_size=most).flatmap(
        lambda keys: st.fixed_dictionaries({key: strategies[key] for key in sorted(keys)})
    )


matrices = st.tuples(
    st.fixed_dictionaries({"init": axis(*STARTS)}),
    some_of({**AXES, "exclude": st.lists(CONDITIONS, max_size=2), "together": st.lists(CONDITIONS, max_size=2)}, 3),
).map(lambda parts: {**parts[0], **parts[1]})
references = table(
    test_accuracy=maybe(0.5, 1),
    source=maybe("paper"),
    match=CONDITIONS,
    pretext=maybe("a", "b"),
    n=maybe(3),
    sd=maybe(0.1),
)
pretexts = st.tuples(
    st.fixed_dictionaries({"task": maybe("rotation", {"name": "rotation", "turns": "one"})}),
    some_of({**TRAINED, "init": maybe("random", "a", "b")}, 2),
).map(lambda parts: {**parts[0], **parts[1]})
studies = st.fixed_dictionaries(
    {"pretext": st.fixed_dictionaries({"a": pretexts}, optional={"b": pretexts}) | maybe({})},
    optional={
        "title": maybe("x"),
        "seeds": maybe(2, [0, 5]),
        "repeats": maybe(1, 2),
        "dataset": table(name=maybe("digits"), root=maybe("data")),
        "model": table(**MODELLED),
        "train": some_of(TRAINED, 3),
        "matrix": st.lists(matrices, max_size=2) | maybe([]),
        "run": st.lists(some_of({**ONE, **TRAINED, **MODELLED}, 3), max_size=2) | maybe([]),
        "report": table(
            baseline=CONDITIONS,
            primary=CONDITIONS,
            margin=maybe(0.01),
            tune=maybe(["lr"], []),
            compute_matched=maybe(True, False),
        ),
        "reference": st.lists(references, max_size=1),
        "resources": table(threads=maybe(1), cpus=maybe(0.5), gpus=maybe(0, 0.5)),
    },
)


@st.composite
def made(draw: st.DrawFn) -> str:
    """A study as TOML, a line a key of the top."""
    return "".join(f"{key} = {toml(value)}\n" for key, value in draw(studies).items())


@pytest.mark.thorough
def test_a_study_made_from_the_keys_that_there_are_is_refused_or_planned(bench: Bench) -> None:
    @given(text=made())
    def holds(text: str) -> None:
        bench.holds(text.encode())

    bench.accepted.clear()
    holds()
    assert len(bench.accepted) >= 15  # as above


# What a shell can pass: no NUL, no half of a character.
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
tables = ["train", "model", "dataset", "report", "resources", "pretext", "rotation", "matrix", "reference", "seeds"]
paths = st.lists(st.sampled_from([*tables, *KEYS]) | words, min_size=1, max_size=4).map(".".join)
changes = st.tuples(paths, written | words).map("=".join) | words


@given(given_changes=st.lists(changes, min_size=1, max_size=2))
def test_any_change_of_the_command_line_is_refused_or_planned(bench: Bench, given_changes: list[str]) -> None:
    bench.holds(FULL.encode(), *given_changes)


@given(
    conditions=st.lists(
        st.tuples(st.sampled_from(["init", "freeze", "lr", "pretext"]), st.sampled_from(NAMES) | words).map("=".join)
        | words,
        max_size=2,
    ),
    jobs=st.integers(-1, 9).map(str) | st.sampled_from(["auto", "1.5", "٣"]) | words,
)
def test_any_condition_and_any_number_of_jobs_are_refused_or_planned(
    bench: Bench, conditions: list[str], jobs: str
) -> None:
    bench.study.write_text(TUNED)
    only = [part for condition in conditions for part in ("-k", condition)]
    code, out, error = bench.plan("--jobs", jobs, *only)
    if code == 2:
        bench.told_as_json(out)
        bench.refused(error)
    else:
        assert (code, error) == (0, "")
        assert json.loads(out)["runs"]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"a = " + b"[" * 2000, b"matrix = []", b"a = {b = 1\n}"])
def test_files_that_chance_does_not_make_are_refused_or_read(bench: Bench, content: bytes) -> None:
    bench.holds(content)


FAR_FETCHED = {
    "a path deeper than Python goes": ["train." + ".".join("a" * 3000) + "=1"],
    "a value deeper than Python goes": ["train.lr=" + "[" * 3000],
    "more digits than Python reads": ["seeds=" + "1" * 5000],
    "a table that an earlier change made a number": ["pretext=3", "pretext.a.epochs=1"],
}


@pytest.mark.parametrize("what", FAR_FETCHED)
def test_changes_that_chance_does_not_make_are_refused(bench: Bench, what: str) -> None:
    bench.holds(FULL.encode(), *FAR_FETCHED[what])


@pytest.mark.parametrize("jobs", ["9" * 5000, "0" * 5000, "²", ""], ids=["5000 nines", "5000 zeros", "square", "empty"])
def test_numbers_of_jobs_that_chance_does_not_make_are_refused(bench: Bench, jobs: str) -> None:
    bench.study.write_text(TUNED)
    code, out, error = bench.plan("--jobs", jobs)
    assert code == 2
    bench.told_as_json(out)
    bench.refused(error)
