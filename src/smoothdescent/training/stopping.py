"""Runs that no longer change stop training (`stop_below`); their later epochs are the last one.

All follows from the history, so an interrupted run stops after the same epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from smoothdescent.config.schema import Training


def stop_epoch(history: Sequence[dict[str, float]], settings: Training) -> int | None:
    """Return the epoch after which a run trains no more; None if it goes on.

    The exact training loss has stayed below `stop_below.loss` for `stop_below.for_epochs` epochs.
    Only evaluations at multiples of `evaluate_every` count: others are there for snapshots, which
    do not determine a training.

    Args:
        history: a row for each epoch from 0 on.
        settings: those of the training.
    """
    stop, since = settings.stop_below, None
    if stop is None:
        return None
    for epoch in range(0, len(history), settings.evaluate_every):
        if not history[epoch].get("train_loss_all", math.nan) < stop.loss:
            since = None
            continue
        since = epoch if since is None else since
        if epoch - since >= stop.for_epochs:
            return epoch
    return None


def standing_row(
    history: Sequence[dict[str, float]], stopped: int, evaluated: bool
) -> dict[str, float]:
    """Return the next row of a history whose run has stopped: its learning rate is 0.

    Args:
        history: a row for each epoch so far.
        stopped: the last epoch that was trained, with an exact evaluation.
        evaluated: whether this epoch has one, which is the same.
    """
    row = {"epoch": len(history), "learning_rate": 0.0}
    if not evaluated:
        return row
    running = ("epoch", "learning_rate", "train_loss", "train_accuracy")
    return row | {k: value for k, value in history[stopped].items() if k not in running}
