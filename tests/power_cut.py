"""A power cut at the N-th operation on the file system: open to write, sync, rename, delete, make a folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

OPERATIONS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "remove")


class PowerCut:
    """Once armed, this process is killed just before its N-th operation."""

    def __init__(self, operation: int) -> None:
        self.left = operation

    def arm(self) -> None:
        for name in OPERATIONS:
            setattr(os, name, self._counted(getattr(os, name)))
        opened = Path.open
        counted = self._counted(opened)

        def open_path(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            return (opened if mode in ("r", "rb") else counted)(path, mode, *rest, **options)

        Path.open = open_path  # type: ignore[assignment, method-assign]

    def _counted(self, operation: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **options)

        return call
