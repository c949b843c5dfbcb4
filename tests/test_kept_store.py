"""A store that an earlier version trained: nothing of it is trained again, and every command accepts it.

How it is made: ``tests/golden/make_store.py``. Its weights were deleted.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.program import command
from tests.test_layout import loaded_by

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

#: How large the kept store may be: it is in every clone.
MOST_BYTES = 300_000


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "store", tmp_path / "store")
    shutil.copy(GOLDEN / "kept.toml", tmp_path)
    return tmp_path / "store"


def test_nothing_is_trained_again(store: Path, tmp_path: Path) -> None:
    arguments = ("kept.toml", "--no-plugins", "--out", "store")
    planned = json.loads(command(tmp_path, "plan", *arguments, "--json").stdout)
    rows = [*planned["runs"], *planned["probes"]]
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("done", "weights deleted; nothing needs them" if row["kind"] == "pretext" else "") for row in rows
    ]
    assert [row["kind"] for row in rows] == ["pretext", *["downstream"] * 4, *["probe"] * 2]
    before = {path: path.read_bytes() for path in store.glob("runs/*/*")}
    for verb in ("plan", "run"):
        assert "torch" not in loaded_by([verb, *arguments], tmp_path)
    assert {path: path.read_bytes() for path in store.glob("runs/*/*")} == before
    assert not (store / "quarantine").exists()
    assert (
        "7 runs, every file as it was committed; 1 kept without" in command(tmp_path, "verify", "--out", "store").stdout
    )
    (store / "report.html").unlink()
    assert command(tmp_path, "report", "--out", "store").returncode == 0
    page = (store / "report.html").read_text(encoding="utf-8")
    assert "Kept runs: rotation pretraining on digits" in page
    assert "predicted" in page  # the captions of the pretext task


def test_the_store_is_small_and_has_no_weights() -> None:
    files = [path for path in (GOLDEN / "store").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert not [path for path in files if path.name.startswith("backbone") or path.suffix == ".log"]
    assert len(files) == 1 + 3 * 7 + 7 + 4  # study.json; records, results and logs; manifests; predictions
