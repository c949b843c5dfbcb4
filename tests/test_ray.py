"""A real Ray cluster of two nodes on this machine: what it computes, and what may happen to it.

Results are those of the local engine to the byte, whatever is killed, lost or frozen; everything that is started is
ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rotbench.driver import Orders
from rotbench.store import Store
from tests.few_images import DATASET, write_images
from tests.program import ROOT, command, rotbench, wait_for
from tests.test_faults import outcome
from tests.toy_study import STUDY, toy_run

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.timeout(240),
    # Ray's own processes and sockets, some of which it leaves to the collector.
    pytest.mark.filterwarnings("ignore"),
]

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
#: Seconds that a toy epoch takes where something is to happen in it.
SLOW = "0.5"


@contextlib.contextmanager
def a_cluster(nodes: int = 1, **head: Any) -> Iterator[Any]:
    """A head that trains nothing, and nodes with room for one run each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False, **head}
    )
    try:
        for _ in range(nodes):
            made.add_node(**NODE)
        yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, which every test leaves as many as they were."""
    with a_cluster(nodes=2) as made:
        yield made


@contextlib.contextmanager
def restored(cluster: Any) -> Iterator[None]:
    """Has two nodes again afterwards, whatever was removed."""
    try:
        yield
    finally:
        for _ in range(2 - len(cluster.worker_nodes)):
            cluster.add_node(**NODE)


def remove(cluster: Any, raylet: int | None = None) -> None:
    """Take one node away at once; that whose raylet has this process id, if it is given."""
    node, *_ = [node for node in cluster.worker_nodes if raylet in (None, node.all_processes["raylet"][0].process.pid)]
    cluster.remove_node(node, allow_graceful=False)


@contextlib.contextmanager
def nodes_of(cluster: Any) -> Iterator[Callable[[], int]]:
    """What counts the living nodes of a cluster, its head among them."""
    import ray

    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield lambda: sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the local engine makes of the toy study."""
    folder = tmp_path_factory.mktemp("local") / "results"
    assert toy_run(folder, Orders(jobs=2)).failed == 0
    return outcome(folder)


def start(folder: Path, address: str, **environment: str) -> subprocess.Popen[bytes]:
    """The toy study on a cluster, its driver in a process group of its own."""
    with said_by(folder).open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_study", str(folder), address],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            start_new_session=True,
        )
    process.args = folder
    return process


def said_by(folder: Path) -> Path:
    """Where a driver's standard error lies."""
    return folder.with_name("said.txt")


def finish(process: subprocess.Popen[bytes], code: int = 0) -> str:
    """Wait for a driver to end with this code; returns what it said."""
    try:
        process.wait(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert isinstance(process.args, Path)
    said = said_by(process.args).read_text()
    assert process.returncode == code, said
    return said


def toys(folder: Path) -> list[int]:
    """The process ids of the toy workers of a store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"tests.toy_worker" in words and str(folder).encode() in words:
                found.append(int(path.parent.name))
    return found


def at_work(folder: Path) -> list[int]:
    """The process ids of the toy workers of a store once each has begun its training."""
    begun = sum(trained(folder).values()) if (folder / "trained.txt").exists() else 0
    found = toys(folder)
    return found if len(found) <= begun else []


def parent_of(process: int) -> int:
    return int(re.findall(r"^PPid:\s*(\d+)", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)[0])


def trained(folder: Path) -> Counter[str]:
    """How often each run was begun."""
    return Counter((folder / "trained.txt").read_text().split())


def runs(folder: Path) -> set[str]:
    return {path.name for path in (folder / "runs").iterdir()}


def test_a_cluster_computes_what_one_machine_does(tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / ".seen-before").touch()  # as a command leaves it that was killed
    finish(start(folder, cluster.address))
    assert outcome(folder) == undisturbed
    assert trained(folder) == dict.fromkeys(runs(folder), 1)
    assert list((folder / "attempts").iterdir()) == []
    assert not [path for path in folder.iterdir() if path.name.startswith(".seen")]


def test_real_training_is_the_same_to_the_bit(tmp_path: Path, cluster: Any) -> None:
    text = """
title = "Real"
[train]
epochs = 1
batch_size = 64
[pretext.rotation]
task = "rotation"
[[matrix]]
init = ["random", "rotation"]
labels_per_class = 5
updates = "epochs"
[probes]
stages = ["layer4"]
"""
    (tmp_path / "study.toml").write_text(text + DATASET)
    write_images(tmp_path)
    local = command(tmp_path, "run", "study.toml", "-q", "--out", "local")
    assert local.returncode == 0, local.stderr
    done = rotbench(tmp_path, "run", "study.toml", "--out", "ray", "--engine", "ray", "--ray-address", cluster.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "ray" / "report.html").as_uri()
    told = []
    for name in ("local", "ray"):
        results = json.loads((tmp_path / name / "results.json").read_text())
        for run in results["runs"]:
            run |= {"train_seconds": 0, "images_per_second": 0}
            run["log"] = re.sub(r" [\d.]+ s$", "", run["log"], flags=re.MULTILINE)
            for row in run["history"]:
                row["seconds"] = 0
        results.pop("seconds_shared_by")
        told.append(results)
    assert told[0] == told[1]
    kept = [
        {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.glob("runs/*/*.safetensors")}
        for folder in (tmp_path / "local", tmp_path / "ray")
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


def test_threads_are_those_of_the_study_whatever_ray_sets(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "results"
    finish(start(folder, cluster.address, TOY_STUDY=f"{STUDY}[resources]\nthreads = 3\ncpus = 1\n"))
    assert (folder / "threads.txt").read_text().split() == ["3"] * 6  # Ray would set the one that is reserved


@pytest.mark.parametrize("whose", ["the worker", "what watches it"])
def test_case_39_a_worker_that_is_killed_is_started_again(
    tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes], whose: str
) -> None:
    folder = tmp_path / "results"
    process = start(folder, cluster.address, TOY_SECONDS=SLOW)
    victim = wait_for(lambda: at_work(folder))[0]
    os.kill(victim if whose == "the worker" else parent_of(victim), signal.SIGKILL)
    said = finish(process)
    assert ("SIGKILL" if whose == "the worker" else "its node or server was lost") in said
    assert outcome(folder) == undisturbed
    assert sorted(trained(folder).values()) == [1, 1, 1, 1, 1, 2]


def test_case_40_what_a_removed_node_was_doing_is_done_by_another(
    tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    with restored(cluster):
        process = start(folder, cluster.address, TOY_SECONDS=SLOW)
        wait_for(lambda: len(at_work(folder)) == 2)
        remove(cluster)
        said = finish(process)
    assert "its node or server was lost" in said
    assert outcome(folder) == undisturbed
    assert max(trained(folder).values()) == 2
    assert toys(folder) == []


def test_case_41_a_killed_driver_takes_its_workers_with_it_and_the_next_goes_on(
    tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    process = start(folder, cluster.address, TOY_SECONDS=SLOW)
    wait_for(lambda: len(runs(folder)) >= 2 if (folder / "runs").exists() else False)
    wait_for(lambda: at_work(folder))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not toys(folder), 30)
    before = runs(folder)
    said = finish(start(folder, cluster.address))
    assert "its lock is taken over" in said
    assert outcome(folder) == undisturbed
    assert all(trained(folder)[run] == 1 for run in before)


@pytest.mark.parametrize("behaviour", ["crash", "hang"])
def test_case_42_a_run_that_always_dies_is_tried_as_often_as_locally_and_its_siblings_are_done(
    tmp_path: Path, cluster: Any, behaviour: str
) -> None:
    folder = tmp_path / "results"
    process = start(folder, cluster.address, TOY_BEHAVIOUR=f"{behaviour}@random-s1", STALL_SECONDS="4")
    assert "2 times" in finish(process, code=1)
    results = json.loads((folder / "results.json").read_text())
    assert Counter(run["status"] for run in results["runs"]) == {"done": 5, "failed": 1}
    poisoned = next(run for run in results["runs"] if run["status"] == "failed")
    assert trained(folder)[poisoned["id"]] == 2


def test_case_43_a_frozen_node_loses_its_run_and_what_it_says_later_is_not_used(
    tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    with restored(cluster):
        process = start(folder, cluster.address, TOY_SECONDS=SLOW, SILENT_SECONDS="4")
        victim = wait_for(lambda: at_work(folder))[0]
        run, number = Path(f"/proc/{victim}/cmdline").read_text().split("\0")[-3:-1]
        late = folder / "attempts" / f"{run}.{number}" / "manifest.json"
        frozen = [victim, parent_of(victim), parent_of(parent_of(victim))]  # worker, Ray's process, the raylet
        for process_id in reversed(frozen):
            os.kill(process_id, signal.SIGSTOP)
        try:
            wait_for(lambda: trained(folder)[run] == 2)
            os.kill(victim, signal.SIGCONT)  # it alone: who would end it cannot yet
            wait_for(late.exists)
            assert json.loads(late.read_text())["status"] == "done"
            wait_for(lambda: run in runs(folder))
            assert late.exists()  # what was published is not what came late
        finally:
            for process_id in frozen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGCONT)
        said = finish(process)
        remove(cluster, raylet=frozen[-1])
    assert "its node or server was lost" in said
    assert outcome(folder) == undisturbed
    assert len(runs(folder)) == 6
    assert list((folder / "attempts").iterdir()) == []


def test_a_store_whose_head_is_lost_is_finished_by_one_machine(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "results"
    with a_cluster() as cluster:
        address = cluster.address
        process = start(folder, address, TOY_SECONDS=SLOW)
        wait_for(lambda: (folder / "runs").exists() and len(runs(folder)) >= 1)
        wait_for(lambda: at_work(folder))
        cluster.head_node.kill_gcs_server()
        said = finish(process, code=4)
        assert toys(folder) == []
    assert f"the head of the Ray cluster at {address} is gone" in said
    before = runs(folder)
    assert toy_run(folder, Orders(jobs=2)).failed == 0
    assert outcome(folder) == undisturbed
    assert all(trained(folder)[run] == 1 for run in before)


def test_a_store_is_finished_by_one_machine_where_rays_own_process_beside_the_driver_is_lost(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "results"
    with a_cluster() as cluster:
        process = start(folder, cluster.address, TOY_SECONDS=SLOW)
        wait_for(lambda: at_work(folder))
        cluster.head_node.kill_raylet()
        said = finish(process, code=4)
        assert toys(folder) == []
    assert "Ray on this machine has ended" in said
    assert toy_run(folder, Orders(jobs=2)).failed == 0
    assert outcome(folder) == undisturbed


def test_without_an_address_this_machine_is_the_cluster_and_keeps_no_token(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        f'{DATASET}[train]\nepochs = 1\n[[matrix]]\ninit = ["random"]\nlabels_per_class = 1\n'
    )
    write_images(tmp_path)
    done = rotbench(tmp_path, "run", "study.toml", "--engine", "ray", "--device", "cpu", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "report.html").exists()
    assert not (tmp_path / ".ray").exists()


def test_a_study_without_a_node_waits_for_one(tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes]) -> None:
    folder = tmp_path / "results"
    with restored(cluster):
        remove(cluster)
        process = start(folder, cluster.address, TOY_SECONDS=SLOW)
        wait_for(lambda: at_work(folder))
        remove(cluster)
        wait_for(lambda: "no machine has room for a run; waiting for one" in said_by(folder).read_text())
        assert toys(folder) == []
        cluster.add_node(**NODE)
        finish(process)
    assert outcome(folder) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_epochs_end_and_the_next_command_goes_on(
    tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes], number: signal.Signals
) -> None:
    folder = tmp_path / "results"
    process = start(folder, cluster.address, TOY_SECONDS=SLOW)
    wait_for(lambda: at_work(folder))
    os.killpg(process.pid, number)  # as a terminal does
    assert "stopping at the end of the epoch" in finish(process, code=128 + number)
    assert toys(folder) == []
    finish(start(folder, cluster.address))
    assert outcome(folder) == undisturbed
    assert (folder / "events.txt").read_text().count("trained") == 6 * 4  # no epoch twice


def test_no_more_runs_side_by_side_than_are_asked_for(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "results"
    process = start(folder, cluster.address, TOY_SECONDS="0.2", JOBS="1")
    most = 0
    while process.poll() is None:
        most = max(most, len(toys(folder)))
        time.sleep(0.02)
    finish(process)
    assert most == 1


def test_a_run_that_takes_all_memory_is_tried_as_often_as_any_other(tmp_path: Path) -> None:
    # Other tests run beside this one: what they take must not be enough.
    enough = min(4e9, memory("MemAvailable") / 2)
    threshold = 1 - (memory("MemAvailable") - enough) / memory("MemTotal")
    settings = {"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100}
    folder = tmp_path / "results"
    with a_cluster(_system_config=settings) as cluster:
        said = finish(start(folder, cluster.address, TOY_BEHAVIOUR="hog@random-s1"), code=1)
    assert "out of memory" in said
    results = json.loads((folder / "results.json").read_text())
    assert Counter(run["status"] for run in results["runs"]) == {"done": 5, "failed": 1}
    hog = next(run for run in results["runs"] if run["status"] == "failed")
    assert hog["error"].endswith("2 times")
    assert said.count(f"{hog['id']}: the worker was killed") == 1  # the first try; the second is the last
    # The second may be ended before it trains, while the memory of the first is still being given back.
    assert 1 <= trained(folder)[hog["id"]] <= 2


def memory(name: str) -> float:
    """Bytes, as the kernel tells them."""
    return 1024 * float(re.findall(rf"^{name}:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[0])


def node_of_its_own(cluster: Any, mounts: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """One more node, whose file system differs by ``mounts``, shell commands in a name space of its own."""
    ray = Path(sys.executable).with_name("ray")
    begin = f"exec {ray} start --address={cluster.address} --num-cpus=1 --object-store-memory=80000000 --block"
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{mounts} && {begin}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
        start_new_session=True,
    )


@contextlib.contextmanager
def with_node(cluster: Any, mounts: str, **environment: str) -> Iterator[None]:
    """A third node, once it is there."""
    with nodes_of(cluster) as alive:
        before = alive()
        process = node_of_its_own(cluster, mounts, environment)
        try:
            wait_for(lambda: alive() == before + 1)
            yield
        finally:
            end_node(process)
            wait_for(lambda: alive() == before)


def end_node(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


may_mount = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0,
    reason="a file system of its own needs the right to mount",
)


@may_mount
def test_a_node_that_does_not_see_the_store_is_named_before_anything_is_trained(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "shared" / "results"
    folder.mkdir(parents=True)
    with with_node(cluster, f"mount -t tmpfs none {folder.parent}"):
        said = finish(start(folder, cluster.address), code=4)
    assert re.search(r"node \S+ \(\w{8}\) does not see .*/shared/results\n", said), said
    assert "that all nodes share" in said
    assert not (folder / "trained.txt").exists()
    assert Store(folder).read_study() is None


@may_mount
def test_a_node_that_lacks_a_plugin_is_named(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "results"
    with with_node(cluster, f"mount -t tmpfs none {ROOT / 'plugins'}"):
        said = finish(start(folder, cluster.address), code=4)
    assert re.search(r"node \S+ \(\w{8}\) does not have \S+/plugins/\w+\.py as it is here\n", said), said
    assert not (folder / "trained.txt").exists()


@may_mount
def test_a_node_with_another_version_is_named(tmp_path: Path, cluster: Any) -> None:
    import importlib.metadata

    (file,) = [path for path in importlib.metadata.files("numpy") or [] if path.name == "METADATA"]
    real = Path(str(file.locate()))
    other = tmp_path / "METADATA"
    version = importlib.metadata.version("numpy")
    other.write_text(real.read_text().replace(f"Version: {version}", "Version: 0.9", 1))
    folder = tmp_path / "results"
    with with_node(cluster, f"mount --bind {other} {real}"):
        said = finish(start(folder, cluster.address), code=2)
    assert f"has numpy 0.9, this machine {version}" in said


def test_nodes_that_would_train_in_another_precision_are_named(tmp_path: Path, cluster: Any) -> None:
    folder = tmp_path / "results"
    with with_node(cluster, "true", TOY_RESOLVED="bf16"):
        said = finish(start(folder, cluster.address), code=2)
    node = r"node \S+ \(\w{8}\)"
    precisions = rf"{node} would train on cpu in (bf16|fp32), {node} on cpu in (bf16|fp32)\n"
    assert re.search(precisions, said), said
    assert not (folder / "trained.txt").exists()


@may_mount
def test_a_node_that_joins_is_used_and_one_that_lacks_the_store_is_left_out(
    tmp_path: Path, cluster: Any, undisturbed: dict[str, bytes]
) -> None:
    folder = tmp_path / "shared" / "results"
    folder.mkdir(parents=True)
    with restored(cluster):
        remove(cluster)
        process = start(folder, cluster.address, TOY_SECONDS="1.5")
        wait_for(lambda: at_work(folder))
        blind = node_of_its_own(cluster, f"mount -t tmpfs none {folder.parent}", {})
        try:
            wait_for(lambda: "left out" in said_by(folder).read_text())
            assert len(toys(folder)) == 1
            cluster.add_node(**NODE)
            wait_for(lambda: len(toys(folder)) == 2)
            said = finish(process)
        finally:
            end_node(blind)
    assert re.search(r"left out: node \S+ \(\w{8}\) does not see .*/shared/results\. ", said), said
    assert len(re.findall(r"node \S+ \(\w{8}\) has joined", said)) == 1
    assert "its node or server was lost" not in said  # nothing was handed to the other
    assert "cannot train" not in said
    assert outcome(folder) == undisturbed
    assert set(trained(folder).values()) == {1}


def test_a_run_for_which_no_node_has_room_is_refused(tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "study.toml").write_text('[resources]\ngpus = 1\n[[matrix]]\ninit = ["random"]\n')
    done = rotbench(tmp_path, "run", "study.toml", "--engine", "ray", "--ray-address", cluster.address)
    assert done.returncode == 4, done.stderr
    assert "no node has room for a run, which reserves 1 CPU and 1 GPU" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_cluster_that_asks_for_a_token_says_so(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('[[matrix]]\ninit = ["random"]\n')
    ray = Path(sys.executable).with_name("ray")
    locked = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    folder = short()
    begin = [str(ray), "start", "--head", "--port=0", "--num-cpus=1", "--include-dashboard=false", "--block"]
    with (tmp_path / "head.txt").open("wb") as said:
        head = subprocess.Popen([*begin, f"--temp-dir={folder}"], env=locked, stdout=said, stderr=said)
    try:
        found = re.compile(r"ray start --address='([^']+)'")
        (address,) = wait_for(lambda: found.findall((tmp_path / "head.txt").read_text()))
        arguments = ["run", "study.toml", "--engine", "ray", "--ray-address", address, "--quick"]
        done = rotbench(tmp_path, *arguments)
        assert done.returncode == 4, done.stderr
        assert "needs that too, and RAY_AUTH_MODE=token" in done.stderr
        assert not (tmp_path / "results-quick").exists()
    finally:
        head.terminate()
        head.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def short() -> str:
    """A new folder with a path short enough for the sockets in it."""
    return tempfile.mkdtemp(prefix="rb-")


def test_without_a_cluster_the_command_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('[[matrix]]\ninit = ["random"]\n')
    done = rotbench(tmp_path, "run", "study.toml", "--engine", "ray", "--ray-address", "127.0.0.1:1")
    assert done.returncode == 4, done.stderr
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr
    assert "ray start --head" in done.stderr
    assert not (tmp_path / "results").exists()
    done = rotbench(tmp_path, "run", "study.toml", "--ray-address", "auto")
    assert done.returncode == 2
    assert "Give --engine ray too" in done.stderr
