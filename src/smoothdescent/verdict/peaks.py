"""Is there a peak: a rise that is followed by a fall, both larger than the noise between seeds?

A candidate is three blocks of one to LONGEST neighbouring widths: one before the peak, one at the
peak, and one that ends with the largest width. Its height is the smaller of the rise from the first
to the second and the fall from the second to the third; the curve's height is that of its best
candidate. It is at most zero for every curve without a peak: flat, monotone, or bowl-shaped. Means
over blocks find a broad peak in noise that hides it from single widths; a block of one finds a
sharp one.

Picking the best of many candidates finds a peak in any noise. The lower bound therefore subtracts
from each rise a multiple of its standard error that the largest of all rises of a flat curve
exceeds with probability SIDE_LEVEL, and likewise from each fall. Two multiples are enough: a curve
without a peak lacks the rise or the fall (an intersection-union test). They are quantiles of the
studentized maximum, for rises Hayter's one-sided range (1990) and for falls Dunnett's many-to-one
comparison, here over blocks and with the variances of `Curve`, for which no table exists: they are
simulated, which is exact where all widths are equally noisy.

The upper bound needs no such correction: it is too low only if that of the truly best candidate is.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from smoothdescent.randomness import numpy_generator
from smoothdescent.verdict.curves import LEVEL, Curve, noise, t_quantile
from smoothdescent.verdict.evidence import Evidence, TooLittleData, interval, result_of, sentence

LONGEST = 3
# Below LEVEL / 2, so that false findings stay below LEVEL where one width is three times as noisy
# as the others (benchmarks/verdict.py).
SIDE_LEVEL = 0.02
SIMULATED = 10_000
DRAWS = 1000
# A smaller peak counts as none: a reader of the figure would not see it. It only tells 'fails' from
# 'undecided'; no peak holds because of it.
VISIBLE = 0.1  # part of the curve's range; of a logarithmic curve, part of the height of its foot


@dataclass(frozen=True)
class Height:
    """The height of the best candidate, its bounds, and the points that make it."""

    value: float
    low: float
    high: float
    peak: int
    before: int


@dataclass(frozen=True)
class Candidates:
    """All candidates of a curve of M points.

    Attributes:
        blocks: averages over blocks [K, M].
        first, end: each block is the points first..end-1 [K].
        before, peak: the blocks of each rise [R].
        last: the blocks that end with the last point [T].
        falls: [R, T], whether last[t] lies beyond peak[r].
    """

    blocks: np.ndarray
    first: np.ndarray
    end: np.ndarray
    before: np.ndarray
    peak: np.ndarray
    last: np.ndarray
    falls: np.ndarray


def window(x: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return which points may hold the peak, a mask [M].

    The first and the last point never may. With a threshold, the peak must lie within a factor of
    two of it.
    """
    inside = np.ones(len(x), dtype=bool)
    inside[[0, -1]] = False
    if threshold is not None:
        inside &= (x >= threshold / 2) & (x <= 2 * threshold)
    return inside


@functools.lru_cache
def candidates(inside: tuple[bool, ...]) -> Candidates:
    """Return the candidates whose peak lies in the window."""
    points = len(inside)
    ends = [(i, i + n) for n in range(1, LONGEST + 1) for i in range(points - n + 1)]
    first, end = np.array(ends).T
    at = np.arange(points)
    blocks = ((at >= first[:, None]) & (at < end[:, None])) / (end - first)[:, None]
    allowed = np.array([all(inside[i:j]) for i, j in ends]) & (end < points)
    before, peak = np.nonzero((end[:, None] <= first) & allowed)
    last = np.flatnonzero(end == points)
    return Candidates(
        blocks, first, end, before, peak, last, end[peak][:, None] <= first[last][None, :]
    )


def _studentized(
    mean: np.ndarray, variance: np.ndarray, tried: Candidates
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all rises and falls and their standard errors.

    Args:
        mean, variance: of the points' means [..., M].
        tried: the candidates.

    Returns:
        Rises and their errors [..., R], falls and their errors [..., R, T]; a fall to a block that
        is not beyond the peak is -inf.
    """
    means, variances = mean @ tried.blocks.T, variance @ (tried.blocks**2).T
    rises = means[..., tried.peak] - means[..., tried.before]
    rise_errors = np.sqrt(variances[..., tried.peak] + variances[..., tried.before])
    falls = means[..., tried.peak, None] - means[..., None, tried.last]
    fall_errors = np.sqrt(variances[..., tried.peak, None] + variances[..., None, tried.last])
    return rises, rise_errors, np.where(tried.falls, falls, -np.inf), fall_errors


@functools.lru_cache
def critical_values(inside: tuple[bool, ...], seeds: tuple[int, ...]) -> tuple[float, float]:
    """Return how many standard errors the largest rise and fall of a flat curve exceed by chance.

    They are the quantiles 1 - SIDE_LEVEL of SIMULATED curves with normal noise.
    """
    generator, tried = numpy_generator(0, "verdict/critical"), candidates(inside)
    counts = np.array(seeds)
    largest = []
    for _ in range(10):
        mean = generator.standard_normal((SIMULATED // 10, len(seeds))) / np.sqrt(counts)
        freedom = counts - 1
        squares = np.where(
            freedom > 0, generator.chisquare(np.maximum(freedom, 1), mean.shape), 0.0
        )
        variance = noise(squares, counts)[0] / counts
        rises, rise_errors, falls, fall_errors = _studentized(mean, variance, tried)
        largest.append(
            ((rises / rise_errors).max(axis=-1), (falls / fall_errors).max(axis=(-2, -1)))
        )
    rise, fall = np.quantile(np.concatenate(largest, axis=1), 1 - SIDE_LEVEL, axis=1)
    return float(rise), float(fall)


def height(curve: Curve, threshold: float | None) -> Height:
    """Return the height of the curve's best candidate with its bounds.

    A candidate in the window counts only if the highest mean after its first block lies in the
    window too, or the slope of a peak elsewhere would be taken for a peak here: where it does not,
    the height is the (negative) difference to it.

    Raises:
        TooLittleData: no point may hold the peak.
    """
    inside = window(curve.x, threshold)
    if not inside.any():
        near = "" if threshold is None else f" within a factor of two of {threshold:g}"
        raise TooLittleData(f"no point{near} lies between the first and the last one")
    mask = tuple(inside.tolist())
    tried = candidates(mask)
    rises, rise_errors, falls, fall_errors = _studentized(
        curve.mean, curve.variance / curve.seeds, tried
    )
    tops = np.where(tried.blocks > 0, curve.mean, -np.inf).max(axis=1)
    outside = np.where(inside, -np.inf, curve.mean)
    later = np.maximum.accumulate(outside[::-1])[::-1]  # the last point always is outside
    elsewhere = later[tried.end[tried.before]]
    # To a mean outside the window, a candidate only loses.
    excess = np.minimum(tops[tried.peak] - elsewhere, 0.0)
    excess[excess == 0.0] = np.inf
    heights = np.minimum(np.minimum(rises, falls.max(axis=1)), excess)
    best = int(np.argmax(heights))
    peak = int(tried.first[tried.peak[best]])
    peak += int(np.argmax(curve.mean[peak : tried.end[tried.peak[best]]]))
    before = int(tried.first[tried.before[best]])
    before += int(np.argmin(curve.mean[before : tried.end[tried.before[best]]]))
    if not curve.known:
        return Height(float(heights[best]), -math.inf, math.inf, peak, before)
    rise, fall = critical_values(mask, tuple(curve.seeds.tolist()))
    lows = np.minimum(rises - rise * rise_errors, (falls - fall * fall_errors).max(axis=1))
    most = float(t_quantile(int(curve.freedom.min())))
    highs = np.minimum(rises + most * rise_errors, (falls + most * fall_errors).max(axis=1))
    highs = np.minimum(highs, excess + most * rise_errors)
    low, high = np.minimum(lows, excess).max(), highs.max()
    return Height(float(heights[best]), float(low), float(high), peak, before)


def visible(curve: Curve) -> float:
    """Return the height above which a peak is visible, in the unit of the curve's means."""
    return math.log1p(VISIBLE) if curve.logarithmic else VISIBLE * float(np.ptp(curve.mean))


def places(curve: Curve, found: Height) -> np.ndarray:
    """Return where the highest point beyond the foot of a peak may be, a mask [M].

    A point is left out if another beyond the foot is higher by more than the simultaneous interval
    of their difference (multiple comparisons with the best; Hsu 1984).
    """
    differences, half = curve.differences()
    beyond = np.arange(len(curve.x)) > found.before
    lower = (differences[beyond] - half[beyond]).max(axis=0) > 0
    return beyond & ~lower


def peak(curve: Curve, threshold: float | None, subject: str, unit: str) -> Evidence:
    """Return the evidence for a peak of a curve.

    It holds if the lower bound of the height is above zero. It fails if the upper bound shows that
    there is no visible peak, or if there certainly is one elsewhere. It is
    undecided in between.

    Args:
        curve: the means and their noise.
        threshold: the interpolation threshold, near which the peak must lie; None: anywhere.
        subject: what the curve shows, for the text.
        unit: of the values; the height of a logarithmic curve is given as a ratio, 'times'.
    """
    found, seen = height(curve, threshold), visible(curve)
    holds, none = found.low > 0, found.high <= seen
    other = found if holds or threshold is None else height(curve, None)
    elsewhere = (
        not holds
        and other.low > 0
        and found.value <= seen
        and not (places(curve, other) & window(curve.x, threshold)).any()
    )
    told = math.exp if curve.logarithmic else float
    unit = "times" if curve.logarithmic else unit
    top = curve.mean[found.peak]
    at = f"w = {curve.x[found.peak]:g}"
    if holds:
        rise, fall = top - curve.mean[found.before], top - curve.mean[-1]
        more = "that at" if curve.logarithmic else "above"
        text = (
            f"{subject} peaks at {at}: {told(rise):.3g} {unit} {more} "
            f"w = {curve.x[found.before]:g} and {told(fall):.3g} {unit} {more} the last, "
            f"w = {curve.x[-1]:g}"
        )
    elif none or elsewhere:
        text = f"{subject} has no peak{'' if threshold is None else ' near the threshold'}"
        text += f", but one at w = {curve.x[other.peak]:g}" if other.low > 0 else ""
    else:
        text = f"{subject}: a peak at {at} is not told from the noise between seeds"
    value, low, high = told(found.value), -math.inf, math.inf
    if curve.known:
        low, high = told(found.low), told(found.high)
    text = sentence(f"{text} (height {value:.3g} {unit}, {interval(low, high)}).")
    sure = holds and found.low < found.value
    clearance = found.value / (found.value - found.low) if sure else math.inf
    return Evidence(
        result_of(holds, none or elsewhere), value, low, high, unit, f"{subject}, peak height",
        text, clearance, curve=curve,
    )  # fmt: skip


def peak_location(curve: Curve, near: float | None, name: str) -> tuple[float, float, float]:
    """Return where a curve peaks, and the interval of a parametric bootstrap.

    The peak is the width whose smaller difference to the lowest mean before it and to the last is
    the largest.
    """
    inside = window(curve.x, near)
    if not inside.any():
        raise TooLittleData("no width may hold the peak")

    def locate(means: np.ndarray) -> np.ndarray:
        foot = np.minimum.accumulate(means, axis=-1)
        heights = means - np.maximum(foot, means[..., -1:])
        return curve.x[np.where(inside, heights, -np.inf).argmax(axis=-1)]

    value = float(locate(curve.mean))
    if not curve.known:
        return value, -np.inf, np.inf
    draws = locate(curve.redraw(DRAWS, numpy_generator(0, f"verdict/location/{name}")))
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2], method="nearest")
    return value, float(low), float(high)
