"""``examples/rotbench-vflip``: a package is found by its entry point, conforms, and takes part in a matrix."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "rotbench-vflip"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages into which the example is installed from its wheel; rotbench itself the tests have."""
    source = tmp_path_factory.mktemp("source") / "rotbench-vflip"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "results", ".pytest_cache"))
    target = tmp_path_factory.mktemp("packages")
    # The build's own requirements are among those of the tests: nothing is fetched.
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", target)
    done = run(sys.executable, "-m", "pip", "install", *options, source, folder=source, packages=None)
    assert done.returncode == 0, done.stderr
    return target


def run(*command: str | Path, folder: Path, packages: Path | None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(place) for place in (packages, ROOT) if place is not None)
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def rotbench(*arguments: str | Path, folder: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "rotbench", *arguments, folder=folder, packages=packages)


def test_it_is_listed_as_the_package_that_it_is(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(rotbench("plugins", "--json", folder=tmp_path, packages=installed).stdout)["plugins"]
    (found,) = [plugin for plugin in listed if plugin["name"] == "vflip"]
    assert found == {
        "kind": "pretext task",
        "name": "vflip",
        "origin": "package rotbench-vflip 1.0.0",
        "version": "1.0.0",
        "summary": "Tell whether an image was turned upside down.",
        "options": {"share": "0.5"},
        "error": None,
    }
    alone = json.loads(rotbench("plugins", "--no-plugins", "--json", folder=tmp_path, packages=installed).stdout)
    assert "vflip" not in [plugin["name"] for plugin in alone["plugins"]]


@pytest.mark.thorough
def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    done = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", folder=tmp_path, packages=installed
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


@pytest.mark.thorough
def test_it_conforms_on_the_command_line(installed: Path, tmp_path: Path) -> None:
    done = rotbench("plugins", "check", "vflip", "--json", folder=tmp_path, packages=installed)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
def test_it_takes_part_in_its_matrix_beside_rotation(installed: Path, tmp_path: Path) -> None:
    """A rehearsal: every run of the study through every line of the real one, pictures and report included."""
    shutil.copy(EXAMPLE / "study.toml", tmp_path)
    arguments = ("run", "study.toml", "--quick", "--set", "train.batch_size=32")
    done = rotbench(*arguments, folder=tmp_path, packages=installed)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results-quick" / "results.json").read_text())
    assert {run["status"] for run in results["runs"]} == {"done"}
    shown = {
        run["variant"]["pretext"]: [picture["caption"] for picture in run["pictures"]]
        for run in results["runs"]
        if run["kind"] == "pretext"
    }
    assert set(shown) == {"rotation", "upside-down"}
    assert len(shown["upside-down"]) == 8
    assert all(
        caption.startswith(("upright → predicted ", "upside down → predicted ")) for caption in shown["upside-down"]
    )
    page = (tmp_path / "results-quick" / "report.html").read_text()
    assert all(caption in page for caption in shown["upside-down"])
