"""The rank correlation of test error and mean Jacobian norm across widths past the first minimum is
positive.
"""

import numpy as np

from smoothdescent.randomness import numpy_generator
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import LEVEL, Curve
from smoothdescent.verdict.evidence import Evidence, TooLittleData, compare
from smoothdescent.verdict.peaks import DRAWS
from smoothdescent.verdict.reading import (
    final_error,
    final_evaluations,
    final_values,
    threshold,
)
from smoothdescent.verdict.statement import FIGURES_OF_MEASURES, statement

RANKED = 5  # widths that a rank correlation needs


@statement(
    figures=FIGURES_OF_MEASURES,
    statistic="Spearman's rank correlation of the means over seeds",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Holds if the interval lies above zero, fails if it lies below. Resampled: seeds, split at
    random into those of the test error and those of the norm. The first minimum is the narrowest
    width beyond which the test error rises before it falls, both by more than the noise between
    seeds (simultaneous 95 % intervals); if it nowhere rises, all widths count.
    """
    threshold(experiment)
    x, errors = final_evaluations(experiment, "test_error")
    _, norms = final_values(experiment, "jacobian_norm", 0)
    if errors.shape != norms.shape or not (np.isfinite(errors) & np.isfinite(norms)).all():
        raise TooLittleData("the test error or the Jacobian norm of some runs is missing")
    curve = final_error(experiment)
    start = first_minimum(curve)
    if len(x) - start < RANKED:
        raise TooLittleData(
            f"{len(x) - start} widths from the first minimum w = {x[start]} on, at least {RANKED} "
            "are needed"
        )
    errors, norms = errors[start:], norms[start:]
    value = float(correlate(errors.mean(axis=1)[None], norms.mean(axis=1)[None])[0])
    low, high = -np.inf, np.inf
    if errors.shape[1] > 1:
        low, high = np.quantile(correlate(*_split(errors, norms)), [LEVEL / 2, 1 - LEVEL / 2])
    return compare(
        value,
        float(low),
        float(high),
        above=0.0,
        unit="",
        subject="rank correlation of test error and Jacobian norm",
        words=f"Spearman's correlation over the widths from w = {x[start]} on is {value:.2f}",
        curve=curve,
    )


def first_minimum(curve: Curve) -> int:
    """Return the index of the first local minimum that the noise supports, 0 if there is none.

    It is the first point that a later one exceeds for sure, with no point up to there that lies
    below it for sure.
    """
    differences, half = curve.differences()
    higher, lower = differences - half > 0, differences + half < 0
    for point in range(len(curve.x)):
        later = np.flatnonzero(higher[point:, point]) + point
        if len(later) and not lower[point : later[0], point].any():
            return point
    return 0


def _split(errors: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means [DRAWS, M] over seeds split at random, width by width, into two parts.

    The errors are from one part and the norms from the other: a run's error and norm share its
    luck, which would correlate them although no width differs from another. So would the luck of a
    seed that all widths share, which is why each width is split anew.
    """
    generator = numpy_generator(0, "verdict/correlation")
    width_count, seeds = errors.shape
    order = generator.random((DRAWS, width_count, seeds)).argsort(axis=2)
    cut = generator.integers(1, seeds, (DRAWS, width_count, 1))
    own = order < cut
    return (
        (errors * own).sum(axis=2) / own.sum(axis=2),
        (norms * ~own).sum(axis=2) / (~own).sum(axis=2),
    )


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row of a and b [D, M]; 0 where one is constant."""
    from scipy import stats

    a, b = (stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (a, b))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return (a * b).sum(axis=1) / np.where(scale > 0, scale, 1)
