"""What every source is made of: its block of the configuration, and what it returns."""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import Field

from smoothdescent.config.types import Block, Positive, Real


@dataclass(frozen=True)
class FileRead:
    """A file that was read: its name below the source's folder, its size in bytes, its SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, file: BinaryIO) -> FileRead:
        """Return the record of a file that is open at its start, and go back to the start."""
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return cls(name, size, sha256)


@dataclass(frozen=True)
class Decoded:
    """A decoded data set.

    Attributes:
        train_images, test_images: uint8 [N, H, W, 3], values 0..255.
        train_labels, test_labels: int64 [N], values 0..C-1.
        class_names: C names.
        description: where the data came from, in one line.
        mean, std: per channel of the [0,1] pixels; None: computed from the training images.
        files: what was read, in the order of reading; empty for images that are drawn.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    description: str
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    files: tuple[FileRead, ...] = ()


class Source(Block):
    """A data set's block of the configuration. Its field `source` holds the source's name."""

    @abstractmethod
    def read(self, threads: int) -> Decoded:
        """Decode the data set, `threads` images at a time where that is possible.

        Raises:
            UserError: a fault in the files read.
        """

    def files(self) -> list[Path]:
        """Return the files on disk that `read` would read now; none is no error."""
        return []

    def image_size(self) -> int | None:
        """Return the images' height and width in pixels, None where the files tell it."""
        return None

    def check(self) -> int | None:
        """Look, in a moment, whether `read` will find what it reads; return `image_size`.

        Raises:
            UserError: says what is missing, or of another form.
        """
        return self.image_size()


class RealSource(Source):
    """What sources of real images share: the moments that normalise them, per channel."""

    mean: tuple[Real, Real, Real] | None = Field(
        None, description="of the [0,1] pixels, per channel; null: the source's, or computed"
    )
    std: tuple[Positive, Positive, Positive] | None = Field(None, description="likewise")
