"""What a command line asks for: the options that commands share, and what they come to."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from rotbench.completion import complete_condition
from rotbench.errors import BadInput
from rotbench.plan import Plan, make_plan
from rotbench.registry import Registry, load_registry
from rotbench.settings import Resources
from rotbench.store import Store
from rotbench.study import Study, read_study
from rotbench.system import usable_cores

DEFAULT_STUDY = Path("experiments.toml")
DEFAULT_OUT = Path("results")

study_argument = click.argument("study", type=click.Path(path_type=Path), default=DEFAULT_STUDY)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=DEFAULT_OUT, show_default=True, help="The results folder."
)
from_option = click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A report.html, a results.json or the JSON saved from a page, instead of the results folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on standard output.")
plugins_option = click.option(
    "--plugins",
    "plugin_folders",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Another folder with plugin files; may be given several times.",
)
no_plugins_option = click.option("--no-plugins", is_flag=True, help="Load the shipped plugins alone.")
set_option = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting: train.lr=0.1")
_options = (
    study_argument,
    out_option,
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Where data sets lie. Else ROTBENCH_DATA, else root in the study, else a cache folder.",
    ),
    click.option(
        "-k",
        "only",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=complete_condition,
        help="Only variants with this, such as init=random; several must all hold.",
    ),
    set_option,
    click.option("--jobs", default="auto", show_default=True, help="How many runs are trained side by side."),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps."),
    click.option("--retry-failed", is_flag=True, help="Train runs again that failed before."),
    click.option("--rerun-stale", is_flag=True, help="Train runs again whose plugin, data or trainer has changed."),
    click.option("--quick", is_flag=True, help="A rehearsal: every run as small as can be, into OUT-quick."),
    plugins_option,
    no_plugins_option,
)


@dataclass(frozen=True)
class Invocation:
    """The study that a command is about, and what the command line says beside it."""

    study: Path
    out: Path
    data_dir: Path | None
    only: tuple[str, ...]
    changes: tuple[str, ...]
    jobs: str
    device: str
    retry_failed: bool
    rerun_stale: bool
    quick: bool
    plugin_folders: tuple[Path, ...]
    no_plugins: bool

    @property
    def store(self) -> Store:
        """The results folder; a rehearsal has one of its own beside it."""
        if not self.quick:
            return Store(self.out)
        out = self.out if self.out.name not in ("", "..") else self.out.resolve()
        if not out.name:
            raise BadInput(f"--out {self.out}: a rehearsal needs a folder beside it", "Give another folder with --out.")
        return Store(out.with_name(f"{out.name}-quick"))

    def command(self) -> str:
        """The command in words, without what depends on the machine."""
        words = ["rotbench", "run", self.study.name, *(f"--set {change}" for change in self.changes)]
        return " ".join([*words, "--quick"] if self.quick else words)

    def plan(self) -> Plan:
        """Read the study and plan it with the plugins of its surroundings."""
        study, faults, registry = read_surroundings(self.study, self.changes, self.plugin_folders, self.no_plugins)
        root = data_root(self.data_dir, study.root, study.folder)
        with contextlib.redirect_stdout(sys.stderr):  # plugins are asked for fingerprints, and may print
            return make_plan(study, faults, registry, root, self.only, rehearsal=self.quick)

    def count_jobs(self, resources: Resources) -> int:
        """How many runs are trained side by side: on processors one a core and thread, on a GPU one."""
        if self.jobs != "auto":
            if not self.jobs.isdecimal() or len(self.jobs) > 5 or not int(self.jobs):
                raise BadInput(f"--jobs {self.jobs}: not a whole number from 1 on", "Give how many, such as --jobs 2.")
            return int(self.jobs)
        on_gpu = self.device.startswith(("cuda", "mps")) or (self.device == "auto" and shutil.which("nvidia-smi"))
        if on_gpu and resources.gpus != 0:
            return max(1, int(1 / resources.gpus)) if resources.gpus else 1
        return max(1, int(usable_cores() / (resources.cpus or resources.threads)))


def study_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :class:`Invocation`, and hand them to it as one argument."""
    names = {field.name for field in fields(Invocation)}

    @functools.wraps(function)
    def called(**given: Any) -> None:
        invocation = Invocation(**{name: given.pop(name) for name in names})
        function(invocation, **given)

    for option in reversed(_options):
        called = option(called)
    return called


def read_surroundings(
    path: Path, changes: Sequence[str], plugin_folders: Sequence[Path], no_plugins: bool
) -> tuple[Study, list[Any], Registry]:
    """A study, what is wrong with it, and the plugins that it can use."""
    for folder in plugin_folders:
        if not folder.is_dir():
            raise BadInput(f"--plugins {folder}: no such folder", "Give a folder with plugin files.")
    study, faults = read_study(path, changes)
    return study, faults, load_registry([study.folder / "plugins", *plugin_folders], shipped_only=no_plugins)


def data_root(given: Path | None, root: str | None, folder: Path) -> Path:
    """Where data sets lie: the flag, else ROTBENCH_DATA, else the study's root, else the user's cache folder."""
    if given is not None:
        return given.resolve()
    if os.environ.get("ROTBENCH_DATA"):
        return Path(os.environ["ROTBENCH_DATA"]).resolve()
    if root is not None:
        return (folder / root).resolve()
    import platformdirs

    return platformdirs.user_cache_path("rotbench") / "data"
