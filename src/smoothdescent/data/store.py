"""One file per data set: decoded images and labels that processes share through the page cache.

The file is in the safetensors format. Tensors: `train_images`, `test_images` (uint8 [N, S, S, 3])
and `train_labels`, `test_labels` (int64 [N]). Its metadata has one key, `smoothdescent`, whose JSON
holds the names of the data set and of its classes, the channels' mean and standard deviation, where
the data came from and which files were read, and the SHA-256 of all that determines a result: of
the tensors, mean, standard deviation and class names, but not of the files or the names. Nothing
else is written but the checksum of the file (see `files`), so that equal files give an equal file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from smoothdescent.data.sources.base import Decoded, FileRead
from smoothdescent.errors import UserError
from smoothdescent.files import (
    CHECKSUM,
    METADATA_KEY,
    UNSEALED,
    atomic_path,
    canonical_json,
    check_seal,
    seal,
    tensors_header,
    tensors_metadata,
)

TENSORS = ("train_images", "train_labels", "test_images", "test_labels")
_TYPES = {"U8": np.dtype("uint8"), "I64": np.dtype("<i8")}

# Bytes of images converted at a time when the channels' moments are computed: bounds the memory,
# which is 16 times as much.
_CHUNK = 2**23


@dataclass(frozen=True)
class ImageSplit:
    """Images, uint8 [N, S, S, 3], and labels, int64 [N]: read-only, mapped from the file."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Store:
    """A data set file, opened.

    Attributes:
        path: the file.
        name: the data set's name.
        train, test: the splits.
        mean, std: per channel of the [0,1] pixels.
        class_names: C names.
        description: where the data came from.
        files: what was read to make it; empty for images that are drawn.
        sha256: of the tensors' contents, mean, std and class names.
    """

    path: Path
    name: str
    train: ImageSplit
    test: ImageSplit
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_names: tuple[str, ...]
    description: str
    files: tuple[FileRead, ...]
    sha256: str

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """Height and width S of an image, in pixels."""
        return self.train.images.shape[1]


def write_store(path: str | Path, name: str, decoded: Decoded) -> None:
    """Write a data set into one file, atomically.

    Mean and standard deviation that the source does not tell are computed over all pixels of the
    training images, in float64.

    Raises:
        UserError: an array has the wrong shape or type, a label is out of range, a channel of the
            training images is constant, or the file cannot be written.
    """
    tensors = {key: np.ascontiguousarray(getattr(decoded, key)) for key in TENSORS}
    _check(path, tensors, len(decoded.class_names))
    mean, std = _moments(tensors["train_images"])
    described: dict[str, Any] = {
        "mean": [float(value) for value in (mean if decoded.mean is None else decoded.mean)],
        "std": [float(value) for value in (std if decoded.std is None else decoded.std)],
        "class_names": list(decoded.class_names),
    }
    if min(described["std"]) <= 0:
        raise UserError(
            f"cannot write {path}: the channels' standard deviations are {described['std']}; "
            "expected positive numbers (data key 'std', or images that vary)"
        )
    header = {
        "name": name,
        "description": decoded.description,
        "files": [dataclasses.asdict(file) for file in decoded.files],
        **described,
        "sha256": _sha256(tensors, described),
        CHECKSUM: UNSEALED,
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: canonical_json(header)})
        seal(temporary)


def open_store(path: str | Path) -> Store:
    """Open a data set file; its images stay on disk and are mapped into memory.

    Args:
        path: a file written by `write_store`; all of it is read once, for its checksum.

    Raises:
        UserError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a data set file (see prepare-data)")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty")
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    check_seal(path, content)
    try:
        header = tensors_metadata(content)
        tensors = _map(content)
    except (ValueError, KeyError):
        raise UserError(
            f"{path} is not a data set file; expected one written by prepare-data"
        ) from None
    return Store(
        path=path,
        name=header["name"],
        train=ImageSplit(tensors["train_images"], tensors["train_labels"]),
        test=ImageSplit(tensors["test_images"], tensors["test_labels"]),
        mean=tuple(header["mean"]),
        std=tuple(header["std"]),
        class_names=tuple(header["class_names"]),
        description=header["description"],
        files=tuple(FileRead(**file) for file in header.get("files", [])),
        sha256=header["sha256"],
    )


def _map(content: mmap.mmap) -> dict[str, np.ndarray]:
    """Return the tensors of a sound safetensors file, in its memory; the library would copy them.

    Raises:
        KeyError, ValueError: the tensors are not those of a data set.
    """
    entries, start = tensors_header(content)
    tensors = {}
    for name in TENSORS:
        kind, shape = _TYPES[entries[name]["dtype"]], entries[name]["shape"]
        offset = start + entries[name]["data_offsets"][0]
        flat = np.frombuffer(content, kind, count=math.prod(shape), offset=offset)
        tensors[name] = flat.reshape(shape)
    return tensors


def _sha256(tensors: dict[str, np.ndarray], described: dict[str, Any]) -> str:
    digest = hashlib.sha256(canonical_json(described).encode())
    for name in TENSORS:
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.name} {tensor.shape}".encode())
        digest.update(memoryview(tensor).cast("B"))
    return digest.hexdigest()


def _check(path: str | Path, tensors: dict[str, np.ndarray], classes: int) -> None:
    size = tensors["train_images"].shape[1:2]
    for split in ("train", "test"):
        images, labels = tensors[f"{split}_images"], tensors[f"{split}_labels"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (*size, *size, 3):
            raise UserError(
                f"cannot write {path}: the {split} images are {images.dtype} {images.shape}; "
                "expected uint8 (N, S, S, 3), of one size S"
            )
        if labels.dtype != np.int64 or labels.shape != images.shape[:1] or len(labels) == 0:
            raise UserError(
                f"cannot write {path}: the {split} labels are {labels.dtype} {labels.shape}; "
                f"expected one int64 for each of {len(images)} images, and at least one image"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise UserError(
                f"cannot write {path}: the {split} labels span {labels.min()} to {labels.max()}; "
                f"expected 0 to {classes - 1}"
            )


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each channel of the [0,1] pixels."""
    # Sums of 8-bit values and of their squares are exact in 64-bit integers.
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    count = max(1, _CHUNK // images[0].size)
    for start in range(0, len(images), count):
        pixels = images[start : start + count].astype(np.int64)
        total += pixels.sum(axis=(0, 1, 2))
        squares += (pixels**2).sum(axis=(0, 1, 2))
    pixels_per_channel = images[..., 0].size
    mean = total / pixels_per_channel
    variance = squares / pixels_per_channel - mean**2
    return mean / 255, np.sqrt(np.maximum(variance, 0)) / 255
