"""Integrals over volumes: the trapezoidal rule along paths (equation 6)."""

from __future__ import annotations

import torch

from smoothdescent.networks.compiled import kernels_on
from smoothdescent.sharpness.precision import wide_dtype


def segment_lengths(points: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean lengths of the segments of paths.

    Args:
        points: [N, P, K+1, ...], the points of P paths per sample, in the space in which lengths
            are measured (the normalised images that enter the network).

    Returns:
        float64 [N, P, K].
    """
    if compiled := kernels_on("measuring", points):
        ends = points.flatten(3).flatten(0, 1)
        squares = compiled.squared_distances(ends[:, 1:], ends[:, :-1])
        return squares.sqrt().unflatten(0, points.shape[:2])
    difference = (points[:, :, 1:] - points[:, :, :-1]).flatten(3)
    return torch.linalg.vector_norm(difference, dim=3).to(wide_dtype(points.device))


def volume_integrals(values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Average values over growing volumes (equation 6).

    Volume k integrates along the first k segments of each path by the trapezoidal rule, divides by
    their length, and averages over the paths. Volume 0 is the value at the base point. Where the
    first k segments have length zero, the value at the base point is the limit.

    Args:
        values: [N, P, K+1], values at the points of P paths per sample, the base point first.
        lengths: [N, P, K], lengths of the segments between the points.

    Returns:
        float64 [N, K+1].
    """
    wide = wide_dtype(values.device)
    values, lengths = values.to(wide), lengths.to(wide)
    areas = torch.cumsum(lengths * (values[:, :, 1:] + values[:, :, :-1]) / 2, dim=2)
    distances = torch.cumsum(lengths, dim=2)
    empty = distances == 0
    means = areas / distances.masked_fill(empty, 1)
    base = values[:, :, :1]
    means = torch.where(empty, base.expand_as(means), means)
    return torch.cat([base, means], dim=2).mean(dim=1)
