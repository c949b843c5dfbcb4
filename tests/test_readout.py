"""Probes' numbers, held against scikit-learn as its users call it and against formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rotbench.readout import DEFAULT_C, GRID, HELD, NEIGHBOURS, Features, Labels, knn_accuracy, linear_probe

CLASSES = 5


def clouds(images: int, seed: int, spread: float = 1.6) -> tuple[Features, Labels]:
    """Features of 24 numbers around a point a class, some larger than others, and their labels."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, 24))
    labels = np.arange(images) % CLASSES
    features = centres[labels] + draw.normal(scale=spread, size=(images, 24))
    return (features * np.linspace(0.1, 30, 24) + 2).astype(np.float32), labels.astype(np.int64)


BANK, LABELS = clouds(400, 1)
TEST, TEST_LABELS = clouds(300, 2)


def test_nearest_neighbours_are_those_of_the_largest_cosine_and_vote() -> None:
    votes: NDArray[Any] = np.zeros((len(TEST), CLASSES))
    for place, one in enumerate(TEST.astype(np.float64)):
        cosines = BANK @ one / (np.linalg.norm(BANK.astype(np.float64), axis=1) * np.linalg.norm(one))
        for near in np.argsort(-cosines)[:NEIGHBOURS]:
            votes[place, LABELS[near]] += 1
    expected = float(np.mean(votes.argmax(1) == TEST_LABELS))
    assert 0.3 < expected < 0.95  # neither guessing nor trivial
    assert knn_accuracy(BANK, LABELS, TEST, TEST_LABELS) == pytest.approx(expected, abs=1e-12)
    plain = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(BANK, LABELS)
    assert knn_accuracy(BANK, LABELS, TEST, TEST_LABELS) == pytest.approx(float(plain.score(TEST, TEST_LABELS)))


def test_length_does_not_matter_to_neighbours_and_no_more_vote_than_a_class_has() -> None:
    longer = (TEST * np.random.default_rng(3).uniform(0.1, 9, (len(TEST), 1))).astype(np.float32)
    assert knn_accuracy(BANK, LABELS, longer, TEST_LABELS) == knn_accuracy(BANK, LABELS, TEST, TEST_LABELS)
    few = KNeighborsClassifier(2, metric="cosine").fit(BANK[:10], LABELS[:10])  # two a class
    assert knn_accuracy(BANK[:10], LABELS[:10], TEST, TEST_LABELS) == pytest.approx(float(few.score(TEST, TEST_LABELS)))
    apart = np.eye(CLASSES, dtype=np.float32)
    assert knn_accuracy(apart, np.arange(CLASSES), apart, np.arange(CLASSES)) == 1


def test_the_linear_probe_is_the_minimum_of_the_penalised_likelihood() -> None:
    found = linear_probe(BANK, LABELS, TEST, TEST_LABELS, seed=7)
    mean, scale = BANK.mean(0, dtype=np.float64), BANK.std(0, dtype=np.float64)
    bank, test = (BANK - mean) / scale, (TEST - mean) / scale

    def loss(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights, bias = flat[: CLASSES * 24].reshape(CLASSES, 24), flat[CLASSES * 24 :]
        logs = log_softmax(bank @ weights.T + bias, axis=1)
        wrong = np.exp(logs) - np.eye(CLASSES)[LABELS]
        slope = np.concatenate([(found.c * wrong.T @ bank + weights).ravel(), found.c * wrong.sum(0)])
        return -found.c * logs[np.arange(len(bank)), LABELS].sum() + (weights**2).sum() / 2, slope

    best = minimize(loss, np.zeros(CLASSES * 25), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9})
    weights, bias = best.x[: CLASSES * 24].reshape(CLASSES, 24), best.x[CLASSES * 24 :]
    expected = float(np.mean((test @ weights.T + bias).argmax(1) == TEST_LABELS))
    assert found.converged
    # lbfgs stops a little short of the minimum: an image on the border may fall to either side.
    assert found.accuracy == pytest.approx(expected, abs=1.01 / len(TEST))


def test_c_is_the_best_of_the_grid_on_a_fifth_of_the_bank_by_class() -> None:
    fit, held = next(StratifiedShuffleSplit(1, test_size=HELD, random_state=7).split(BANK, LABELS))
    assert (len(held), set(np.bincount(LABELS[held]))) == (80, {16})
    scores = {
        c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
        .fit(BANK[fit], LABELS[fit])
        .score(BANK[held], LABELS[held])
        for c in GRID
    }
    assert len(set(scores.values())) > 1
    found = linear_probe(BANK, LABELS, TEST, TEST_LABELS, seed=7)
    assert found.c == max(scores, key=lambda c: (scores[c], -c))
    assert found.held_accuracy == pytest.approx(max(scores.values()))
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=found.c, max_iter=2000)).fit(BANK, LABELS)
    assert found.accuracy == pytest.approx(float(plain.score(TEST, TEST_LABELS)), abs=1.01 / len(TEST))


def test_test_images_choose_nothing() -> None:
    found = linear_probe(BANK, LABELS, TEST, TEST_LABELS, seed=7)
    other = linear_probe(BANK, LABELS, TEST, (TEST_LABELS + 1) % CLASSES, seed=7)
    assert (found.c, found.held_accuracy) == (other.c, other.held_accuracy)
    assert other.accuracy < found.accuracy


def test_with_too_few_labels_to_set_some_apart_nothing_is_chosen() -> None:
    found = linear_probe(BANK[:20], LABELS[:20], TEST, TEST_LABELS, seed=0)  # four a class
    assert (found.c, found.held_accuracy) == (DEFAULT_C, None)
    assert linear_probe(BANK[:25], LABELS[:25], TEST, TEST_LABELS, seed=0).held_accuracy is not None
