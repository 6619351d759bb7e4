"""The interpolation threshold of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def last_evaluations(history: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each run's last exact evaluation.

    Args:
        history: an experiment's history table; rows whose `train_accuracy_all` is missing are
            epochs without an evaluation.

    Returns:
        One row per (width, seed), sorted by both.
    """
    evaluated = history.dropna(subset=["train_accuracy_all"])
    last = evaluated.groupby(["width", "seed"])["epoch"].transform("max")
    return evaluated[evaluated["epoch"] == last].sort_values(["width", "seed"])


def final_train_accuracy(history: pd.DataFrame) -> pd.Series:
    """Return the mean training accuracy over seeds at the end of training, indexed by width.

    It is the accuracy on the labels trained on, as a fraction. A run counts with its last
    evaluation.
    """
    return last_evaluations(history).groupby("width")["train_accuracy_all"].mean().sort_index()


def interpolation_threshold(history: pd.DataFrame, accuracy: float = 0.9995) -> int | None:
    """Return the smallest width that interpolates the training labels.

    Args:
        history: the history table of one experiment.
        accuracy: the mean final training accuracy over seeds, a fraction, that counts as 100 %.

    Returns:
        The base width, or None if no width reaches `accuracy`.
    """
    final = final_train_accuracy(history)
    widths = final.index[final >= accuracy]
    return int(widths[0]) if len(widths) else None
