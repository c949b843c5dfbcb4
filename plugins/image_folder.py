"""A data set in a folder of image files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rotbench import hookimpl
from rotbench.errors import EnvironmentLacking

if TYPE_CHECKING:
    import numpy as np

    from rotbench.data import Images

_IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True)
class ImageFolder:
    """Your own images: root/train/CLASS/*.png and root/test/CLASS/*.png, or other image formats."""

    name: ClassVar[str] = "image-folder"
    classes: ClassVar[int | None] = None
    augment: ClassVar[tuple[str, ...]] = ("crop", "flip")
    notice: ClassVar[str] = ""

    #: Side in pixels to which the shorter side of an image is scaled before its centre is cropped.
    size: int = 32

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {self.size}")

    def prepare(self, root: Path) -> None:
        """Raise ``EnvironmentLacking`` unless both splits have the same classes, none of them empty."""
        classes = {split: _image_files(root / split) for split in ("train", "test")}
        only_one = sorted(set(classes["train"]) ^ set(classes["test"]))
        if only_one:
            raise EnvironmentLacking(
                f"{root}: train and test have different classes: {', '.join(only_one)} in only one of them",
                "give every class a folder in both",
            )

    def fingerprint(self, root: Path) -> str:
        """Return a sha256 over the relative name and the content of every image."""
        import hashlib

        digest = hashlib.sha256()
        for split in ("train", "test"):
            for files in _image_files(root / split).values():
                for file in files:
                    content = hashlib.sha256(file.read_bytes()).hexdigest()
                    digest.update(f"{content} {file.relative_to(root).as_posix()}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def load(self, root: Path, split: Literal["train", "test"]) -> Images:
        """Load one split: the images of each class in the order of their names."""
        import numpy as np

        from rotbench.data import images_from_arrays

        self.prepare(root)
        classes = _image_files(root / split)
        pixels = np.stack([_square(file, self.size) for files in classes.values() for file in files])
        labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
        return images_from_arrays(pixels, labels, list(classes))


def _image_files(split: Path) -> dict[str, list[Path]]:
    """The image files of each class of a split, classes and files in the order of their names."""
    layout = "the layout is train/CLASS/IMAGE and test/CLASS/IMAGE below --data-dir, ROTBENCH_DATA or [dataset] root"
    if not split.is_dir():
        raise EnvironmentLacking(f"image-folder: there is no folder {split}", layout)
    folders = sorted(entry for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise EnvironmentLacking(f"image-folder: {split} contains no folder of a class", layout)
    classes = {
        folder.name: sorted(
            file for file in folder.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES and file.name[0] != "."
        )
        for folder in folders
    }
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise EnvironmentLacking(f"image-folder: {split} contains no image of {', '.join(empty)}", layout)
    return classes


def _square(file: Path, side: int) -> np.ndarray[Any, Any]:
    """The image as uint8 (side, side, 3)."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            # Cameras store their orientation instead of rotating the pixels; a rotation task must not depend on it.
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise EnvironmentLacking(f"{file} cannot be read as an image ({error})", "repair or remove the file") from error
    return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR))


@hookimpl
def register_datasets() -> list[type]:
    return [ImageFolder]
