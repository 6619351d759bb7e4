"""Scalar regression that interpolates noisy data in two ways: by spikes, and smoothly.

The data are samples of a smooth function, every fifth of them displaced. A polynomial of high
degree in the Legendre basis and a wide network with one hidden layer are both trained by full-batch
gradient descent until they pass through every sample. Cost: about a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from smoothdescent.randomness import numpy_generator

SAMPLES = 22
NOISE = 0.8
DEGREE = 1000
HIDDEN_UNITS = 1000
# The scale of the input weights: a unit's transition is then about as wide as two samples lie
# apart, which keeps the problem well conditioned.
INPUT_GAIN = 6.0
TOLERANCE = 1e-3
MAX_STEPS = 20_000


@dataclass(frozen=True)
class ScalarSamples:
    """Scalar data: inputs x in (-1, 1), targets y, and which targets are displaced; all [N]."""

    x: np.ndarray
    y: np.ndarray
    is_noisy: np.ndarray


@dataclass(frozen=True)
class Regression:
    """The two fits, evaluated on a grid.

    `grid`, `truth`, `polynomial` and `network` are float64 [G]; the residuals are the largest
    absolute errors at the samples.
    """

    samples: ScalarSamples
    grid: np.ndarray
    truth: np.ndarray
    polynomial: np.ndarray
    network: np.ndarray
    polynomial_residual: float
    network_residual: float


def regression(grid_size: int = 4001) -> Regression:
    """Draw the samples, fit both models and evaluate them on an even grid over [-1, 1]."""
    samples = draw_samples()
    grid = np.linspace(-1.0, 1.0, grid_size)
    inputs = np.concatenate([samples.x, grid])
    polynomial = fit_polynomial(samples, inputs)
    network = fit_network(samples, inputs)
    count = len(samples.x)
    return Regression(
        samples=samples,
        grid=grid,
        truth=true_function(grid),
        polynomial=polynomial[count:],
        network=network[count:],
        polynomial_residual=float(np.abs(polynomial[:count] - samples.y).max()),
        network_residual=float(np.abs(network[:count] - samples.y).max()),
    )


def true_function(x: np.ndarray) -> np.ndarray:
    """Return the function that the clean samples are taken from."""
    return 0.6 * np.sin(3.0 * x) + 0.3 * x


def draw_samples() -> ScalarSamples:
    """Draw inputs on a jittered grid; displace every fifth target by +-NOISE in turn."""
    random = numpy_generator(0, "toy-regression")
    centres = np.linspace(-0.98, 0.98, SAMPLES)
    x = centres + 0.15 * (centres[1] - centres[0]) * random.uniform(-1.0, 1.0, SAMPLES)
    index = np.arange(SAMPLES)
    is_noisy = index % 5 == 3
    displacement = np.where(index // 5 % 2 == 0, NOISE, -NOISE)
    return ScalarSamples(x, true_function(x) + np.where(is_noisy, displacement, 0.0), is_noisy)


def fit_polynomial(samples: ScalarSamples, inputs: np.ndarray) -> np.ndarray:
    """Fit Legendre coefficients by gradient descent from zero and evaluate them at `inputs`.

    The step is the inverse of the squared loss's largest curvature. From zero, gradient descent
    tends to the interpolant whose coefficients have the smallest norm.
    """
    features = legendre.legvander(samples.x, DEGREE)
    step = 1.0 / np.linalg.norm(features, 2) ** 2
    coefficients = np.zeros(DEGREE + 1)
    for _ in range(MAX_STEPS):
        residual = features @ coefficients - samples.y
        if np.abs(residual).max() < TOLERANCE:
            break
        coefficients -= step * (residual @ features)
    return legendre.legval(inputs, coefficients)


def fit_network(samples: ScalarSamples, inputs: np.ndarray) -> np.ndarray:
    """Fit a network with one hidden tanh layer and evaluate it at `inputs`.

    All weights and biases are trained, by gradient descent with momentum on the squared loss.
    The units come in pairs of opposite output weights, so that the initial network is zero.
    """
    random = numpy_generator(0, "toy-regression-network")
    half = HIDDEN_UNITS // 2
    input_weights = (
        random.choice([-1.0, 1.0], half) * INPUT_GAIN * np.exp(0.3 * random.standard_normal(half))
    )
    biases = -input_weights * random.uniform(-1.2, 1.2, half)
    output_weights = random.standard_normal(half)
    parameters = np.stack(
        [
            np.tile(input_weights, 2),
            np.tile(biases, 2),
            np.concatenate([output_weights, -output_weights]),
        ]
    )
    scale = 1.0 / np.sqrt(HIDDEN_UNITS)
    velocity = np.zeros_like(parameters)
    step, momentum = 0.05, 0.99
    for _ in range(MAX_STEPS):
        weights, offsets, outputs = parameters
        hidden = np.tanh(np.outer(samples.x, weights) + offsets)
        residual = scale * (hidden @ outputs) - samples.y
        if np.abs(residual).max() < TOLERANCE:
            break
        back = scale * residual[:, None] * outputs * (1.0 - hidden**2)
        gradient = np.stack([samples.x @ back, back.sum(axis=0), scale * (residual @ hidden)])
        velocity = momentum * velocity - step * gradient
        parameters = parameters + velocity
    weights, offsets, outputs = parameters
    return scale * (np.tanh(np.outer(inputs, weights) + offsets) @ outputs)
