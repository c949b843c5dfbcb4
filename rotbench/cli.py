"""The command line: what each command does; its options are in ``invocation``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from rotbench import __version__
from rotbench.collate import collate
from rotbench.errors import (
    EXIT_BUG,
    EXIT_OK,
    EXIT_RUN_FAILED,
    BadInput,
    EnvironmentLacking,
    RotbenchError,
    StoreUnusable,
    StudyFaults,
)
from rotbench.invocation import (
    Invocation,
    from_option,
    json_option,
    no_plugins_option,
    out_option,
    plugins_option,
    read_surroundings,
    set_option,
    study_argument,
    study_command,
)
from rotbench.partner import MATCHED
from rotbench.plugin_commands import plugins
from rotbench.registry import Registry, load_registry
from rotbench.resolve import resolve
from rotbench.resources import studies_folder
from rotbench.source import suggestion
from rotbench.store import MANIFEST, Damaged, Store, deleted_weights, verify_folder
from rotbench.terminal import ReaderGone, console

if TYPE_CHECKING:
    from rotbench.driver import Ended
    from rotbench.engine import Engine, ProcessEngine
    from rotbench.plan import Plan
    from rotbench.warm_engine import WarmEngine

#: The first line of a shipped study, and what it says in a folder that has the schema beside the study.
SCHEMA_LINE = "#:schema "


class Program(click.Group):
    """The group of commands, which does not take a closed pipe for a failure, as click does."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise ReaderGone from None
        return done


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rotbench")
def cli() -> None:
    """Compare pretraining, initialisation and freezing of ResNets, and report it as one HTML page."""


@cli.command()
@study_command
@click.option(
    "--engine",
    type=click.Choice(["local", "process", "ray"]),
    default="local",
    show_default=True,
    help="Where runs are trained: on this machine, by one process that loads PyTorch for all (local) or one that loads "
    "it for each (process); or on a Ray cluster whose nodes share OUT (ray).",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="The cluster: auto (this machine's), or HOST:PORT; else RAY_ADDRESS, or this machine alone.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and stop; the same as rotbench plan.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong, and where the report is.")
@click.option("-v", "--verbose", is_flag=True, help="A line an epoch even on a terminal.")
def run(
    invocation: Invocation,
    engine: str,
    ray_address: str | None,
    fail_fast: bool,
    dry_run: bool,
    debug: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train what STUDY asks for and is not done yet; write OUT/results.json and OUT/report.html."""
    if ray_address is not None and engine != "ray":
        raise BadInput(f"--ray-address: the engine is {engine}", "Give --engine ray too.")
    if dry_run:
        show_plan(invocation, measure=False, every_run=verbose, as_json=False)
        return
    from rotbench.driver import Orders, check_store, known_paces, report_writer, run_study, side_by_side
    from rotbench.system import store_lock
    from rotbench.terminal import Outlook, watcher

    plan, store = invocation.plan(), invocation.store
    resources = plan.study.resources
    orders = Orders(
        jobs=invocation.count_jobs(resources) if engine != "ray" or invocation.jobs != "auto" else None,
        device=invocation.device,
        fail_fast=fail_fast,
        retry_failed=invocation.retry_failed,
        rerun_stale=invocation.rerun_stale,
    )
    check_store(plan, store)
    existed = store.folder.exists()
    store.create()
    with store_lock(store.folder) as left:
        try:
            with engine_of(engine, ray_address, plan, orders.device, store) as made:
                jobs = side_by_side(made, orders)
                outlook = Outlook(plan.everything, known_paces(store, orders.device), jobs, resources.threads)
                screen = watcher(plan.everything, outlook, quiet=quiet, verbose=verbose)
                if left:
                    screen.note(left)
                try:
                    write = report_writer(store)
                    ended = run_study(plan, store, made, orders, screen, invocation.command(), write)
                finally:
                    screen.close()
        except RotbenchError:
            # What could not begin leaves nothing behind; what had begun stays, to go on from.
            kept = any(store.runs.iterdir()) or any(store.attempts.glob(f"*/epoch-*/{MANIFEST}"))
            if not existed and not kept:
                shutil.rmtree(store.folder, ignore_errors=True)  # a network file system keeps what is open
            raise
    finish(store, ended, quiet=quiet)


def engine_of(
    name: str, ray_address: str | None, plan: Plan, device: str, store: Store
) -> contextlib.AbstractContextManager[Engine]:
    """The engine of that name, for as long as a study runs."""
    if name == "ray":
        from rotbench.ray_engine import ray_engine

        plugins = dict.fromkeys(reference for run in plan.everything for reference in run.plugins)
        return ray_engine(ray_address, plan.study.resources, device, store.folder, list(plugins))
    # Probes need scikit-learn, which takes a second or two to load.
    return local_engine(name, ["rotbench.probe"] if any(run.kind == "probe" for run in plan.everything) else [])


def local_engine(
    name: str = "local", modules: Sequence[str] = ()
) -> contextlib.AbstractContextManager[WarmEngine | ProcessEngine]:
    """The engine that forks workers, the one that the command was given if any; or that which starts them anew.

    ``modules``: what is imported once for all workers, beside what every training needs.
    """
    if name == "local" and sys.platform == "linux":
        from rotbench.warm_engine import TRAINING, WarmEngine

        given = click.get_current_context().find_object(WarmEngine)
        return contextlib.closing(WarmEngine([*TRAINING, *modules])) if given is None else contextlib.nullcontext(given)
    from rotbench.engine import ProcessEngine

    return contextlib.nullcontext(ProcessEngine())


def finish(store: Store, ended: Ended, *, quiet: bool) -> None:
    """The final table, the report's link as the last line, and the exit code."""
    if not quiet:
        from rotbench.compare import variants
        from rotbench.results import collect
        from rotbench.terminal import final_table

        results = collect(store)
        if summaries := variants(results):
            console(stderr=True).print(final_table(summaries))
        if results["study"]["rehearsal"]:
            click.echo("a rehearsal: no number in it means anything", err=True)
    if ended.signal:
        click.echo(f"stopped, {ended.done} of {ended.planned} done, run again to continue", err=True)
    elif ended.failed:
        click.echo(f"{ended.failed} of {ended.planned} runs failed or were skipped; the report names them", err=True)
    if ended.held and not ended.signal:
        click.echo(
            f"{ended.held} of {ended.planned} runs wait for stale ones; train these with --rerun-stale", err=True
        )
    click.echo((store.folder / "report.html").resolve().as_uri())
    if ended.signal:
        sys.exit(128 + ended.signal)
    sys.exit(EXIT_RUN_FAILED if ended.failed or ended.held else EXIT_OK)


@cli.command()
@study_command
@click.option("--measure", is_flag=True, help="Time a few steps of each kind of training first.")
@click.option("-v", "--verbose", is_flag=True, help="A row for every run.")
@json_option
def plan(invocation: Invocation, measure: bool, verbose: bool, as_json: bool) -> None:
    """Say what would be trained and why, what is shared, how long it will take and how sure that is."""
    show_plan(invocation, measure=measure, every_run=verbose, as_json=as_json)


def show_plan(invocation: Invocation, *, measure: bool, every_run: bool, as_json: bool) -> None:
    """Print a plan. Raises where the store is damaged, newer, or shows another study; writes nothing."""
    from rotbench.driver import Orders, agenda, check_store, known_paces, standing_of
    from rotbench.preview import plan_heading, plan_rows, plan_summary, plan_table
    from rotbench.price import study_price
    from rotbench.system import free_bytes

    made, store = invocation.plan(), invocation.store
    jobs = invocation.count_jobs(made.study.resources)
    check_store(made, store)
    orders = Orders(jobs, retry_failed=invocation.retry_failed, rerun_stale=invocation.rerun_stale)
    standing = standing_of(made, store, orders)
    todo = agenda(made, standing, orders)
    waiting = todo.train
    blocked = {**todo.held, **todo.orphaned}
    standing = {
        run_id: replace(stands, reason=blocked.get(run_id, stands.reason)) for run_id, stands in standing.items()
    }
    paces = known_paces(store, invocation.device)
    if measure:
        from rotbench.measure import time_steps

        with local_engine() as launcher:
            time_steps(made, waiting, paces, invocation.device, launcher)
    threads = made.study.resources.threads
    price = study_price(waiting, paces, jobs, threads)
    without_matched = study_price([run for run in waiting if MATCHED not in run.variant], paces, jobs, threads)
    if as_json:
        rows = plan_rows(made, made.runs, standing, paces, waiting)
        probes = plan_rows(made, made.probes, standing, paces, waiting)
        estimate = asdict(price) if price else None
        click.echo(json.dumps({"runs": rows, "probes": probes, "estimate": estimate, "jobs": jobs}, indent=1))
        return
    for line in plan_heading(made, store.folder):
        click.echo(line)
    screen = console()
    screen.print(plan_table(made, standing, paces, waiting, every_run=every_run))
    room = free_bytes(store.folder)
    for line in ("", *plan_summary(made, standing, waiting, price, jobs, room, without_matched)):
        click.echo(line)


@cli.command()
@out_option
@from_option
@json_option
def report(out: Path, source: Path | None, as_json: bool) -> None:
    """Render the report again from the results folder alone, or from a page or results.json of any age.

    With --from nothing else is needed, no results folder, study or plugin; report.html, results.json and results.csv
    are written into --out, which must hold no runs and no other study's results.
    """
    from rotbench.redraw import files_of, redraw, write_files

    if source is None:
        results = results_in(out)
        write_files(files_of(results), out)
    else:
        results = redraw(source, out)
    if as_json:
        from rotbench.evidence import proof_summary
        from rotbench.summary import summary

        click.echo(json.dumps({**summary(results), **proof_summary(results)}, indent=1, allow_nan=False))
    else:
        click.echo((out / "report.html").resolve().as_uri())


@cli.command()
@out_option
@from_option
@click.option("--to", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
def export(out: Path, source: Path | None, to: Path) -> None:
    """Write what a paper takes from a study: tables, figures, the methods in prose, BibTeX.

    final and contrasts as .md, .tex (booktabs) and .csv (all digits), cost and course as .md and .tex, figures/ as .svg
    and .pdf, methods.md and references.bib. Nothing is written over that export did not write.
    """
    from rotbench.export import exported, write_export
    from rotbench.redraw import drawable, read_results_file

    if source is None:
        files = exported(results_in(out))
    else:
        results = read_results_file(source)
        with drawable(source):
            files = exported(results)
    write_export(files, to)
    click.echo(f"{to} holds {len(files)} files: tables, figures, methods.md, references.bib")


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("comparison.html"),
    show_default=True,
    help="The page; an earlier comparison is written over, any other file is not.",
)
@json_option
def compare(a: Path, b: Path, to: Path, as_json: bool) -> None:
    """Compare two studies, A and B, on one page: what differs between them, and whether it changed the results.

    Each is a results folder, a report.html or a results.json. Variants are joined by their keys, and seeds are paired
    where both studies drew the same from them.
    """
    from rotbench.comparison import as_json as said
    from rotbench.comparison import compared, render, write_page
    from rotbench.redraw import drawable

    found = compared(a, b)
    with drawable(f"{a} or {b}"):
        page, summary = render(found), said(found)
    write_page(page, to)
    click.echo(json.dumps(summary, indent=1, allow_nan=False) if as_json else to.resolve().as_uri())


def results_in(out: Path) -> dict[str, Any]:
    """The results of the study in a folder. Raises :class:`~rotbench.errors.BadInput` where there is none."""
    from rotbench.redraw import JSON, PAGE
    from rotbench.results import collect

    try:
        return collect(Store(out))
    except FileNotFoundError:
        found = next((name for name in (JSON, PAGE) if (out / name).exists()), None)
        todo = f"Draw it again with --from {out / found}, or give" if found else "Give"
        raise BadInput(f"{out} holds no study", f"{todo} the results folder of one with --out.") from None


@cli.command()
@study_argument
@plugins_option
@no_plugins_option
@set_option
@json_option
def check(study: Path, plugin_folders: Sequence[Path], no_plugins: bool, changes: Sequence[str], as_json: bool) -> None:
    """Show every fault of STUDY; train nothing, and look at no data."""
    try:
        resolved = resolve(*read_surroundings(study, changes, plugin_folders, no_plugins))
    except BadInput as error:
        if not as_json:
            raise
        nowhere = {"file": str(study), "line": None, "column": None, "path": "", "message": error.what, "excerpt": ""}
        rows = [asdict(fault) for fault in error.faults] if isinstance(error, StudyFaults) else [nowhere]
        click.echo(json.dumps({"faults": rows}, indent=1))
        sys.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps({"faults": []}, indent=1))
    else:
        counts = f"{resolved.pretext_runs} pretext runs, {resolved.downstream_runs} downstream runs"
        click.echo(f"{study}: no faults; {counts}")


@cli.command()
@plugins_option
@no_plugins_option
@click.option("--to", type=click.Path(path_type=Path), help="Write it to this file instead of standard output.")
def schema(plugin_folders: Sequence[Path], no_plugins: bool, to: Path | None) -> None:
    """Print the JSON Schema of a study file, for editors, from the plugins that are there."""
    text = schema_text(load_registry([Path("plugins"), *plugin_folders], shipped_only=no_plugins))
    if to is None:
        click.echo(text, nl=False)
        return
    write_file(to, text)
    click.echo(f"{to} is written; begin a study with: {SCHEMA_LINE}{to}")


def schema_text(registry: Registry) -> str:
    """The schema as a file holds it."""
    from rotbench.schema import study_schema

    return json.dumps(study_schema(registry), indent=1, ensure_ascii=False) + "\n"


cli.add_command(plugins)
cli.add_command(collate)


@cli.command()
@out_option
def verify(out: Path) -> None:
    """Hash every file of the results folder again and compare it with what was committed."""
    store = Store(out)
    if store.read_study() is None:
        raise BadInput(f"{out} holds no study", "Give the results folder of one with --out.")
    folders = sorted(store.runs.iterdir()) if store.runs.is_dir() else []
    damages = []
    without_weights = 0
    for folder in folders:
        try:
            manifest = verify_folder(folder, published=True)
            if manifest is None:
                damages.append(f"{folder}: no manifest")
            elif deleted_weights(folder, manifest):
                without_weights += 1
        except Damaged as damage:
            damages.append(str(damage))
    if damages:
        raise StoreUnusable("\n".join(damages), "Delete the folders of these runs and run the study again.")
    kept = f"; {without_weights} kept without their weights, which were deleted" if without_weights else ""
    click.echo(f"{out}: {len(folders)} runs, every file as it was committed{kept}")


def complete_study(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``rotbench new <TAB>``: the studies that ship, with their titles."""
    found = []
    for name, path in sorted(shipped_studies().items()):
        title = next((line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("title")), "")
        found.append(CompletionItem(name, help=title.partition("=")[2].strip().strip('"')))
    return [item for item in found if item.value.startswith(incomplete)]


@cli.command()
@click.argument("name", required=False, shell_complete=complete_study)
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
def new(name: str | None, folder: Path) -> None:
    """Write a study to start from: experiments.toml, or NAME.toml for a study NAME that ships.

    The schema for editors is written beside it.
    """
    shipped = shipped_studies()
    source = shipped.get(name or "experiments")
    if source is None:
        raise BadInput(f'no study "{name}" ships{suggestion(str(name), shipped)}', "Give one of these names.")
    from rotbench.schema import FILE_NAME

    target = folder / source.name
    if target.exists():
        raise BadInput(f"{target} exists already", "Move it away, or give another folder.")
    text = source.read_text(encoding="utf-8")
    if text.startswith(SCHEMA_LINE):
        text = f"{SCHEMA_LINE}{FILE_NAME}\n{text.partition(chr(10))[2]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentLacking(f"{folder} cannot be made: {error.strerror}", "Give another folder.") from None
    write_file(target, text)
    write_file(folder / FILE_NAME, schema_text(load_registry([folder / "plugins"])))
    click.echo(f"{target} is written; run it with: rotbench run {target}")


def shipped_studies() -> dict[str, Path]:
    """The studies that ``rotbench new`` knows, by name."""
    folders = (studies_folder(), studies_folder().parent)
    shipped = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    shipped.pop("pyproject", None)
    return shipped


def write_file(path: Path, text: str) -> None:
    """Write a file that somebody asked for. Raises :class:`~rotbench.errors.EnvironmentLacking` where it cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentLacking(f"{path} cannot be written: {error.strerror}", "Give another folder.") from None


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete rotbench's commands, options, studies and variants.

    bash: eval "$(rotbench completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc, after compinit; fish:
    rotbench completion fish > ~/.config/fish/completions/rotbench.fish
    """
    made = get_completion_class(shell)
    if made is None:  # click knows these three
        raise BadInput(f"no completion for {shell}", "Use bash, zsh or fish.")
    click.echo(made(cli, {}, "rotbench", "_ROTBENCH_COMPLETE").source())


def main(arguments: Sequence[str] | None = None, engine: WarmEngine | None = None) -> None:
    """The program: every error is two lines and its exit code; a traceback is shown with --debug alone.

    ``engine``: trains on this machine, if several commands are to share one; it is not closed.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        cli.main(args=arguments, prog_name="rotbench", standalone_mode=False, obj=engine)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(BadInput.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(128 + signal.SIGINT)
    except ReaderGone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except RotbenchError as error:
        if debug:
            traceback.print_exc()
        # A fault begins with its file, line and column, where editors and terminals look for them.
        click.echo(error.what if isinstance(error, StudyFaults) else f"error: {error.what}", err=True)
        if "--json" in arguments:
            told = {"what": error.what, "todo": error.todo, "exit_code": error.exit_code}
            click.echo(json.dumps({"error": told}, indent=1))
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
