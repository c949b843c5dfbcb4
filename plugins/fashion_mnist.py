"""Fashion-MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from rotbench import hookimpl

from ._downloads import check_complete, download_missing, or_other_folder

if TYPE_CHECKING:
    from rotbench.data import Images


@dataclass(frozen=True)
class FashionMnist:
    """70,000 grey images of garments in 10 classes, 28 x 28 pixels padded to 32 (Xiao, Rasul and Vollgraf, 2017)."""

    name: ClassVar[str] = "fashion-mnist"
    cite: ClassVar[str] = (
        "@misc{xiao2017fashion, title = {{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning "
        "Algorithms}, author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland}, howpublished = {arXiv:1708.07747}, "
        "year = {2017}}"
    )
    size: ClassVar[int | None] = 32
    classes: ClassVar[int | None] = 10
    images_per_class: ClassVar[int | None] = 6000
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")  # unlike a digit, a mirrored garment is a garment
    notice: ClassVar[str] = ""

    def fingerprint(self, root: Path) -> str:
        """Return the md5 of the four official archives: training images and labels, test images and labels."""
        return (
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d+25c81989df183df01b3e8a0aad5dffbe"
            "+bef4ecab320f06d8554ea6380940ec79+bb300cfdad3c16e7a12a480ee83cd310"
        )

    def prepare(self, root: Path) -> None:
        """Download the files that are missing."""
        from torchvision.datasets import FashionMNIST
        from torchvision.datasets.utils import download_url

        def download(folder: Path) -> None:
            for file, md5 in FashionMNIST.resources:
                download_url(FashionMNIST.mirrors[0] + file, folder / self._folder, file, md5)

        download_missing(self.name, root, self._files(), download, self._todo(root))

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        """Load one split from files whose checksums are verified."""
        import gzip

        import numpy as np
        from torchvision.datasets import FashionMNIST

        from rotbench.data import images_from_arrays

        check_complete(self.name, root, self._files(), self._todo(root))
        part = "train" if split == "train" else "t10k"
        raw = root / self._folder
        # The archives are read, not the files unpacked from them: only the archives have a known checksum.
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        with gzip.open(raw / f"{part}-images-idx3-ubyte.gz") as file:
            grey = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
        return images_from_arrays(np.pad(grey, ((0, 0), (2, 2), (2, 2))), labels, FashionMNIST.classes)

    _folder: ClassVar[str] = "FashionMNIST/raw"

    def _files(self) -> dict[str, str]:
        from torchvision.datasets import FashionMNIST

        return {f"{self._folder}/{file}": md5 for file, md5 in FashionMNIST.resources}

    def _todo(self, root: Path) -> str:
        from torchvision.datasets import FashionMNIST

        files = ", ".join(file for file, _ in FashionMNIST.resources)
        return or_other_folder(f"put {files} from {FashionMNIST.mirrors[0]} into {root / self._folder}")


@hookimpl
def register_datasets() -> list[type]:
    return [FashionMnist]
