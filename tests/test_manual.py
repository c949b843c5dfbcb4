"""``plugins/README.md``: what it says of hooks and plugins is what the code has."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rotbench import contract, hookspecs, manual
from rotbench.registry import load_registry
from tests.program import command

ROOT = Path(__file__).parent.parent
README = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
PROTOCOLS = {
    "PretextTask": "pretext task",
    "Init": "init",
    "FreezePolicy": "freeze policy",
    "Dataset": "dataset",
}


def functions(tree: ast.AST) -> dict[str, dict[str, str]]:
    """The methods of each class, and the functions outside of them, with their arguments as written."""
    found: dict[str, dict[str, str]] = {"": {}}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            found[node.name] = {
                item.name: ast.unparse(item.args) + " -> " + ast.unparse(item.returns)
                for item in node.body
                if isinstance(item, ast.FunctionDef) and item.returns is not None
            }
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            found[""][node.name] = ast.unparse(node.args) + " -> " + ast.unparse(node.returns)
    return found


def test_generated_parts_are_up_to_date() -> None:
    assert manual.filled(README, manual.parts()) == README, "run: make manual"


def test_every_hook_and_method_stands_there_with_its_exact_signature() -> None:
    """The README's code and the source are parsed apart from what generates the one from the other."""
    written = functions(ast.parse(Path(hookspecs.__file__).read_text(encoding="utf-8")))
    part = README.partition("<!-- generated: hooks -->")[2].partition("<!-- end of hooks -->")[0]
    told: dict[str, dict[str, str]] = {"": {}}
    for block in re.findall(r"```python\n(.*?)```", part, re.DOTALL):
        for name, methods in functions(ast.parse(block)).items():
            told.setdefault(name, {}).update(methods)
    compared = 0
    for name in PROTOCOLS:
        assert told[name] == written[name], name
        compared += len(told[name])
    assert compared == 9 + 4 + 2 + 3
    hooks = {name: signature.replace("self", "").strip() for name, signature in written["Hooks"].items()}
    assert told[""] == {name: f" {signature}" for name, signature in hooks.items()}
    assert len(hooks) == 4


def test_what_is_checked_when_plugins_are_loaded_is_what_is_written() -> None:
    written = ast.parse(Path(hookspecs.__file__).read_text(encoding="utf-8"))
    compared = 0
    for node in ast.iter_child_nodes(written):
        if not isinstance(node, ast.ClassDef) or node.name not in PROTOCOLS:
            continue
        kind = PROTOCOLS[node.name]
        methods = {**contract.METHODS[kind], **contract.OPTIONAL_METHODS[kind]}  # type: ignore[index]
        defined = {item.name: item.args for item in node.body if isinstance(item, ast.FunctionDef)}
        assert set(methods) == set(defined), kind
        for name, (positional, offered) in methods.items():
            assert [argument.arg for argument in defined[name].args] == ["self", *positional], name
            assert [argument.arg for argument in defined[name].kwonlyargs] == list(offered), name
            compared += 1
        attributes = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}  # type: ignore[union-attr]
        assert attributes <= set(contract.ATTRIBUTES[kind])  # type: ignore[index]
    assert compared == 9 + 4 + 2 + 3


def test_every_shipped_plugin_is_in_the_table_with_every_option() -> None:
    part = README.partition("<!-- generated: shipped -->")[2]
    registry = load_registry(shipped_only=True)
    for plugin in registry.plugins:
        (row,) = [line for line in part.splitlines() if line.startswith(f"| `{plugin.name}` | {plugin.summary[:20]}")]
        for option, default in plugin.options.items():
            unset = default in ("required", "unset")
            told = f"`{option}` ({default}): " if unset else f"`{option}` = `{default}`: "
            said = row.partition(told)[2]
            assert said[:1].isalnum(), (plugin.name, option)  # followed by words about it
    assert len(registry.plugins) == 8 + 12 + 7 + 5


def test_a_place_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="there is no place for hooks"):
        manual.filled("nothing", {"hooks": "x"})


@pytest.mark.thorough
def test_a_task_that_is_written_by_the_manual_passes_its_tests_and_takes_part_beside_rotation(tmp_path: Path) -> None:
    """The five steps, as they stand there, in a folder of one's own."""
    steps = README.partition("## Inits")[0]
    task, test = re.findall(r"```python\n(.*?)```", steps, re.DOTALL)
    (study,) = re.findall(r"```toml\n(.*?)```", steps, re.DOTALL)
    commands = [
        line.partition("#")[0].split()
        for block in re.findall(r"```console\n(.*?)```", steps, re.DOTALL)
        for line in block.replace("$ ", "").splitlines()
    ]
    assert commands == [
        ["rotbench", "plugins", "new", "pretext-task", "symmetry"],
        ["rotbench", "plugins", "check", "symmetry"],
        ["pip", "install", "pytest"],
        ["pytest", "plugins"],
        ["rotbench", "run", "study.toml", "--quick"],
        ["rotbench", "run", "study.toml"],
    ]
    plugins = tmp_path / "plugins"

    def follow(words: list[str]) -> None:
        done = command(tmp_path, *words[1:])
        assert done.returncode == 0, done.stdout + done.stderr

    def tested(*options: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", *commands[3], "-q", "-n", "0", "-p", "no:cacheprovider", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    follow(commands[0])
    (plugins / "symmetry.py").write_text(task)
    written = (plugins / "test_symmetry.py").read_text()
    (plugins / "test_symmetry.py").write_text(written[: written.rindex("def test_")] + test)
    follow(commands[1])
    done = tested()
    assert done.returncode == 0, done.stdout
    (tmp_path / "study.toml").write_text(study)
    follow(commands[4])
    results = json.loads((tmp_path / "results-quick" / "results.json").read_text())
    assert {trained["status"] for trained in results["runs"]} == {"done"}
    assert {json.dumps(trained["variant"]) for trained in results["runs"]} >= {
        '{"pretext": "symmetry"}',
        '{"init": "symmetry", "freeze": "head-only"}',
        '{"init": "rotation", "freeze": "none"}',
    }
    page = (tmp_path / "results-quick" / "report.html").read_text()
    (shown,) = [trained["pictures"] for trained in results["runs"] if trained["variant"] == {"pretext": "symmetry"}]
    assert len(shown) == 8
    for picture in shown:
        assert picture["png"] in page
        assert picture["caption"] in page
    assert "Tell in which of the symmetries of a square an image is shown." in page
    # The test means something: a task that names another symmetry fails it.
    (plugins / "symmetry.py").write_text(task.replace("target % 4, (1, 2)", "-target % 4, (1, 2)"))
    assert "test_turned_back_every_view_is_its_image" in tested("-k", "turned_back").stdout
