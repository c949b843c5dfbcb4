"""A collection of faulty studies: what ``rotbench check`` says of each, to the letter.

``tests/faulty/NAME.toml`` is a mistake that somebody makes; ``NAME.txt`` beside it is all that the command prints. What
is too large or too hostile to be kept as a file is made here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rotbench.cli import main
from tests.program import thorough

FOLDER = Path(__file__).parent / "faulty"
STUDIES = sorted(FOLDER.glob("*.toml"))


def checked(capsys: pytest.CaptureFixture[str], name: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``rotbench check NAME --no-plugins`` in this folder."""
    code: int | str | None = 0
    try:
        main(["check", name, "--no-plugins"])
    except SystemExit as end:
        code = end.code
    out, error = capsys.readouterr()
    assert isinstance(code, int)
    return code, out, error


def test_the_collection_is_there_and_every_study_has_what_is_said_of_it() -> None:
    assert len(STUDIES) >= 60
    assert {path.stem for path in STUDIES} == {path.stem for path in FOLDER.glob("*.txt")}
    assert all(path.suffix in (".toml", ".txt") for path in FOLDER.iterdir())


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_what_is_said_of_a_faulty_study_is_said_to_the_letter(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / study.name).write_bytes(study.read_bytes())
    monkeypatch.chdir(tmp_path)
    code, out, error = checked(capsys, study.name)
    # Bytes, since reading as text would make one kind of line end of all.
    assert error == study.with_suffix(".txt").read_bytes().decode()
    assert (code, out) == (2, "")
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == [study.name]


#: Studies too large to keep: how the first line of what is said of each begins, and the most lines that it takes.
HOSTILE = {
    "file-above-1-MiB": (b"# all comment\n" * 80_000, "error: study.toml is larger than 1 MiB", 2),
    "file-of-50-MB": (b"#" * 50_000_000, "error: study.toml is larger than 1 MiB", 2),
    "key-of-100000-parts": (b"k" + b".a" * 100_000 + b" = 1", "study.toml:1:1: a key of more than 16 parts", 4),
    "key-of-500000-parts-alone": (b"k" + b".a" * 500_000, "study.toml:1:1: a key of more than 16 parts", 4),
    "header-of-100000-parts": (b"[k" + b".a" * 100_000 + b"]", "study.toml:1:2: a key of more than 16 parts", 4),
    "array-1000-deep": (b"a = " + b"[" * 1000 + b"]" * 1000, "study.toml:1:37: nested deeper than 32", 4),
    "array-100000-deep": (b"a = " + b"[" * 100_000 + b"]" * 100_000, "study.toml:1:37: nested deeper than 32", 4),
    "table-1000-deep": (b"a = " + b"{a=" * 1000 + b"1" + b"}" * 1000, "study.toml:1:101: nested deeper than 32", 4),
    # Without an end there is no array to be found in the text, and a parser may go down all the same.
    "array-1000-deep-without-end": (b"a = " + b"[" * 1000, "study.toml:1:", 4),
    "array-100000-deep-without-end": (b"a = " + b"[" * 100_000, "study.toml:1:", 4),
    "table-1000-deep-without-end": (b"a = " + b"{a=" * 1000, "study.toml:1:", 4),
    "number-of-100000-digits": (b"seeds = " + b"1" * 100_000, "study.toml:1:9: a number of more than 64 characters", 4),
    "quotes-alone": (b'"' * 200_000, "study.toml:1:3: not TOML: ", 4),
    "lines-alone": (b"\n" * 200_000, "study.toml:1:1: nothing to run", 2),
    "list-of-100000-seeds": (
        b"seeds = [" + b"1, " * 100_000 + b"]\n[[run]]\ninit = 'random'\n",
        "study.toml:1:9: seeds: a seed stands twice",
        4,
    ),
    # Finding many faults takes no time that grows with their square.
    "20000-unknown-keys": (
        b"".join(b"key%d = 1\n" % number for number in range(20_000)),
        "study.toml:1:1: ",
        80_000,
    ),
    "20000-runs-alike": (b"[[run]]\ninit = 'random'\n" * 20_000, "study.toml:3:3: run[1]: the variant ", 80_000),
    "axis-of-20000-values": (
        b"[[matrix]]\nlr = [%s, 0]\n" % b", ".join(b"0.%05d" % number for number in range(1, 20_000)),
        "study.toml:2:",
        4,
    ),
}

#: Runs the check with an address space that an explosion of memory does not fit in, and with 8 seconds of processor
#: time, however many others use the machine.
BOUNDED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (8, 8))
from rotbench.cli import main
main(["check", "study.toml", "--no-plugins"])
"""


#: One of each kind; variations on them are tried by ``make test-all``.
SAMPLES = (
    "file-of-50-MB",
    "key-of-100000-parts",
    "array-100000-deep",
    "array-100000-deep-without-end",
    "quotes-alone",
    "list-of-100000-seeds",
    "20000-unknown-keys",
)


@pytest.mark.parametrize("name", [*SAMPLES, *thorough(*sorted(HOSTILE.keys() - SAMPLES))])
def test_a_hostile_study_is_refused_in_seconds_and_within_a_gibibyte(name: str, tmp_path: Path) -> None:
    content, begins, most = HOSTILE[name]
    (tmp_path / "study.toml").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.stderr.startswith(begins), done.stderr[:500]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") <= most
    assert not re.search("Traceback|a bug in rotbench", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]
