"""The detector of peaks: what must not pass, what must, and what cannot be told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from verdict.studies import THRESHOLD, WIDTHS, bump

from smoothdescent.verdict.curves import Curve
from smoothdescent.verdict.evidence import FAILS, HOLDS, UNDECIDED, TooLittleData
from smoothdescent.verdict.peaks import (
    SIDE_LEVEL,
    critical_values,
    height,
    peak,
    peak_location,
    places,
    window,
)

X = np.array(WIDTHS)
PEAK = np.array([bump(width) for width in WIDTHS])
HEIGHT = 1 - PEAK[-1]
FALLING = 1.0 - np.log2(X) / 8
DRAWS = 200


def draw(mean: np.ndarray, noise: float | np.ndarray, seed: int, seeds: int = 3) -> Curve:
    random = np.random.default_rng(seed)
    noise = np.broadcast_to(noise, mean.shape)[:, None]
    return Curve.of(X, mean[:, None] + noise * random.standard_normal((len(X), seeds)))


def results(mean: np.ndarray, noise: float | np.ndarray, seeds: int = 3) -> dict[str, float]:
    found = [
        peak(draw(mean, noise, seed, seeds), THRESHOLD, "it", "").result for seed in range(DRAWS)
    ]
    return {result: found.count(result) / DRAWS for result in (HOLDS, FAILS, UNDECIDED)}


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize(
    "noise",
    [1.0, np.where(X == THRESHOLD, 5.0, 1.0), np.where(np.abs(X - 8) < 5, 3.0, 0.5)],
    ids=["even", "noisy at the threshold", "noisy around it"],
)
def test_noise_alone_does_not_pass(noise, seeds):
    assert results(np.zeros(len(X)), noise, seeds)[HOLDS] <= 0.05


@pytest.mark.parametrize("slope", [1.0, -1.0], ids=["falling", "rising"])
@pytest.mark.parametrize("noise", [0.003, 0.1])
def test_a_monotone_curve_does_not_pass(slope, noise):
    found = results(slope * FALLING, noise)
    assert found[HOLDS] <= 0.03
    assert found[FAILS] >= 0.95 if noise < 0.01 else found[UNDECIDED] > 0


def test_a_bowl_and_a_late_rise_do_not_pass():
    for mean in (-PEAK, np.where(X >= THRESHOLD, 1.0, 0.0)):
        found = results(mean, 0.005)
        assert found[HOLDS] <= 0.05
        assert found[FAILS] > 0.9


def test_a_peak_elsewhere_does_not_pass():
    # Its slope crosses the window from above: every point there exceeds the first and the last.
    early = np.array([bump(width, 2.0) for width in WIDTHS])
    assert results(early, 0.005)[FAILS] == 1
    assert "but one at w = 2" in peak(draw(early, 0.005, 0), THRESHOLD, "it", "").text
    # A shoulder of its slope in the window is no peak either.
    assert results(early + 0.1 * PEAK, 0.005)[HOLDS] <= 0.05


@pytest.mark.parametrize("base", [0 * FALLING, FALLING, -FALLING])
def test_a_real_peak_passes(base):
    assert results(base + PEAK, 0.05)[HOLDS] == 1.0


def test_power_grows_with_the_seeds():
    few, many = (results(PEAK, 0.18, seeds)[HOLDS] for seeds in (2, 6))
    assert few < many
    assert many > 0.8


def test_the_interval_covers_the_height():
    mean = 0.5 * FALLING + 0.5 * PEAK
    true = height(draw(mean, 0.0, 0), THRESHOLD).value
    covered = 0
    for seed in range(DRAWS):
        found = height(draw(mean, 0.08, seed), THRESHOLD)
        assert found.low <= found.value <= found.high
        covered += found.low <= true <= found.high
    assert covered / DRAWS >= 0.95


def test_the_peak_is_told():
    evidence = peak(draw(PEAK + 1, 0.01, 0), THRESHOLD, "error", "units")
    assert evidence.result == HOLDS
    assert evidence.text.startswith(f"Error peaks at w = {THRESHOLD}: ")
    assert evidence.low < evidence.value < evidence.high


def test_a_logarithmic_curve_tells_ratios():
    values = np.exp(2 * PEAK)[:, None] * np.array([[0.99, 1.0, 1.01]])
    evidence = peak(Curve.of(X, values, logarithmic=True), THRESHOLD, "norm", "times")
    assert evidence.value == pytest.approx(np.exp(2 * HEIGHT), rel=1e-3)
    assert evidence.low > 1
    assert "times that at w = 1 and" in evidence.text


def test_one_seed_is_undecided_with_its_value():
    evidence = peak(draw(PEAK, 0.0, 0, seeds=1), THRESHOLD, "it", "")
    assert evidence.result == UNDECIDED
    assert evidence.value == pytest.approx(HEIGHT)
    assert not np.isfinite([evidence.low, evidence.high]).any()
    assert "one seed only" in evidence.text


def test_a_constant_fails():
    assert peak(draw(np.ones(len(X)), 0.0, 0), THRESHOLD, "it", "").result == FAILS


def test_window():
    assert list(X[window(X, 8)]) == [4, 5, 6, 8, 10, 12, 16]
    assert list(X[window(X, None)]) == WIDTHS[1:-1]
    assert list(X[window(X, 32)]) == [16, 24]
    with pytest.raises(TooLittleData, match="factor of two of 100"):
        height(draw(PEAK, 0.1, 0), 100)


def runs_of(mean: np.ndarray, lowest: int, end: int) -> list[tuple[int, int, float]]:
    """All runs of one to three points within lowest..end-1, with their means."""
    return [
        (i, i + n, mean[i : i + n].mean()) for n in (1, 2, 3) for i in range(lowest, end - n + 1)
    ]


def reference_height(mean: np.ndarray, inside: np.ndarray) -> float:
    """The definition in loops."""
    points, found = len(mean), -np.inf
    for first, end, top in runs_of(mean, 0, points - 1):
        if not inside[first:end].all():
            continue
        fall = max(top - low for i, j, low in runs_of(mean, end, points) if j == points)
        for _, foot_end, foot in runs_of(mean, 0, first):
            outside = mean[foot_end:][~inside[foot_end:]].max()
            excess = mean[first:end].max() - outside
            found = max(found, min(top - foot, fall, *([excess] if excess < 0 else [])))
    return found


@given(
    mean=st.lists(st.floats(-5, 5), min_size=4, max_size=10),
    seed=st.integers(0, 100),
    near=st.sampled_from([None, 3.0, 5.0]),
)
def test_the_height_is_its_definition(mean, seed, near):
    mean = np.array(mean)
    x = np.arange(1, len(mean) + 1)
    inside = window(x, near)
    if not inside.any():
        return
    values = mean[:, None] + np.random.default_rng(seed).standard_normal((len(mean), 3))
    curve = Curve.of(x, values)
    found = height(curve, near)
    assert found.value == pytest.approx(reference_height(curve.mean, inside), abs=1e-9)
    assert found.low <= found.value <= found.high
    assert found.before < found.peak and inside[found.peak]


def test_critical_values():
    """A flat curve exceeds each at the level asked for: counted in loops, with own noise."""
    random, inside = np.random.default_rng(5), (False, True, True, True, False)
    rise, fall = critical_values(inside, (3,) * 5)
    exceeded = np.zeros(2)
    for _ in range(3000):
        curve = Curve.of(np.arange(5), random.standard_normal((5, 3)))
        largest = np.full(2, -np.inf)
        for first, end, top in runs_of(curve.mean, 1, 4):
            for kind, others in enumerate(
                (runs_of(curve.mean, 0, first), runs_of(curve.mean, end, 5))
            ):
                for i, j, other in others:
                    if kind == 0 or j == 5:
                        error = np.hypot(
                            np.sqrt((curve.error[first:end] ** 2).sum()) / (end - first),
                            np.sqrt((curve.error[i:j] ** 2).sum()) / (j - i),
                        )
                        largest[kind] = max(largest[kind], (top - other) / error)
        exceeded += largest > [rise, fall]
    assert exceeded / 3000 == pytest.approx(SIDE_LEVEL, abs=0.008)


def test_critical_values_of_one_comparison():
    """Three widths with many seeds: one rise and one fall of single widths, both normal."""
    rise, fall = critical_values((False, True, False), (4000, 4000, 4000))
    exact = stats.norm.ppf(1 - SIDE_LEVEL)
    assert (rise, fall) == pytest.approx((exact, exact), abs=0.1)


def test_where_a_peak_may_be():
    curve = draw(PEAK, 0.01, 0)
    assert list(X[places(curve, height(curve, None))]) == [8]
    curve = draw(PEAK, 0.3, 0)
    assert {6, 8, 10} < {*X[places(curve, height(curve, None))].tolist()}


def test_two_peaks_are_not_taken_for_one_elsewhere():
    early = np.array([bump(width, 2.0, 0.3) for width in WIDTHS])
    late = np.array([bump(width, THRESHOLD, 0.3) for width in WIDTHS])
    found = results(early + 0.5 * late, 0.1, 5)
    assert found[FAILS] <= 0.05


def test_location():
    sharp = peak_location(draw(PEAK, 0.01, 0), THRESHOLD, "it")
    assert sharp == (8, 8, 8)
    value, low, high = peak_location(draw(PEAK, 0.3, 0), THRESHOLD, "it")
    assert low < high
    assert low <= value <= high
    value, low, high = peak_location(draw(PEAK, 0.0, 0, seeds=1), None, "it")
    assert value == 8
    assert not np.isfinite([low, high]).any()
