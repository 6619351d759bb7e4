"""What every source returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Decoded:
    """A decoded data set.

    Attributes:
        train_images, test_images: uint8 [N, H, W, 3], values 0..255.
        train_labels, test_labels: int64 [N], values 0..C-1.
        class_names: C names.
        description: where the data came from, in one line.
        mean, std: per channel of the [0,1] pixels; None: computed from the training images.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    description: str
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
