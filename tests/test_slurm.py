"""The batch scripts of docs/slurm, run by bash with stand-ins for srun and scontrol: there is no such cluster here.

Everything else is real: rotbench, its signals and, for the second, a Ray cluster of two nodes on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.few_images import DATASET, write_images
from tests.program import ROOT, wait_for

SCRIPTS = ROOT / "docs" / "slurm"

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts are for bash"),
]

#: Where the script lets Ray lie, but for the number of the job.
FOLDER = "/tmp/ray-"  # noqa: S108 -- the script says so

STUDY = """
title = "In a job"
[train]
epochs = {epochs}
batch_size = 64
[[matrix]]
init = ["random"]
freeze = {freeze}
labels_per_class = 5
updates = "epochs"
"""

#: What takes the place of Slurm's commands: srun runs what it is given here; scontrol notes what it is told.
STAND_INS = {
    "srun": '#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/bash\necho "$@" >> "$TOLD"\n',
}


def job(folder: Path, script: str, epochs: int, *freeze: str, **environment: str) -> subprocess.Popen[bytes]:
    """A batch job that runs a study in ``folder``."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    for name, text in STAND_INS.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    (commands / "rotbench").write_text(f'#!/bin/bash\nexec {sys.executable} -m rotbench "$@"\n')
    (commands / "rotbench").chmod(0o755)
    (commands / "activate").write_text(f"PATH={commands}:{Path(sys.executable).parent}:$PATH\n")
    (folder / "study.toml").write_text(STUDY.format(epochs=epochs, freeze=json.dumps(freeze or ("none",))) + DATASET)
    write_images(folder)
    with (folder / "job.log").open("ab") as log:
        return subprocess.Popen(
            ["bash", str(SCRIPTS / script), "study.toml", "results"],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "ROTBENCH_DATA": "",
                "VENV": str(folder),
                "TOLD": str(folder / "told.txt"),
                "SLURM_JOB_ID": "4711",
                **environment,
            },
        )


@contextlib.contextmanager
def ended_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Nothing that the job started is left."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def done(folder: Path) -> int:
    results = json.loads((folder / "results" / "results.json").read_text())
    return sum(run["status"] == "done" for run in results["runs"])


def test_the_scripts_say_that_they_were_not_run_on_a_cluster() -> None:
    scripts = sorted(SCRIPTS.glob("*.sbatch"))
    assert [script.name for script in scripts] == ["ray.sbatch", "study.sbatch"]
    for script in scripts:
        assert "Not run on a real cluster." in script.read_text()
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


@pytest.mark.thorough
def test_a_job_whose_time_is_up_stops_at_an_epoch_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    study = ("study.sbatch", 12, "none", "below")
    process = job(tmp_path, *study)
    with ended_with(process):
        wait_for(lambda: list((tmp_path / "results").glob("attempts/*/progress.jsonl")))
        os.kill(process.pid, signal.SIGTERM)  # as --signal=B:TERM does: the shell alone
        assert process.wait(60) == 143, (tmp_path / "job.log").read_text()
    assert (tmp_path / "told.txt").read_text() == "requeue 4711\n"
    assert done(tmp_path) < 2
    process = job(tmp_path, *study)
    with ended_with(process):
        assert process.wait(120) == 0, (tmp_path / "job.log").read_text()
    assert (tmp_path / "told.txt").read_text() == "requeue 4711\n"  # and not once more
    assert done(tmp_path) == 2


@pytest.mark.thorough
def test_a_job_that_fails_is_not_queued_again(tmp_path: Path) -> None:
    process = job(tmp_path, "study.sbatch", epochs=0)
    with ended_with(process):
        assert process.wait(60) == 2
    assert not (tmp_path / "told.txt").exists()


@pytest.mark.thorough
def test_a_job_of_two_nodes_starts_ray_on_both_and_ends_with_the_study(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    number = str(os.getpid())
    process = job(
        tmp_path,
        "ray.sbatch",
        epochs=1,
        SLURM_JOB_ID=number,
        SLURM_JOB_NUM_NODES="2",
        SLURM_CPUS_PER_TASK="1",
        SLURMD_NODENAME=socket.gethostname(),
    )
    try:
        with ended_with(process):
            assert process.wait(180) == 0, (tmp_path / "job.log").read_text()
    finally:
        for left in of_ray(number):  # which Slurm ends with the job
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        shutil.rmtree(FOLDER + number, ignore_errors=True)
    assert (tmp_path / "job.log").read_text().count("Ray runtime started.") == 2
    assert done(tmp_path) == 1


def of_ray(number: str) -> list[int]:
    """The processes of the Ray cluster of a job, by the folder that its script gave it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{FOLDER}{number}/".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found
