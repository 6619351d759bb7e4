"""Runs whose training does not converge, or gets worse: their histories show it.

At a constant learning rate that is high for the batch, networks that cannot fit all labels go on
changing as long as they are trained. What is measured of their last epoch is then one draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LATE = 0.25  # the part of a training that is looked at, at its end
SWING = 0.05  # a fall and a rise of the training accuracy by this much are an oscillation
WORSE = 2.0  # so many times the least loss of a run is far above it,
WORSE_BY = 0.1  # if it is so many nats more: near zero, losses differ by factors
WHAT_HELPS = "a lower learning rate, larger batches or `schedule: inverse_sqrt`"


def unsettled_runs(history: pd.DataFrame) -> dict[tuple[int, int], str]:
    """Return the runs that diverge, oscillate or get worse, and how.

    A run oscillates if its training accuracy, over the evaluations of the last quarter, both falls
    and rises by 5 percentage points. It has got worse if the median of its training losses there
    is twice the least of all its evaluations and 0.1 nats more.

    Args:
        history: an experiment's history table, of which exact evaluations are looked at. Without
            `train_loss_all`, no run is found to get worse; without `diverged`, none to diverge.

    Returns:
        Sentences by (width, seed), in their order.
    """
    ends = divergences(history)
    evaluated = history.dropna(subset=["train_accuracy_all"]).sort_values("epoch")
    found = {run: f"diverged in epoch {epoch}" for run, epoch in ends.items()}
    for (width, seed), run in evaluated.groupby(["width", "seed"]):
        faults = [fault for fault in (_oscillation(run), _deterioration(run)) if fault]
        if faults and (width, seed) not in ends:
            found[int(width), int(seed)] = "; ".join(faults)
    return dict(sorted(found.items()))


def divergences(history: pd.DataFrame) -> dict[tuple[int, int], int]:
    """Return the epochs in which runs have diverged, by (width, seed)."""
    if "diverged" not in history:
        return {}
    rows = history[history["diverged"]].groupby(["width", "seed"])["epoch"].min()
    return {(int(width), int(seed)): int(epoch) for (width, seed), epoch in rows.items()}


def _late(run: pd.DataFrame) -> pd.DataFrame:
    return run[run["epoch"] >= (1 - LATE) * run["epoch"].iloc[-1]]


def _oscillation(run: pd.DataFrame) -> str:
    late = _late(run)
    accuracy = late["train_accuracy_all"]
    fall = (accuracy.cummax() - accuracy).max()
    rise = (accuracy - accuracy.cummin()).max()
    if min(fall, rise) < SWING:
        return ""
    span = f"{100 * accuracy.min():.0f} to {100 * accuracy.max():.0f}\u00a0%"
    epochs = late["epoch"].iloc[-1] - late["epoch"].iloc[0]
    return f"oscillates: training accuracy {span} over the last {epochs} epochs"


def _deterioration(run: pd.DataFrame) -> str:
    if "train_loss_all" not in run:
        return ""
    late, least = _late(run)["train_loss_all"].median(), run["train_loss_all"].min()
    if not late >= max(WORSE * least, least + WORSE_BY):
        return ""
    epoch = run.loc[run["train_loss_all"].idxmin(), "epoch"]
    return f"has got worse: training loss {late:.2g} nats late, {least:.2g} at epoch {epoch}"


def convergence_note(history: pd.DataFrame) -> str:
    """Return one sentence on the runs of an experiment that do not converge; empty if all do."""
    found = unsettled_runs(history)
    if not found:
        return ""
    runs = len(history[["width", "seed"]].drop_duplicates())
    counts: dict[int, int] = {}
    for width, _ in found:
        counts[width] = counts.get(width, 0) + 1
    widths = ", ".join(f"{width} ({count})" for width, count in counts.items())
    (width, seed), fault = list(found.items())[-1]
    return (
        f"{len(found)} of {runs} runs do not converge, at w\u00a0= {widths}: w{width}_s{seed} "
        f"{fault}. What helps: {WHAT_HELPS}"
    )
