"""Made-up studies whose curves, and so whose verdicts, are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from smoothdescent.tables.columns import HISTORY_COLUMNS, MEASURES
from smoothdescent.tables.experiment import ExperimentTables

WIDTHS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32]
THRESHOLD = 8
EPOCHS = [0, 1, 3, 10, 30, 100, 300, 1000]
SEEDS = (0, 1, 2)
VOLUMES = 3  # 0, 1, 2
TEN = {"dataset": {"classes": 10}}
Curve = Callable[..., float]


def bump(width: float, at: float = THRESHOLD, breadth: float = 0.5) -> float:
    return float(np.exp(-0.5 * (np.log(width / at) / breadth) ** 2))


def sharp(width: float, volume: int, subset: str) -> float:
    """Peak at the threshold; larger volumes and noisy samples are sharper."""
    return (0.5 + 5 * bump(width)) * (1 + 0.4 * volume) * (2 if subset == "noisy" else 1)


def loss(width: float, volume: int, subset: str) -> float:
    if volume == 0:
        return 2.0 / (1 + (width / 2) ** 4) if width < THRESHOLD else 0.004 * THRESHOLD / width
    return (0.3 + 2 * bump(width)) * (1 + 0.2 * volume) * (2 if subset == "noisy" else 1)


def accuracy(width: float, volume: int, subset: str) -> float:
    fitted = 1.0 if width >= THRESHOLD else 0.9 * width / THRESHOLD
    if subset == "noisy" and width < THRESHOLD:
        fitted = 0.02 if width < THRESHOLD / 2 else 0.2 * fitted
    return fitted * (1 - 0.08 * volume / (1 + 0.2 * np.log2(width)))


def test_error(width: float) -> float:
    return 0.6 - 0.05 * np.log2(width) + 0.15 * bump(width)


def over_epochs(width: float, time: float) -> float:
    """A factor on the curves at the last epoch, time = 1: a peak past the threshold alone."""
    past = 3 * bump(1 + time, 1.5, 0.07) if width >= THRESHOLD else 0.0
    return 1 + past + (1 - time) * (0.5 if width >= THRESHOLD else 1.0)


def make_study(
    name: str = "convnet-cifar10-noise20",
    *,
    noise: float = 0.01,
    seeds: tuple[int, ...] = SEEDS,
    widths: list[int] = WIDTHS,
    threshold: float = THRESHOLD,
    draw: int = 0,
    error: Curve = test_error,
    corrupted: Curve | None = None,
    jacobian: Curve = sharp,
    hessian: Curve = sharp,
    crossentropy: Curve = loss,
    fitted: Curve = accuracy,
    course: Curve = over_epochs,
    config: dict[str, object] | None = None,
) -> ExperimentTables:
    """Return an experiment whose curves are the functions given.

    Args:
        noise: the relative standard deviation between seeds.
        threshold: widths from it on fit all training labels.
        draw: seed of the noise.
        error, corrupted: functions of width; a fraction.
        jacobian, hessian, crossentropy, fitted: functions of width, volume and subset.
        course: function of width and time in [0, 1], a factor on error and jacobian; half of what
            it exceeds one by is added to crossentropy.
    """
    random = np.random.default_rng(draw)
    history, sharpness = [], []
    for width in widths:
        for seed in seeds:
            own = 1 + noise * random.standard_normal(8)
            for epoch in EPOCHS:
                factor = course(width, np.log1p(epoch) / np.log1p(EPOCHS[-1]))
                key = {"experiment": name, "width": width, "seed": seed, "epoch": epoch}
                row = key | {"parameters": 100 * width**2, "test_error": error(width) * factor}
                row["test_error"] *= own[0]
                row["train_accuracy_all"] = 1.0 if width >= threshold else 0.9
                if corrupted is not None:
                    row["test_error_unperturbed"] = row["test_error"]
                    row["test_error_corrupted"] = corrupted(width) * own[1]
                history.append(row)
                last = epoch == EPOCHS[-1]
                for subset in ("all", "clean", "noisy") if last else ("all",):
                    for volume in range(VOLUMES if last else 1):
                        at = (width, volume, subset)
                        sharpness.append(
                            key
                            | {"subset": subset, "volume": volume, "samples": 1000}
                            | {
                                "accuracy": 1 - (1 - fitted(*at)) * own[2],
                                "crossentropy": (crossentropy(*at) + (factor - 1) / 2) * own[3],
                                "jacobian_norm": jacobian(*at) * factor * own[4],
                                "hessian_norm": hessian(*at) * own[5],
                            }
                        )
    return ExperimentTables(name, pd.DataFrame(history), pd.DataFrame(sharpness), config or TEN)


def diverge(study: ExperimentTables, width: int, epoch: int) -> ExperimentTables:
    """Return a study with no values of a width from an epoch on: all its runs have diverged."""
    tables = {}
    for name in ("history", "sharpness"):
        table = getattr(study, name).copy()
        lost = (table["width"] == width) & (table["epoch"] >= epoch)
        table.loc[lost, [c for c in (*HISTORY_COLUMNS[4:], *MEASURES) if c in table]] = np.nan
        tables[name] = table.assign(diverged=lost)
    return replace(study, **tables)
