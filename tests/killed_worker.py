"""The real worker with a power cut, forked by test_resume.

REAL_CUT is the operation on the file system at which the first attempt at a downstream run is killed.
"""

from __future__ import annotations

import os

from rotbench import worker
from tests.power_cut import PowerCut


def main(arguments: list[str], began: float) -> int:
    """What ``rotbench.worker.main`` does, and takes."""
    _, run_id, number = arguments
    if number == "1" and "pretext" not in run_id:
        PowerCut(int(os.environ["REAL_CUT"])).arm()
    return worker.main(arguments, began)
