"""rotbench: compare pretraining, initialisation and freezing of ResNets, and report it as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rotbench._version import __version__
from rotbench.hookspecs import hookimpl

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["__version__", "hookimpl", "load_results"]


def load_results(place: str | Path) -> pd.DataFrame:
    """The results of a study as a tidy frame: a row a run and epoch, in the order of the study's runs.

    ``place`` is a results folder, a ``results.json`` or a ``report.html`` (whose curves have five digits).

    ==========================  ====================================================================================
    ``id``, ``kind``            the run's name; ``"pretext"`` or ``"downstream"``
    ``status``                  ``"done"`` or ``"failed"``: a run that failed has a row for each epoch that it finished
    one column an axis          ``init``, ``freeze``, ``lr``, ..: as the study file writes it, a table as a short label;
                                missing for pretext runs; an axis ``lr`` is ``lr_setting``
    ``pretext``                 the ``[pretext.NAME]`` of a pretext run; missing for downstream runs
    ``seed``, ``repeat``        which of the study's seeds; which repeat of it, from 0
    ``epoch``                   from 1
    ``train_loss``, ..          ``train_accuracy``, ``test_loss``, ``test_accuracy``, ``validation_loss``,
                                ``validation_accuracy``: means over images, accuracies as fractions (of a pretext run
                                its score on one view of each image); NaN where nothing was measured
    ``lr``, ``seconds``         the learning rate at the epoch's end; how long the epoch took
    ==========================  ====================================================================================

    A study without a finished epoch gives a frame without rows. Raises :class:`rotbench.errors.BadInput` where there
    are no results, or damaged ones, and :class:`rotbench.errors.StoreUnusable` where a newer rotbench wrote them.
    """
    from rotbench import frames

    return frames.load_results(place)
