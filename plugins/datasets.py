"""Data sets: what ships with scikit-learn, what torchvision can download, and a folder of one's own images.

``load`` never downloads: ``prepare`` does, once, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rotbench import hookimpl
from rotbench.errors import EnvironmentLacking

if TYPE_CHECKING:
    import numpy as np

    from rotbench.data import Images

_CIFAR = (
    "@techreport{krizhevsky2009learning, title = {Learning Multiple Layers of Features from Tiny Images}, author = "
    "{Krizhevsky, Alex}, institution = {University of Toronto}, year = {2009}}"
)


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of scikit-learn, 8 x 8 pixels drawn large; needs no download."""

    name: ClassVar[str] = "digits"
    cite: ClassVar[str] = (
        "@misc{alpaydin1998digits, title = {Optical Recognition of Handwritten Digits}, author = {Alpaydin, Ethem and "
        "Kaynak, Cenk}, howpublished = {UCI Machine Learning Repository}, year = {1998}, doi = {10.24432/C50P49}}"
    )
    size: ClassVar[int | None] = 32
    classes: ClassVar[int | None] = 10
    images_per_class: ClassVar[int | None] = 128
    augment: ClassVar[tuple[str, ...]] = ("crop",)  # a mirrored digit is no digit
    notice: ClassVar[str] = (
        "These results are a demonstration on small scans of digits, not a finding. How far a digit was turned shows "
        "in its outline alone: nearest neighbours recognise 92 % of the turns. What rotation pretraining gains here "
        "does not carry over to photographs. One test image is 0.2 points."
    )

    def fingerprint(self, root: Path) -> str:
        """sha256 of the scans (uint8, 0..16) followed by their labels (uint8)."""
        return "sha256:87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        """The first 1,297 scans, or the last 500, which other people wrote."""
        import hashlib

        import numpy as np
        from sklearn.datasets import load_digits

        scans, labels = load_digits(return_X_y=True)
        content = scans.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if found != self.fingerprint(root):
            raise EnvironmentLacking(
                f"scikit-learn's digits are not those that are known ({found})", "install scikit-learn anew"
            )
        part = slice(0, 1297) if split == "train" else slice(1297, None)
        grey = np.rint(scans[part].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        enlarged = grey.repeat(4, axis=1).repeat(4, axis=2)  # (N, 32, 32)
        return _grey_images(enlarged, labels[part], [str(digit) for digit in range(10)])


@dataclass(frozen=True)
class Cifar10:
    """60,000 photographs of 10 classes, 32 x 32 pixels (Krizhevsky, 2009)."""

    name: ClassVar[str] = "cifar10"
    cite: ClassVar[str] = _CIFAR
    size: ClassVar[int | None] = 32
    classes: ClassVar[int | None] = 10
    images_per_class: ClassVar[int | None] = 5000
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")
    notice: ClassVar[str] = ""

    def fingerprint(self, root: Path) -> str:
        """md5 of the official archive."""
        return "md5:c58f30108f718f92721af3b95e74349a"

    def prepare(self, root: Path) -> None:
        from torchvision.datasets import CIFAR10

        _prepare_cifar(self.name, root, CIFAR10)

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        from torchvision.datasets import CIFAR10

        return _load_cifar(self.name, root, CIFAR10, split)


@dataclass(frozen=True)
class Cifar100:
    """60,000 photographs of 100 classes, 32 x 32 pixels (Krizhevsky, 2009)."""

    name: ClassVar[str] = "cifar100"
    cite: ClassVar[str] = _CIFAR
    size: ClassVar[int | None] = 32
    classes: ClassVar[int | None] = 100
    images_per_class: ClassVar[int | None] = 500
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")
    notice: ClassVar[str] = ""

    def fingerprint(self, root: Path) -> str:
        """md5 of the official archive."""
        return "md5:eb9058c3a382ffc7106e4002c42a8d85"

    def prepare(self, root: Path) -> None:
        from torchvision.datasets import CIFAR100

        _prepare_cifar(self.name, root, CIFAR100)

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        from torchvision.datasets import CIFAR100

        return _load_cifar(self.name, root, CIFAR100, split)


@dataclass(frozen=True)
class FashionMnist:
    """70,000 pictures of garments of 10 kinds, 28 x 28 pixels with a border of 2 (Xiao, Rasul and Vollgraf, 2017)."""

    name: ClassVar[str] = "fashion-mnist"
    cite: ClassVar[str] = (
        "@misc{xiao2017fashion, title = {{Fashion-MNIST}: a Novel Image Dataset for Benchmarking Machine Learning "
        "Algorithms}, author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland}, howpublished = {arXiv:1708.07747}, "
        "year = {2017}}"
    )
    size: ClassVar[int | None] = 32
    classes: ClassVar[int | None] = 10
    images_per_class: ClassVar[int | None] = 6000
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")  # unlike a digit, a mirrored garment is the same garment
    notice: ClassVar[str] = ""

    def fingerprint(self, root: Path) -> str:
        """md5 of the four official archives: training images and labels, test images and labels."""
        return (
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d+25c81989df183df01b3e8a0aad5dffbe"
            "+bef4ecab320f06d8554ea6380940ec79+bb300cfdad3c16e7a12a480ee83cd310"
        )

    def prepare(self, root: Path) -> None:
        from torchvision.datasets import FashionMNIST
        from torchvision.datasets.utils import download_url

        def download(folder: Path) -> None:
            for file, md5 in FashionMNIST.resources:
                download_url(FashionMNIST.mirrors[0] + file, folder / self._folder, file, md5)

        _prepare(self.name, root, self._files(), download, self._todo(root))

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        import gzip

        import numpy as np
        from torchvision.datasets import FashionMNIST

        _check_complete(self.name, root, self._files(), self._todo(root))
        part = "train" if split == "train" else "t10k"
        raw = root / self._folder
        # The archives are read, not the files unpacked from them: only the archives have a known checksum.
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8)
        with gzip.open(raw / f"{part}-images-idx3-ubyte.gz") as file:
            grey = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
        return _grey_images(np.pad(grey, ((0, 0), (2, 2), (2, 2))), labels, FashionMNIST.classes)

    _folder: ClassVar[str] = "FashionMNIST/raw"

    def _files(self) -> dict[str, str]:
        from torchvision.datasets import FashionMNIST

        return {f"{self._folder}/{file}": md5 for file, md5 in FashionMNIST.resources}

    def _todo(self, root: Path) -> str:
        from torchvision.datasets import FashionMNIST

        files = ", ".join(file for file, _ in FashionMNIST.resources)
        return _todo(f"put {files} from {FashionMNIST.mirrors[0]} into {root / self._folder}")


@dataclass(frozen=True)
class ImageFolder:
    """Images of one's own: root/train/CLASS/*.png and root/test/CLASS/*.png, or other formats."""

    name: ClassVar[str] = "image-folder"
    classes: ClassVar[int | None] = None
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")
    notice: ClassVar[str] = ""

    #: Side in pixels to which the shorter side of an image is scaled before its middle is cut out.
    size: int = 32

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {self.size}")

    def prepare(self, root: Path) -> None:
        """Raises ``EnvironmentLacking`` unless both splits are there with the same classes, none of them empty."""
        classes = {split: _image_files(root / split) for split in ("train", "test")}
        only_one = sorted(set(classes["train"]) ^ set(classes["test"]))
        if only_one:
            raise EnvironmentLacking(
                f"{root}: train and test have not the same classes: {', '.join(only_one)} in one of them only",
                "give every class a folder in both",
            )

    def fingerprint(self, root: Path) -> str:
        """sha256 over the relative name and the content of every image."""
        import hashlib

        digest = hashlib.sha256()
        for split in ("train", "test"):
            for files in _image_files(root / split).values():
                for file in files:
                    content = hashlib.sha256(file.read_bytes()).hexdigest()
                    digest.update(f"{content} {file.relative_to(root).as_posix()}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        import numpy as np

        self.prepare(root)
        classes = _image_files(root / split)
        pixels = np.stack([_square(file, self.size) for files in classes.values() for file in files])
        labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
        return _images(pixels.transpose(0, 3, 1, 2), labels, list(classes))


_IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"))


def _image_files(split: Path) -> dict[str, list[Path]]:
    """The image files of each class of a split, classes and files in the order of their names."""
    layout = "the layout is train/CLASS/IMAGE and test/CLASS/IMAGE below --data-dir, ROTBENCH_DATA or [dataset] root"
    if not split.is_dir():
        raise EnvironmentLacking(f"image-folder: there is no folder {split}", layout)
    folders = sorted(entry for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise EnvironmentLacking(f"image-folder: {split} has no folder of a class", layout)
    classes = {
        folder.name: sorted(
            file for file in folder.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES and file.name[0] != "."
        )
        for folder in folders
    }
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise EnvironmentLacking(f"image-folder: {split} has no image of {', '.join(empty)}", layout)
    return classes


def _square(file: Path, side: int) -> np.ndarray[Any, Any]:
    """The image as uint8 (side, side, 3)."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            # Cameras note how they were held instead of turning the picture; a task about rotations must not see that.
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise EnvironmentLacking(f"{file} cannot be read as an image ({error})", "mend or remove the file") from error
    return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR))


def _images(pixels: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: Iterable[str]) -> Images:
    """uint8 (N, 3, H, W) and integers (N,) as tensors of their own memory."""
    import numpy as np
    import torch

    from rotbench.data import Images

    return Images(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64)), tuple(classes))


def _grey_images(grey: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: Iterable[str]) -> Images:
    """uint8 (N, H, W) in three equal channels."""
    return _images(grey[:, None].repeat(3, axis=1), labels, classes)


def _cifar_files(source: Any) -> dict[str, str]:
    """The files of a CIFAR class of torchvision, relative to the root, with their md5."""
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return {f"{source.base_folder}/{file}": md5 for file, md5 in listed}


def _cifar_todo(source: Any, root: Path) -> str:
    return _todo(f"unpack {source.url} into {root}, which gives {root / source.base_folder}")


def _todo(how: str) -> str:
    return f"{how}; or name another folder with --data-dir or ROTBENCH_DATA"


def _prepare_cifar(name: str, root: Path, source: Any) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    def download(folder: Path) -> None:
        download_and_extract_archive(source.url, folder, filename=source.filename, md5=source.tgz_md5)

    _prepare(name, root, _cifar_files(source), download, _cifar_todo(source, root))


def _load_cifar(name: str, root: Path, source: Any, split: str) -> Images:
    try:
        content = source(root, train=split == "train", download=False)
    except RuntimeError:  # torchvision found a checksum wrong, and does not say of which file
        _check_complete(name, root, _cifar_files(source), _cifar_todo(source, root))
        raise
    import numpy as np

    return _images(content.data.transpose(0, 3, 1, 2), np.array(content.targets), content.classes)


def _missing(name: str, root: Path, files: dict[str, str]) -> list[str]:
    """Which of ``files`` (relative path to md5) are not below ``root``; a damaged file is never passed over."""
    import hashlib

    missing = []
    for relative, md5 in files.items():
        path = root / relative
        if not path.is_file():
            missing.append(relative)
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            raise EnvironmentLacking(
                f"{name}: {path} is damaged, its md5 is {found} instead of {md5}",
                "delete the file and run again to download it",
            )
    return missing


def _check_complete(name: str, root: Path, files: dict[str, str], todo: str) -> None:
    missing = _missing(name, root, files)
    if missing:
        raise EnvironmentLacking(f"{name} is not in {root}: there is no {missing[0]}", todo)


def _prepare(name: str, root: Path, files: dict[str, str], download: Callable[[Path], None], todo: str) -> None:
    """Make sure that all ``files`` are below ``root``, each with its md5; download what is missing.

    Whoever comes second waits for the first, and a file appears under its name only when it is whole.
    """
    import contextlib
    import io
    import tempfile

    from filelock import FileLock

    if not _missing(name, root, files):
        return
    created, lock = not root.exists(), root / f".{name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            missing = _missing(name, root, files)
            if not missing:
                return
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as folder:
                # torchvision draws progress bars, which say nothing in a log
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    download(Path(folder))
                _check_complete(name, Path(folder), files, todo)
                for relative in missing:
                    (root / relative).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / relative).replace(root / relative)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):  # what could not begin leaves nothing behind
            lock.unlink()
            if created:
                root.rmdir()
        reason = str(getattr(error, "reason", error)).split("\n")[0]
        raise EnvironmentLacking(f"{name} is not in {root} and could not be downloaded ({reason})", todo) from error


@hookimpl
def register_datasets() -> list[type]:
    return [Digits, Cifar10, Cifar100, FashionMnist, ImageFolder]
