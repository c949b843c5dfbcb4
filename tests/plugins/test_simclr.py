from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def simclr(load_shipped_plugin: Callable[[str], ModuleType]) -> ModuleType:
    return load_shipped_plugin("simclr")


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def partners(images: int) -> torch.Tensor:
    """Where the other view of each view stands: all first views come first."""
    return torch.cat((torch.arange(images, 2 * images), torch.arange(images)))


def test_the_loss_of_two_images_by_hand(simclr: ModuleType) -> None:
    """Four views in the plane, z1 = (1, 0) with its partner z3 = (3, 4), z2 = (0, 2) with its partner z4 = (0, 1).

    Lengths do not count: z3 is (0.6, 0.8). Cosines: z1.z3 = 0.6, z1.z2 = z1.z4 = 0, z2.z3 = z4.z3 = 0.8, z2.z4 = 1.
    Divided by the temperature 0.5: 1.2, 0, 1.6 and 2. So
      l(1, 3) = -1.2 + log(e^1.2 + e^0 + e^0)     = -1.2 + log 5.320117 = 0.471495
      l(3, 1) = -1.2 + log(e^1.2 + e^1.6 + e^1.6) = -1.2 + log 13.226182 = 1.382198
      l(2, 4) = -2 + log(e^2 + e^0 + e^1.6)       = -2 + log 13.342089 = 0.590924
      l(4, 2) = -2 + log(e^2 + e^0 + e^1.6)       = 0.590924
    and their mean is 0.758885.
    """
    outputs = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    assert float(simclr.SimCLR().loss(outputs, partners(2))) == pytest.approx(0.758885, abs=2e-6)
    # z3 is nearest to z1, but to z3 both z2 and z4 are nearer than z1; z2 and z4 are nearest to each other.
    assert simclr.SimCLR().score(outputs, partners(2)).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("images", "temperature"), [(1, 0.5), (2, 0.5), (7, 0.5), (7, 0.1), (20, 1.0)])
def test_the_loss_is_the_papers_formula(simclr: ModuleType, images: int, temperature: float) -> None:
    """Equation 1 and the last lines of Algorithm 1, in float64, one pair after another."""
    outputs = torch.randn(2 * images, 16, generator=drawn(images))
    z = np.empty((2 * images + 1, 16))  # the paper counts from 1, and the views of image k are 2k - 1 and 2k
    z[1::2], z[2::2] = outputs[:images].numpy(), outputs[images:].numpy()

    def s(i: int, j: int) -> float:
        return float(z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j])))

    def loss(i: int, j: int) -> float:
        others = sum(math.exp(s(i, k) / temperature) for k in range(1, 2 * images + 1) if k != i)
        return -math.log(math.exp(s(i, j) / temperature) / others)

    total = sum(loss(2 * k - 1, 2 * k) + loss(2 * k, 2 * k - 1) for k in range(1, images + 1)) / (2 * images)
    made = simclr.SimCLR(temperature=temperature).loss(outputs, partners(images))
    assert float(made) == pytest.approx(total, abs=2e-5)


def test_the_loss_can_be_trained_on(simclr: ModuleType) -> None:
    outputs = torch.randn(8, 4, generator=drawn(0)).requires_grad_()
    simclr.SimCLR().loss(outputs, partners(4)).backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad.abs().sum() > 0


def test_guessing_scores_at_chance(simclr: ModuleType) -> None:
    """Random outputs of 250 images: 1 / 499, within four standard errors over 40 batches."""
    task = simclr.SimCLR()
    scores = torch.cat([task.score(torch.randn(500, 64, generator=drawn(at)), partners(250)) for at in range(40)])
    chance = task.chance(examples=250)
    assert chance == 1 / 499
    assert abs(float(scores.float().mean()) - chance) < 4 * math.sqrt(chance * (1 - chance) / len(scores))
    assert task.chance(examples=1) == 1.0
    assert task.score(torch.ones(500, 64), partners(250)).float().mean() < 0.01  # a network that sees no difference


def test_two_views_of_each_image(simclr: ModuleType) -> None:
    task = simclr.SimCLR()
    assert task.augments
    for count, size in ((6, 32), (1, 29), (3, 48)):
        images = torch.rand(count, 3, size, size, generator=drawn(1))
        before = images.clone()
        views, targets = task.make_batch(images, drawn(0))
        assert views.shape == (2 * count, 3, size, size)
        assert 0 <= float(views.min()) <= float(views.max()) <= 1
        assert torch.equal(targets, partners(count))
        assert not torch.equal(views[:count], views[count:])
        assert torch.equal(images, before)
        assert torch.equal(views, task.make_batch(images, drawn(0))[0])
        assert not torch.equal(views, task.make_batch(images, drawn(1))[0])


def test_partners_show_the_same_image(simclr: ModuleType) -> None:
    """Grey images of one brightness each, times 0.6 to 1.4 by jitter: they stay a factor of 3 apart."""
    images = torch.tensor([0.02, 0.14, 0.98]).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    views, targets = simclr.SimCLR().make_batch(images, drawn(0))
    levels = views.mean((1, 2, 3)).log()
    for at in range(6):
        apart = (levels - levels[at]).abs()
        apart[at] = math.inf
        assert int(apart.argmin()) == int(targets[at])


def test_the_head_projects_by_one_hidden_layer(simclr: ModuleType) -> None:
    head = simclr.SimCLR(projection=32).head(64)
    first, middle, last = head
    assert (first.in_features, first.out_features, last.in_features, last.out_features) == (64, 64, 64, 32)
    assert isinstance(middle, torch.nn.ReLU)
    features = torch.randn(6, 64, generator=drawn(0))
    expected = torch.clamp(features @ first.weight.T + first.bias, min=0) @ last.weight.T + last.bias
    torch.testing.assert_close(head(features), expected)


def test_the_notice_names_what_is_less_than_the_published_recipe(simclr: ModuleType) -> None:
    task = simclr.SimCLR()
    recipe = {"epochs": 1000, "batch_size": 256, "model_name": "resnet50", "stem": "cifar"}
    assert task.notice(**recipe) is None
    assert task.notice(**{**recipe, "model_name": "resnet101", "batch_size": 4096}) is None
    begins = "uses less than the published recipe for 94.0 % on CIFAR-10 (linear probe): "
    less = {"epochs": 20, "batch_size": 128, "model_name": "resnet18", "stem": "imagenet"}
    words = {
        "epochs": "20 epochs instead of 1000",
        "batch_size": "batches of 128 instead of at least 256",
        "model_name": "resnet18 instead of resnet50",
        "stem": 'the stem "imagenet" instead of "cifar"',
    }
    for key, value in less.items():
        assert task.notice(**{**recipe, key: value}) == begins + words[key]
    assert task.notice(**{**recipe, "epochs": 1}) == begins + "1 epoch instead of 1000"
    assert task.notice(**less) == begins + ", ".join(words.values())
    assert simclr.SimCLR(temperature=0.1).notice(**recipe) == begins + "temperature 0.1 instead of 0.5"
    assert len(words) == 4


def test_pictures_show_both_views(simclr: ModuleType) -> None:
    views = torch.rand(4, 3, 8, 8, generator=drawn(0))
    outputs = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    shown = list(simclr.SimCLR().pictures(views, outputs, partners(2)))
    assert [caption for _, caption in shown] == ["cosine 0.60, nearest view", "cosine 1.00, nearest view"]
    for at, (image, _) in enumerate(shown):
        assert torch.equal(image, torch.cat((views[at], views[at + 2]), 2))


def test_it_registers_itself(simclr: ModuleType) -> None:
    assert simclr.register_pretext_tasks() == [simclr.SimCLR]
    assert simclr.SimCLR.name == "simclr"
