"""Peaks over epochs: heights of runs, the noise of evaluations, and what it adds to a height."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from verdict.studies import make_study

from smoothdescent.verdict.courses import (
    _bins,
    courses,
    evaluation_noise,
    rise_of_noise,
    run_heights,
)


@given(st.lists(st.floats(-9, 9), min_size=3, max_size=12))
def test_the_height_is_its_definition(values):
    expected = max(
        min(values[p] - min(values[:p]), values[p] - values[-1]) for p in range(1, len(values) - 1)
    )
    assert run_heights(np.array([values]))[0] == pytest.approx(expected)


def test_runs_that_peak_at_different_times_keep_their_height():
    epochs = np.arange(20)
    runs = np.stack([np.exp(-0.5 * ((epochs - at) / 1.5) ** 2) for at in (6, 10, 14)])
    assert run_heights(runs) == pytest.approx(1, abs=0.01)
    assert np.ptp(runs.mean(axis=0)) < 0.5


def test_evaluation_noise_ignores_the_course_that_runs_share():
    random = np.random.default_rng(0)
    course = np.where(np.arange(40) == 20, 50.0, np.linspace(90, 20, 40))
    runs = course + 0.3 * random.standard_normal((4, 40)) + [[0], [1], [2], [3]]
    assert evaluation_noise(runs) == pytest.approx(0.3, rel=0.25)
    assert evaluation_noise(runs[:1]) == 0
    assert evaluation_noise(np.vstack([runs[0], np.full(40, np.nan)])) == 0


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_noise_alone_is_no_peak(seeds, slope):
    """A falling course holds rarely, although its largest bump is positive."""
    random, quantile = np.random.default_rng(1), stats.t.ppf(0.975, seeds - 1)
    heights, found = [], 0
    for _ in range(300):
        runs = -slope * np.arange(20) + random.standard_normal((seeds, 20))
        heights.append(run_heights(runs).mean())
        corrected = run_heights(runs) - rise_of_noise(20) * evaluation_noise(runs)
        found += corrected.mean() > quantile * corrected.std(ddof=1) / np.sqrt(seeds)
    assert np.mean(heights) > 0.3
    assert found / 300 <= 0.05


def test_evaluations_are_averaged_evenly_in_the_logarithm():
    assert list(_bins(np.array([1, 10, 100]))) == [0, 1, 2]
    bins = _bins(np.arange(1, 1001))
    assert bins[0] == 0 and bins[-1] == 23
    assert (np.diff(bins) >= 0).all()


def test_heights_over_width():
    found = courses(make_study(noise=0.02), "jacobian_norm")
    past = found.heights.x >= 8
    assert (found.low > 0)[past].all() and (found.high <= found.visible)[~past].all()
    assert (found.low <= found.heights.mean).all() and (found.heights.mean <= found.high).all()
    assert found.heights.mean[past] == pytest.approx(np.log(1 + 2.9), abs=0.4)
    assert found.heights.shown == pytest.approx(np.exp(found.heights.mean))
    assert found.heights.label == "Jacobian norm over epochs, height of the peak (times)"
