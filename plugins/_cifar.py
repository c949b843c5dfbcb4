"""Loading of CIFAR-10 and CIFAR-100 through torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._downloads import check_complete, download_missing, or_other_folder

if TYPE_CHECKING:
    from rotbench.data import Images

CITE = (
    "@techreport{krizhevsky2009learning, title = {Learning Multiple Layers of Features from Tiny Images}, author = "
    "{Krizhevsky, Alex}, institution = {University of Toronto}, year = {2009}}"
)


def prepare_cifar(name: str, root: Path, source: Any) -> None:
    """Make sure that the files of a torchvision CIFAR class are below ``root``; download what is missing."""
    from torchvision.datasets.utils import download_and_extract_archive

    def download(folder: Path) -> None:
        download_and_extract_archive(source.url, folder, filename=source.filename, md5=source.tgz_md5)

    download_missing(name, root, _files(source), download, _todo(source, root))


def load_cifar(name: str, root: Path, source: Any, split: str) -> Images:
    """Load one split of a torchvision CIFAR class."""
    import numpy as np

    from rotbench.data import images_from_arrays

    try:
        content = source(root, train=split == "train", download=False)
    except RuntimeError:  # torchvision found a wrong checksum and does not name the file
        check_complete(name, root, _files(source), _todo(source, root))
        raise
    return images_from_arrays(content.data, np.array(content.targets), content.classes)


def _files(source: Any) -> dict[str, str]:
    """The files of a torchvision CIFAR class, relative to the root, with their md5."""
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return {f"{source.base_folder}/{file}": md5 for file, md5 in listed}


def _todo(source: Any, root: Path) -> str:
    return or_other_folder(f"unpack {source.url} into {root}, which gives {root / source.base_folder}")
