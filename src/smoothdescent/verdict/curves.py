"""Curves over width with the noise between seeds.

A width's noise is the larger of two variances: its own between seeds, and that pooled over itself
and the NEIGHBOURS widths on either side. With three seeds a width's own estimate has two degrees of
freedom and is often far too small; the pooled one has ten, and unlike one pooled over all widths it
does not charge the noise of one end of the curve to the other. Taking the larger keeps a single
width that is noisier than its neighbours from being believed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
NEIGHBOURS = 2


@dataclass(frozen=True)
class Curve:
    """A mean over seeds at M points, in order, and the noise of each.

    Attributes:
        x: widths [M].
        mean: mean over seeds [M]; of the logarithm if `logarithmic`.
        variance: variance between seeds [M].
        seeds: number of seeds [M].
        freedom: degrees of freedom of the pooled variances [M]; 0 if no point has two seeds.
        logarithmic: differences are logarithms of ratios.
        label: what the means are, with the unit that they are shown in.
    """

    x: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    seeds: np.ndarray
    freedom: np.ndarray
    logarithmic: bool = False
    label: str = ""

    @classmethod
    def of(
        cls, x: np.ndarray, values: np.ndarray, *, logarithmic: bool = False, label: str = ""
    ) -> Curve:
        """Return the curve of values [M, S], one column a seed, NaN where there is none.

        Args:
            x: [M].
            values: points without any value are left out.
            logarithmic: take the logarithm of the values, which must be positive.
            label: see Curve.
        """
        values = np.asarray(values, dtype=float)
        some = np.isfinite(values).any(axis=1)
        x, values = np.asarray(x)[some], values[some]
        values = np.log(values) if logarithmic else values
        seeds = np.isfinite(values).sum(axis=1)
        mean = np.nansum(values, axis=1) / seeds
        squares = np.nansum((values - mean[:, None]) ** 2, axis=1)
        return cls(x, mean, *noise(squares, seeds), logarithmic, label)

    @property
    def known(self) -> bool:
        """Whether anything is known of the noise."""
        return bool(self.freedom.all())

    @property
    def error(self) -> np.ndarray:
        """Standard error of the mean [M]; infinite if nothing is known of the noise."""
        if not self.known:
            return np.full(len(self.x), np.inf)
        return np.sqrt(self.variance / self.seeds)

    @property
    def shown(self) -> np.ndarray:
        """The means as a figure shows them [M]: not logarithms."""
        return np.exp(self.mean) if self.logarithmic else self.mean

    def differences(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all differences mean[i] - mean[j] and their half-widths, both [M, M].

        With probability 95 % all true differences lie within the half-widths at once
        (Tukey and Kramer), so a difference may be picked after seeing the data.
        """
        difference = self.mean[:, None] - self.mean[None, :]
        error = np.sqrt(self.error[:, None] ** 2 + self.error[None, :] ** 2)
        quantile = _range_quantile(len(self.x), int(self.freedom.min()))
        return difference, quantile / np.sqrt(2) * error

    def redraw(self, draws: int, generator: np.random.Generator) -> np.ndarray:
        """Return means of the same study done again [draws, M]: a parametric bootstrap.

        Raises:
            ValueError: nothing is known of the noise.
        """
        if not self.known:
            raise ValueError("a curve of single seeds cannot be redrawn")
        return self.mean + self.error * generator.standard_normal((draws, len(self.x)))


def noise(squares: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the variance of one seed, the number of seeds, and the degrees of freedom, each [M].

    Args:
        squares: sums of squared deviations from the mean over seeds [..., M].
        seeds: number of seeds [M].
    """
    points = np.arange(len(seeds))
    near = (np.abs(points[:, None] - points) <= NEIGHBOURS).astype(float)
    freedom = (near @ (seeds - 1)).astype(int)
    near[freedom == 0] = 1.0  # no seeds to compare nearby: all points
    freedom = (near @ (seeds - 1)).astype(int)
    pooled = squares @ near.T / np.maximum(freedom, 1)
    return np.maximum(squares / np.maximum(seeds - 1, 1), pooled), seeds, freedom


@functools.lru_cache
def _range_quantile(points: int, freedom: int) -> float:
    if points < 2 or freedom == 0:
        return 1.0
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - LEVEL, points, freedom))


def t_quantile(freedom: int | np.ndarray, comparisons: int = 1) -> np.ndarray:
    """Return two-sided critical values of Student's t, Bonferroni-corrected; 1 without freedom."""
    from scipy import stats

    freedom = np.asarray(freedom)
    value = stats.t.ppf(1 - LEVEL / 2 / comparisons, np.maximum(freedom, 1))
    return np.where(freedom > 0, value, 1.0)


def smallest(
    means: np.ndarray, errors: np.ndarray, freedom: np.ndarray
) -> tuple[float, float, float, int]:
    """Return the smallest of several means, its interval, and which it is.

    The lower bound needs no correction for having picked the smallest: it is too high only if the
    bound of the truly smallest one is. The upper bound does (Bonferroni).
    """
    low = np.min(means - t_quantile(freedom) * errors)
    high = np.min(means + t_quantile(freedom, len(means)) * errors)
    chosen = int(np.argmin(means))
    return float(means[chosen]), float(low), float(high), chosen
