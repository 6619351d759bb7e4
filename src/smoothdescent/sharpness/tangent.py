"""Tangent points: weak colour jitters of an image (section 3.2; appendix C of the paper).

Brightness, contrast and saturation each map an image x to a combination of x, its grey image g and
the mean m of g, so that any sequence of them is a x + b g + c m: three numbers per jitter describe
it, and all jitters of a batch of points are one small matrix product.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from smoothdescent.errors import UserError
from smoothdescent.networks.compiled import kernels_on
from smoothdescent.randomness import sample_uniforms

# Luma weights of ITU-R BT.601 as torchvision rounds them: their sum is 0.9999.
GREY = {1: (1.0,), 3: (0.2989, 0.587, 0.114)}
ORDERS = tuple(itertools.permutations(range(3)))  # of brightness 0, contrast 1, saturation 2
STEPS = ("delta", "full")


@dataclass(frozen=True)
class Tangent:
    """How the tangent Hessian is estimated (equation 5).

    Attributes:
        jitters: M, colour jitters per sample; the same at every point of its paths.
        step_size: delta.
        step: `delta` evaluates at x + delta u_m, `full` at x + u_m (delta then only scales).
        magnitude: factors are uniform in [1 - magnitude, 1 + magnitude].
    """

    jitters: int = 4
    step_size: float = 0.1
    step: str = "delta"
    magnitude: float = 0.01

    def __post_init__(self) -> None:
        if self.jitters < 1 or not self.step_size > 0 or not 0 < self.magnitude < 1:
            raise UserError(
                f"tangent has jitters {self.jitters}, step_size {self.step_size} and magnitude "
                f"{self.magnitude}; expected at least 1 jitter, a positive step and a magnitude "
                "between 0 and 1"
            )
        if self.step not in STEPS:
            raise UserError(f"tangent has step {self.step!r}; expected {' or '.join(STEPS)}")

    @property
    def factor(self) -> float:
        """The multiple of u_m by which a tangent point lies off its point."""
        return self.step_size if self.step == "delta" else 1.0


def jitter_coefficients(
    sample_ids: torch.Tensor, tangent: Tangent, *, seed: int = 0, channels: int = 3
) -> torch.Tensor:
    """Draw the jitters of samples: jitter_m(x) - x = a x + b g + c m.

    Factors and orders belong to (seed, sample_id): they do not depend on the other samples, and the
    first M of more jitters are the same.

    Args:
        sample_ids: int64 [N].
        tangent: number and magnitude of the jitters.
        seed: seed of the draw.
        channels: 3 for colour images, 1 for grey ones.

    Returns:
        float64 [N, M, 3], the numbers a, b and c.

    Raises:
        UserError: images of another number of channels have no colour jitter.
    """
    total = sum(_grey_weights(channels))
    draws = sample_uniforms(seed, "jitter", sample_ids=sample_ids, count=4 * tangent.jitters)
    draws = draws.view(len(sample_ids), tangent.jitters, 4)
    factors = 1 + tangent.magnitude * (2 * draws[..., :3] - 1)
    order = (draws[..., 3] * len(ORDERS)).long()
    sequence = torch.tensor(ORDERS, device=order.device)[order]  # [N, M, 3]

    a, b, c = torch.ones_like(draws[..., 0]), *torch.zeros(2, *order.shape).to(draws).unbind()
    for position in range(3):
        kind = sequence[..., position]
        f = factors.gather(-1, kind[..., None])[..., 0]
        # grey(a x + b g + c m) = (a + b t) g + c t m, with t the sum of the grey weights.
        grey_g, grey_m = a + b * total, c * total
        a, b, c = (
            f * a,
            f * b + (1 - f) * grey_g * (kind == 2),
            f * c + (1 - f) * (grey_m + grey_g * (kind == 1)) * (kind != 0),
        )
    return torch.stack([a - 1, b, c], dim=-1)


def tangent_points(
    images: torch.Tensor,
    sample_ids: torch.Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    tangent: Tangent | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """Return the tangent points x + delta u_m (or x + u_m) of images.

    Args:
        images: [N, C, H, W] in pixel space; values outside [0,1] are not clamped.
        sample_ids: int64 [N], the samples whose jitters are applied.
        mean, std: per channel; the points are normalised images.
        tangent: number, magnitude and step of the jitters.
        seed: seed of the jitters.

    Returns:
        [N, M, C, H, W], normalised.

    Raises:
        UserError: images of another number of channels than 1 or 3 have no colour jitter.
    """
    tangent = tangent or Tangent()
    count, channels, height, width = images.shape
    coefficients = jitter_coefficients(sample_ids.cpu(), tangent, seed=seed, channels=channels).to(
        images.device, images.dtype
    )
    scale = NormalisedImages(mean, std, height * width, images.dtype, images.device)
    pixels = images.permute(0, 2, 3, 1).reshape(count, -1)
    points = scale.with_tangents(pixels, tangent.factor * coefficients)[:, 1:]
    return points.view(count, -1, height, width, channels).permute(0, 1, 4, 2, 3)


class NormalisedImages:
    """Normalises flat images and adds their tangent points.

    Flat images are [N, D] with D = H W C, the channel varying fastest: the channels-last layout.

    Args:
        mean, std: per channel, of the pixels.
        pixels: H W.
        dtype, device: of the images.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        pixels: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.channels = len(mean)
        self.mean = torch.tensor(mean, dtype=dtype, device=device).repeat(pixels)
        self.std = torch.tensor(std, dtype=dtype, device=device).repeat(pixels)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return (images - mean) / std, for images [..., D]."""
        return (images - self.mean).div_(self.std)

    def with_tangents(self, images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Return normalised points, each followed by its tangent points.

        Args:
            images: [N, D] in pixel space.
            coefficients: [N, M, 3], multiplied by the step.

        Returns:
            [N, 1 + M, D].
        """
        count, size = images.shape
        weights = _grey_weights(self.channels)
        if compiled := kernels_on("measuring", images, coefficients):
            return compiled.with_tangents(images, coefficients, self.mean, self.std, weights)
        weights = images.new_tensor(weights)
        grey = images.view(count, -1, self.channels) @ weights  # [N, H W]
        basis = images.new_empty(count, 3, size)
        basis[:, 0] = images
        basis[:, 1].view(count, -1, self.channels).copy_(grey[..., None])
        basis[:, 2] = grey.mean(dim=1, keepdim=True)
        basis /= self.std
        # The row of zeros is the point itself, which the product leaves exactly as it is.
        padded = torch.nn.functional.pad(coefficients, (0, 0, 1, 0))
        points = self(images)[:, None].expand(-1, padded.shape[1], -1)
        return torch.baddbmm(points, padded, basis)


def _grey_weights(channels: int) -> tuple[float, ...]:
    if channels not in GREY:
        raise UserError(
            f"images have {channels} channels; colour jitters, and so the tangent Hessian, need "
            "1 or 3"
        )
    return GREY[channels]
