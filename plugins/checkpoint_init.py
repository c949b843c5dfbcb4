"""Weights from a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rotbench import hookimpl
from rotbench.errors import EnvironmentLacking

from ._weights import apply_weights, read_weights

if TYPE_CHECKING:
    from torch import nn

    from rotbench.hookspecs import InitContext


@dataclass(frozen=True)
class Checkpoint:
    """Weights from a file in safetensors or PyTorch format that fit the backbone tensor by tensor."""

    name: ClassVar[str] = "checkpoint"

    #: The file, relative to the folder of the study file.
    path: str

    def fingerprint(self, folder: Path) -> str:
        """Return the sha256 of the file: other weights under the same name are another run."""
        import hashlib

        self.prepare(folder)
        with (folder / self.path).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    def prepare(self, folder: Path) -> None:
        """Raise ``EnvironmentLacking`` if the file does not exist."""
        if not (folder / self.path).is_file():
            raise EnvironmentLacking(
                f"the weights {self.path} are missing",
                f'put the file there, or correct "path" of the init; relative paths start at {folder}',
            )

    def apply(self, model: nn.Module, context: InitContext) -> Collection[str]:
        """Copy and claim every tensor of the file except those of ``fc``, which are noted as unexpected."""
        self.prepare(context.folder)
        return apply_weights(model, read_weights(context.folder / self.path), context)


@hookimpl
def register_inits() -> list[type]:
    return [Checkpoint]
