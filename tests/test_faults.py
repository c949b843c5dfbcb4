"""What may happen to a study while it runs, on the toy worker: kills, damage, full disks, second drivers.

Whatever happens, the same command goes on, no committed epoch is trained twice, and results and report come out byte
for byte as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotbench.checkpoint import committed_epochs, newest_checkpoint
from rotbench.driver import Orders
from rotbench.errors import EnvironmentLacking
from rotbench.store import Store, verify_folder
from rotbench.warm_engine import WarmEngine
from tests.program import ROOT, command, thorough
from tests.shared_studies import made_once
from tests.toy_study import STARTED, STUDY, toy_plan, toy_run
from tests.toy_study import main as toy_study

RESULTS = ("results.json", "results.csv", "report.html")


def start(folder: Path, *arguments: str, script: str = "toy_study", **environment: str) -> subprocess.Popen[bytes]:
    """The toy study in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.{script}", str(folder), *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        start_new_session=True,
    )


def finish_apart(folder: Path, *arguments: str, **environment: str) -> str:
    """Run the study until it is done in a process of its own; returns what it printed."""
    process = start(folder, *arguments, **environment)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error.decode()
    return error.decode()


def finish(folder: Path, *arguments: str, **environment: str) -> str:
    """Run the study in this process until it is done; returns what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(printed):
        for name, value in environment.items():
            patch.setenv(name, value)
        code = toy_study([str(folder), *arguments])
    assert code == 0, printed.getvalue()
    return printed.getvalue()


def limited(folder: Path, limit: str, most: int) -> subprocess.CompletedProcess[str]:
    """Run the study under a limit of the operating system; too large a file is an error of writing and no signal."""
    program = (
        f"import resource, signal, sys; resource.setrlimit(resource.{limit}, ({most}, {most})); "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from tests.toy_study import STARTED, main; "
        "sys.exit(main(sys.argv[1:], STARTED))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def outcome(folder: Path) -> dict[str, bytes]:
    """The files that a finished study leaves for people, as far as they were written."""
    return {name: (folder / name).read_bytes() for name in RESULTS if (folder / name).exists()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """results.json of a study to which nothing happened; the page is made of it alone."""
    folder = tmp_path_factory.mktemp("undisturbed") / "results"
    finish(folder)
    assert list(outcome(folder)) == ["results.json"]
    return outcome(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Likewise with the page and the table."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    finish(folder, TOY_PAGE="1")
    assert list(outcome(folder)) == list(RESULTS)
    return outcome(folder)


def workers_of(folder: Path) -> list[int]:
    """The processes that work on this store, by their command lines."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder).encode() in words and any(b"toy_worker" in word for word in words) and state != "Z":
            found.append(int(entry.name))
    return found


def until(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def kill_all(process: subprocess.Popen[bytes], folder: Path) -> None:
    for pid in [process.pid, *workers_of(folder)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not workers_of(folder), 5)


def events(folder: Path) -> list[tuple[str, str]]:
    """What workers did, in order: ("trained" or "committed", run and epoch)."""
    path = folder / "events.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, which) for what, _, which in (line.partition(" ") for line in lines)]


def trained_again(folder: Path) -> list[str]:
    """Epochs that were trained after they had been committed."""
    committed: set[str] = set()
    again = []
    for what, which in events(folder):
        if what == "committed":
            committed.add(which)
        elif which in committed:
            again.append(which)
    return again


def times_trained(folder: Path) -> Counter[str]:
    return Counter(which for what, which in events(folder) if what == "trained")


# Case 1


@pytest.mark.parametrize("most", [4, *thorough(50)])
def test_case_1_killed_at_random_moments_the_results_are_the_same(
    tmp_path: Path, undisturbed: dict[str, bytes], most: int
) -> None:
    """Driver and workers at once, as when the power fails. The seed is printed, to do the same again."""
    seed = 20
    print(f"seed {seed}")
    moments = random.Random(seed)
    folder = tmp_path / "results"
    kills = rounds = 0
    while kills < most:
        process = start(folder, TOY_SECONDS="0.02")
        time.sleep(moments.uniform(0.05, 1.2))
        if process.poll() is None:
            kills += 1
        kill_all(process, folder)
        rounds += 1
        if process.returncode == 0 or (folder / "results.json").exists():
            # It came to an end: its results are held, and another study is begun.
            finish(folder, TOY_SECONDS="0.02")
            assert outcome(folder) == undisturbed
            assert trained_again(folder) == []
            shutil.rmtree(folder)
    finish(folder)
    assert outcome(folder) == undisturbed
    assert trained_again(folder) == []
    assert kills == most


# Case 2


@pytest.mark.thorough
def test_case_2_the_driver_killed_at_every_operation_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's method: the n-th operation, n = 1, 2, .. until there is none; the page's among them."""
    monkeypatch.setenv("TOY_PAGE", "1")
    assert kill_at_operations(tmp_path, step=1) > 50


def test_case_2_the_driver_killed_at_every_thirteenth_operation(tmp_path: Path) -> None:
    assert kill_at_operations(tmp_path, step=13) > 3


@pytest.mark.thorough
def test_case_2_a_worker_killed_at_every_operation_in_turn(tmp_path: Path) -> None:
    """Within a checkpoint, between its files and its manifest, in the commit of the result."""
    # Opened, synced, renamed and its folder synced: each of two files of a checkpoint and four of a result.
    assert kill_worker_at_operations(tmp_path) >= 4 * (2 + 4)


def kill_worker_at_operations(tmp_path: Path) -> int:
    finish(tmp_path / "undisturbed", "1", "small")
    undisturbed = outcome(tmp_path / "undisturbed")
    kills = 0
    while True:
        folder = tmp_path / f"results{kills}"
        said = finish(folder, "1", "small", TOY_CUT=str(1 + kills))
        assert outcome(folder) == undisturbed, kills
        assert trained_again(folder) == [], kills
        if "was killed" not in said:
            return kills
        kills += 1
        shutil.rmtree(folder)


def kill_at_operations(tmp_path: Path, step: int) -> int:
    finish(tmp_path / "undisturbed", "1", "small")
    undisturbed = outcome(tmp_path / "undisturbed")
    page = ["rotbench.report"] if os.environ.get("TOY_PAGE") else []
    log = tmp_path / "log.txt"
    kills = 0
    operation = 1
    with contextlib.closing(WarmEngine(["tests.crashing_study", *page])) as drivers:
        while True:
            folder = tmp_path / f"results{operation}"
            code = drivers.launch("tests.crashing_study", [str(folder), str(operation)], log, 1).wait(120)
            if code == 0:
                assert outcome(folder) == undisturbed
                return kills
            assert code == -signal.SIGKILL, log.read_text()
            kills += 1
            end_workers(folder)
            # Old or new: every run that is there is whole.
            for run in (folder / "runs").iterdir() if (folder / "runs").exists() else ():
                assert verify_folder(run) is not None
            finish(folder, "1", "small")
            assert outcome(folder) == undisturbed, operation
            assert trained_again(folder) == [], operation
            shutil.rmtree(folder)
            operation += step


def end_workers(folder: Path) -> None:
    """Wait until the workers have seen that their driver is gone."""
    until(lambda: not workers_of(folder), 5)


# Cases 4 and 5


def test_case_4_a_killed_worker_is_tried_again_from_its_last_epoch_and_siblings_go_on(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    process = start(folder, TOY_SECONDS="0.4")
    until(lambda: committed_epochs(Store(folder), victim()))
    (pid,) = [pid for pid in workers_of(folder) if victim().encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(pid, signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"{victim()}: the worker was killed" in error.decode()
    assert outcome(folder) == undisturbed
    assert trained_again(folder) == []
    attempts = Counter((folder / "trained.txt").read_text().splitlines())
    assert attempts.pop(victim()) == 2
    assert set(attempts.values()) == {1}


def victim() -> str:
    return next(run.id for run in toy_plan().runs if run.kind == "pretext")


def test_case_5_when_only_the_driver_is_killed_its_workers_end_and_the_lock_is_free(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    process = start(folder, TOY_SECONDS="1.5")  # what is left to train takes longer than workers may live
    until(lambda: committed_epochs(Store(folder), victim()))
    process.kill()
    process.communicate()
    until(lambda: not workers_of(folder), 2)
    said = finish(folder)
    assert "ended without cleaning up; its lock is taken over" in said
    assert outcome(folder) == undisturbed
    assert trained_again(folder) == []


# Cases 6 to 10


@pytest.fixture
def interrupted(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of which the first pretext run has two committed epochs, and nothing runs."""

    def make(folder: Path) -> None:
        process = start(folder, "1", TOY_SECONDS="1")  # long enough to be caught between two epochs on a busy machine
        until(lambda: len(committed_epochs(Store(folder), victim())) == 2)
        kill_all(process, folder)

    return shutil.copytree(made_once(tmp_path_factory, "interrupted", make), tmp_path / "results")


def damages(path: Path) -> Iterator[tuple[str, bytes]]:
    """The newest checkpoint's file as it might be found after a crash or on a bad disk."""
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        yield f"cut to {length}", whole[:length]
    bits = random.Random(6)
    for _ in range(40):
        bit = bits.randrange(8 * len(whole))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)
    yield "a hole", bytes(len(whole))


@pytest.mark.parametrize("name", ["state.json", *thorough("manifest.json")])
def test_cases_6_and_7_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    interrupted: Path, name: str
) -> None:
    store = Store(interrupted)
    newest, older = committed_epochs(store, victim())
    cases = 0
    for what, content in damages(newest.folder / name):
        shutil.copytree(interrupted, interrupted.parent / "copy")
        copy = Store(interrupted.parent / "copy")
        (copy.folder / newest.folder.relative_to(interrupted) / name).write_bytes(content)
        found, told = newest_checkpoint(copy, victim())
        assert found is not None, what
        assert (found.epoch, len(told)) == (older.epoch, 1), what
        assert "set aside" in told[0]
        assert len(list((copy.folder / "quarantine").iterdir())) == 1
        shutil.rmtree(copy.folder)
        cases += 1
    assert cases == 45


def test_a_study_with_a_damaged_checkpoint_comes_to_the_same_end(
    interrupted: Path, undisturbed: dict[str, bytes]
) -> None:
    newest = committed_epochs(Store(interrupted), victim())[0]
    state = newest.folder / "state.json"
    state.write_bytes(state.read_bytes()[:-1])
    assert "it is set aside" in finish(interrupted)
    assert outcome(interrupted) == undisturbed


def test_case_8_with_all_checkpoints_damaged_the_run_begins_again(
    interrupted: Path, undisturbed: dict[str, bytes]
) -> None:
    for checkpoint in committed_epochs(Store(interrupted), victim()):
        (checkpoint.folder / "state.json").write_bytes(b"")
    finish(interrupted)
    assert outcome(interrupted) == undisturbed
    assert times_trained(interrupted)[f"{victim()} 1"] == 2


@pytest.mark.parametrize("name", ["result.json", "manifest.json", *thorough("run.json", "log.txt")])
def test_case_9_a_damaged_parent_is_trained_again_and_what_is_whole_is_not(
    tmp_path: Path, undisturbed: dict[str, bytes], name: str
) -> None:
    folder = tmp_path / "results"
    finish(folder)
    (folder / "runs" / victim() / name).write_bytes(b"{")
    said = finish(folder)
    assert "set aside" in said
    assert outcome(folder) == undisturbed
    attempts = Counter((folder / "trained.txt").read_text().splitlines())
    assert attempts.pop(victim()) == 2
    assert set(attempts.values()) == {1}


def test_case_10_torn_files_beside_the_runs_are_written_anew(tmp_path: Path, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "results"
    finish(folder, TOY_PAGE="1")
    before = (folder / "trained.txt").read_bytes()
    for name in RESULTS:
        (folder / name).write_bytes(b"")
    (folder / "study.json").unlink()  # as its message recommends
    finish(folder, TOY_PAGE="1")
    assert outcome(folder) == whole
    assert (folder / "trained.txt").read_bytes() == before


# Cases 11 to 14


def test_case_11_a_full_disk_is_told_and_the_study_goes_on_once_there_is_room(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """A limit on the size of files stands for a disk that is full: writing ends in the same way."""
    folder = tmp_path / "results"
    done = limited(folder, "RLIMIT_FSIZE", 4096)
    assert done.returncode == 4, done.stderr
    assert "no room to write" in done.stderr
    assert "MB free" in done.stderr
    finish(folder)
    assert outcome(folder) == undisturbed


def test_case_13_a_second_driver_is_turned_away_and_told_whose_the_store_is(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    first = start(folder, TOY_SECONDS="0.3")
    until((folder / "trained.txt").exists)
    second = start(folder)
    _, error = second.communicate(timeout=30)
    assert second.returncode == 3
    assert f"in use by process {first.pid}" in error.decode()
    kill_all(first, folder)


def test_case_14_the_lock_of_a_dead_process_is_taken_over_whoever_has_its_number_now(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / ".owner.json").write_text(json.dumps({"pid": os.getpid(), "host": "elsewhere"}))  # a living number
    (folder / ".lock").touch()
    assert "taken over" in finish(folder)
    assert outcome(folder) == undisturbed


# Case 17


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("crash", "the worker ended with code 3 and no result, 2 times"),
        ("exit", "the worker ended with code 0 and no result, 2 times"),
        ("segfault", "the worker died of signal 11, 2 times"),
        ("fail", "it was to fail"),
    ],
)
def test_case_17_a_variant_that_dies_is_failed_with_its_reason_and_siblings_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, words: str
) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", f"{behaviour}@random-s0")
    ended = toy_run(tmp_path / "results", Orders(jobs=2))
    assert (ended.done, ended.failed) == (5, 1)
    runs = json.loads((tmp_path / "results" / "results.json").read_text())["runs"]
    (failed,) = (run for run in runs if run["status"] == "failed")
    assert (failed["variant"], failed["seed"], failed["error"]) == ({"init": "random"}, 0, words)


def test_case_18_a_variant_that_hangs_is_ended_and_siblings_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "hang@random-s0")
    ended = toy_run(tmp_path / "results", Orders(jobs=2, stall_seconds=2.0), engine=STARTED)
    assert (ended.done, ended.failed) == (5, 1)
    assert workers_of(tmp_path / "results") == []


def test_case_18_a_variant_that_prints_without_end_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_BEHAVIOUR", "shout@random-s0")
    ended = toy_run(tmp_path / "results", Orders(jobs=2))
    assert (ended.done, ended.failed) == (6, 0)
    (loud,) = (tmp_path / "results" / "runs").glob("random-s0-*")
    size = (loud / "worker.log").stat().st_size
    assert 2**20 <= size < 2**20 + 200
    assert b"bytes are left out" in (loud / "worker.log").read_bytes()


# Case 32


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), *thorough((signal.SIGTERM, 143))])
def test_case_32_one_signal_saves_at_the_end_of_the_epoch(
    tmp_path: Path, whole: dict[str, bytes], number: int, code: int
) -> None:
    folder = tmp_path / "results"
    process = start(folder, TOY_SECONDS="0.2", TOY_PAGE="1")
    until((folder / "events.txt").exists)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == code
    assert "stopping at the end of the epoch" in error.decode()
    assert workers_of(folder) == []
    assert (folder / "report.html").exists()
    finish(folder, TOY_PAGE="1")
    assert outcome(folder) == whole
    # Nothing at all was trained twice: what was begun was finished and saved.
    assert set(times_trained(folder).values()) == {1}


def test_case_32_a_second_signal_ends_everything_at_once(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "results"
    process = start(folder, TOY_SECONDS="30")
    until((folder / "trained.txt").exists)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert workers_of(folder) == []
    finish(folder)
    assert outcome(folder) == undisturbed


# Cases 33, 34 and 38


def test_case_33_clocks_and_times_of_files_mean_nothing(interrupted: Path, undisturbed: dict[str, bytes]) -> None:
    times = random.Random(33)
    for path in interrupted.rglob("*"):
        os.utime(path, (times.uniform(0, 2e9),) * 2)
    found, _ = newest_checkpoint(Store(interrupted), victim())
    assert found is not None
    assert found.epoch == max(checkpoint.epoch for checkpoint in committed_epochs(Store(interrupted), victim()))
    finish(interrupted)
    assert outcome(interrupted) == undisturbed


def test_case_34_a_store_that_is_copied_elsewhere_goes_on_there(
    interrupted: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    elsewhere = tmp_path / "another place" / "with spaces"
    shutil.copytree(interrupted, elsewhere)
    shutil.rmtree(interrupted)
    finish(elsewhere)
    assert outcome(elsewhere) == undisturbed
    assert trained_again(elsewhere) == []


@pytest.mark.parametrize(
    ("jobs", "environment"),
    [
        *thorough(("1", {})),
        *thorough(("3", {"PYTHONHASHSEED": "1"})),
        ("3", {"PYTHONHASHSEED": "2", "LC_ALL": "C", "LANG": "C", "TZ": "Asia/Tokyo"}),
    ],
)
@pytest.mark.thorough
def test_case_38_jobs_hash_seed_locale_and_time_zone_change_nothing(
    tmp_path: Path, whole: dict[str, bytes], jobs: str, environment: dict[str, str]
) -> None:
    folder = tmp_path / "results"
    finish_apart(folder, jobs, TOY_PAGE="1", **environment)
    assert outcome(folder) == whole
    finish(folder, jobs, TOY_PAGE="1")
    assert outcome(folder) == whole


# Cases 12, 36, 45 and 46


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a folder that nobody may write to")
def test_case_12_a_folder_that_cannot_be_written_is_told_before_training(tmp_path: Path) -> None:
    process = start(Path("/sys/kernel/results"))
    _, error = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "/sys/kernel/results cannot be written" in error.decode()
    assert "--out" in error.decode()


def test_case_36_verify_finds_one_flipped_byte_in_any_kind_of_file_and_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    finish(folder, "1", "small")
    kinds = 0
    for run in sorted((folder / "runs").iterdir()):
        for path in sorted(run.iterdir()):
            if path.suffix == ".log":
                continue  # what a worker printed is kept, and nothing relies on it
            whole = path.read_bytes()
            path.write_bytes(whole[:5] + bytes([whole[5] ^ 1]) + whole[6:])
            done = command(tmp_path, "verify")
            assert done.returncode == 3, path
            assert str(path.relative_to(tmp_path)) in done.stderr
            path.write_bytes(whole)
            kinds += 1
    assert command(tmp_path, "verify").returncode == 0
    assert kinds == 2 * 4 + 1  # the weights of the pretext run


@pytest.mark.thorough
def test_case_45_without_a_home_and_on_a_dumb_terminal_nothing_changes(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    finish_apart(folder, HOME="/nonexistent", TERM="dumb", COLUMNS="3", XDG_CACHE_HOME="/nonexistent")
    assert outcome(folder) == undisturbed


def test_case_46_with_few_file_handles_nothing_changes(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "results"
    done = limited(folder, "RLIMIT_NOFILE", 40)
    assert done.returncode == 0, done.stderr
    assert outcome(folder) == undisturbed


def test_a_disk_without_room_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotbench.driver.free_bytes", lambda folder: 50_000_000)
    with pytest.raises(EnvironmentLacking, match=r"50 MB free; the study needs about \d+ MB"):
        toy_run(tmp_path / "results", Orders(jobs=2))
    assert not (tmp_path / "results" / "trained.txt").exists()


def test_what_is_finished_is_not_set_aside_before_there_is_room_to_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes of earlier epochs need the pretext run again: it goes only once its successor can be made."""
    folder = tmp_path / "results"
    toy_run(folder, Orders(jobs=2))
    before = sorted(path.name for path in (folder / "runs").iterdir())
    probed = f"{STUDY}[probes]\nepochs = [1]\n"
    with monkeypatch.context() as patch:
        patch.setattr("rotbench.driver.free_bytes", lambda folder: 1000)
        with pytest.raises(EnvironmentLacking, match="free; the study needs"):
            toy_run(folder, Orders(jobs=2), probed)
    assert sorted(path.name for path in (folder / "runs").iterdir()) == before
    assert not (folder / "quarantine").exists()
