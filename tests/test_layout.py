"""The shape of the package: who imports whom, and what stays cheap to start."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rotbench"

#: A module imports only from its left, late imports included.
ORDER = [
    "errors",
    "resources",
    "hookspecs",
    "source",
    "options",
    "settings",
    "matrix",
    "study",
    "registry",
    "plan",
    "system",
    "store",
    "results",
    "compare",
    "wording",
    "answer",
    "evidence",
    "figures",
    "drawings",
    "tables",
    "report",
    "streams",
    "data",
    "models",
    "schedule",
    "tasks",
    "feed",
    "proof",
    "train",
    "attempt",
    "worker",
    "prepare",
    "engine",
    "driver",
    "terminal",
    "cli",
]
WITHOUT_TORCH = ORDER[: ORDER.index("report") + 1]
HEAVY = {"torch", "torchvision", "matplotlib", "pandas", "sklearn", "scipy"}


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports anywhere, but for those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "rotbench":
            yield from (f"rotbench.{alias.name}" for alias in node.names if (PACKAGE / f"{alias.name}.py").exists())
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        yield from imports(node)


def test_modules_import_from_their_left_only() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(ORDER)
    edges = 0
    for place, module in enumerate(ORDER):
        for imported in imports(ast.parse((PACKAGE / f"{module}.py").read_text())):
            first, _, name = imported.partition(".")
            if first == "rotbench" and name:
                assert ORDER.index(name) < place, f"{module} imports {name}, which stands to its right"
                edges += 1
    assert edges > 60


def test_what_reads_plans_and_reports_never_imports_torch() -> None:
    for module in WITHOUT_TORCH:
        tops = {name.partition(".")[0] for name in imports(ast.parse((PACKAGE / f"{module}.py").read_text()))}
        assert not tops & {"torch", "torchvision"}, module
    assert len(WITHOUT_TORCH) == 21


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["check", "experiments.toml"], ["plan", "experiments.toml"], ["plugins", "--json"], ["new", "--help"]],
)
def test_cheap_commands_load_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom rotbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_weights_are_never_unpickled() -> None:
    loads = 0
    for folder in ("rotbench", "plugins", "benchmarks"):
        for path in (ROOT / folder).glob("*.py"):
            text = path.read_text()
            assert "weights_only=False" not in text
            assert "import pickle" not in text
            for call in re.finditer(r"torch\.load\((.*)\)", text):
                assert "weights_only=True" in call[1], path
                loads += 1
    assert loads == 1
