"""Pictures of a pretext task: what a trained network was shown, and what it said."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rotbench.device import autocast
from rotbench.feed import Feed
from rotbench.models import Network

#: Test images that are shown, and pictures at most, since a task may make several of an image.
IMAGES = 8
PICTURES = 8

#: The longest side of a picture in pixels, and the longest caption: a page holds many.
SIDE = 96
CAPTION = 80


@torch.no_grad()
def pictures(network: Network, feed: Feed, precision: str) -> list[dict[str, str]]:
    """A few pictures, each with ``png`` (base64) and ``caption``; raises whatever the task raises.

    Where a task makes more of them than fit, they are taken at equal steps: all four turns of an image are seen.
    """
    network.eval()
    views, prepared, targets = feed.shown_batch(IMAGES)
    with autocast(prepared.device.type, precision):
        outputs = network(prepared)
    made = feed.task.pictures(views, outputs, targets)
    return [picture(image, caption) for image, caption in made[:: -(-len(made) // PICTURES) or 1]]


def picture(image: Any, caption: str) -> dict[str, str]:
    """One picture as PNG. ``image``: float32 (3, h, w), cut to [0, 1]. Raises ``ValueError`` for anything else."""
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        what = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"a picture should be float32 (3, h, w), is {what}")
    pixels = image.detach().float().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
    drawn = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    drawn.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    drawn.save(content, "PNG", optimize=True)
    return {"png": base64.b64encode(content.getvalue()).decode(), "caption": str(caption)[:CAPTION]}
