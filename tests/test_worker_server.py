"""Workers that are forked from one process: alike those that are started anew, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from rotbench.cli import cli, local_engine
from rotbench.driver import Orders, report_writer, run_study
from rotbench.engine import LOST, Engine, ProcessEngine
from rotbench.errors import EnvironmentLacking
from rotbench.plan import Plan, make_plan
from rotbench.registry import load_registry
from rotbench.source import parse_source
from rotbench.store import Store
from rotbench.study import understand
from rotbench.system import LOG_BYTES
from rotbench.warm_engine import TRAINING, ForkedHandle, WarmEngine
from tests.few_images import DATASET, write_images
from tests.program import ROOT, thorough, wait_for, warm_engine
from tests.test_driver import Heard
from tests.test_system import alive
from tests.toy_study import nothing

CHILD = "tests.forked"

DRIVER = """
import sys, time
from pathlib import Path
from rotbench.warm_engine import WarmEngine
engine = WarmEngine()
handles = [engine.launch("tests.forked", ["stay"], Path(sys.argv[1]) / f"{number}.log", 1) for number in range(2)]
print(engine.server_pid, flush=True)
while sys.argv[2] == "two" and not all(handle.begun() for handle in handles):
    [handle.poll() for handle in handles]
    time.sleep(0.01)
print(*(handle.pid for handle in handles), flush=True)
time.sleep(60)
"""


@pytest.fixture
def engine() -> WarmEngine:
    """The engine of a study: its server has loaded PyTorch."""
    return warm_engine()


@pytest.fixture(scope="module")
def light() -> Iterator[WarmEngine]:
    """One whose server has loaded nothing that takes time."""
    with contextlib.closing(WarmEngine([CHILD])) as made:
        yield made


def launch(engine: WarmEngine, log: Path, *arguments: str, threads: int = 1) -> ForkedHandle:
    return engine.launch(CHILD, arguments, log, threads)


def described(engine: WarmEngine | ProcessEngine, folder: Path, threads: int = 1) -> dict[str, Any]:
    """What a child is like, here or in a process of its own."""
    log = folder / f"{type(engine).__name__}-{threads}.log"
    handle = engine.launch(CHILD, ["describe", "a b", "ü"], log, threads)
    assert wait_for(lambda: [handle.poll()] if handle.poll() is not None else []) == [0], log.read_text()
    found: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return found


@pytest.mark.parametrize("threads", thorough(1, 2))
def test_a_child_is_like_a_process_of_its_own(
    engine: WarmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("NEW", "with\nlines, ü and \udcff")  # what is no UTF-8 comes through too
    monkeypatch.delenv("HOME")
    warm, again, cold = (described(one, tmp_path, threads) for one in (engine, engine, ProcessEngine()))
    assert warm["environment"] == cold["environment"]
    assert warm["environment"]["OMP_NUM_THREADS"] == str(threads)
    assert {one["pid"] == one["group"] for one in (warm, cold)} == {True}
    assert warm["pid"] != again["pid"]
    own = ("pid", "group", "environment", "draws", "age")
    assert {name: warm[name] for name in warm if name not in own} == {
        name: cold[name] for name in cold if name not in own
    }
    assert warm["open"] == [0, 1, 2]
    assert threads > 1 or warm["threads"] == 1
    assert warm["folder"] == str(tmp_path / "below")
    assert warm["arguments"] == ["describe", "a b", "ü"]
    assert not {*warm["draws"]} & {*again["draws"]}  # nobody draws what a sibling draws
    assert warm["age"] < 2  # and not what its server took to load PyTorch


def test_the_server_has_one_thread_and_a_session_of_its_own(engine: WarmEngine, tmp_path: Path) -> None:
    handle = launch(engine, tmp_path / "log", "exit", "0")
    assert handle.wait(60) == 0
    assert "Threads:\t1\n" in Path(f"/proc/{engine.server_pid}/status").read_text()
    assert os.getsid(engine.server_pid) == engine.server_pid != os.getsid(0)
    listed = Path(f"/proc/{engine.server_pid}/maps").read_text()
    assert "libtorch" in listed
    assert "/dev/nvidia" not in listed


def test_how_a_child_ends_reaches_the_driver(light: WarmEngine, tmp_path: Path) -> None:
    cases = {
        ("exit", "0"): 0,
        ("exit", "75"): 75,
        ("signal", "9"): -9,
        ("signal", "15"): -15,
        ("raise",): 1,
        ("leave",): 1,
    }
    handles = {case: launch(light, tmp_path / "-".join(case), *case) for case in cases}
    assert {case: handle.wait(60) for case, handle in handles.items()} == cases
    assert all(handle.begun() and handle.poll() == cases[case] for case, handle in handles.items())
    # Like a Python that ends: threads are waited for, what is registered is called, what is raised is printed.
    assert (tmp_path / "exit-75").read_text() == "late\nthe end\n"
    assert (tmp_path / "raise").read_text().endswith("\nValueError: it was to raise\n")
    assert (tmp_path / "leave").read_text() == "left with words\n"


def test_nothing_waits_for_a_child_that_is_begun(light: WarmEngine, tmp_path: Path) -> None:
    assert launch(light, tmp_path / "first", "exit", "0").wait(60) == 0
    began = time.monotonic()
    handle = launch(light, tmp_path / "log", "stay")
    assert handle.poll() is None
    assert time.monotonic() - began < 0.1
    wait_for(lambda: handle.poll() is None and handle.begun(), 5)
    with pytest.raises(subprocess.TimeoutExpired):
        handle.wait(0.1)
    handle.end()


@pytest.mark.parametrize("more", [(), ("stubborn",)])
def test_a_child_is_ended_with_all_that_it_started(light: WarmEngine, tmp_path: Path, more: tuple[str, ...]) -> None:
    log = tmp_path / "log"
    handle, other = launch(light, log, "stay", *more), launch(light, tmp_path / "other", "stay")
    wait_for(lambda: "up" in (log.read_text() if log.exists() else ""))
    handle.poll()
    other.poll()
    below = int(log.read_text().split()[0])
    handle.end()
    assert handle.poll() == (-signal.SIGKILL if more else -signal.SIGTERM)
    wait_for(lambda: not alive(below), 2)
    assert other.poll() is None
    other.end()
    assert light.server_pid


def test_of_what_a_child_prints_a_bounded_part_is_kept(light: WarmEngine, tmp_path: Path) -> None:
    handle = launch(light, tmp_path / "log", "print", "50")
    assert handle.wait(60) == 0
    assert 2 * LOG_BYTES < (tmp_path / "log").stat().st_size < 2 * LOG_BYTES + 100
    assert b"bytes are left out" in (tmp_path / "log").read_bytes()


def test_what_ran_on_a_dead_server_is_lost_and_the_next_is_served(light: WarmEngine, tmp_path: Path) -> None:
    handles = [launch(light, tmp_path / f"{number}", "stay", "stubborn") for number in range(2)]
    wait_for(lambda: all("up" in log.read_text() for log in tmp_path.iterdir()))
    assert [handle.poll() for handle in handles] == [None, None]
    dead = light.server_pid
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: all(handle.poll() == LOST for handle in handles), 2)
    wait_for(lambda: not any(alive(handle.pid) for handle in handles), 2)
    assert light.server_pid == 0
    anew = launch(light, tmp_path / "anew", "exit", "3")
    assert not anew.begun()
    assert anew.wait(60) == 3
    assert light.server_pid not in (0, dead)


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("when", ["loading", "two"])
def test_nothing_outlives_a_driver_that_is_killed(tmp_path: Path, when: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), when],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as driver:
        assert driver.stdout is not None
        pids = [int(driver.stdout.readline())]
        pids += [int(pid) for pid in driver.stdout.readline().split()]
        if when == "two":
            logs = [tmp_path / "0.log", tmp_path / "1.log"]
            wait_for(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
            pids += [int(log.read_text().split()[0]) for log in logs]
            assert [os.getpgid(pid) for pid in pids[1:3]] == pids[1:3]
        else:
            wait_for(lambda: "libtorch" in Path(f"/proc/{pids[0]}/maps").read_text())
            pids = pids[:1]
        assert all(alive(pid) for pid in pids)
        driver.kill()
    wait_for(lambda: gone(pids), 2)


def test_what_is_not_begun_can_be_ended_and_a_server_that_loads_too(tmp_path: Path) -> None:
    engine = WarmEngine()
    handle = launch(engine, tmp_path / "log", "exit", "0")
    server = engine.server_pid
    began = time.monotonic()
    assert (handle.poll(), handle.begun()) == (None, False)
    handle.end()
    engine.close()
    assert time.monotonic() - began < 2
    assert not alive(server)
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ImportError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13: cannot open shared"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9"),
    ],
)
def test_a_server_that_cannot_load_torch_ends_the_study_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    (tmp_path / "torch.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    store, engine = Store(tmp_path / "results"), WarmEngine()
    store.create()
    with pytest.raises(EnvironmentLacking, match=f"PyTorch cannot be loaded: .*{told}"):
        train(plan("[[matrix]]\ninit = ['random']", tmp_path), store, engine)
    assert engine.server_pid == 0
    assert list(store.runs.iterdir()) == []
    engine.close()


def plan(text: str, folder: Path) -> Plan:
    study, faults = understand(parse_source(f"title = 'small'\nseeds = [0]\n{text}", "study.toml"), Path())
    return make_plan(study, faults, load_registry(shipped_only=True), folder / "images", rehearsal=True)


def train(made: Plan, store: Store, engine: Engine) -> Heard:
    store.create()
    heard = Heard()
    ended = run_study(made, store, engine, Orders(jobs=1), heard, "rotbench run", report_writer(store))
    assert ended.done == ended.planned, heard.ends
    return heard


def kept(folder: Path) -> dict[str, Any]:
    """All that a study keeps of its runs, but for what a clock measured."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*/*")):
        if path.name == "result.json":
            found[f"{path.parent.name}/result"] = without_clock(json.loads(path.read_bytes()))
        elif path.name not in ("manifest.json", "log.txt", "worker.log"):
            found[f"{path.parent.name}/{path.name}"] = path.read_bytes()
    return found


def without_clock(told: Any) -> Any:
    if isinstance(told, dict):
        measured = ("seconds_shared_by", "images_per_second")
        return {
            key: without_clock(value)
            for key, value in told.items()
            if key not in measured and not key.endswith("seconds")
        }
    return [without_clock(value) for value in told] if isinstance(told, list) else told


STUDY = f"""
{DATASET}[train]
batch_size = 16
[[matrix]]
init = ["random"]
"""
PROBED = """
[resources]
threads = 2
[probes]
stages = ["layer4"]
"""


@pytest.mark.parametrize("text", [STUDY, *thorough(f"{STUDY}{PROBED}")], ids=["one thread", "two and a probe"])
def test_forked_workers_give_what_started_ones_give_to_the_bit(
    engine: WarmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A run with one thread; and a run and a probe with two. Weights are among the results as hashes."""
    # Read when libraries are loaded: threads that wait for one another leave the cores to other tests.
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    own = contextlib.closing(WarmEngine([*TRAINING, "rotbench.probe"]))
    warm, cold = Store(tmp_path / "warm"), Store(tmp_path / "cold")
    write_images(tmp_path)
    with own if PROBED in text else contextlib.nullcontext(engine) as forking:
        train(plan(text, tmp_path), warm, forking)
    train(plan(text, tmp_path), cold, ProcessEngine(preparation=nothing))
    found = kept(warm.runs)
    assert found == kept(cold.runs)
    results = [content for name, content in found.items() if name.endswith("/result")]
    assert len(results) == (2 if PROBED in text else 1)
    assert all(len(told["provenance"]["start"]["backbone_sha256"]) == 64 for told in results)
    assert all(told["provenance"]["threads"] == len(results) for told in results)


def test_local_is_forked_on_linux_and_process_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    given = WarmEngine()
    with click.Context(cli), local_engine("local") as own, local_engine("process") as process:
        assert (type(own), type(process)) == (WarmEngine, ProcessEngine)
    with click.Context(cli, obj=given), local_engine() as engine:
        assert engine is given
    monkeypatch.setattr(sys, "platform", "darwin")
    with click.Context(cli, obj=given), local_engine("local") as elsewhere:
        assert type(elsewhere) is ProcessEngine
