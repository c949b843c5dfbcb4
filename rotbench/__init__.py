"""rotbench: compare pretraining, initialisation and freezing of ResNets, and report it as one HTML page."""

from __future__ import annotations

from rotbench.hookspecs import hookimpl

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl"]
