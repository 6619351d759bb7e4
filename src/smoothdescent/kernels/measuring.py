"""What measuring does beside evaluating a network, in one pass each on a CPU.

Beside a narrow network, what PyTorch does here in several passes is a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit

from smoothdescent.kernels.cache import cached

# A sum over an image may be taken in several parts, one for each place in a vector.
in_parts = njit(
    error_model="numpy",
    fastmath={"contract", "reassoc"},
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)


def erase(
    images: torch.Tensor,
    us: torch.Tensor,
    vh: torch.Tensor,
    strengths: Sequence[int],
    found: torch.Tensor,
) -> None:
    """Erase, in direction p and with each strength, so many products: those before the last p.

    Args:
        images: float64 [N, C, H, W].
        us, vh: float64 [N, C, H, r] and [N, C, r, W], whose products add up to the images.
        strengths: how many are erased, increasing.
        found: [N, P, K, H, W, C], contiguous, filled.
    """
    matrices = (each.contiguous().flatten(0, 1).numpy() for each in (images, us, vh))
    _erase(*matrices, np.array(strengths), found.numpy())


def with_tangents(
    images: torch.Tensor,
    coefficients: torch.Tensor,
    mean: torch.Tensor,
    std: torch.Tensor,
    grey: Sequence[float],
) -> torch.Tensor:
    """Return normalised points, each followed by its tangent points: [N, 1 + M, D].

    Args:
        images: [N, D], flat images in pixel space, the channel varying fastest.
        coefficients: [N, M, 3], the jitters times the step: a x + b g + c m.
        mean, std: [D].
        grey: the weight of each channel in the grey image.
    """
    count, size = images.shape
    points = images.new_empty(count, 1 + coefficients.shape[1], size)
    arrays = (images, coefficients, mean, std, images.new_tensor(grey), points)
    _with_tangents(*map(_flat, arrays))
    return points


def squared_distances(vectors: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of each vector from its origin, summed in float64: [N, M].

    Args:
        vectors, origins: [N, M, D].
    """
    found = np.empty(vectors.shape[:2])
    pair = (each if each.stride(2) == 1 else each.contiguous() for each in (vectors, origins))
    _squared_distances(*((_memory(each), *each.stride()[:2]) for each in pair), found)
    return torch.from_numpy(found)


def _flat(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().numpy().reshape(-1)


def _memory(tensor: torch.Tensor) -> np.ndarray:
    """Return the numbers from the first of a tensor to its last one, others between them too."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.as_strided((1 + sum((size - 1) * step for size, step in steps),), (1,)).numpy()


@cached
def _erase(images, us, vh, strengths, found):
    count, height, width = images.shape
    directions, channels, rank = found.shape[1], found.shape[5], us.shape[2]
    left = np.empty((height, width))
    for matrix in range(count):
        n, c = matrix // channels, matrix % channels
        for p in range(directions):
            left[:] = images[matrix]
            stop = rank - p
            for k in range(len(strengths)):
                # A strength erases what the one before it does, and these.
                start = rank - p - strengths[k]
                for i in range(height):
                    for r in range(start, stop):
                        factor = us[matrix, i, r]
                        for j in range(width):
                            left[i, j] -= factor * vh[matrix, r, j]
                stop = start
                for i in range(height):
                    for j in range(width):
                        found[n, p, k, i, j, c] = left[i, j]


@cached
def _with_tangents(images, coefficients, mean, std, grey, points):
    size = len(mean)
    count = len(images) // size
    jitters = len(coefficients) // (3 * count)
    inverse, greys = 1 / std, np.empty_like(mean)
    for n in range(count):
        image = images[n * size : (n + 1) * size]
        average = _find_grey(image, grey, greys)
        start = n * (1 + jitters) * size
        point = points[start : start + size]
        for k in range(size):
            point[k] = (image[k] - mean[k]) / std[k]
        for m in range(jitters):
            start += size
            tangent = points[start : start + size]
            at = 3 * (n * jitters + m)
            a, b, constant = coefficients[at], coefficients[at + 1], coefficients[at + 2] * average
            for k in range(size):
                tangent[k] = point[k] + (a * image[k] + b * greys[k] + constant) * inverse[k]


@in_parts
def _find_grey(image, grey, greys):
    """Fill in the grey image, repeated for each channel, and return its mean."""
    total = 0.0
    if len(grey) == 3:  # a loop over channels would cost more than the rest
        for k in range(0, len(image), 3):
            value = grey[0] * image[k] + grey[1] * image[k + 1] + grey[2] * image[k + 2]
            greys[k] = greys[k + 1] = greys[k + 2] = value
            total += value
    else:
        for k in range(len(image)):
            greys[k] = grey[0] * image[k]
            total += greys[k]
    return image.dtype.type(total * len(grey) / len(image))


@cached
def _squared_distances(vectors, origins, found):
    vectors, vectors_apart, vector_step = vectors
    origins, origins_apart, origin_step = origins
    count, each = found.shape
    size = len(vectors) - (count - 1) * vectors_apart - (each - 1) * vector_step
    for n in range(count):
        for m in range(each):
            vector = vectors[n * vectors_apart + m * vector_step :][:size]
            origin = origins[n * origins_apart + m * origin_step :][:size]
            found[n, m] = _squared_distance(vector, origin)


@in_parts
def _squared_distance(vector, origin):
    total = 0.0  # in float64: tiny squares must not vanish
    for k in range(len(vector)):
        difference = np.float64(vector[k] - origin[k])
        total += difference * difference
    return total
