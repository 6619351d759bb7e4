"""Peaks over epochs: the height of every run's own, so that runs may peak at different times.

The height of a run's peak is the largest, over its epochs, of the smaller of two differences: to
the lowest value before, and to the last value. Noise from one evaluation to the next makes it
positive in a run that has no peak. In a course that never rises it is at most the largest rise of
the noise alone, whose mean is a known multiple of the noise's standard deviation. That is
subtracted before the heights are asked to be positive, and left in where they are asked to be
small.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from smoothdescent.randomness import numpy_generator
from smoothdescent.tables.columns import describe
from smoothdescent.tables.experiment import ExperimentTables, course_rows
from smoothdescent.verdict.curves import Curve, t_quantile
from smoothdescent.verdict.evidence import TooLittleData, sentence
from smoothdescent.verdict.peaks import visible
from smoothdescent.verdict.reading import positive

EPOCHS = 24  # points of a course: evaluations close in the logarithm of the epoch are averaged
VISIBLE_POINTS = 1.0  # percentage points: a smaller peak of an error counts as none
SIMULATED = 10_000


@dataclass(frozen=True)
class Courses:
    """The peaks over epochs of an experiment's widths, in the unit of a figure or a logarithm.

    Attributes:
        heights: the curve of the heights over width; of logarithms, it is shown as ratios.
        low, high: bounds of the mean height [M], each with 97.5 %; low is free of the bias.
        visible: the height above which a width's peak is visible [M].
    """

    heights: Curve
    low: np.ndarray
    high: np.ndarray
    visible: np.ndarray


def courses(experiment: ExperimentTables, column: str) -> Courses:
    """Return the peaks over epochs of the test error, or of a measure at the training points.

    Raises:
        TooLittleData: no finite values, or fewer than three epochs.
    """
    about = describe(column)
    table = course_rows(experiment, column)
    if column not in table.columns or not np.isfinite(table[column].astype(float)).any():
        raise TooLittleData(f"no values of {column!r} after epoch 0")
    table = table.assign(value=about.scale * table[column].astype(float))
    table = table[np.isfinite(table["value"])]
    table["bin"] = _bins(table["epoch"].to_numpy())
    means = table.groupby(["width", "seed", "bin"])[["epoch", "value"]].mean()
    runs = means["value"].unstack("bin")
    if runs.shape[1] < 3:
        raise TooLittleData(f"fewer than three epochs of the {about.text}")
    logarithmic = about.norm and positive(runs.to_numpy())
    epochs = means["epoch"].groupby("bin").mean().to_numpy()
    widths, heights, biases, shown = runs.index.get_level_values("width").unique(), [], [], []
    seeds = runs.index.get_level_values("seed").unique()
    for width in widths:
        own = runs.loc[width].reindex(seeds).to_numpy()
        course = Curve.of(epochs, own.T, logarithmic=logarithmic)
        own = np.log(own) if logarithmic else own
        heights.append(run_heights(own))
        biases.append(rise_of_noise(own.shape[1]) * evaluation_noise(own))
        # The range of an error over epochs is that from guessing: a tenth of it is easily seen.
        points = about.difference_unit == "percentage points"
        shown.append(VISIBLE_POINTS if points else visible(course))
    unit = "times" if logarithmic else about.difference_unit
    label = sentence(f"{about.text} over epochs, height of the peak ({unit})")
    curve = replace(
        Curve.of(widths.to_numpy(), np.array(heights)), logarithmic=logarithmic, label=label
    )
    kept = np.isin(widths, curve.x)
    half = t_quantile(curve.freedom) * curve.error
    low = curve.mean - np.array(biases)[kept] - half
    return Courses(curve, low, curve.mean + half, np.array(shown)[kept])


def run_heights(values: np.ndarray) -> np.ndarray:
    """Return the height of the peak of each row of values [S, E]; NaN where values are missing."""
    foot = np.minimum.accumulate(values, axis=1)[:, :-2]
    inner = values[:, 1:-1]
    return np.minimum(inner - foot, inner - values[:, -1:]).max(axis=1)


def evaluation_noise(values: np.ndarray) -> float:
    """Return the standard deviation from one evaluation of a run to the next.

    It is that of the second differences, divided by sqrt(6), between seeds, since the course that
    they share is no noise; its median over epochs, since runs that peak at different times differ
    there. It is zero for a single seed.

    Args:
        values: [S, E] of one width.
    """
    bends = np.diff(values[np.isfinite(values).all(axis=1)], n=2, axis=1)
    freedom = len(bends) - 1
    if freedom < 1:
        return 0.0
    from scipy import stats

    middle = stats.chi2.ppf(0.5, freedom) / freedom
    return float(np.sqrt(np.median(bends.var(axis=0, ddof=1)) / middle / 6))


@functools.lru_cache
def rise_of_noise(epochs: int) -> float:
    """Return the mean largest rise, from any epoch but the last to a later one, of unit noise."""
    generator = numpy_generator(0, "verdict/rise of noise")
    values = generator.standard_normal((SIMULATED, epochs))[:, :-1]
    return float((values - np.minimum.accumulate(values, axis=1)).max(axis=1).mean())


def _bins(epochs: np.ndarray) -> np.ndarray:
    """Return which of at most EPOCHS bins, even in the logarithm, each epoch is in."""
    known = np.unique(epochs)
    if len(known) <= EPOCHS:
        return np.searchsorted(known, epochs)
    edges = np.linspace(np.log(known[0]), np.log(known[-1]), EPOCHS + 1)[1:-1]
    return np.searchsorted(edges, np.log(epochs))
