"""The small toy study whose driver is killed at an operation, forked by test_faults.

Exit code 0 means that there were fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.power_cut import PowerCut
from tests.toy_study import STARTED
from tests.toy_study import main as toy_study


def main(arguments: Sequence[str], began: float) -> int:
    """Run the study in a folder until operation N."""
    folder, operation = arguments
    PowerCut(int(operation)).arm()
    return toy_study([folder, "1", "small"], STARTED)
