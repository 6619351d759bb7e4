from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import legendre

from smoothdescent.figures import toy_regression
from smoothdescent.figures.toy_regression import (
    DEGREE,
    NOISE,
    Regression,
    draw_samples,
    fit_polynomial,
    regression,
    true_function,
)


@pytest.fixture(scope="module")
def toy() -> Regression:
    return regression()


def steepest(values: np.ndarray, grid: np.ndarray) -> float:
    return float(np.abs(np.diff(values) / np.diff(grid)).max())


def test_one_sample_in_five_is_displaced() -> None:
    samples = draw_samples()
    displacement = np.abs(samples.y - true_function(samples.x))
    assert np.allclose(displacement[samples.is_noisy], NOISE)
    assert np.allclose(displacement[~samples.is_noisy], 0.0)
    assert samples.is_noisy.mean() == pytest.approx(0.2, abs=0.05)
    assert np.all(np.diff(samples.x) > 0) and np.all(np.abs(samples.x) < 1)


def test_both_models_interpolate(toy: Regression) -> None:
    assert toy.polynomial_residual < 2e-3
    assert toy.network_residual < 2e-3


@pytest.mark.parametrize("model", ["polynomial", "network"])
def test_curves_pass_through_the_samples(toy: Regression, model: str) -> None:
    near = np.abs(toy.grid[:, None] - toy.samples.x[None, :]).argmin(axis=0)
    slope = steepest(getattr(toy, model), toy.grid)
    error = np.abs(getattr(toy, model)[near] - toy.samples.y).max()
    assert error < slope * (toy.grid[1] - toy.grid[0]) + 2e-3


def test_polynomial_is_spikier(toy: Regression) -> None:
    assert steepest(toy.polynomial, toy.grid) > 4 * steepest(toy.network, toy.grid)


def test_polynomial_leaves_noisy_targets_at_once_and_the_network_does_not(toy: Regression) -> None:
    # Half-way to the next sample, the spike is over and the network is still displaced.
    spacing = np.diff(toy.samples.x).mean()
    noisy = toy.samples.x[toy.samples.is_noisy]
    polynomial, network = (
        np.mean([np.abs(np.interp(noisy + side * spacing / 4, toy.grid, fit - toy.truth))
                 for side in (-1, 1)])
        for fit in (toy.polynomial, toy.network)
    )  # fmt: skip
    assert polynomial < 0.5 * network


def test_polynomial_is_the_interpolant_of_least_norm() -> None:
    samples = draw_samples()
    grid = np.linspace(-0.9, 0.9, 301)
    coefficients = np.linalg.pinv(legendre.legvander(samples.x, DEGREE)) @ samples.y
    expected = legendre.legval(grid, coefficients)
    assert np.abs(fit_polynomial(samples, grid) - expected).max() < 2e-3


def test_repeatable(toy: Regression) -> None:
    again = regression()
    assert np.array_equal(again.polynomial, toy.polynomial)
    assert np.array_equal(again.network, toy.network)


def test_residual_is_reported_when_training_stops_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_regression, "MAX_STEPS", 3)
    early = regression(grid_size=11)
    assert early.polynomial_residual > 0.01 and early.network_residual > 0.01
