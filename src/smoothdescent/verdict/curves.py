"""Curves over width or epoch with the noise between seeds.

The noise of a point is the larger of two estimates of one seed's variance: the point's own, and the
one pooled over all points. With three seeds a point's own estimate has two degrees of freedom and
is often far too small; the pooled one has many, but hides a point that is noisier than the rest.
Taking the larger errs towards finding nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05


@dataclass(frozen=True)
class Curve:
    """A mean over seeds at M points, in order, and the noise of each.

    Attributes:
        x: widths or epochs [M].
        mean: mean over seeds [M]; of the logarithm if `logarithmic`.
        variance: variance between seeds [M].
        seeds: number of seeds [M].
        freedom: degrees of freedom of the pooled variance; 0 if no point has two seeds.
        logarithmic: differences are logarithms of ratios.
    """

    x: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    seeds: np.ndarray
    freedom: int
    logarithmic: bool = False

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        values: np.ndarray,
        *,
        logarithmic: bool = False,
        pooled: float | None = None,
        freedom: int | None = None,
    ) -> Curve:
        """Return the curve of values [M, S], one column a seed, NaN where there is none.

        Args:
            x: [M].
            values: points without any value are left out.
            logarithmic: take the logarithm of the values, which must be positive.
            pooled, freedom: the pooled variance and its degrees of freedom, if they come from
                more than these values.
        """
        values = np.asarray(values, dtype=float)
        some = np.isfinite(values).any(axis=1)
        x, values = np.asarray(x)[some], values[some]
        values = np.log(values) if logarithmic else values
        seeds = np.isfinite(values).sum(axis=1)
        mean = np.nansum(values, axis=1) / seeds
        squares = np.nansum((values - mean[:, None]) ** 2, axis=1)
        if pooled is None:
            freedom = int((seeds - 1).sum())
            pooled = squares.sum() / max(freedom, 1)
        own = squares / np.maximum(seeds - 1, 1)
        return cls(x, mean, np.maximum(own, pooled), seeds, freedom or 0, logarithmic)

    @property
    def error(self) -> np.ndarray:
        """Standard error of the mean [M]; infinite if nothing is known of the noise."""
        if self.freedom == 0:
            return np.full(len(self.x), np.inf)
        return np.sqrt(self.variance / self.seeds)

    @property
    def range(self) -> float:
        """Difference between the highest and the lowest mean."""
        return float(np.ptp(self.mean))

    def differences(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all differences mean[i] - mean[j] and their half-widths, both [M, M].

        With probability 95 % all true differences lie within the half-widths at once
        (Tukey and Kramer), so a difference may be picked after seeing the data.
        """
        difference = self.mean[:, None] - self.mean[None, :]
        error = np.sqrt(self.error[:, None] ** 2 + self.error[None, :] ** 2)
        return difference, _range_quantile(len(self.x), self.freedom) / np.sqrt(2) * error

    def redraw(self, draws: int, generator: np.random.Generator) -> np.ndarray:
        """Return means of the same study done again [draws, M]: a parametric bootstrap.

        Raises:
            ValueError: nothing is known of the noise.
        """
        if self.freedom == 0:
            raise ValueError("a curve of single seeds cannot be redrawn")
        return self.mean + self.error * generator.standard_normal((draws, len(self.x)))


@functools.lru_cache
def _range_quantile(points: int, freedom: int) -> float:
    if points < 2 or freedom == 0:
        return 1.0
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - LEVEL, points, freedom))


def t_quantile(freedom: int, comparisons: int = 1) -> float:
    """Return the two-sided critical value of Student's t, Bonferroni-corrected."""
    from scipy import stats

    return float(stats.t.ppf(1 - LEVEL / 2 / comparisons, freedom)) if freedom else 1.0


def smallest(
    means: np.ndarray, errors: np.ndarray, freedom: int
) -> tuple[float, float, float, int]:
    """Return the smallest of several means, its interval, and which it is.

    The lower bound needs no correction for having picked the smallest: it is too high only if the
    bound of the truly smallest one is. The upper bound does (Bonferroni).
    """
    low = np.min(means - t_quantile(freedom) * errors)
    high = np.min(means + t_quantile(freedom, len(means)) * errors)
    chosen = int(np.argmin(means))
    return float(means[chosen]), float(low), float(high), chosen
