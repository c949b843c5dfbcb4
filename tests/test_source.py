"""Positions, bounds and messages of study files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotbench.errors import BadInput, Fault, StudyFaults
from rotbench.source import parse_source, read_source, spell_path, suggestion

TEXT = """\
title = "x"
[dataset]
name = 'digits'
[[matrix]]
"freeze" = ["none", { name = "below", stage = "layer4" }]  # two
lr = [0.1,
      0.2]
[[matrix]]
init = "a"
[pretext."rot x"]
task.name = "rotation"
"""


def test_every_key_and_value_has_its_position() -> None:
    source = parse_source(TEXT, "e.toml")
    lines = TEXT.splitlines()
    expected = {
        ("title",): '"x"',
        ("dataset", "name"): "'digits'",
        ("matrix", 0, "freeze", 0): '"none"',
        ("matrix", 0, "freeze", 1, "stage"): '"layer4"',
        ("matrix", 0, "lr", 1): "0.2",
        ("matrix", 1, "init"): '"a"',
        ("pretext", "rot x", "task", "name"): '"rotation"',
    }
    for path, text in expected.items():
        row, column = source.values[path]
        assert lines[row][column:].startswith(text), path
    assert len(expected) == 7
    assert source.keys[("matrix", 0, "freeze")] == (4, 0)
    assert source.data == tomllib.loads(TEXT)


def test_a_fault_is_shown_with_line_column_and_caret() -> None:
    source = parse_source('a = 1\n[[matrix]]\ninit = "é"; freze = 2\n'.replace("; ", "\n"), "e.toml")
    error = source.faults([Fault(("matrix", 0, "freze"), "unknown key", at_key=True), Fault(("a",), "bad")])
    assert tuple(map(str, error.faults)) == (
        "e.toml:1:5: a: bad\n    a = 1\n        ^",
        "e.toml:4:1: matrix[0].freze: unknown key\n    freze = 2\n    ^",
    )


def test_columns_count_characters_not_bytes() -> None:
    source = parse_source('x = ["éé", 3]\n', "e.toml")
    assert source.faults([Fault(("x", 1), "bad")]).what.startswith("e.toml:1:12:")


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("k" + ".a" * 100_000 + " = 1", "e.toml:1:1", "16 parts"),
        ("a = " + "[" * 1000 + "]" * 1000, "e.toml:1:", "nested deeper"),
        ("a = " + "1" * 100_000, "e.toml:1:5", "64 characters"),
        ("a = 1\nb = ", "e.toml:2:", "not TOML"),
        ("a = 1\na = 2", "e.toml:2:", "not TOML"),
    ],
)
def test_hostile_and_broken_text_is_refused_with_a_position(text: str, where: str, words: str) -> None:
    with pytest.raises(StudyFaults) as caught:
        parse_source(text, "e.toml")
    assert caught.value.what.startswith(where)
    assert words in caught.value.what


@given(st.text(alphabet="ab[]{}=\"'.,#\n 1-é\t", max_size=60))
def test_any_text_is_read_as_tomllib_reads_it_or_refused(text: str) -> None:
    try:
        data = parse_source(text, "e.toml").data
    except StudyFaults:
        with pytest.raises(tomllib.TOMLDecodeError):
            tomllib.loads(text)
    else:
        assert data == tomllib.loads(text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('title = "é"'.encode("latin-1"))
    (tmp_path / "big.toml").write_bytes(b"#" * (2**20 + 1))
    cases = {"gone.toml": "no study file", ".": "folder", "latin.toml": "not UTF-8", "big.toml": "1 MiB"}
    for name, words in cases.items():
        with pytest.raises(BadInput, match=words):
            read_source(tmp_path / name)
    assert len(cases) == 4


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_source(tmp_path / "bom.toml").data == {"a": 1}


def test_words() -> None:
    assert spell_path(("matrix", 0, "freeze", 1, "stage")) == "matrix[0].freeze[1].stage"
    assert suggestion("freze", ["freeze", "init"]) == ', did you mean "freeze"?'
    assert suggestion("zzz", ["b", "a"]) == "; known are a, b"
