"""The training loop as course notebooks have it: torchvision's transforms image by image, a DataLoader, float32.

What rotbench is measured against. Nothing here is made slow on purpose: it is the loop of torch's and torchvision's
tutorials, with the rotation done in the data set, as assignments ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
BATCH = 128


class Rotated(Dataset[tuple[Tensor, int]]):
    """An image turned by a random multiple of 90 degrees, and which."""

    def __init__(self, images: Dataset[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, _ = self.images[index]
        turns = int(torch.randint(4, (1,)))
        return torch.rot90(image, turns, (1, 2)), turns


def transform(train: bool) -> Callable[[Any], Tensor]:
    """What is done to a PIL image: crop and flip when training; a normalised tensor."""
    changes = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if train else []
    made: Callable[[Any], Tensor] = transforms.Compose(
        [*changes, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    return made


def loader(images: Dataset[Any], *, train: bool, workers: int) -> DataLoader[Any]:
    return DataLoader(images, batch_size=BATCH, shuffle=train, num_workers=workers)


def network(classes: int) -> nn.Module:
    made: nn.Module = models.resnet18(num_classes=classes)
    return made


def freeze_below_layer4(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith(("layer4", "fc"))


def adam(model: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], lr=lr)


def train_steps(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> Iterator[float]:
    """Train on the batches; yields the loss of each step, which notebooks add up."""
    criterion = nn.CrossEntropyLoss()
    model.train()
    for images, targets in batches:
        optimizer.zero_grad()
        loss = criterion(model(images), targets)
        loss.backward()
        optimizer.step()
        yield loss.item()


@torch.no_grad()
def accuracy(model: nn.Module, batches: Any) -> float:
    model.eval()
    correct = total = 0
    for images, targets in batches:
        correct += int((model(images).argmax(1) == targets).sum())
        total += len(targets)
    return correct / total
