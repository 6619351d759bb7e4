"""The interpolation threshold of an experiment, which one seed or one epoch does not move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from smoothdescent.tables.convergence import divergences

if TYPE_CHECKING:
    import pandas as pd

LEAST_EVALUATIONS = 3  # of a run: of fewer, one decides


def late_accuracies(
    history: pd.DataFrame, final_epochs: Sequence[int] = (), statistic: str = "median"
) -> pd.Series:
    """Return the training accuracy of each run, on the labels trained on, late in its training.

    Args:
        history: an experiment's history table; rows whose `train_accuracy_all` is missing are
            epochs without an evaluation.
        final_epochs: of the final checkpoints. The evaluations from the first of them on are late,
            and at least the last LEAST_EVALUATIONS of each run.
        statistic: over the late evaluations of a run: `median`, `mean` or `min`.

    Returns:
        Fractions, indexed by (width, seed), sorted; 0 for a run that has diverged.
    """
    evaluated = history.dropna(subset=["train_accuracy_all"]).sort_values("epoch")
    left = evaluated.groupby(["width", "seed"]).cumcount(ascending=False)
    since = min(final_epochs, default=math.inf)
    late = evaluated[(evaluated["epoch"] >= since) | (left < LEAST_EVALUATIONS)]
    runs = late.groupby(["width", "seed"])["train_accuracy_all"].agg(statistic)
    for run in divergences(history):
        runs.loc[run] = 0.0
    return runs.sort_index()


def interpolation_threshold(
    runs: pd.Series, accuracy: float = 0.9995, statistic: str = "median"
) -> int | None:
    """Return the smallest width from which on every width fits the training labels.

    Args:
        runs: the accuracy of each run (see `late_accuracies`).
        accuracy: what counts as 100 %, a fraction.
        statistic: over the seeds of a width: `median`, `mean` or `min`.

    Returns:
        The base width, or None if the largest width does not fit.
    """
    widths = runs.groupby("width").agg(statistic)
    fits = np.logical_and.accumulate((widths >= accuracy).to_numpy()[::-1])
    return int(widths.index[-fits.sum()]) if fits.any() else None


def disagreements(runs: pd.Series, accuracy: float = 0.9995) -> dict[int, tuple[int, int]]:
    """Return the widths of which some runs fit the training labels and some do not.

    Args:
        runs, accuracy: see `interpolation_threshold`.

    Returns:
        By width, how many runs fit, and how many there are.
    """
    fits = (runs >= accuracy).groupby("width").agg(["sum", "size"])
    mixed = fits[(fits["sum"] > 0) & (fits["sum"] < fits["size"])]
    return {int(row.Index): (int(row[1]), int(row[2])) for row in mixed.itertuples()}
