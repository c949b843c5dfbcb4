"""Pictures of a pretext task: what is shown, in which form, and that a training outlives their failure."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor, nn

from rotbench.feed import Feed
from rotbench.models import Network, build_backbone
from rotbench.pictures import SIDE, picture, pictures
from rotbench.registry import load_registry
from rotbench.tasks import Task


@dataclass(frozen=True)
class Halves:
    """Tell which half of an image is shown."""

    name: ClassVar[str] = "halves"

    def head(self, features: int) -> nn.Module:
        return nn.Linear(features, 2)

    def make_batch(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        top, bottom = images.chunk(2, dim=2)
        targets = torch.randint(2, (len(images),), generator=generator)
        return torch.where(targets.view(-1, 1, 1, 1) == 0, top, bottom), targets


@dataclass(frozen=True)
class Painted(Halves):
    """The same, and it draws what it wants."""

    def pictures(self, views: Tensor, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, str]]:
        yield torch.ones(3, 4, 300), "x" * 1000


def feed(task: Any, count: int = 40) -> Feed:
    source = Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), generator=source, dtype=torch.uint8)
    return Feed(
        task=Task(task),
        pixels=pixels,
        labels=torch.zeros(count, dtype=torch.int64),
        subset=torch.arange(count),
        validation=torch.arange(0),
        test_pixels=pixels,
        test_labels=torch.zeros(count, dtype=torch.int64),
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        augment=(),
        batch_size=8,
        updates=2,
        seed=0,
        kind="pretext",
        name="halves",
        seen=torch.zeros(len(pixels), dtype=torch.bool),
    )


def network(outputs: int) -> Network:
    torch.manual_seed(0)
    return Network(build_backbone("resnet18", "imagenet", 0), nn.Linear(512, outputs))


def pixels_of(shown: dict[str, str]) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["png"]))))


def test_a_task_without_a_word_about_pictures_shows_its_views_and_what_was_said() -> None:
    fed = feed(Halves())
    shown = pictures(network(2), fed, "fp32")
    assert len(shown) == 8
    index = np.linspace(0, 39, 8).astype(int)
    for place, one in zip(index, shown, strict=True):
        image = fed.test_pixels[place].permute(1, 2, 0).numpy()
        found = pixels_of(one)
        assert any(np.array_equal(found, half) for half in (image[:16], image[16:]))
        half = 0 if np.array_equal(found, image[:16]) else 1
        assert one["caption"].startswith(f"target {half} → predicted ")
        assert one["caption"].endswith(" %)")
    assert shown == pictures(network(2), fed, "fp32")


def test_all_turns_are_seen_though_they_are_more_than_fit() -> None:
    rotation = load_registry(shipped_only=True).find("pretext task", "rotation")
    assert rotation is not None
    shown = pictures(network(4), feed(rotation.cls(turns="all")), "fp32")
    assert [one["caption"].partition("°")[0] for one in shown] == ["0", "0", "90", "90", "180", "180", "270", "270"]


def test_few_test_images_are_all_shown() -> None:
    assert len(pictures(network(2), feed(Halves(), count=3), "fp32")) == 3


def test_a_task_may_draw_for_itself_and_is_cut_to_what_a_page_can_hold() -> None:
    (shown,) = pictures(network(2), feed(Painted()), "fp32")
    assert pixels_of(shown).shape == (1, SIDE, 3)
    assert shown["caption"] == "x" * 80


@pytest.mark.parametrize("image", [torch.zeros(1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8), None])
def test_what_is_no_picture_is_refused(image: Any) -> None:
    with pytest.raises(ValueError, match=r"a picture should be float32 \(3, h, w\), is "):
        picture(image, "")


def test_pictures_have_a_stream_of_their_own_and_do_not_depend_on_the_batch_size() -> None:
    fed = feed(Halves())
    assert pictures(network(2), replace(fed, batch_size=5, updates=9), "fp32") == pictures(network(2), fed, "fp32")
