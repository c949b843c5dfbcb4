"""The shape of the package: who imports whom, and what stays cheap to start."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotbench.plan import make_plan
from rotbench.registry import load_registry
from rotbench.results import describe
from rotbench.store import Store
from rotbench.study import read_study

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rotbench"

#: A module imports only from its left, late imports included.
ORDER = [
    "_version",
    "errors",
    "resources",
    "hookspecs",
    "source",
    "options",
    "notes",
    "settings",
    "architecture",
    "trained",
    "partner",
    "recipe",
    "comparability",
    "matrix",
    "reporting",
    "study",
    "contract",
    "plugin_file",
    "registry",
    "schema",
    "manual",
    "matched",
    "probed",
    "resolve",
    "rehearsal",
    "plan",
    "notice",
    "spoken",
    "room",
    "price",
    "system",
    "store",
    "checkpoint",
    "predictions",
    "thumbnails",
    "subsets",
    "looks",
    "results",
    "preview",
    "curve",
    "inference",
    "power",
    "saving",
    "spread",
    "contrast",
    "interaction",
    "compare",
    "probes",
    "summary",
    "joined",
    "versus",
    "wording",
    "course",
    "limits",
    "references",
    "labels",
    "phrases",
    "equal_cost",
    "answer",
    "evidence",
    "changes",
    "outcome",
    "slim",
    "canvas",
    "figures",
    "sweep",
    "views",
    "transfer",
    "tuning",
    "trends",
    "drawings",
    "tables",
    "overlays",
    "classes",
    "embedded",
    "bibliography",
    "manuscript",
    "methods",
    "report",
    "redraw",
    "comparison",
    "export",
    "handins",
    "imprints",
    "findings",
    "entry",
    "company",
    "gradebook",
    "frames",
    "streams",
    "data",
    "census",
    "mapped",
    "device",
    "taps",
    "models",
    "heads",
    "distortions",
    "schedule",
    "tasks",
    "scoring",
    "feed",
    "proof",
    "optimizer",
    "prefix",
    "train",
    "cost",
    "pictures",
    "setup",
    "readout",
    "probe",
    "attempt",
    "worker",
    "prepare",
    "timing",
    "worker_server",
    "engine",
    "warm_engine",
    "node",
    "cluster",
    "roster",
    "ray_engine",
    "driver",
    "measure",
    "terminal",
    "completion",
    "testing",
    "invocation",
    "plugin_commands",
    "collate",
    "cli",
    "__main__",
]
WITHOUT_TORCH = ORDER[: ORDER.index("streams")]
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
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        yield from imports(node)


def test_modules_import_from_their_left_only() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} | packages
    assert modules == set(ORDER)
    edges = 0
    for place, module in enumerate(ORDER):
        files = [PACKAGE / f"{module}.py"] if module not in packages else sorted((PACKAGE / module).glob("*.py"))
        for imported in (name for file in files for name in imports(ast.parse(file.read_text()))):
            assert not imported.startswith("."), "a relative import, which this test does not follow"
            first, _, name = imported.partition(".")
            name = name.partition(".")[0]
            if first == "rotbench" and name and name != module:
                assert ORDER.index(name) < place, f"{module} imports {name}, which stands to its right"
                edges += 1
    assert edges > 60


def test_what_reads_plans_and_reports_never_imports_torch() -> None:
    for module in WITHOUT_TORCH:
        tops = {name.partition(".")[0] for name in imports(ast.parse((PACKAGE / f"{module}.py").read_text()))}
        assert not tops & {"torch", "torchvision"}, module
    assert len(WITHOUT_TORCH) == 89


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["check", "experiments.toml"],
        ["plan", "experiments.toml"],
        ["plan", "experiments.toml", "--json", "--quick"],
        ["run", "experiments.toml", "--dry-run"],
        ["schema"],
        ["plugins", "--json"],
        ["new", "--help"],
        ["completion", "bash"],
    ],
)
def test_cheap_commands_load_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(arguments, ROOT) == set()


@pytest.mark.parametrize("words", ["rotbench ", "rotbench new cs", "rotbench run experiments.toml -k init="])
def test_completion_loads_nothing_heavy(words: str) -> None:
    assert loaded_by([], ROOT, **completing(words)) == set()


def completing(words: str) -> dict[str, str]:
    """The environment in which bash asks click for completions of a command line."""
    return {
        "_ROTBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }


def test_rendering_a_report_loads_no_torch(tmp_path: Path) -> None:
    study, faults = read_study(ROOT / "experiments.toml")
    store = Store(tmp_path / "results")
    store.create()
    store.write_study(describe(make_plan(study, faults, load_registry(), ROOT), "rotbench run experiments.toml"))
    loaded = loaded_by(["report"], tmp_path)
    assert "matplotlib" in loaded  # the page was drawn
    assert not loaded & {"torch", "torchvision", "sklearn"}
    assert (tmp_path / "results" / "report.html").exists()


def loaded_by(arguments: list[str], folder: Path, **environment: str) -> set[str]:
    """Which of the heavy packages a command has loaded when it ends, in a process of its own."""
    program = (
        "import sys\nfrom rotbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print(*({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_weights_are_never_unpickled() -> None:
    program = [path for name in ("rotbench", "plugins", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    tests = list((ROOT / "tests").rglob("*.py"))  # they write CIFAR's own format, which is pickle
    loads = 0
    for path in program + tests:
        tree = ast.parse(path.read_text())
        if path in program:
            assert "pickle" not in {name.partition(".")[0] for name in imports(tree)}, path
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert given.get("weights_only", "True") == "True", path
            if ast.unparse(call.func) == "torch.load":
                assert "weights_only" in given, path
                loads += 1
    assert loads == 2
    assert len(program) > 40
    assert len(tests) > 20
