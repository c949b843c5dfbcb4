"""The command line: ``rotbench run``, ``plan``, ``report``, ``check``, ``plugins``, ``verify`` and ``new``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rotbench import __version__
from rotbench.errors import EXIT_BUG, EXIT_OK, EXIT_RUN_FAILED, BadInput, EnvironmentLacking, RotbenchError
from rotbench.plan import Plan, make_plan
from rotbench.registry import Registry, load_registry
from rotbench.resources import studies_folder
from rotbench.source import suggestion
from rotbench.store import Damaged, Standing, Store, run_record, standings, verify_folder
from rotbench.study import read_study
from rotbench.system import usable_cores

DEFAULT_STUDY = Path("experiments.toml")
DEFAULT_OUT = Path("results")

study_argument = click.argument("study", type=click.Path(path_type=Path), default=DEFAULT_STUDY)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=DEFAULT_OUT, show_default=True, help="The results folder."
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
data_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where data sets lie. Else ROTBENCH_DATA, else root in the study, else a cache folder.",
)
set_option = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting: train.lr=0.1")
only_option = click.option(
    "-k", "only", multiple=True, metavar="KEY=VALUE", help="Only variants with this: init=random"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rotbench")
def cli() -> None:
    """Compare pretraining, initialisation and freezing of ResNets, and report it as one HTML page."""


def study_options(command: Any) -> Any:
    """The options of every command that reads a study with its plugins and data."""
    options = (study_argument, out_option, data_option, set_option, only_option, plugins_option, no_plugins_option)
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@study_options
@click.option("--jobs", default="auto", show_default=True, help="How many runs are trained side by side.")
@click.option(
    "--engine", type=click.Choice(["local"]), default="local", show_default=True, help="Where runs are trained."
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option("--retry-failed", is_flag=True, help="Train runs again that failed before.")
@click.option("--rerun-stale", is_flag=True, help="Train runs again whose plugin, data or trainer has changed.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop; the same as rotbench plan.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong, and where the report is.")
@click.option("-v", "--verbose", is_flag=True, help="A line an epoch even on a terminal.")
def run(
    study: Path,
    out: Path,
    data_dir: Path | None,
    changes: Sequence[str],
    only: Sequence[str],
    plugin_folders: Sequence[Path],
    no_plugins: bool,
    jobs: str,
    engine: str,
    device: str,
    fail_fast: bool,
    retry_failed: bool,
    rerun_stale: bool,
    dry_run: bool,
    debug: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train what STUDY asks for and is not done yet; write OUT/results.json and OUT/report.html."""
    from rotbench.driver import Orders, check_store, report_writer, run_study
    from rotbench.engine import LocalEngine
    from rotbench.system import store_lock
    from rotbench.terminal import Lines, watcher

    plan, _ = plan_study(study, data_dir, changes, only, plugin_folders, no_plugins)
    store = Store(out)
    if dry_run:
        show_plan(plan, store, as_json=False)
        return
    orders = Orders(
        jobs=count_jobs(jobs, plan.study.threads, device),
        device=device,
        fail_fast=fail_fast,
        retry_failed=retry_failed,
        rerun_stale=rerun_stale,
    )
    check_store(plan, store)
    existed = out.exists()
    store.create()
    screen = Lines(plan.runs) if verbose else watcher(plan.runs, quiet=quiet)
    with store_lock(out):
        try:
            command = " ".join(["rotbench", "run", study.name, *(f"--set {change}" for change in changes)])
            ended = run_study(plan, store, LocalEngine(), orders, screen, command, report_writer(store))
        except RotbenchError:
            # What could not begin leaves nothing behind; what had begun stays, to go on from.
            if not existed and not any(store.runs.iterdir()):
                shutil.rmtree(out)
            raise
        finally:
            screen.close()
    finish(store, ended, quiet=quiet)


def finish(store: Store, ended: Any, *, quiet: bool) -> None:
    """The final table, the report's link as the last line, and the exit code."""
    if not quiet:
        from rotbench.compare import variants
        from rotbench.results import collect
        from rotbench.terminal import final_lines

        for line in final_lines(variants(collect(store))):
            click.echo(line, err=True)
    if ended.signal:
        click.echo(f"stopped, {ended.done} of {ended.planned} done; run the same command again to continue", err=True)
    elif ended.failed:
        click.echo(f"{ended.failed} of {ended.planned} runs failed or were skipped; the report names them", err=True)
    click.echo((store.folder / "report.html").resolve().as_uri())
    if ended.signal:
        sys.exit(128 + ended.signal)
    sys.exit(EXIT_RUN_FAILED if ended.failed else EXIT_OK)


@cli.command()
@study_options
@json_option
def plan(
    study: Path,
    out: Path,
    data_dir: Path | None,
    changes: Sequence[str],
    only: Sequence[str],
    plugin_folders: Sequence[Path],
    no_plugins: bool,
    as_json: bool,
) -> None:
    """Say what would be trained and why."""
    made, _ = plan_study(study, data_dir, changes, only, plugin_folders, no_plugins)
    show_plan(made, Store(out), as_json=as_json)


@cli.command()
@out_option
@json_option
def report(out: Path, as_json: bool) -> None:
    """Render the report again from the results folder alone."""
    from rotbench.driver import report_writer
    from rotbench.results import collect

    store = Store(out)
    try:
        results = collect(store)
    except FileNotFoundError:
        raise BadInput(f"{out} holds no study", "Give the results folder of one with --out.") from None
    report_writer(store)()
    if as_json:
        from rotbench.compare import summary

        click.echo(json.dumps(summary(results), indent=1, allow_nan=False))
    else:
        click.echo((out / "report.html").resolve().as_uri())


@cli.command()
@study_argument
@plugins_option
@no_plugins_option
@set_option
@json_option
def check(study: Path, plugin_folders: Sequence[Path], no_plugins: bool, changes: Sequence[str], as_json: bool) -> None:
    """Show every fault of STUDY; train nothing."""
    from rotbench.errors import StudyFaults

    try:
        made, _ = plan_study(study, None, changes, (), plugin_folders, no_plugins)
    except StudyFaults as faults:
        if as_json:
            click.echo(json.dumps({"faults": list(faults.lines)}, indent=1))
            sys.exit(faults.exit_code)
        raise
    if as_json:
        click.echo(json.dumps({"faults": []}, indent=1))
    else:
        pretexts = sum(run.kind == "pretext" for run in made.runs)
        click.echo(f"{study}: no faults; {pretexts} pretext runs, {len(made.runs) - pretexts} downstream runs")


@cli.command()
@plugins_option
@no_plugins_option
@json_option
def plugins(plugin_folders: Sequence[Path], no_plugins: bool, as_json: bool) -> None:
    """List the plugins that are there, and those that cannot be used."""
    registry = load_registry([Path("plugins"), *plugin_folders], shipped_only=no_plugins)
    rows: list[dict[str, Any]] = [
        {
            "kind": plugin.kind,
            "name": plugin.name,
            "origin": plugin.origin,
            "version": plugin.version,
            "summary": plugin.summary,
            "options": dict(plugin.options),
            "error": None,
        }
        for plugin in registry.plugins
    ]
    rows += [
        {
            "kind": None,
            "name": Path(broken.location).stem,
            "origin": broken.origin,
            "version": "",
            "summary": "",
            "options": {},
            "error": broken.error,
        }
        for broken in registry.unavailable
    ]
    if as_json:
        click.echo(json.dumps({"plugins": rows}, indent=1))
        return
    for row in rows:
        if row["error"]:
            click.echo(f"unavailable    {row['name']} ({row['origin']}): {row['error']}")
        else:
            options = ", ".join(f"{name} = {default}" for name, default in row["options"].items())
            click.echo(f"{row['kind']:<14} {row['name']:<14} {row['origin']:<10} {row['summary']}")
            if options:
                click.echo(f"{'':<29} options: {options}")


@cli.command()
@out_option
def verify(out: Path) -> None:
    """Hash every file of the results folder again and compare it with what was committed."""
    from rotbench.errors import StoreUnusable

    store = Store(out)
    if store.read_study() is None:
        raise BadInput(f"{out} holds no study", "Give the results folder of one with --out.")
    folders = sorted(store.runs.iterdir())
    damages = []
    for folder in folders:
        try:
            if verify_folder(folder) is None:
                damages.append(f"{folder}: no manifest")
        except Damaged as damage:
            damages.append(str(damage))
    if damages:
        raise StoreUnusable("\n".join(damages), "Delete the folders of these runs and run the study again.")
    click.echo(f"{out}: {len(folders)} runs, every file as it was committed")


@cli.command()
@click.argument("name", required=False)
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def new(name: str | None, folder: Path) -> None:
    """Write a study to start from: experiments.toml, or NAME.toml for a study NAME that ships."""
    shipped = {
        path.stem: path for place in (studies_folder(), studies_folder().parent) for path in place.glob("*.toml")
    }
    shipped.pop("pyproject", None)
    source = shipped.get(name or "experiments")
    if source is None:
        raise BadInput(f'no study "{name}" ships{suggestion(str(name), shipped)}', "Give one of these names.")
    target = folder / source.name
    if target.exists():
        raise BadInput(f"{target} exists already", "Move it away, or give another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    except OSError as error:
        raise EnvironmentLacking(f"{target} cannot be written: {error.strerror}", "Give another folder.") from None
    click.echo(f"{target} is written; run it with: rotbench run {target}")


def plan_study(
    study: Path,
    data_dir: Path | None,
    changes: Sequence[str],
    only: Sequence[str],
    plugin_folders: Sequence[Path],
    no_plugins: bool,
) -> tuple[Plan, Registry]:
    """Read a study and plan it with the plugins of its surroundings."""
    for folder in plugin_folders:
        if not folder.is_dir():
            raise BadInput(f"--plugins {folder}: no such folder", "Give a folder with plugin files.")
    understood, faults = read_study(study, changes)
    registry = load_registry([understood.folder / "plugins", *plugin_folders], shipped_only=no_plugins)
    return make_plan(
        understood, faults, registry, data_root(data_dir, understood.root, understood.folder), only
    ), registry


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


def count_jobs(jobs: str, threads: int, device: str) -> int:
    """How many runs are trained side by side: on processors one a core and thread, on a GPU one."""
    if jobs != "auto":
        if not jobs.isdigit() or int(jobs) < 1:
            raise BadInput(f"--jobs {jobs}: not a whole number from 1 on", "Give how many runs to train side by side.")
        return int(jobs)
    if device.startswith(("cuda", "mps")) or (device == "auto" and shutil.which("nvidia-smi")):
        return 1
    return max(1, usable_cores() // threads)


def show_plan(plan: Plan, store: Store, *, as_json: bool) -> None:
    """The runs of a plan: their state in the store, and why. Raises where the store is damaged or newer."""
    store.read_study()
    standing = standings(store, [run_record(run) for run in plan.runs])
    if as_json:
        rows = [
            {
                "id": run.id,
                "kind": run.kind,
                "variant": run.variant,
                "seed": run.seed,
                "needs": list(run.needs),
                "state": standing[run.id].state,
                "reason": standing[run.id].reason,
                "estimated_seconds": None,
            }
            for run in plan.runs
            if run.id in plan.selected
        ]
        click.echo(json.dumps({"runs": rows}, indent=1))
        return
    from rotbench.terminal import run_words

    states: dict[str, int] = {}
    words = run_words(plan.runs)
    for run in plan.runs:
        if run.id in plan.selected:
            stands: Standing = standing[run.id]
            states[stands.state] = states.get(stands.state, 0) + 1
            reason = f": {stands.reason}" if stands.reason else ""
            click.echo(f"{words[run.id]:<40} {stands.state}{reason}")
    click.echo(", ".join(f"{count} {state}" for state, count in states.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """The program: every error is two lines and its exit code; a traceback is shown with --debug alone."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        cli.main(args=arguments, prog_name="rotbench", standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(BadInput.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has gone, as in "rotbench plan | head"; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except RotbenchError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"error: {error.what}", err=True)
        if error.todo:
            click.echo(error.todo, err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            traceback.print_exc()
        click.echo(f"error: a bug in rotbench: {type(error).__name__}: {error}", err=True)
        click.echo("Run the command with --debug for the traceback, and report it.", err=True)
        sys.exit(EXIT_BUG)


if __name__ == "__main__":
    main()
