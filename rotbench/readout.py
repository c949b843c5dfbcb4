"""What frozen features tell of classes: by their nearest neighbours, and by a linear classifier.

Both learn from a bank, features of labelled images, and are scored on features of test images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

NEIGHBOURS = 20

#: The grid of C, the inverse of how strongly weights are held down.
GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)

#: Of the bank so much is set apart to choose C.
HELD = 0.2

#: Where a class has too few images to set some apart, C is what scikit-learn has.
DEFAULT_C = 1.0

MOST_ITERATIONS = 500


@dataclass(frozen=True)
class LinearProbe:
    """The accuracy of a linear classifier, a fraction, and the ``C`` that was chosen for it.

    ``held_accuracy`` is that on the fifth of the bank that C was chosen on, None where none was set apart;
    ``converged`` says whether the last fit ended before :data:`MOST_ITERATIONS`.
    """

    accuracy: float
    c: float
    held_accuracy: float | None
    converged: bool


def knn_accuracy(
    bank: Features, labels: Labels, test: Features, test_labels: Labels, neighbours: int = NEIGHBOURS
) -> float:
    """The accuracy of a vote among the nearest of the bank, by cosine similarity; a fraction.

    ``bank`` (N, D) and ``test`` (M, D) are float32, ``labels`` (N,) and ``test_labels`` (M,) int64. Of classes with
    equally many votes the first wins. Where a class has fewer images than ``neighbours``, so many vote, since even
    the best features could not give it a majority otherwise.
    """
    counts = np.bincount(labels)
    neighbours = min(neighbours, int(counts[counts > 0].min()))
    # On features of length one the nearest in angle are the nearest.
    vote = KNeighborsClassifier(neighbours, algorithm="brute", metric="euclidean")
    vote.fit(normalize(bank), labels)
    return float(vote.score(normalize(test), test_labels))


def linear_probe(
    bank: Features,
    labels: Labels,
    test: Features,
    test_labels: Labels,
    seed: int,
    fitted_one: Callable[[], None] = lambda: None,
) -> LinearProbe:
    """Multinomial logistic regression on standardised features, with the C of :data:`GRID` that is best on a fifth of
    the bank (the smallest of equally good ones), fitted again to all of it.

    Arrays as for :func:`knn_accuracy`; ``seed`` chooses the fifth, by class. The test images choose nothing.
    ``fitted_one`` is called after each fit.
    """
    counts = np.bincount(labels)
    fewest = counts[counts > 0].min()
    c, held_accuracy = DEFAULT_C, None
    if fewest * HELD >= 1:
        fit, held = next(StratifiedShuffleSplit(1, test_size=HELD, random_state=seed).split(bank, labels))
        scaler = StandardScaler().fit(bank[fit])
        fitted, scored = scaler.transform(bank[fit]), scaler.transform(bank[held])
        # One fit goes on from the one before, since neighbours on the grid have similar weights.
        chosen = LogisticRegression(warm_start=True, max_iter=MOST_ITERATIONS)
        accuracies = []
        for candidate in GRID:
            _fit(chosen.set_params(C=candidate), fitted, labels[fit])
            accuracies.append(float(chosen.score(scored, labels[held])))
            fitted_one()
        held_accuracy = max(accuracies)
        c = GRID[accuracies.index(held_accuracy)]
    scaler = StandardScaler().fit(bank)
    last = LogisticRegression(C=c, max_iter=MOST_ITERATIONS)
    converged = _fit(last, scaler.transform(bank), labels)
    return LinearProbe(float(last.score(scaler.transform(test), test_labels)), c, held_accuracy, converged)


def _fit(classifier: LogisticRegression, features: Features, labels: Labels) -> bool:
    """Fit in place; whether it converged."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        classifier.fit(features, labels)
    return not any(issubclass(one.category, ConvergenceWarning) for one in told)
