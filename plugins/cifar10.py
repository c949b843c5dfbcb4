"""CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl

from ._cifar import CITE, load_cifar, prepare_cifar

if TYPE_CHECKING:
    from rotbench.data import Images


@dataclass(frozen=True)
class Cifar10:
    """60,000 photographs of 10 classes, 32 x 32 pixels (Krizhevsky, 2009)."""

    name: ClassVar[str] = "cifar10"
    cite: ClassVar[str] = CITE
    size: ClassVar[int | None] = 32
    classes: ClassVar[int | None] = 10
    images_per_class: ClassVar[int | None] = 5000
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")
    notice: ClassVar[str] = ""

    def fingerprint(self, root: Path) -> str:
        """Return the md5 of the official archive."""
        return "md5:c58f30108f718f92721af3b95e74349a"

    def prepare(self, root: Path) -> None:
        """Download the files that are missing."""
        from torchvision.datasets import CIFAR10

        prepare_cifar(self.name, root, CIFAR10)

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        """Load one split from files whose checksums are verified."""
        from torchvision.datasets import CIFAR10

        return load_cifar(self.name, root, CIFAR10, split)


@hookimpl
def register_datasets() -> list[type]:
    return [Cifar10]
