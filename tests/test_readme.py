"""What the README says is so."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
import torch

from rotbench.cli import cli
from rotbench.plan import make_plan
from rotbench.registry import load_registry
from rotbench.schema import study_schema
from rotbench.settings import ProbeSettings, TrainSettings
from rotbench.source import parse_source
from rotbench.study import read_study, understand

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_line_names_a_command_and_options_that_exist() -> None:
    lines = [line for block in blocks("console") for line in re.findall(r"\$ (?:\S*/)?rotbench (.*)", block)]
    lines += re.findall(r"^\| `rotbench (.*?)` \|", README, re.MULTILINE)
    for line in lines:
        name, *words = line.partition("#")[0].split()
        command = cli.commands[name]
        if isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            option = word.strip("[]")
            assert not option.startswith("-") or option in known, line
        assert isinstance(command, click.Command)
    assert len(lines) == 8 + 14


def test_every_option_in_the_text_exists() -> None:
    known = {option for command in cli.commands.values() for parameter in command.params for option in parameter.opts}
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    told = {span.split()[0] for span in re.findall(r"`(-[^`]*)`", prose)}
    assert told <= known
    assert len(told) >= 9


def test_every_command_is_told() -> None:
    told = set(re.findall(r"^\| `rotbench (\w+)", README, re.MULTILINE))
    assert told == set(cli.commands)


def test_every_file_that_is_linked_is_there() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert "docs/report.png" in targets
    for target in targets:
        file, _, heading = target.partition("#")
        assert (ROOT / file).exists(), target
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in [line.lower().replace(" ", "-") for line in headings], target


def test_the_pages_beside_it_name_what_exists() -> None:
    pages = sorted((ROOT / "docs").rglob("*.md"))
    assert [page.relative_to(ROOT / "docs").as_posix() for page in pages] == [
        "scale.md",
        "scaling.md",
        "slurm/README.md",
    ]
    known = {option for parameter in cli.commands["run"].params for option in parameter.opts}
    commands = links = 0
    for page in pages:
        text = page.read_text()
        for line in re.findall(r"^\$ rotbench run(.*)$", text, re.MULTILINE):
            assert {word for word in line.split() if word.startswith("-")} <= known, line
            commands += 1
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), target
                links += 1
        for file in re.findall(r"(?:docs/slurm|benchmarks)/[\w.]+\w", text):
            assert (ROOT / file).exists(), file
    assert (commands, links) == (3, 6)


def test_the_two_commands_are_make_targets_and_ci_runs_the_tests() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command, runs in (("run", "rotbench run experiments.toml"), ("test", "python -m pytest")):
        assert f"$ make {command} " in README
        assert re.search(rf"^{command}: .*\n\t.*{re.escape(runs)}$", makefile, re.MULTILINE)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make check\nexec make test-all")
    assert re.search(r"^test-all: .*\n\t.*python -m pytest -m \"thorough or not thorough\"$", makefile, re.MULTILINE)


def test_the_table_of_settings_is_the_settings() -> None:
    table = README.partition("Keys of `[train]`")[2].partition("\n`[model]`")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*) \|$", table, re.MULTILINE)
    told = {key: default for key, default, _ in rows}
    properties = study_schema(load_registry())["properties"]["train"]["properties"]
    assert {key: meaning for key, _, meaning in rows} == {
        key: entry["description"] for key, entry in properties.items()
    }
    assert list(told) == [field.name for field in fields(TrainSettings)]
    for field in fields(TrainSettings):
        expected = field.default
        if expected is None:
            assert told[field.name] == "all"
            continue
        value = tomllib.loads(f"value = {told[field.name].strip('`')}")["value"]
        assert (tuple(value) if isinstance(value, list) else value) == expected, field.name


def test_the_table_of_probes_is_the_settings() -> None:
    table = README.partition("A study with a `[probes]` table")[2].partition("An empty `[probes]`")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S.*?) \| (.*) \|$", table, re.MULTILINE)
    properties = study_schema(load_registry())["properties"]["probes"]["properties"]
    assert {key: meaning for key, _, meaning in rows} == {
        key: entry["description"] for key, entry in properties.items()
    }
    assert [key for key, _, _ in rows] == [field.name for field in fields(ProbeSettings)]


def test_the_study_of_the_readme_has_no_fault() -> None:
    (text,) = blocks("toml")
    study, faults = understand(parse_source(text, "README.toml"), ROOT)
    plan = make_plan(study, faults, load_registry(), ROOT)
    assert len(plan.runs) == 3 * (1 + 6 + 1)


def test_every_study_of_the_project_plans_without_a_fault() -> None:
    studies = [ROOT / "experiments.toml", *sorted((ROOT / "studies").glob("*.toml"))]
    counts = {}
    for path in studies:
        study, faults = read_study(path)
        counts[path.name] = len(make_plan(study, faults, load_registry(), ROOT).runs)
    assert counts == {
        "experiments.toml": 5 * (1 + 4),
        "cs444.toml": 3 * (1 + 4),
        "cs444-sgd.toml": 3 * (1 + 4),
        "few-labels.toml": 5 * (1 + 12),
        "label-efficiency.toml": 3 * (1 + 10),
        "pretexts.toml": 3 * (7 + 18 + 2),  # each freeze policy has a partner of as many epochs
        "freeze-policies.toml": 3 * (1 + 16),
        "digits-fair.toml": 3 * (1 + 2 * (12 + 6)),  # with a partner of as many epochs for each of six contrasts
        "digits-tasks.toml": 3 * (8 + 27),
    }


def test_the_plugin_of_the_readme_works(tmp_path: Path) -> None:
    (code,) = (block for block in blocks("python") if "hookimpl" in block)
    (tmp_path / "vflip.py").write_text(code)
    registry = load_registry([tmp_path])
    assert registry.unavailable == ()
    plugin = registry.find("pretext task", "vflip")
    assert plugin is not None
    images = torch.rand(8, 3, 4, 4)
    views, targets = plugin.cls().make_batch(images, torch.Generator().manual_seed(0))
    assert 0 < int(targets.sum()) < 8
    for image, view, target in zip(images, views, targets, strict=True):
        assert torch.equal(view, image.flip(1) if target else image)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"])
def test_the_papers_are_there(name: str) -> None:
    assert (ROOT / name).read_text().strip()
