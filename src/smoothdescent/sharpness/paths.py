"""Path families: images of growing augmentation strength in P directions (sections 3.3 and 3.4).

A new family is one function with the decorator `register_path_family` and, for `config.yaml`, a
block of settings beside it, named in `PathSettings`. PyTorch is imported only to augment images:
the configuration is read without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from smoothdescent.config.types import Block, Natural, Positive
from smoothdescent.errors import UserError

if TYPE_CHECKING:
    import torch

PathFunction = Callable[["torch.Tensor", int, Sequence[float]], "torch.Tensor"]

PATH_FAMILIES: dict[str, PathFunction] = {}


def register_path_family(name: str) -> Callable[[PathFunction], PathFunction]:
    """Register the decorated function as a path family.

    The function takes images [N, C, H, W] in [0,1] pixel space, the number P of directions and K
    increasing strengths, and returns the augmented images [N, P, K, C, H, W], of the same precision
    and on the same device. It raises a UserError for strengths that the images do not admit.
    """

    def register(function: PathFunction) -> PathFunction:
        PATH_FAMILIES[name] = function
        return function

    return register


@dataclass(frozen=True)
class Paths:
    """Which paths lead away from each image.

    Attributes:
        family: a registered name.
        directions: P, the number of paths per image.
        strengths: K strengths, increasing, all positive.
    """

    family: str
    directions: int
    strengths: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "strengths", tuple(self.strengths))
        if self.family not in PATH_FAMILIES:
            raise UserError(
                f"paths has family {self.family!r}; expected one of {', '.join(PATH_FAMILIES)}, or "
                "a name registered with register_path_family"
            )
        if self.directions < 1:
            raise UserError(f"paths has directions {self.directions}; expected at least 1")
        increasing = sorted(set(self.strengths)) == list(self.strengths)
        if not self.strengths or not increasing or not self.strengths[0] > 0:
            raise UserError(
                f"paths has strengths {list(self.strengths)}; expected positive numbers, increasing"
            )


def path_images(images: torch.Tensor, paths: Paths) -> torch.Tensor:
    """Return the images at the points of all paths, the base image first.

    Args:
        images: float [N, C, H, W] in [0,1] pixel space.
        paths: the family, its directions and strengths.

    Returns:
        [N, P, K+1, C, H, W] in pixel space, not clipped.

    Raises:
        UserError: the images do not admit the strengths.
    """
    import torch

    base = images[:, None, None].expand(-1, paths.directions, 1, -1, -1, -1)
    return torch.cat([base, augmented_images(images, paths)], dim=2)


def augmented_images(images: torch.Tensor, paths: Paths) -> torch.Tensor:
    """Return the augmented images of all paths, [N, P, K, C, H, W]; see `path_images`."""
    augmented = PATH_FAMILIES[paths.family](images, paths.directions, paths.strengths)
    expected = (len(images), paths.directions, len(paths.strengths), *images.shape[1:])
    if tuple(augmented.shape) != expected:
        raise UserError(
            f"path family {paths.family!r} returned images of shape {list(augmented.shape)}; "
            f"expected {list(expected)}"
        )
    return augmented


class _Settings(Block):
    """What the settings of all families share: `directions`, and increasing `strengths`."""

    @model_validator(mode="after")
    def _check(self) -> _Settings:
        if sorted(set(self.strengths)) != self.strengths:
            raise ValueError("must be increasing, without repetition")
        return self

    def check(self, image_size: int) -> None:
        """Raise a ValueError that begins with a key if images of this size do not admit it."""


class SVDSettings(_Settings):
    """Paths that erase small singular values of each colour channel (section 3.4)."""

    family: Literal["svd"]
    directions: Annotated[Natural, Field(le=1024)] = 4
    strengths: Annotated[list[Natural], Field(min_length=1)]

    def check(self, image_size: int) -> None:
        """Raise a ValueError if more singular values are to be erased than there are."""
        most = image_size - self.directions + 1
        if self.strengths[-1] > most:
            raise ValueError(
                f"strengths ends at {self.strengths[-1]}, but of the {image_size} singular values "
                f"of an image {self.directions} directions can erase at most {most}"
            )


def SVDPaths(directions: int = 4, strengths: Sequence[int] = (5, 10, 15, 20, 22, 25)) -> Paths:
    """Return paths that erase small singular values of each channel (section 3.4)."""
    return Paths("svd", directions, tuple(strengths))


# The largest side of matrices that cuSOLVER decomposes side by side. It takes larger ones one after
# the other, which a CPU does faster.
BATCHED_SVD = 32


@register_path_family("svd")
def svd_images(images: torch.Tensor, directions: int, strengths: Sequence[float]) -> torch.Tensor:
    """Erase singular values of each channel X = U S V^T (section 3.4).

    Direction p = 0..P-1 and strength s erase the s singular values with 1-based indices
    r-s-p+1 .. r-p, where r = min(H, W) is their number. The decomposition is in float64. Singular
    values below r eps S_1 are rounding errors: they count as zero, and erasing them leaves the
    image exactly as it is. Among equal singular values the ones to erase are not unique; those of
    the basis that the linear algebra library returns are taken.

    Args:
        images: [N, C, H, W] in [0,1] pixel space.
        directions: P.
        strengths: K whole numbers.

    Returns:
        [N, P, K, C, H, W], not clipped.

    Raises:
        UserError: a strength is no whole number, or more singular values are to be erased than
            there are.
    """
    import torch

    from smoothdescent.networks.compiled import kernels_on
    from smoothdescent.sharpness.precision import wide_dtype

    count, channels, height, width = images.shape
    rank = min(height, width)
    if any(s != int(s) for s in strengths):
        raise UserError(
            f"paths has strengths {list(strengths)}; the family 'svd' expects whole numbers"
        )
    erased = [int(s) for s in strengths]
    if erased[-1] + directions - 1 > rank:
        raise UserError(
            f"paths has strength {erased[-1]} and {directions} directions, which reach the "
            f"{erased[-1] + directions - 1} smallest singular values of a channel, but images of "
            f"{height}x{width} pixels have {rank}"
        )
    wide = images.to(wide_dtype(images.device), memory_format=torch.contiguous_format)
    on_device = wide.dtype == torch.float64 and max(height, width) <= BATCHED_SVD
    exact = wide if on_device else wide.to("cpu", torch.float64)
    u, s, vh = torch.linalg.svd(exact, full_matrices=False)  # [N,C,H,r], [N,C,r], [N,C,r,W]
    # Vectors of zeros may be NaN on a GPU, where a product with zero would keep them.
    kept = s > rank * torch.finfo(s.dtype).eps * s[..., :1]
    us = torch.where(kept[..., None, :], u * s[..., None, :], 0).to(wide)
    vh = torch.where(kept[..., None], vh, 0).to(wide)
    result = images.new_empty(count, directions, len(erased), height, width, channels)
    if compiled := kernels_on("measuring", images):
        compiled.erase(wide, us, vh, erased, result)
        return result.permute(0, 1, 2, 5, 3, 4)
    for p in range(directions):
        left, stop = wide, rank - p
        for k, strength in enumerate(erased):
            # A strength erases what the one before it does, and these.
            more = slice(rank - p - strength, stop)
            left, stop = left - us[..., more] @ vh[..., more, :], more.start
            result[:, p, k] = left.permute(0, 2, 3, 1)
    return result.permute(0, 1, 2, 5, 3, 4)


Radius = Annotated[Positive, Field(le=1024)]


class ShiftSettings(_Settings):
    """Paths of shifts by a growing radius in pixels, edges repeated."""

    family: Literal["shift"]
    directions: Annotated[Natural, Field(le=1024)] = 4
    strengths: Annotated[list[Radius], Field(min_length=1)] = Field([1.0, 2.0, 3.0, 4.0])


def ShiftPaths(directions: int = 4, strengths: Sequence[float] = (1.0, 2.0, 3.0, 4.0)) -> Paths:
    """Return paths that shift the image by a growing radius in pixels."""
    return Paths("shift", directions, tuple(strengths))


@register_path_family("shift")
def shift_images(images: torch.Tensor, directions: int, strengths: Sequence[float]) -> torch.Tensor:
    """Shift images by a radius in the direction 2 pi p / P, repeating the edges.

    The content moves by (radius cos, radius sin) pixels to the right and downwards; between pixels
    the value is bilinear.

    Args:
        images: [N, C, H, W] in [0,1] pixel space.
        directions: P.
        strengths: K radii in pixels.

    Returns:
        [N, P, K, C, H, W].
    """
    result = images.new_empty(len(images), directions, len(strengths), *images.shape[1:])
    for p in range(directions):
        angle = 2 * math.pi * p / directions
        for k, radius in enumerate(strengths):
            right, down = radius * math.cos(angle), radius * math.sin(angle)
            result[:, p, k] = _shift_axis(_shift_axis(images, down, dim=2), right, dim=3)
    return result


def _shift_axis(images: torch.Tensor, distance: float, dim: int) -> torch.Tensor:
    """Shift along one axis by a real distance, repeating the edge, linear between pixels."""
    # cos and sin of multiples of pi/2 miss whole numbers by a rounding error; a millionth of a
    # pixel is far below any strength of interest.
    import torch

    distance = round(distance, 6)
    whole = math.floor(distance)
    fraction = distance - whole
    index = torch.arange(images.shape[dim], device=images.device) - whole
    last = images.shape[dim] - 1
    near = images.index_select(dim, index.clamp(0, last))
    if fraction == 0:
        return near
    far = images.index_select(dim, (index - 1).clamp(0, last))
    return (1 - fraction) * near + fraction * far


PathSettings = Annotated[SVDSettings | ShiftSettings, Field(discriminator="family")]
