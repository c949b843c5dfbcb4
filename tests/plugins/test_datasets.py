from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from rotbench.errors import EnvironmentLacking

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.fixture(scope="module")
def datasets(shipped_classes: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return shipped_classes("digits", "cifar10", "cifar100", "fashion_mnist", "image_folder")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_importing_shipped_plugins_imports_no_torch() -> None:
    files = sorted(str(path) for path in PLUGINS.glob("*.py"))
    assert len(files) == 31
    # Loaded as rotbench loads them; run_path alone would leave dataclasses without their module.
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rotbench.registry import load_registry\n"
        f"registry = load_registry([Path({str(PLUGINS)!r})])\n"
        "assert len(registry.plugins) >= 32 and not registry.unavailable\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'numpy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_fingerprints_of_known_sets_need_no_files_and_no_torch() -> None:
    program = (
        "import pathlib, sys\n"
        "from rotbench.registry import load_registry\n"
        "registry = load_registry(shipped_only=True)\n"
        "for name in ('digits', 'cifar10', 'cifar100', 'fashion-mnist'):\n"
        "    print(registry.find('dataset', name).cls().fingerprint(pathlib.Path('nowhere')))\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    known = torchvision.datasets
    assert ended.stdout.split()[1:] == [
        f"md5:{known.CIFAR10.tgz_md5}",
        f"md5:{known.CIFAR100.tgz_md5}",
        "md5:" + "+".join(checksum for _, checksum in known.FashionMNIST.resources),
    ]


# digits


def test_digits_are_the_scans_of_scikit_learn_drawn_large(datasets: SimpleNamespace, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    known = load_digits()
    train, test = (datasets.Digits().load(tmp_path, split) for split in ("train", "test"))
    assert (len(train.labels), len(test.labels)) == (1297, 500)
    assert train.classes == test.classes == tuple("0123456789")
    pixels = torch.cat([train.pixels, test.pixels]).numpy()
    assert pixels.shape == (1797, 3, 32, 32)
    assert (pixels == pixels[:, :1]).all()
    enlarged = np.stack([np.kron(scan, np.ones((4, 4))) for scan in known.images])
    assert np.abs(pixels[:, 0] - enlarged / 16 * 255).max() <= 0.5
    np.testing.assert_array_equal(torch.cat([train.labels, test.labels]).numpy(), known.target)


def test_digits_that_changed_are_noticed(
    datasets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    scans[3, 5] += 1
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda **_: (scans, labels))
    with pytest.raises(EnvironmentLacking, match="have an unknown hash"):
        datasets.Digits().load(tmp_path, "train")


def test_the_page_of_digits_opens_with_a_notice(datasets: SimpleNamespace) -> None:
    for fact in ("demonstration", "92 %", "photographs", "0.2 percentage points"):
        assert fact in datasets.Digits.notice
    assert "flip" not in datasets.Digits.augment


# CIFAR, in files that the tests write


CIFAR = [("Cifar10", "CIFAR10", "labels", "label_names"), ("Cifar100", "CIFAR100", "fine_labels", "fine_label_names")]


@pytest.fixture(params=CIFAR, ids=["cifar10", "cifar100"])
def cifar(
    request: pytest.FixtureRequest, datasets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Path, NDArray[np.uint8], list[int]]:
    """The data set, its root, and what it holds: 4 images a file (uint8 (N, 3, 32, 32)) and labels, train then test."""
    plugin, class_name, label_key, names_key = request.param
    known = getattr(torchvision.datasets, class_name)
    folder = tmp_path / "data" / known.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    every_image, every_label = [], []

    def written(file: str, content: object) -> str:
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
        return md5(folder / file)

    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for name, files in lists.items():
        for file, _ in getattr(known, name):
            images = random.integers(0, 256, (4, 3072), dtype=np.uint8)
            labels = random.integers(0, 10, 4).tolist()
            files.append([file, written(file, {"data": images, label_key: labels})])
            every_image.append(images.reshape(4, 3, 32, 32))
            every_label += labels
        monkeypatch.setattr(known, name, files)
    names = [f"class {number}" for number in range(10)]
    checksum = written(known.meta["filename"], {names_key: names})
    monkeypatch.setattr(known, "meta", {**known.meta, "md5": checksum})
    return getattr(datasets, plugin)(), tmp_path / "data", np.concatenate(every_image), every_label


def test_cifar_is_read_from_the_official_files(cifar: tuple[Any, Path, NDArray[np.uint8], list[int]]) -> None:
    dataset, root, images, labels = cifar
    dataset.prepare(root)
    train, test = dataset.load(root, "train"), dataset.load(root, "test")
    assert len(test.labels) == 4
    np.testing.assert_array_equal(torch.cat([train.pixels, test.pixels]).numpy(), images)
    assert torch.cat([train.labels, test.labels]).tolist() == labels
    assert train.classes == test.classes == tuple(f"class {number}" for number in range(10))
    assert train.pixels.is_contiguous()


def test_a_damaged_file_is_named_with_its_checksum(cifar: tuple[Any, Path, NDArray[np.uint8], list[int]]) -> None:
    dataset, root, _, _ = cifar
    damaged = sorted(root.glob("*/test*"))[0]
    expected = md5(damaged)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    calls: list[Callable[[], Any]] = [lambda: dataset.prepare(root), lambda: dataset.load(root, "train")]
    for call in calls:
        with pytest.raises(EnvironmentLacking) as caught:
            call()
        assert str(damaged) in caught.value.what
        assert expected in caught.value.what
        assert "damaged" in caught.value.what
    assert damaged.exists()


def test_missing_data_says_where_to_get_it(datasets: SimpleNamespace, tmp_path: Path) -> None:
    root = tmp_path / "data"
    known = torchvision.datasets
    cases = [
        (datasets.Cifar10(), known.CIFAR10.url, root / "cifar-10-batches-py"),
        (datasets.Cifar100(), known.CIFAR100.url, root / "cifar-100-python"),
        (datasets.FashionMnist(), known.FashionMNIST.mirrors[0], root / "FashionMNIST" / "raw"),
    ]
    for dataset, url, folder in cases:
        with pytest.raises(EnvironmentLacking) as caught:
            dataset.prepare(root)
        expected = f"{dataset.name} is not in {root} and could not be downloaded (no network in tests)"
        assert caught.value.what == expected
        for part in (url, str(folder), "--data-dir", "ROTBENCH_DATA"):
            assert part in caught.value.todo
        with pytest.raises(EnvironmentLacking, match=f"{dataset.name} is not in {root}: .* is missing"):
            dataset.load(root, "test")
    assert len(cases) == 3
    assert not root.exists()


def test_a_root_that_cannot_be_written_is_told(datasets: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentLacking, match=r"could not be downloaded \(.*file"):
        datasets.Cifar10().prepare(tmp_path / "file" / "data")


def test_a_download_arrives_whole_and_in_silence(
    cifar: tuple[Any, Path, NDArray[np.uint8], list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    dataset, root, _, labels = cifar
    known = getattr(torchvision.datasets, type(dataset).__name__.upper())
    archive = tmp_path / known.filename
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(root / known.base_folder, known.base_folder)
    monkeypatch.setattr(known, "tgz_md5", md5(archive))

    def served(url: str, fpath: str) -> None:
        print("100 %", file=sys.stderr)
        assert url == known.url
        Path(fpath).write_bytes(archive.read_bytes())

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", served)
    (root / known.base_folder / known.meta["filename"]).unlink()  # half a data set is completed
    kept = sorted((root / known.base_folder).iterdir())[0]
    inode = kept.stat().st_ino
    elsewhere = tmp_path / "elsewhere" / "data"
    for place in (root, elsewhere):
        dataset.prepare(place)
        assert len(dataset.load(place, "train").labels) == len(labels) - 4
        assert [entry.name for entry in place.iterdir() if entry.is_dir()] == [known.base_folder]
    assert kept.stat().st_ino == inode  # what was there is left alone
    assert capfd.readouterr() == ("", "")


def test_of_two_that_need_the_same_data_at_once_one_downloads(
    load_shipped_plugin: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    content = b"pictures"
    files = {"set/pictures": hashlib.md5(content, usedforsecurity=False).hexdigest()}
    downloads = []

    def download(folder: Path) -> None:
        downloads.append(folder)
        time.sleep(0.3)
        (folder / "set").mkdir()
        (folder / "set" / "pictures").write_bytes(content)

    helper = load_shipped_plugin("_downloads")

    def prepare() -> None:
        helper.download_missing("set", tmp_path, files, download, "fetch it")

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert (tmp_path / "set" / "pictures").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["set"]


def test_a_download_with_a_wrong_checksum_is_not_kept(
    datasets: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", lambda url, fpath: Path(fpath).write_bytes(b"x"))
    with pytest.raises(EnvironmentLacking, match=r"could not be downloaded \(File not found or corrupted"):
        datasets.Cifar10().prepare(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == []


@pytest.mark.thorough
@pytest.mark.skipif("ROTBENCH_DATA" not in os.environ, reason="needs CIFAR-10 under ROTBENCH_DATA")
def test_real_cifar10(datasets: SimpleNamespace) -> None:
    from rotbench.data import channel_statistics

    root = Path(os.environ["ROTBENCH_DATA"])
    dataset = datasets.Cifar10()
    dataset.prepare(root)
    train, test = dataset.load(root, "train"), dataset.load(root, "test")
    assert train.labels.bincount().tolist() == [5000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    assert train.classes[:2] == ("airplane", "automobile")
    mean, std = channel_statistics(train.pixels)
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)
    assert std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-4)


# Fashion-MNIST


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]:
    """A root, uint8 (12, 28, 28) images and (12,) labels: 8 to train, 4 to test."""
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = random.integers(0, 10, 12, dtype=np.uint8)
    resources = []
    for file, _ in torchvision.datasets.FashionMNIST.resources:
        part = slice(0, 8) if file.startswith("train") else slice(8, 12)
        count = part.stop - part.start
        if "images" in file:
            content = struct.pack(">4i", 2051, count, 28, 28) + images[part].tobytes()
        else:
            content = struct.pack(">2i", 2049, count) + labels[part].tobytes()
        (folder / file).write_bytes(gzip.compress(content))
        resources.append((file, md5(folder / file)))
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", resources)
    return tmp_path, images, labels


def test_fashion_mnist_is_read_from_the_official_archives(
    datasets: SimpleNamespace, fashion: tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    root, images, labels = fashion
    dataset = datasets.FashionMnist()
    dataset.prepare(root)
    train, test = dataset.load(root, "train"), dataset.load(root, "test")
    pixels = torch.cat([train.pixels, test.pixels])
    assert pixels.shape == (12, 3, 32, 32)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, channel, 2:-2, 2:-2].numpy(), images)
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert not pixels[..., border].any()
    assert torch.cat([train.labels, test.labels]).tolist() == labels.tolist()
    assert train.classes[0] == "T-shirt/top"


def test_fashion_mnist_is_what_torchvision_reads(
    datasets: SimpleNamespace, fashion: tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    root = fashion[0]
    for file in (root / "FashionMNIST" / "raw").glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
    for split in ("train", "test"):
        ours = datasets.FashionMnist().load(root, split)
        theirs = torchvision.datasets.FashionMNIST(root, train=split == "train")
        assert torch.equal(ours.pixels[:, 0, 2:-2, 2:-2], theirs.data)
        assert torch.equal(ours.labels, theirs.targets)


def test_damaged_fashion_mnist_is_not_read(
    datasets: SimpleNamespace, fashion: tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    root = fashion[0]
    (root / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(12)))
    with pytest.raises(EnvironmentLacking, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        datasets.FashionMnist().load(root, "test")


# A folder of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; red cats and blue dogs of several sizes and formats, written in no good order."""
    for split in ("test", "train"):
        for name, colour in (("dog", (0, 0, 255)), ("cat", (255, 0, 0))):
            (tmp_path / split / name).mkdir(parents=True)
            for at, size in reversed(list(enumerate([(20, 20), (30, 20), (20, 40)]))):
                Image.new("RGB", size, colour).save(tmp_path / split / name / f"{at}.png")
    (tmp_path / "train" / "cat" / "more").mkdir()
    Image.new("L", (20, 20), 100).save(tmp_path / "train" / "cat" / "more" / "GREY.BMP")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folder_gives_its_images_in_order(datasets: SimpleNamespace, folder: Path) -> None:
    dataset = datasets.ImageFolder(size=16)
    dataset.prepare(folder)
    train, test = dataset.load(folder, "train"), dataset.load(folder, "test")
    assert train.classes == test.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.pixels.shape == (7, 3, 16, 16)
    expected = [(255, 0, 0)] * 3 + [(100, 100, 100)] + [(0, 0, 255)] * 3
    for image, colour in zip(train.pixels, expected, strict=True):
        assert torch.equal(image, torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, 16, 16))


def test_images_of_a_class_come_in_the_order_of_their_names(datasets: SimpleNamespace, folder: Path) -> None:
    for at in (5, 2, 9, 4, 0, 7, 1, 8, 3, 6):
        Image.new("RGB", (8, 8), (at, at, at)).save(folder / "test" / "dog" / f"{at}.png")
    test = datasets.ImageFolder().load(folder, "test")
    assert test.pixels[test.labels == 1, 0, 0, 0].tolist() == list(range(10))


def test_the_shorter_side_is_scaled_and_the_middle_cut_out(datasets: SimpleNamespace, folder: Path) -> None:
    from torchvision.transforms import functional as reference

    smooth = np.linspace(0, 255, 60 * 40 * 3).reshape(60, 40, 3).astype(np.uint8)
    picture = Image.fromarray(smooth)
    picture.save(folder / "test" / "cat" / "0.png")
    found = datasets.ImageFolder(size=20).load(folder, "test").pixels[0]
    expected = reference.center_crop(reference.resize(picture, [20]), [20])
    difference = found.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 2


def test_an_image_of_the_right_size_is_taken_as_it_is(datasets: SimpleNamespace, folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "test" / "cat" / "0.png")
    found = datasets.ImageFolder().load(folder, "test").pixels[0]
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), noise)


def test_a_camera_held_upright_does_not_turn_the_picture(datasets: SimpleNamespace, folder: Path) -> None:
    stored = np.zeros((32, 32, 3), dtype=np.uint8)
    stored[:, :16] = 255  # bright on the left, to be shown turned clockwise: bright at the top
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.fromarray(stored).save(folder / "test" / "cat" / "0.png", exif=orientation)
    found = datasets.ImageFolder().load(folder, "test").pixels[0]
    assert found[:, :16].min() == 255
    assert found[:, 16:].max() == 0


def test_the_fingerprint_of_a_folder_is_about_names_and_contents(datasets: SimpleNamespace, folder: Path) -> None:
    dataset = datasets.ImageFolder()
    found = [dataset.fingerprint(folder)]
    (folder / "train" / "cat" / "notes.txt").write_text("still not an image")
    (folder / "train" / "cat" / "0.png").touch()
    assert dataset.fingerprint(folder) == found[0]
    Image.new("RGB", (20, 20), (254, 0, 0)).save(folder / "train" / "cat" / "0.png")
    found.append(dataset.fingerprint(folder))
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "9.png")
    found.append(dataset.fingerprint(folder))
    # the last cat becomes the first dog: the same contents in the same order, but another label
    (folder / "train" / "cat" / "more" / "GREY.BMP").rename(folder / "train" / "dog" / "0.BMP")
    found.append(dataset.fingerprint(folder))
    assert len(set(found)) == 4
    moved = folder.rename(folder.with_name("elsewhere"))
    assert dataset.fingerprint(moved) == found[-1]


def test_a_folder_that_is_not_laid_out_is_told(datasets: SimpleNamespace, folder: Path) -> None:
    dataset = datasets.ImageFolder()
    calls: list[Callable[[], Any]] = [lambda: dataset.prepare(folder), lambda: dataset.load(folder, "train")]

    def refused(message: str) -> None:
        for call in calls:
            with pytest.raises(EnvironmentLacking, match=message):
                call()

    (folder / "train" / "bird").mkdir()
    refused("contains no image of bird")
    Image.new("RGB", (20, 20)).save(folder / "train" / "bird" / "0.png")
    refused("different classes: bird in only one of them")
    (folder / "test").rename(folder / "tests")
    refused("there is no folder .*test$")


def test_a_file_that_is_no_image_is_named(datasets: SimpleNamespace, folder: Path) -> None:
    (folder / "train" / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(EnvironmentLacking, match=r"dog/1\.png cannot be read as an image"):
        datasets.ImageFolder().load(folder, "train")


def test_a_size_of_no_pixels_is_refused(datasets: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel, not 0"):
        datasets.ImageFolder(size=0)


def test_they_register_themselves(datasets: SimpleNamespace) -> None:
    registered = list(vars(datasets).values())
    assert [one.name for one in registered] == ["digits", "cifar10", "cifar100", "fashion-mnist", "image-folder"]
    for one in registered:
        assert set(one.augment) <= {"crop", "flip"}
        assert one.size == 32
