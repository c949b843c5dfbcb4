"""One attempt at one run, in a process of its own: ``python -m rotbench.worker STORE RUN ATTEMPT``.

The worker reads its request from the attempt's folder, writes how it fares to ``progress.jsonl``, and ends by
committing the result, good or bad, to the same folder. Exit code 0 means that the attempt is committed; 75 that it was
asked to stop and has saved its state; the exit code of a ``RotbenchError`` that the study must stop, for the reason in
``error.json``; anything else that the worker died.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rotbench.checkpoint import CHECKPOINT_SHARE, EXIT_STOPPED, Schedule, Stopped, most_company
from rotbench.errors import RotbenchError
from rotbench.spoken import scored
from rotbench.store import attempt_folder, commit, leave_error, to_json
from rotbench.system import end_with_parent

#: When this process began, but for the start of Python itself, if it is one of its own.
BEGAN = time.monotonic()


class Progress:
    """Lines of JSON that the driver follows, and the log that is kept."""

    def __init__(self, path: Path, epochs: int, score_name: str) -> None:
        self.lines: list[str] = []
        self.rows: list[Mapping[str, float | None]] = []
        self._file = path.open("a", encoding="utf-8")
        self._epochs = epochs
        self._score_name = score_name

    def report(self, entry: Mapping[str, float | None]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if "train_loss" in entry:
            self._note(entry)

    def resumed(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Take over what an earlier attempt has done: the log is what it would have been."""
        for row in history:
            self._note(row)

    def _note(self, row: Mapping[str, Any]) -> None:
        self.rows.append(row)
        self.lines.append(log_line(row, self._epochs, self._score_name))


def log_line(row: Mapping[str, float | None], epochs: int, score_name: str) -> str:
    """One epoch in words, as the log shows it."""
    word = "acc" if score_name == "accuracy" else score_name
    parts = [
        f"  {part} loss {row[f'{part}_loss']:.3f} {word} {scored(row[f'{part}_accuracy'] or 0.0, score_name)}"
        for part in ("train", "validation", "test")
        if row.get(f"{part}_loss") is not None
    ]
    return f"epoch {row['epoch']}/{epochs}{''.join(parts)}  lr {row['lr']:.3g}  {row['seconds']:.1f} s"


def main(arguments: list[str], began: float = BEGAN) -> int:
    """Make one attempt; see the module's docstring for the exit code. ``began``: when the process did."""
    store, run_id, number = arguments
    end_with_parent()
    attempt = attempt_folder(Path(store), run_id, number)
    request = json.loads((attempt / "request.json").read_bytes())
    epochs = request["run"]["settings"]["train"].get("epochs", 1)  # a probe has none
    progress = Progress(attempt / "progress.jsonl", epochs, request["run"].get("score_name", "accuracy"))
    files: dict[str, bytes] = {}
    result: dict[str, Any] = {"error": None, "diverged": False}
    try:
        # Here, so that a heavy import that fails is a failure of the run and told as one.
        if request["run"]["kind"] == "probe":
            from rotbench.probe import perform_probe

            result.update(perform_probe(request, Path(store), progress.report))
        else:
            from rotbench.attempt import perform

            schedule = Schedule(attempt, request["run"]["id"], request.get("checkpoint_share", CHECKPOINT_SHARE))
            made, files = perform(request, Path(store), progress.report, progress.resumed, schedule)
            result.update(made)
        commit_result(attempt, request, result, files, progress, began)
    except Stopped:
        return EXIT_STOPPED
    except RotbenchError as error:
        return leave_error(attempt, error)
    except BaseException as error:  # a plugin may raise anything: this run has failed, its siblings go on
        traceback.print_exc()
        result = {
            "error": described(error, request),
            "diverged": type(error).__name__ == "Diverged",
            "history": progress.rows,
        }
        progress.lines.append(f"failed: {result['error']}")
        commit_result(attempt, request, result, {}, progress, began)
    return 0


def commit_result(
    attempt: Path,
    request: Mapping[str, Any],
    result: Mapping[str, Any],
    files: Mapping[str, bytes],
    progress: Progress,
    began: float,
) -> None:
    """Commit what came of an attempt together with what was asked for and the log."""
    everything = {
        **files,
        "run.json": to_json(request["run"]),
        "result.json": to_json(
            {**result, "worker_seconds": time.monotonic() - began, "seconds_shared_by": most_company(attempt)}
        ),
        "log.txt": "".join(f"{line}\n" for line in progress.lines).encode(),
    }
    commit(attempt, request["run"]["id"], "failed" if result["error"] else "done", everything)


def described(error: BaseException, request: Mapping[str, Any]) -> str:
    """An error in one line; where it came from a plugin, with the plugin's method, file and line."""
    text = " ".join(str(error).split())
    if type(error).__name__ in ("Diverged", "Unproven"):
        return text
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    folders = {Path(reference["location"]).parent for reference in request["plugins"]}  # helper modules lie there too
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).parent in folders:
            return f"{named} (in {frame.name}, {Path(frame.filename).name}:{frame.lineno})"
    return named


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
