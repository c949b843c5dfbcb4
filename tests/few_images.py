"""Digits in a folder of image files, so few that a ResNet18 is trained on them in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: What a study file beside the folder says.
DATASET = '[dataset]\nname = "image-folder"\nroot = "images"\n'

CLASSES = 10
#: Images of each class for training, and for testing.
TRAINING, TEST = 20, 5
#: Where the official test images of the digits begin.
OFFICIAL_TRAINING = 1297

#: The class of each image, in the order in which they are loaded.
TRAINING_LABELS = np.repeat(np.arange(CLASSES), TRAINING)
TEST_LABELS = np.repeat(np.arange(CLASSES), TEST)


def few_digits() -> tuple[np.ndarray, np.ndarray]:
    """The training and the test images of every class: uint8 (200, 32, 32) and (50, 32, 32), class by class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    whole = np.rint(digits.images * 255 / 16).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    splits = []
    for part, count in ((slice(None, OFFICIAL_TRAINING), TRAINING), (slice(OFFICIAL_TRAINING, None), TEST)):
        images, labels = whole[part], digits.target[part]
        splits.append(np.concatenate([images[labels == label][:count] for label in range(CLASSES)]))
    return splits[0], splits[1]


def write_images(folder: Path) -> None:
    """``images`` in a folder, as the data set image-folder has them: ``images/train/3/07.png``."""
    for split, images, count in zip(("train", "test"), few_digits(), (TRAINING, TEST), strict=True):
        for number, image in enumerate(images):
            place = folder / "images" / split / str(number // count) / f"{number % count:02}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place)
