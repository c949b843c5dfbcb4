"""The store of a study: a folder in which finished runs, and nothing else, can be trusted.

    results/
      study.json                   what the study asks for: all that a report needs beside the runs
      runs/<id>/                   a finished run: hashed files, their manifest, and logs
      attempts/<id>.<n>-<token>/   a run being trained; worthless until its manifest is there, but for its checkpoints
      quarantine/                  what was found damaged, or was replaced on request

An attempt ends by writing ``manifest.json``, with the size and hash of each of its files, after all of them. It is
published by renaming its folder to ``runs/<id>``. The kernel refuses to rename onto a folder that holds files, so of
two attempts one wins, and a reader sees a run whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rotbench._version import RESULTS_VERSION
from rotbench.errors import RotbenchError, StoreUnusable, told_again
from rotbench.system import in_use, lacking, sync_folder, write_durably

if TYPE_CHECKING:
    from rotbench.plan import Run

FORMAT = 1
MANIFEST = "manifest.json"
ERROR = "error.json"

#: How the names of files begin that machines leave in a store for a moment, to see whether others see them.
SEEN = ".seen-"

Status = Literal["done", "failed", "partial"]

#: The files with weights that a pretext run publishes. They may be deleted once nothing needs them.
WEIGHTS = re.compile(r"backbone(-epoch-\d{6})?\.safetensors")


class Damaged(Exception):
    """A file of a finished run is not what its manifest says."""


@dataclass(frozen=True)
class Outcome:
    """A published run: ``record`` says what was asked for, ``result`` what came of it.

    ``deleted`` are the files with its weights that were committed and are not there any more.
    """

    status: Status
    record: Mapping[str, Any]
    result: Mapping[str, Any]
    log: str
    folder: Path
    deleted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Standing:
    """How a planned run stands in the store. ``stored`` is the folder name of the result to show for it, if any."""

    state: Literal["new", "done", "partial", "failed", "stale"]
    reason: str
    stored: str | None


@dataclass(frozen=True)
class Store:
    """A results folder."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def attempts(self) -> Path:
        return self.folder / "attempts"

    def create(self) -> None:
        """Make the folders. Raises :class:`~rotbench.errors.EnvironmentLacking` where they cannot be written."""
        for folder in (self.folder, self.runs, self.attempts):
            with lacking(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def read_study(self) -> dict[str, Any] | None:
        """What ``study.json`` holds, or None for a folder that is not a store yet."""
        path = self.folder / "study.json"
        try:
            study = json.loads(path.read_bytes())
            version = study["format"]
            if version == FORMAT:
                study["study"]["title"], study["runs"]  # what every reader relies on
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise StoreUnusable(f"{path} is damaged", "Delete it and run the study again; no run is lost.") from None
        if not isinstance(version, int) or version > FORMAT:
            raise StoreUnusable(
                f"{self.folder} was written by a newer rotbench (format {version}; this one knows {FORMAT})",
                "Upgrade rotbench, or give another folder with --out.",
            )
        return dict(study)

    def foreign(self) -> Path | None:
        """Something in the folder that a run would overwrite or throw away, and that is not rotbench's; None if not."""
        for name in ("report.html", "results.json", "results.csv"):
            if (self.folder / name).exists():
                return self.folder / name
        ours = {self.runs: ("manifest.json", "run.json", "result.json"), self.attempts: ("request.json",)}
        for folder, files in ours.items():
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if not any((path / name).exists() for name in files):
                    return path
        return None

    def write_study(self, study: Mapping[str, Any]) -> None:
        write_durably(self.folder / "study.json", to_json({"format": FORMAT, **study}))

    def open_attempt(self, run_id: str, request: Mapping[str, Any]) -> Path:
        """A new folder for the next attempt at a run, with the request that its worker reads."""
        number = 1 + max(map(attempt_number, self._attempts_of(run_id)), default=0)
        # Numbers come again once a folder is swept. A worker on another machine may outlive its command, and must not
        # find a later attempt where its own was.
        folder = attempt_folder(self.folder, run_id, f"{number}-{secrets.token_hex(4)}")
        with lacking(folder):
            folder.mkdir()
        write_durably(folder / "request.json", to_json(request))
        return folder

    def publish(self, attempt: Path) -> bool:
        """Make a committed attempt the run's result; False where another attempt was first."""
        manifest = read_manifest(attempt)
        for path in attempt.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in manifest["files"] and path.name != MANIFEST and path.suffix != ".log":
                path.unlink()
        try:
            attempt.rename(self.runs / manifest["run"])
        except OSError:
            if not (self.runs / manifest["run"]).exists():
                raise
            return False
        sync_folder(self.runs)
        self.forget_checkpoints(manifest["run"])
        return True

    def forget_checkpoints(self, run_id: str) -> None:
        """Throw away the checkpoints of a published run: they are large. The rest goes with the next ``recover``."""
        for attempt in self._attempts_of(run_id):
            for checkpoint in attempt.glob("epoch-*"):
                shutil.rmtree(checkpoint, ignore_errors=True)

    def forget_signs(self) -> None:
        """Throw away what machines that were ended left to see whether others see it; none may be looking."""
        for sign in self.folder.glob(f"{SEEN}*"):
            sign.unlink(missing_ok=True)
        for folder in self.attempts.glob(f"{SEEN}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def recover(self) -> list[str]:
        """Publish attempts that were committed before a crash, throw away those with nothing to go on from, and set
        damaged runs aside; returns a sentence for each of these.
        """
        told = []
        self.attempts.mkdir(exist_ok=True)
        for folder in sorted(self.runs.iterdir()):
            try:
                read_manifest(folder)
                verify_folder(folder, published=True)
            except Damaged as damage:
                self.set_aside(folder.name)
                told.append(f"{damage}; it is set aside in {self.folder / 'quarantine'} and trained again")
        for attempt in sorted(self.attempts.iterdir()):
            try:
                if verify_folder(attempt) is not None:
                    self.publish(attempt)
            except Damaged as damage:
                told.append(f"{damage}; the attempt is not used")
                (attempt / MANIFEST).unlink(missing_ok=True)
        self.sweep()
        return told

    def sweep(self) -> None:
        """Throw away attempts with nothing to go on from, and those at runs that are published; none may be running."""
        for attempt in sorted(self.attempts.iterdir()):
            run_id = attempt.name.rpartition(".")[0]
            resumable = any(attempt.glob(f"epoch-*/{MANIFEST}")) and not (self.runs / run_id).exists()
            if not resumable and ((attempt / "request.json").exists() or not any(attempt.iterdir())):
                shutil.rmtree(attempt, ignore_errors=True)

    def set_aside(self, run_id: str) -> None:
        """Move a result out of the way, to ``quarantine/``."""
        self.quarantine(self.runs / run_id, run_id)

    def quarantine(self, folder: Path, name: str) -> None:
        """Move a folder to ``quarantine/``, under a name with a number that is free."""
        quarantine = self.folder / "quarantine"
        quarantine.mkdir(exist_ok=True)
        number = len(list(quarantine.glob(f"{name}.*"))) + 1
        folder.rename(quarantine / f"{name}.{number}")

    def set_aside_runs(self) -> frozenset[str]:
        """The ids of runs in ``quarantine/``, where checkpoints lie too."""
        found = (path.name.rpartition(".") for path in (self.folder / "quarantine").glob("*.*"))
        return frozenset(run_id for run_id, _, number in found if number.isdecimal() and ".epoch-" not in run_id)

    def outcome(self, run_id: str) -> Outcome | None:
        """A published run, with the hashes of what is read checked; None where there is none.

        Raises :class:`Damaged` where a file is not what the manifest says.
        """
        folder = self.runs / run_id
        if not folder.is_dir():
            return None
        manifest = read_manifest(folder)
        return Outcome(
            status=manifest["status"],
            record=json.loads(read_verified(folder, "run.json", manifest)),
            result=json.loads(read_verified(folder, "result.json", manifest)),
            log=read_verified(folder, "log.txt", manifest).decode(),
            folder=folder,
            deleted=deleted_weights(folder, manifest),
        )

    def outcomes(self) -> Iterator[tuple[str, Outcome]]:
        """All published runs that can be read; damaged ones are left out."""
        for path in sorted(self.runs.iterdir() if self.runs.is_dir() else ()):
            with contextlib.suppress(Damaged):
                outcome = self.outcome(path.name)
                if outcome is not None:
                    yield path.name, outcome

    def _attempts_of(self, run_id: str) -> list[Path]:
        return [path for path in self.attempts.glob(f"{run_id}.*") if path.name.rpartition(".")[0] == run_id]


def attempt_folder(store: Path, run_id: str, attempt: str) -> Path:
    """Where an attempt at a run lies; ``attempt`` is its number and a token."""
    return store / "attempts" / f"{run_id}.{attempt}"


def attempt_number(folder: Path) -> int:
    """Which attempt at its run a folder holds. Before attempts had tokens the number stood alone."""
    return int(folder.name.rpartition(".")[2].partition("-")[0])


def leave_error(folder: Path, error: RotbenchError) -> int:
    """Leave the reason for which a process ends to the one that started it; returns the exit code to end with."""
    (folder / ERROR).write_bytes(to_json({"exit_code": error.exit_code, "what": error.what, "todo": error.todo}))
    return error.exit_code


def left_error(folder: Path) -> RotbenchError | None:
    """The error that a process left in a folder, if it left one."""
    try:
        left = json.loads((folder / ERROR).read_bytes())
    except (OSError, ValueError):
        return None
    return told_again(left["exit_code"], left["what"], left["todo"])


def commit(attempt: Path, run_id: str, status: Status, files: Mapping[str, bytes]) -> None:
    """Write an attempt's files and then, as the commit, their manifest."""
    for name, content in files.items():
        write_durably(attempt / name, content)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "run": run_id,
        "status": status,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in sorted(files.items())
        },
    }
    manifest["sha256"] = hashlib.sha256(to_json(manifest)).hexdigest()
    write_durably(attempt / MANIFEST, to_json(manifest))


def run_record(run: Run) -> dict[str, Any]:
    """What ``run.json`` holds: what was asked for, without paths."""
    return {
        "id": run.id,
        "kind": run.kind,
        "variant": run.variant,
        "seed": run.seed,
        "repeat": run.repeat,
        "needs": list(run.needs),
        "settings": run.settings,
        "settings_sha256": run.settings_sha256,
        "plugins": [
            {"kind": ref.kind, "name": ref.name, "sha256": ref.sha256, "file": Path(ref.location).name}
            for ref in run.plugins
        ],
        "fingerprint": run.fingerprint,
        "weights_sha256": run.weights_sha256,
        "score_name": run.score_name,
        "keeps": list(run.keeps),
        "results_version": RESULTS_VERSION,
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, checked against its own hash. Raises :class:`Damaged`."""
    try:
        content = (folder / MANIFEST).read_bytes()
        manifest = json.loads(content)
        whole = to_json(manifest)
        claimed = manifest.pop("sha256")
        intact = content == whole and claimed == hashlib.sha256(to_json(manifest)).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(f"{folder / MANIFEST} is missing or cannot be read") from None
    if not intact:
        raise Damaged(f"{folder / MANIFEST} does not have the hash that it claims")
    return dict(manifest)


def read_verified(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    """The content of a hashed file. Raises :class:`Damaged` where it is not what the manifest says."""
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise Damaged(f"{folder / name} cannot be read: {error.strerror}") from None
    if name not in manifest["files"] or hashlib.sha256(content).hexdigest() != manifest["files"][name]["sha256"]:
        raise Damaged(f"{folder / name} does not have the hash that the manifest says")
    return content


def verify_folder(folder: Path, *, published: bool = False) -> dict[str, Any] | None:
    """Check every hashed file of a run or an attempt; None where it was never committed. Raises :class:`Damaged`.

    Files with weights may be missing from a ``published`` run.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    deleted = deleted_weights(folder, manifest) if published else frozenset()
    for name in manifest["files"]:
        if name not in deleted:
            read_verified(folder, name, manifest)
    return manifest


def backbone_file(epoch: int | None = None) -> str:
    """The file of a pretext run that holds its backbone: after its last epoch, or as it was after an earlier one."""
    return "backbone.safetensors" if epoch is None else f"backbone-epoch-{epoch:06}.safetensors"


def deleted_weights(folder: Path, manifest: Mapping[str, Any]) -> frozenset[str]:
    """The files with weights that a run committed and that are not in its folder any more."""
    return frozenset(name for name in manifest["files"] if WEIGHTS.fullmatch(name) and not (folder / name).exists())


def standings(
    store: Store,
    records: Sequence[Mapping[str, Any]],
    again: Collection[str] = (),
    selected: Collection[str] | None = None,
) -> dict[str, Standing]:
    """How each planned run stands in the store, and why; ``records`` as :func:`run_record` makes them.

    A run comes after the run that it needs. A pretext run whose weights were deleted or not kept is new if a run that
    needs them is trained: one of ``selected`` (None: of all) that is new, partial or in a state of ``again``.
    """
    stored = dict(store.outcomes())
    by_hash = {_hash_of(name): name for name in stored}
    by_settings = {o.record["settings_sha256"]: name for name, o in stored.items() if o.status == "done"}
    # A run that failed with other code or data left nothing to keep: it is to be trained, without being asked for.
    failed = {o.record["settings_sha256"]: o.record for o in stored.values() if o.status == "failed"}
    by_variant: dict[str, list[str]] = {}
    for name, outcome in stored.items():
        by_variant.setdefault(_variant_key(outcome.record), []).append(name)
    begun = {path.name.rpartition(".")[0] for path in store.attempts.glob("*.*")}
    result = {}
    for record in records:
        run_id = record["id"]
        if _hash_of(run_id) in by_hash:
            # The words before the hash say how the file writes a variant; the hash says what it is.
            name = by_hash[_hash_of(run_id)]
            outcome = stored[name]
            result[run_id] = Standing(outcome.status, str(outcome.result.get("error") or ""), name)
        elif record["settings_sha256"] in by_settings:
            name = by_settings[record["settings_sha256"]]
            result[run_id] = Standing("stale", _why_stale(record, stored[name].record), name)
        elif run_id in begun:
            result[run_id] = Standing("partial", _how_far(store, record), None)
        elif record["settings_sha256"] in failed:
            why = _why_stale(record, failed[record["settings_sha256"]])
            result[run_id] = Standing("new", f"{why} since it failed", None)
        else:
            others = [stored[name] for name in by_variant.get(_variant_key(record), [])]
            result[run_id] = Standing("new", _nearest_difference(others, record["settings"]), None)
    needing: dict[str, list[Mapping[str, Any]]] = {}
    trained: set[str] = set()
    # What has started from a pretext run shows that it was finished once; one that was damaged was not deleted.
    finished = {run_id for run_id, stands in result.items() if stands.stored}
    damaged = store.set_aside_runs()
    for record in reversed(records):
        run_id = record["id"]
        if run_id in needing:
            if run_id not in damaged and any(child["id"] in finished for child in needing[run_id]):
                finished.add(run_id)
            wanted = [child for child in needing[run_id] if child["id"] in trained]
            stands = result[run_id]
            published = stored.get(stands.stored or "")
            result[run_id] = _with_weights(stands, published, wanted, finished=run_id in finished)
        if result[run_id].state in {"new", "partial", *again} and (selected is None or run_id in selected):
            trained.add(run_id)
        for parent in record["needs"]:
            needing.setdefault(parent, []).append(record)
    return result


def _with_weights(
    stands: Standing, outcome: Outcome | None, children: Sequence[Mapping[str, Any]], *, finished: bool
) -> Standing:
    """How a pretext run stands once it is known which ``children`` are trained and if it was ever ``finished``.

    Trained again it has the same weights to the bit, so what has started from it stands.
    """
    wanted = {record["settings"].get("probe", {}).get("epoch") for record in children}
    if outcome is not None:
        if stands.state != "done":
            return stands
        if outcome.deleted & {backbone_file(epoch) for epoch in wanted}:
            return Standing("new", "weights were deleted", stands.stored)
        lacking = sorted(wanted - {None, *outcome.record.get("keeps", [])})
        if lacking:
            why = f"weights of {', '.join(map(str, lacking))} were not kept"
            return Standing("new", f"epoch {why}" if len(lacking) == 1 else f"epochs: {why}", stands.stored)
        return Standing("done", "weights deleted; nothing needs them", stands.stored) if outcome.deleted else stands
    if not finished:
        return stands
    if not wanted:
        return Standing("done", "deleted; nothing needs its weights", None)
    return Standing("new", "weights were deleted", None) if stands.state == "new" else stands


def to_json(value: Any) -> bytes:
    """JSON as the store writes it, keys in the order in which they were put."""
    return (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _how_far(store: Store, record: Mapping[str, Any]) -> str:
    """What is known of a run that was begun: its last committed epoch."""
    if in_use(store.folder):
        return "being trained now"
    folders = store.attempts.glob(f"{record['id']}.*/epoch-*/{MANIFEST}")
    last = max((int(path.parent.name.rpartition("-")[2]) for path in folders), default=0)
    epochs = record["settings"]["train"].get("epochs")
    return f"goes on after epoch {last} of {epochs}" if last else "begins again at its first epoch"


def _variant_key(record: Mapping[str, Any]) -> str:
    return json.dumps([record["kind"], record["variant"], record["seed"], record.get("repeat", 0)], sort_keys=True)


def _why_stale(record: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    before = {(plugin["kind"], plugin["name"]): plugin["sha256"] for plugin in stored["plugins"]}
    changed = {p["file"] for p in record["plugins"] if before.get((p["kind"], p["name"]), p["sha256"]) != p["sha256"]}
    if changed:
        return f"plugin {', '.join(sorted(changed))} changed"
    if stored["fingerprint"] != record["fingerprint"]:
        return "the data changed"
    if stored["results_version"] != record["results_version"]:
        return "trained by another version of the trainer"
    return "what it starts from is stale"


def _nearest_difference(others: Sequence[Outcome], settings: Mapping[str, Any]) -> str:
    """What sets a new run apart from the finished one of its variant that is most like it, and of those the latest."""
    if not others:
        return ""
    latest = sorted(others, key=lambda outcome: (outcome.folder / MANIFEST).stat().st_mtime_ns, reverse=True)
    changes = min((_changes(outcome.record["settings"], settings) for outcome in latest), key=len)
    return ", ".join(changes) or "what it starts from changed"


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        f"{key} {old.get(key, 'unset')} -> {new.get(key, 'unset')}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _hash_of(run_id: str) -> str:
    return run_id.rpartition("-")[2]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, "" if key == "train" else f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
