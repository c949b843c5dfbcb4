"""The preparation of the toy worker, which needs nothing and finds what TOY_RESOLVED says: ``FOLDER``."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str], began: float = 0.0) -> int:
    """What ``rotbench.prepare.main`` does, and takes."""
    resolved = {"device": "cpu", "precisions": {"auto": os.environ.get("TOY_RESOLVED", "fp32")}}
    (Path(arguments[0]) / "resolved.json").write_text(json.dumps(resolved))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
