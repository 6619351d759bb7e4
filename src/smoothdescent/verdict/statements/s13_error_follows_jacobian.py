"""The rank correlation of test error and mean Jacobian norm across widths past the first minimum is
positive.
"""

import numpy as np

from smoothdescent.randomness import numpy_generator
from smoothdescent.tables.experiment import ExperimentTables, final_history
from smoothdescent.verdict.curves import LEVEL
from smoothdescent.verdict.evidence import Evidence, TooLittleData, compare
from smoothdescent.verdict.peaks import DRAWS
from smoothdescent.verdict.reading import by_width, final_values, threshold
from smoothdescent.verdict.statement import FIGURES_OF_MEASURES, statement

RANKED = 5  # widths that a rank correlation needs


@statement(
    figures=FIGURES_OF_MEASURES,
    statistic="Spearman's rank correlation of the means over seeds",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Holds if the interval lies above zero, fails if it lies below. Resampled: seeds, split at
    random into those of the test error and those of the norm.
    """
    near = threshold(experiment)
    x, errors = by_width(final_history(experiment), "test_error", "history")
    _, norms = final_values(experiment, "jacobian_norm", 0)
    if errors.shape != norms.shape or not (np.isfinite(errors) & np.isfinite(norms)).all():
        raise TooLittleData("the test error or the Jacobian norm of some runs is missing")
    value, first = correlate(x, near, errors.mean(axis=1)[None], norms.mean(axis=1)[None])
    start = int(first[0])
    if len(x) - start < RANKED:
        raise TooLittleData(
            f"{len(x) - start} widths from the first minimum w = {x[start]} on, at least {RANKED} "
            "are needed"
        )
    low, high = -np.inf, np.inf
    if errors.shape[1] > 1:
        draws, _ = correlate(x, near, *_split(errors, norms))
        low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    return compare(
        float(value[0]),
        float(low),
        float(high),
        above=0.0,
        unit="",
        subject="rank correlation of test error and Jacobian norm",
        words=f"Spearman's correlation over the widths from w = {x[start]} on is {value[0]:.2f}",
    )


def _split(errors: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means [DRAWS, M] over seeds split at random, width by width, into two parts.

    The errors are from one part and the norms from the other: a run's error and norm share its
    luck, which would correlate them although no width differs from another.
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


def correlate(
    widths: np.ndarray, near: float, errors: np.ndarray, norms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return Spearman's correlation of each row from its first minimum on, and where that is.

    Args:
        widths: [M].
        near: the threshold; the first minimum is that of the error at widths up to it.
        errors, norms: [D, M].

    Returns:
        Correlations [D], 0 where one is constant, and indices of the first minima [D].
    """
    first = np.where(widths <= near, errors, np.inf).argmin(axis=1)
    kept = np.arange(len(widths)) >= first[:, None]
    a, b = (_centred_ranks(values, kept) for values in (errors, norms))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return (a * b).sum(axis=1) / np.where(scale > 0, scale, 1), first


def _centred_ranks(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return ranks among the kept entries of each row, ties at their mean, minus their mean."""
    sign = np.sign(values[:, :, None] - values[:, None, :])
    return np.where(kept, (sign * kept[:, None, :]).sum(axis=2), 0.0)
