"""Train kept.toml again and keep what a later version must accept: ``python -m tests.golden.make_store``.

Weights are deleted from the finished runs, to keep them small. Run this only if results changed on purpose, that is
after ``RESULTS_VERSION`` was raised or a shipped plugin file was edited, and commit the new store with that change.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STORE = HERE / "store"


def main() -> None:
    shutil.rmtree(STORE, ignore_errors=True)
    command = [sys.executable, "-m", "rotbench", "run", "kept.toml", "--no-plugins", "--device", "cpu"]
    subprocess.run([*command, "--out", "store"], cwd=HERE, check=True)
    for path in STORE.iterdir():
        if path.name not in ("runs", "study.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*STORE.glob("runs/*/backbone*.safetensors"), *STORE.glob("runs/*/*.log")]:
        path.unlink()


if __name__ == "__main__":
    main()
