"""A data set that was laid out for the workers is the data set itself, or it is not used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rotbench.census import duplicates
from rotbench.data import Images, channel_statistics
from rotbench.mapped import Counted, count, lay_out, layout_name, map_images
from rotbench.setup import _counted
from tests.few_images import DATASET, write_images
from tests.program import command

pytestmark = pytest.mark.usefixtures("none_drawn")


def made() -> Counted:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 3, 4, 4), dtype=torch.uint8, generator=source)
    pixels[5] = pixels[1]
    labels = torch.arange(12) % 3
    classes = ("cat", "döner", "ship")
    return count(Images(pixels[:8], labels[:8], classes), Images(pixels[4:], labels[4:], classes))


def test_what_is_mapped_is_what_was_laid_out(tmp_path: Path) -> None:
    counted = made()
    lay_out(tmp_path, "images-1", counted)
    mapped = map_images(tmp_path, "images-1")
    assert mapped is not None
    for part in ("training", "test"):
        found, expected = getattr(mapped, part), getattr(counted, part)
        assert torch.equal(found.pixels, expected.pixels)
        assert torch.equal(found.labels, expected.labels)
        assert found.classes == expected.classes == ("cat", "döner", "ship")
    assert mapped.duplicates == counted.duplicates == duplicates(counted.training, counted.test)
    assert all(map(torch.equal, (mapped.mean, mapped.std), channel_statistics(counted.training.pixels)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images-1.safetensors", "images-1.sha256"]


def test_pixels_are_mapped_and_not_read(tmp_path: Path) -> None:
    """The kernel lists the file among the mappings of this process."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("mappings are told by Linux alone")
    lay_out(tmp_path, "images-1", made())
    mapped = map_images(tmp_path, "images-1")
    assert mapped is not None
    address = mapped.training.pixels.data_ptr()
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("images-1.safetensors")
    ]
    assert any(low <= address < high for low, high in ranges)


def test_what_is_damaged_unfinished_or_missing_is_not_used(tmp_path: Path) -> None:
    lay_out(tmp_path, "images-1", made())
    file, sha256 = tmp_path / "images-1.safetensors", tmp_path / "images-1.sha256"
    whole, told = file.read_bytes(), sha256.read_text()
    tried = 0
    for content, hashed in [
        (bytes([whole[0] ^ 1]) + whole[1:], told),
        (whole[:-1] + bytes([whole[-1] ^ 1]), told),
        (whole[: len(whole) // 2], told),
        (b"", told),
        (whole, "0" * 64),
        (whole, None),
        (None, told),
    ]:
        for path, value in ((file, content), (sha256, None if hashed is None else hashed.encode())):
            path.unlink(missing_ok=True)
            if value is not None:
                path.write_bytes(value)
        assert map_images(tmp_path, "images-1") is None
        tried += 1
    assert tried == 7


def test_other_code_options_folders_or_data_have_another_name() -> None:
    names = {
        layout_name({"sha256": "a"}, {"name": "digits"}, "data", "md5:1"),
        layout_name({"sha256": "b"}, {"name": "digits"}, "data", "md5:1"),
        layout_name({"sha256": "a"}, {"name": "digits", "size": 1}, "data", "md5:1"),
        layout_name({"sha256": "a"}, {"name": "digits"}, "elsewhere", "md5:1"),
        layout_name({"sha256": "a"}, {"name": "digits"}, "data", "md5:2"),
    }
    assert len(names) == 5


class Loading:
    """A data set that says how often it was decoded."""

    def __init__(self) -> None:
        self.loads = 0

    def load(self, root: Path, split: str) -> Images:
        self.loads += 1
        return made().training if split == "train" else made().test


def test_a_worker_decodes_nothing_where_images_are_laid_out_whole(tmp_path: Path) -> None:
    settings, reference = {"name": "digits"}, {"kind": "dataset", "sha256": "a"}
    request = {
        "run": {"settings": {"dataset": settings}, "fingerprint": "md5:1"},
        "root": "data",
        "plugins": [reference],
    }
    folder = tmp_path / "attempts" / "prepare"
    folder.mkdir(parents=True)
    dataset, name = Loading(), layout_name(reference, settings, "data", "md5:1")
    assert torch.equal(_counted(request, tmp_path, dataset).training.pixels, made().training.pixels)
    assert dataset.loads == 2
    lay_out(folder, name, made())
    assert torch.equal(_counted(request, tmp_path, dataset).training.pixels, made().training.pixels)
    assert dataset.loads == 2
    (folder / f"{name}.sha256").write_text("0" * 64)
    assert torch.equal(_counted(request, tmp_path, dataset).training.pixels, made().training.pixels)
    assert dataset.loads == 4


@pytest.mark.thorough
def test_a_finished_study_keeps_no_copy_of_its_images(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        f'title = "Mapped"\nseeds = 1\n{DATASET}[train]\nepochs = 1\nlabels_per_class = 5\n'
        'updates = "epochs"\n[[matrix]]\ninit = ["random"]\nfreeze = ["head-only"]\n'
    )
    write_images(tmp_path)
    done = command(tmp_path, "run", "study.toml")
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "results").rglob("images-*"))
    (run,) = json.loads((tmp_path / "results" / "results.json").read_text())["runs"]
    assert run["provenance"]["data"]["training_images"] == 50
