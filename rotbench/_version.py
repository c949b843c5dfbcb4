"""The versions that results depend on; imported by every worker, so nothing else is here."""

from __future__ import annotations

__version__ = "0.1.0"

#: Raised when the trainer changes in a way that changes results: runs of another version are stale.
RESULTS_VERSION = 3
