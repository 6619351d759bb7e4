"""Checks of what is measured, and its images in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from smoothdescent.errors import UserError

LAYOUTS = ("NCHW", "NHWC")
_CHECKED_AT_ONCE = 1024


@dataclass(frozen=True)
class CheckedSamples:
    """Samples whose shapes and values are checked.

    Attributes:
        images: uint8 or float, [N, C, H, W] or [N, H, W, C] as `layout` says.
        labels: int64 [N].
        sample_ids: int64 [N].
        layout: `NCHW` or `NHWC`.
    """

    images: np.ndarray | torch.Tensor
    labels: torch.Tensor
    sample_ids: torch.Tensor
    layout: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        shape = tuple(self.images.shape[1:])
        return shape if self.layout == "NCHW" else (shape[2], shape[0], shape[1])

    def flat_images(
        self, start: int, stop: int, device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """Return some images in [0,1] pixel space: [n, H W C], the channel varying fastest."""
        images = self.images[start:stop]
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.array(images))  # a copy: the array may be read-only
        images = images.to(device)
        if self.layout == "NCHW":
            images = images.permute(0, 2, 3, 1)
        scaled = images.dtype == torch.uint8
        images = images.to(dtype, memory_format=torch.contiguous_format).flatten(1)
        return images / 255 if scaled else images


def check_samples(
    images: Any, labels: Any, sample_ids: Any, channels: int, layout: str | None
) -> Iterator[CheckedSamples]:
    """Check arrays, or the batches of an iterable as they come, and yield them.

    Arrays are checked as a whole before the first batch is yielded.

    Raises:
        UserError: see `smoothdescent.sharpness.measure`.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"layout is {layout!r}; expected {' or '.join(LAYOUTS)}")
    if isinstance(images, np.ndarray | torch.Tensor):
        if labels is None:
            raise UserError("labels is missing; expected one label for each image")
        yield _check(images, labels, sample_ids, channels, layout, set())
        return
    if not isinstance(images, Iterable):
        raise UserError(
            f"images is a {type(images).__name__}; expected an array, a tensor, or an iterable of "
            "(images, labels) or (images, labels, sample_ids) batches"
        )
    if labels is not None or sample_ids is not None:
        raise UserError(
            "labels and sample_ids go with an array of images; an iterable holds them in its "
            "batches (images, labels, sample_ids)"
        )
    seen: set[int] = set()
    count = 0
    for batch in images:
        if not isinstance(batch, Sequence) or len(batch) not in (2, 3):
            raise UserError(
                f"images yielded a {type(batch).__name__}; expected batches (images, labels) or "
                "(images, labels, sample_ids)"
            )
        batch_images, batch_labels, *ids = batch
        size = len(batch_labels)
        batch_ids = ids[0] if ids else np.arange(count, count + size)
        yield _check(batch_images, batch_labels, batch_ids, channels, layout, seen)
        count += size


def _check(
    images: Any, labels: Any, sample_ids: Any, channels: int, layout: str | None, seen: set[int]
) -> CheckedSamples:
    if not isinstance(images, np.ndarray | torch.Tensor):
        raise UserError(f"images is a {type(images).__name__}; expected an array or a tensor")
    layout = _find_layout(tuple(images.shape), channels, layout)
    labels = _integers("labels", labels, len(images))
    if sample_ids is None:
        sample_ids = np.arange(len(images))
    sample_ids = _integers("sample_ids", sample_ids, len(images))
    _check_values(images)
    _check_unique(sample_ids, seen)
    return CheckedSamples(images, labels, sample_ids, layout)


def _find_layout(shape: tuple[int, ...], channels: int, layout: str | None) -> str:
    if len(shape) != 4 or 0 in shape:
        raise UserError(
            f"images has shape {list(shape)}; expected [N, C, H, W] or [N, H, W, C], not empty"
        )
    possible = [name for name, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == channels]
    if layout is None and len(possible) == 2:
        raise UserError(
            f"images has shape {list(shape)}, which may be [N, C, H, W] or [N, H, W, C]; say which "
            "by layout='NCHW' or layout='NHWC'"
        )
    if not possible or (layout is not None and layout not in possible):
        where = f"layout {layout}" if layout else "[N, C, H, W] or [N, H, W, C]"
        raise UserError(
            f"images has shape {list(shape)}; expected {where} with {channels} channels, since "
            f"mean and std have {channels} values"
        )
    return layout or possible[0]


def _integers(name: str, values: Any, count: int) -> torch.Tensor:
    """Return int64 [count] on the CPU."""
    tensor = values.cpu() if isinstance(values, torch.Tensor) else torch.tensor(np.array(values))
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise UserError(f"{name} holds values of type {tensor.dtype}; expected whole numbers")
    if tuple(tensor.shape) != (count,):
        raise UserError(
            f"{name} has shape {list(tensor.shape)}; expected one for each of {count} images"
        )
    return tensor.to(torch.int64)


def _check_values(images: np.ndarray | torch.Tensor) -> None:
    is_tensor = isinstance(images, torch.Tensor)
    if str(images.dtype).endswith("uint8"):
        return
    if not (images.is_floating_point() if is_tensor else images.dtype.kind == "f"):
        raise UserError(
            f"images holds values of type {images.dtype}; expected uint8 from 0 to 255, or "
            "floating-point numbers in [0,1]"
        )
    # In parts: the temporaries of a check must not scale with the data set. NaN fails both bounds.
    for start in range(0, len(images), _CHECKED_AT_ONCE):
        part = images[start : start + _CHECKED_AT_ONCE]
        low, high = float(part.min()), float(part.max())
        if not (low >= 0 and high <= 1):
            found = "NaN" if low != low or high != high else f"values from {low:g} to {high:g}"
            raise UserError(
                f"images holds {found}; expected [0,1] pixel values, before normalisation"
            )


def _check_unique(sample_ids: torch.Tensor, seen: set[int]) -> None:
    ids = sample_ids.tolist()
    before = len(seen)
    seen.update(ids)
    if len(seen) < before + len(ids):
        unique, counts = torch.unique(sample_ids, return_counts=True)
        repeated = unique[counts > 1].tolist()
        which = repeated[0] if repeated else "of an earlier batch"
        raise UserError(f"sample_ids holds {which} more than once; expected each id once")
