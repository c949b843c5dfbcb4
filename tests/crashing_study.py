"""The small toy study whose driver is killed at an operation: ``python -m tests.crashing_study STORE N``.

Exit code 0 means that there were fewer than N.
"""

from __future__ import annotations

import sys

from tests.power_cut import PowerCut
from tests.toy_study import main

PowerCut(int(sys.argv[2])).arm()
sys.exit(main([sys.argv[1], "1", "small"]))
