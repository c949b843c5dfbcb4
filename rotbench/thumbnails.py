"""Small pictures of the errors that runs are surest of, within a budget that variants share.

PNG without loss, as long as that shows a few errors of each variant: a CIFAR-10 image is then some 3,000 characters of
base64. Beyond some six variants the pictures are kept in 64 colours, then in 32 (1,300 and 1,000 characters), since
several pictures tell more than one exact one; JPEG and WebP would be smaller still, but blur 32 x 32 pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rotbench.predictions import Array, read_error_images
from rotbench.store import Damaged

#: Characters of base64 of all pictures of a report.
BUDGET = 60_000
#: The longest side of a picture in pixels.
SIDE = 32
#: Colours of a picture, None for all that it has: the first at which every variant shows ``SHOWN`` of its errors.
COLOURS = (None, 64, 32)
SHOWN = 3

Run = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Picture:
    """An error of a run: the place of the image among the test images, its pixels uint8 (3, H, W)."""

    run: str
    index: int
    pixels: Array


def error_images(folders: Sequence[tuple[Run, Path]], budget: int = BUDGET) -> list[dict[str, Any]]:
    """Pictures of the listed errors of ``folders``, one run with the folder of its files for each variant, as plain
    JSON: the id of the ``run``, the ``index`` of the test image, and ``png`` in base64.

    Shared out in turns, each run's surest error first, until the next picture would exceed ``budget`` characters. A run
    whose file is damaged or that kept no pixels has none.
    """
    pictures = [_pictures(run, folder) for run, folder in folders]
    shared: list[list[dict[str, Any]]] = []
    for colours in COLOURS:
        shared = _share([[_encoded(picture, colours) for picture in own] for own in pictures], budget)
        if all(len(got) >= min(SHOWN, len(own)) for got, own in zip(shared, pictures, strict=True)):
            break
    return [item for own in shared for item in own]


def _pictures(run: Mapping[str, Any], folder: Path) -> list[Picture]:
    """The kept pixels of those errors that the run lists, in the order of the list."""
    try:
        kept = read_error_images(folder)
    except Damaged:
        return []
    if kept is None:
        return []
    # The list is made of all predictions, the pixels were kept while training: what they do not share is not shown.
    place = {int(index): position for position, index in enumerate(kept.index)}
    listed = [error["index"] for error in run.get("errors", ())]
    return [Picture(run["id"], index, kept.pixels[place[index]]) for index in listed if index in place]


def _encoded(picture: Picture, colours: int | None) -> dict[str, Any]:
    return {"run": picture.run, "index": picture.index, "png": png(picture.pixels, colours)}


def png(pixels: Array, colours: int | None = None) -> str:
    """An image, uint8 (3, H, W), as PNG in base64, made smaller where it has more than 32 pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((SIDE, SIDE))
    if colours is not None:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def in_few_colours(content: str) -> bool:
    """Whether a PNG in base64 has a palette, as :func:`png` makes it of a few colours alone."""
    try:
        header = base64.b64decode(content[:40])
    except ValueError:
        return False
    return len(header) > 25 and header[25] == 3  # the colour type, in a PNG's first chunk


def _share(offered: Sequence[Sequence[dict[str, Any]]], budget: int) -> list[list[dict[str, Any]]]:
    """Of each sequence the first ones, in turns, as long as all together fit."""
    shared: list[list[dict[str, Any]]] = [[] for _ in offered]
    left = budget
    for turn in zip_longest(*offered):
        for place, item in enumerate(turn):
            if item is None:
                continue
            left -= len(item["png"])
            if left < 0:
                return shared
            shared[place].append(item)
    return shared
