"""Is there a peak: a rise that is followed by a fall, both larger than the noise between seeds?

For points v < p the height of the candidate peak p is the smaller of its differences to the point v
before it and to the last point. The highest mean after v must lie in the window in which the peak
is wanted, or the slope of a peak elsewhere would be taken for a peak here: where it does not, the
height is the (negative) difference to it. The height of the curve is that of the best v and p. It
is at most zero for every curve that has no such peak: flat, monotone, or bowl-shaped.

Picking the best of many candidates finds a peak in any noise. The interval therefore takes each
difference at the bound that holds for all pairs of points at once (`Curve.differences`), and
applies the same best-of-all to the bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from smoothdescent.randomness import numpy_generator
from smoothdescent.verdict.curves import LEVEL, Curve
from smoothdescent.verdict.evidence import (
    HOLDS,
    UNDECIDED,
    Evidence,
    TooLittleData,
    interval,
    result_of,
    sentence,
)

# A reader of the figure would not see a peak that is certainly smaller than this part of the
# curve's range. It only tells 'fails' from 'undecided'; no peak holds because of it.
VISIBLE = 0.1
DRAWS = 1000


@dataclass(frozen=True)
class Height:
    """The height of the highest candidate, and the points that make it."""

    value: float
    low: float
    high: float
    peak: int
    before: int


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


def best(
    differences: np.ndarray, inside: np.ndarray, outside: np.ndarray | None = None
) -> tuple[float, int, int]:
    """Return the largest height over all candidates, the candidate, and the point before it.

    Args:
        differences: [M, M], row minus column, or a bound of it.
        inside: which points are candidates [M].
        outside: the differences that decide whether a point outside the window is higher
            [M, M]; default: `differences`.
    """
    outside = differences if outside is None else outside
    found = (-math.inf, -1, -1)
    for peak in np.flatnonzero(inside):
        higher = np.where(~inside & (outside[peak] < 0), outside[peak], np.inf)
        # later[v]: what a higher point after v, outside the window, takes from the height
        later = np.minimum.accumulate(higher[::-1])[::-1][1:]
        heights = np.minimum(differences[peak, :peak], later[:peak])
        heights = np.minimum(heights, differences[peak, -1])
        before = int(np.argmax(heights))
        if heights[before] > found[0]:
            found = (float(heights[before]), int(peak), before)
    return found


def height(curve: Curve, threshold: float | None) -> Height:
    """Return the height of the curve's best candidate with a 95 % interval.

    Raises:
        TooLittleData: no point may hold the peak.
    """
    inside = window(curve.x, threshold)
    if not inside.any():
        near = "" if threshold is None else f" within a factor of two of {threshold:g}"
        raise TooLittleData(f"no point{near} lies between the first and the last one")
    differences, half = curve.differences()
    value, peak, before = best(differences, inside)
    low = best(differences - half, inside, differences)[0]
    return Height(value, low, best(differences + half, inside)[0], peak, before)


def peak(curve: Curve, threshold: float | None, subject: str, unit: str) -> Evidence:
    """Return the evidence for a peak of a curve.

    It holds if the interval of the height lies above zero. It fails if the interval ends below
    VISIBLE times the curve's range. It is undecided in between.

    Args:
        curve: the means and their noise.
        threshold: the interpolation threshold, near which the peak must lie; None: anywhere.
        subject: what the curve shows, for the text.
        unit: of the values; the height of a logarithmic curve is given as a ratio, 'times'.
    """
    found = height(curve, threshold)
    holds = found.low > 0
    result = result_of(holds, found.high <= VISIBLE * curve.range)
    where = f"w = {curve.x[found.peak]:g}"
    top = curve.mean[found.peak]
    rise, fall = top - curve.mean[found.before], top - curve.mean[-1]
    told = math.exp if curve.logarithmic else float
    unit = "times" if curve.logarithmic else unit
    value, low, high = told(found.value), -math.inf, math.inf
    if curve.freedom:
        low, high = told(found.low), told(found.high)
    if result == HOLDS:
        text = (
            f"{subject} peaks at {where}: {told(rise):.3g} {unit} {_ABOVE[curve.logarithmic]}"
            f"w = {curve.x[found.before]:g} and {told(fall):.3g} {unit} "
            f"{_ABOVE[curve.logarithmic]}the last, w = {curve.x[-1]:g}"
        )
    elif result == UNDECIDED:
        text = f"{subject}: a peak at {where} is not told from the noise between seeds"
    else:
        text = f"{subject} has no peak{'' if threshold is None else ' near the threshold'}"
        elsewhere = height(curve, None)
        if elsewhere.low > 0:
            text += f", but one at w = {curve.x[elsewhere.peak]:g}"
    text = sentence(f"{text} (height {value:.3g} {unit}, {interval(low, high)}).")
    sure = holds and found.low < found.value
    clearance = found.value / (found.value - found.low) if sure else math.inf
    return Evidence(result, value, low, high, unit, f"{subject}, peak height", text, clearance)


_ABOVE = {False: "above ", True: "that at "}


def peak_location(curve: Curve, near: float | None, name: str) -> tuple[float, float, float]:
    """Return where a curve peaks, and the interval of a parametric bootstrap."""
    inside = window(curve.x, near)
    if not inside.any():
        raise TooLittleData("no width may hold the peak")

    def locate(mean: np.ndarray) -> float:
        return float(curve.x[best(mean[:, None] - mean[None, :], inside)[1]])

    if curve.freedom == 0:
        return locate(curve.mean), -np.inf, np.inf
    draws = curve.redraw(DRAWS, numpy_generator(0, f"verdict/location/{name}"))
    low, high = np.quantile(
        [locate(mean) for mean in draws], [LEVEL / 2, 1 - LEVEL / 2], method="nearest"
    )
    return locate(curve.mean), float(low), float(high)
