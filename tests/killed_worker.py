"""The real worker with a power cut: ``python killed_worker.py STORE RUN NUMBER``.

REAL_CUT is the operation on the file system at which the first attempt at a downstream run is killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rotbench.worker import main
from tests.power_cut import PowerCut

if os.environ.get("REAL_CUT") and sys.argv[3] == "1" and "pretext" not in sys.argv[2]:
    PowerCut(int(os.environ["REAL_CUT"])).arm()
sys.exit(main(sys.argv[1:]))
