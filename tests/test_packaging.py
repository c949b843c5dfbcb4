"""The wheel in a clean environment, and the bare clone: both find plugins, templates and studies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shipped import SHIPPED

ROOT = Path(__file__).parent.parent
STUDY = """
title = "From the wheel"
seeds = [0]
[train]
epochs = 1
[pretext.mine]
task = "mine"
[[matrix]]
init = ["mine"]
freeze = ["head-only"]
labels_per_class = 2
updates = "epochs"
"""
#: What a clone holds; not what lies about in a working folder.
TRACKED = ("rotbench", "plugins", "templates", "studies", "experiments.toml", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.timeout(1800)  # pip fetches torch where it has not kept it


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **environment},
    )


def install(environment: Path, *what: str | Path) -> subprocess.CompletedProcess[str]:
    """What pip installs into an environment that has no pip of its own."""
    return run(sys.executable, "-m", "pip", "--python", environment, "install", "--quiet", *what, folder=environment)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is in the project, with nothing installed."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in TRACKED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, clone, folder=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program as installed from the wheel, with its dependencies, into an environment of its own."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    # Without compiling every module of torch beforehand, which takes longer than all else that pip does here.
    done = install(environment, "--no-compile", wheel)
    assert done.returncode == 0, done.stderr
    yield environment / "bin" / "rotbench"
    shutil.rmtree(environment)  # gigabytes, which pytest would keep for three runs


def names_by_kind(listed: str) -> dict[str, set[str]]:
    """What ``rotbench plugins --json`` lists, none of it with an error."""
    names: dict[str, set[str]] = {}
    for plugin in json.loads(listed)["plugins"]:
        assert plugin["error"] is None, plugin
        names.setdefault(plugin["kind"], set()).add(plugin["name"])
    return names


def test_the_wheel_installs_one_package_and_carries_all_it_needs(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"rotbench"}
    expected = {f"rotbench/_plugins/{path.name}" for path in (ROOT / "plugins").glob("*.py")}
    expected |= {f"rotbench/_studies/{path.name}" for path in (ROOT / "studies").glob("*.toml")}
    expected |= {
        f"rotbench/_templates/{path.relative_to(ROOT / 'templates')}"
        for path in (ROOT / "templates").rglob("*")
        if path.is_file()
    }
    expected |= {"rotbench/_studies/experiments.toml", "rotbench/py.typed"}
    assert expected <= set(names)
    assert len(expected) > 10


@pytest.mark.thorough
def test_the_installed_distribution_owns_one_package_and_one_program(installed: Path, tmp_path: Path) -> None:
    """As ``RECORD`` has it, and none of its dependencies brings a package of a name that rotbench avoids."""
    code = "import importlib.metadata as m; print(*m.files('rotbench'), sep='\\n')"
    files = run(installed.with_name("python"), "-c", code, folder=tmp_path).stdout.split()
    owned = {name.partition("/")[0] for name in files if not name.startswith("../") and ".dist-info/" not in name}
    assert owned == {"rotbench"}
    assert [name for name in files if name.startswith("../")] == ["../../../bin/rotbench"]
    code = "import importlib.util as u; print([n for n in ('plugins', 'templates', 'tests') if u.find_spec(n)])"
    assert run(installed.with_name("python"), "-c", code, folder=tmp_path).stdout == "[]\n"


@pytest.mark.thorough
def test_a_study_with_a_task_of_ones_own_runs_from_the_wheel_in_an_empty_folder(
    installed: Path, tmp_path: Path
) -> None:
    def follow(*arguments: str) -> str:
        done = run(installed, *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    follow("new")
    follow("check")
    follow("new", "cs444")
    assert names_by_kind(follow("plugins", "--json")) == SHIPPED
    follow("plugins", "new", "pretext-task", "mine")
    assert follow("plugins", "check", "mine").endswith(" 0 failed\n")  # where there is no pytest
    (tmp_path / "small.toml").write_text(STUDY)
    said = follow("run", "small.toml")
    assert said.splitlines()[-1] == (tmp_path / "results" / "report.html").as_uri()
    assert "From the wheel" in (tmp_path / "results" / "report.html").read_text()
    runs = json.loads((tmp_path / "results" / "results.json").read_text())["runs"]
    assert [(trained["kind"], trained["status"]) for trained in runs] == [("pretext", "done"), ("downstream", "done")]


@pytest.mark.thorough
def test_an_editable_install_finds_what_lies_in_the_clone(clone: Path, tmp_path: Path) -> None:
    """Installed without dependencies, which the environment of the tests lends."""
    venv.create(tmp_path / "environment")
    python = tmp_path / "environment" / "bin" / "python"
    done = install(tmp_path / "environment", "--no-deps", "--editable", clone)
    assert done.returncode == 0, done.stderr
    (packages,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    # Read last, so that a rotbench among the lent packages cannot come before the clone's.
    (packages / "zz-lent.pth").write_text(sysconfig.get_path("purelib"))
    where = run(python, "-c", "import rotbench; print(rotbench.__file__)", folder=tmp_path)
    assert where.stdout.strip() == str(clone / "rotbench" / "__init__.py")
    listed = run(python.with_name("rotbench"), "plugins", "--json", folder=tmp_path)
    assert names_by_kind(listed.stdout) == SHIPPED
    assert run(python.with_name("rotbench"), "new", "cs444", folder=tmp_path).returncode == 0


def test_a_bare_clone_finds_its_plugins_and_studies(clone: Path, tmp_path: Path) -> None:
    """With the dependencies at hand but rotbench not installed: ``python -m rotbench`` in the clone."""
    code = "import rotbench; print(rotbench.__file__)"
    where = run(sys.executable, "-c", code, folder=clone, PYTHONPATH=str(clone))
    assert where.stdout.strip() == str(clone / "rotbench" / "__init__.py")
    listed = run(sys.executable, "-m", "rotbench", "plugins", "--json", folder=clone, PYTHONPATH=str(clone))
    assert names_by_kind(listed.stdout) == SHIPPED
    assert run(sys.executable, "-m", "rotbench", "check", folder=clone, PYTHONPATH=str(clone)).returncode == 0
    done = run(sys.executable, "-m", "rotbench", "new", "cs444", folder=tmp_path, PYTHONPATH=str(clone))
    assert done.returncode == 0
    assert (tmp_path / "cs444.toml").exists()


@pytest.mark.thorough
def test_the_sdist_is_the_clone(tmp_path: Path) -> None:
    """Tests, Makefile and CI included: what a fresh clone builds and tests, an sdist does too."""
    done = run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    papers = {
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "docs/report.png",
    }
    machinery = {".ci/run", ".github/workflows/ci.yml", "experiments.toml"}
    code = {
        str(path.relative_to(ROOT))
        for folder in ("rotbench", "plugins", "templates", "studies", "tests", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert papers | machinery | code <= held
    assert len(code) > 60
    # Nothing that lies about in a working folder.
    assert {name.partition("/")[0] for name in held - code} <= {
        *papers,
        ".ci",
        ".github",
        ".gitignore",
        "docs",
        "experiments.toml",
        "PKG-INFO",
    }
