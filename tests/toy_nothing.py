"""The preparation of the toy worker, which needs nothing and finds what TOY_RESOLVED says: ``FOLDER``."""

import json
import os
import sys
from pathlib import Path

resolved = {"device": "cpu", "precisions": {"auto": os.environ.get("TOY_RESOLVED", "fp32")}}
(Path(sys.argv[1]) / "resolved.json").write_text(json.dumps(resolved))
