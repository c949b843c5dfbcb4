"""rotbench as a person starts it: a process of its own, in some folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def rotbench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``rotbench ARGUMENTS`` in ``folder``, with more environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "rotbench", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
