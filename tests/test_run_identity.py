"""The ids of runs: how settings, seeds and needs become an id stays as it is, or finished runs are lost.

If a test here fails, no version is to be raised and nothing to be generated again: find what changed and undo it. An id
that changed makes every finished run of that kind new, and days of training are done again. Ids of experiments.toml or
studies/cs444.toml may change only because the study file itself was edited on purpose; identities of plugin files only
because such a file was edited on purpose, which makes the runs that rest on it stale. Then, and only then:

    python -m tests.test_run_identity
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rotbench._version import RESULTS_VERSION
from rotbench.contract import Kind
from rotbench.plan import make_plan
from rotbench.registry import Registry, load_registry
from rotbench.study import read_study

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "run_ids.json"
STUDIES = ("experiments.toml", "studies/cs444.toml")

#: The shipped plugins that finished runs on CIFAR-10 rest on.
KEPT: tuple[tuple[Kind, str], ...] = (
    ("pretext task", "rotation"),
    ("dataset", "cifar10"),
    ("init", "random"),
    ("init", "pretext"),
    ("freeze policy", "none"),
    ("freeze policy", "below"),
)


def fixed(registry: Registry) -> Registry:
    """The same plugins, each with an identity that depends on its kind and name alone."""

    def sha256(kind: str, name: str) -> str:
        return hashlib.sha256(f"{kind} {name}".encode()).hexdigest()

    plugins = [
        replace(plugin, reference=replace(plugin.reference, sha256=sha256(plugin.kind, plugin.name)))
        for plugin in registry.plugins
    ]
    return replace(registry, plugins=tuple(plugins))


def ids_of(study_file: str) -> list[str]:
    study, faults = read_study(ROOT / study_file)
    plan = make_plan(study, faults, fixed(load_registry(shipped_only=True)), ROOT)
    return [run.id for run in plan.everything]


def identities() -> dict[str, str]:
    registry = load_registry(shipped_only=True)
    found = {(plugin.kind, plugin.name): plugin.reference.sha256 for plugin in registry.plugins}
    return {f"{kind} {name}": found[kind, name] for kind, name in KEPT}


def golden() -> dict[str, object]:
    read: dict[str, object] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("study_file", STUDIES)
def test_runs_have_the_ids_that_they_had(study_file: str) -> None:
    assert ids_of(study_file) == golden()[study_file]


def test_plugin_files_that_finished_runs_rest_on_have_not_changed() -> None:
    assert identities() == golden()["plugin files"]


def test_the_version_of_results_is_that_of_the_ids() -> None:
    assert golden()["results version"] == RESULTS_VERSION


if __name__ == "__main__":
    found = {name: ids_of(name) for name in STUDIES}
    made = {"results version": RESULTS_VERSION, "plugin files": identities(), **found}
    GOLDEN.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
