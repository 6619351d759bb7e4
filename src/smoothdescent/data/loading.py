"""The tensors of one experiment: normalised images, labels, and who is noisy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smoothdescent.data.store import Store, open_store
from smoothdescent.errors import UserError
from smoothdescent.files import canonical_json, read_table, sha256_bytes, table_metadata

# Images converted at a time: bounds the memory beyond that of the result.
_CHUNK = 512

LABEL_COLUMNS = ("sample_id", "label_true", "label", "is_noisy", "split")


@dataclass(frozen=True)
class Samples:
    """Some training images of a data set, in ascending order of sample_id.

    Attributes:
        sample_ids: int64 [N], positions in the data set's training images.
        images: float32 [N, 3, S, S], normalised, channels-last in memory.
        labels: int64 [N], the labels trained on.
        labels_true: int64 [N].
        is_noisy: bool [N], where the two differ.
    """

    sample_ids: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor
    labels_true: torch.Tensor
    is_noisy: torch.Tensor


@dataclass(frozen=True)
class ExperimentData:
    """All data of one experiment, on the CPU.

    Attributes:
        name: the data set's name.
        sha256: the data set's checksum.
        num_classes: C.
        image_size: S, after averaging.
        mean, std: per channel of the [0,1] pixels, used to normalise.
        train, validation: the samples of the label table; validation may be empty.
        test_images: float32 [N, 3, S, S], normalised, channels-last in memory.
        test_labels: int64 [N].
        corrupted_classes: int64, those that asymmetric noise corrupted; empty for other noise.
    """

    name: str
    sha256: str
    num_classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train: Samples
    validation: Samples
    test_images: torch.Tensor
    test_labels: torch.Tensor
    corrupted_classes: torch.Tensor


def load_experiment_data(
    store_path: str | Path,
    labels_path: str | Path,
    image_size: int | None = None,
    label_settings: Mapping[str, Any] | None = None,
) -> ExperimentData:
    """Load an experiment's images and labels.

    Args:
        store_path: the data set's file (see `store`).
        labels_path: the label table made from it (see `labels`).
        image_size: height and width in pixels; None: as stored.
        label_settings: those of the label table; None: whatever they were.

    Raises:
        UserError: a file is missing or damaged, the table was made from other data or settings, or
            `image_size` does not divide the stored size.
    """
    store = open_store(store_path)
    table, made_from = read_label_table(labels_path, store, label_settings)
    return ExperimentData(
        name=store.name,
        sha256=store.sha256,
        num_classes=store.num_classes,
        image_size=_result_size(store, image_size),
        mean=store.mean,
        std=store.std,
        train=_samples(store, table, "train", image_size),
        validation=_samples(store, table, "validation", image_size),
        test_images=normalise(
            _pixels(store, store.test.images, None, image_size), store.mean, store.std
        ),
        test_labels=torch.from_numpy(np.array(store.test.labels)),
        corrupted_classes=torch.tensor(
            json.loads(made_from["corrupted_classes"]), dtype=torch.int64
        ),
    )


def read_label_table(
    path: str | Path, store: Store, settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a label table that was made from this data set.

    Args:
        path: the file.
        store: the data set.
        settings: what else it should have been made from (see `labels`); None: whatever it was.

    Returns:
        Its columns (see `labels.make_labels`), and its metadata.

    Raises:
        UserError: the file is missing or damaged, or was made from other data or settings.
    """
    expected = {"data_sha256": store.sha256}
    if settings is not None:
        expected["settings"] = canonical_json(settings)
    try:
        stored = read_table(path, list(LABEL_COLUMNS), expected)
    except UserError as error:
        raise UserError(f"{error}; delete it, and the workflow makes the labels again") from None
    return {name: stored[name].to_numpy() for name in LABEL_COLUMNS}, table_metadata(stored.schema)


def load_pixels(
    store: Store, sample_ids: Sequence[int] | torch.Tensor, image_size: int | None = None
) -> torch.Tensor:
    """Return chosen training images, not normalised.

    Args:
        store: the data set.
        sample_ids: positions in its training images, in any order.
        image_size: height and width in pixels; None: as stored.

    Returns:
        float32 [N, 3, S, S] in [0,1], channels-last in memory.

    Raises:
        UserError: a sample id is out of range, or `image_size` does not divide the stored size.
    """
    rows = np.asarray(sample_ids, dtype=np.int64)
    total = len(store.train.images)
    outside = rows[(rows < 0) | (rows >= total)]
    if len(outside):
        raise UserError(f"{store.path} has no sample_id {outside[0]}; expected 0 to {total - 1}")
    return _pixels(store, store.train.images, rows, image_size)


def normalise(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return (pixels - mean) / std per channel, in place.

    Args:
        pixels: [N, 3, H, W] in [0,1]; overwritten.
        mean, std: of the three channels.
    """
    shape = (1, -1, 1, 1)
    pixels -= torch.tensor(mean, dtype=pixels.dtype).view(shape)
    pixels /= torch.tensor(std, dtype=pixels.dtype).view(shape)
    return pixels


def _samples(
    store: Store, table: dict[str, np.ndarray], split: str, image_size: int | None
) -> Samples:
    rows = table["split"] == split
    sample_ids = torch.from_numpy(table["sample_id"][rows])
    return Samples(
        sample_ids=sample_ids,
        images=normalise(load_pixels(store, sample_ids, image_size), store.mean, store.std),
        labels=torch.from_numpy(table["label"][rows]),
        labels_true=torch.from_numpy(table["label_true"][rows]),
        is_noisy=torch.from_numpy(table["is_noisy"][rows]),
    )


def _result_size(store: Store, image_size: int | None) -> int:
    stored = store.image_size
    if image_size is None:
        return stored
    if image_size < 1 or stored % image_size:
        raise UserError(
            f"key 'image_size' is {image_size}; expected {stored}, the size in {store.path}, "
            "divided by a whole number"
        )
    return image_size


def _pixels(
    store: Store, images: np.ndarray, rows: np.ndarray | None, image_size: int | None
) -> torch.Tensor:
    """Return float32 [N, 3, S, S] in [0,1]: means over blocks of the stored pixels."""
    size = _result_size(store, image_size)
    block = store.image_size // size
    count = len(images) if rows is None else len(rows)
    pixels = np.empty((count, size, size, 3), dtype=np.float32)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        chosen = images[part if rows is None else rows[part]]
        sums = pixels[part]
        sums[:] = chosen[:, ::block, ::block]
        for row, column in itertools.product(range(block), repeat=2):
            if row or column:
                sums += chosen[:, row::block, column::block]
        # The sums are whole numbers below 2^24, so this division is the only rounding.
        sums /= np.float32(255 * block**2)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def labels_sha256(sample_ids: torch.Tensor, labels: torch.Tensor) -> str:
    """Return a checksum of the labels trained on, int64 [N], and whose they are, int64 [N]."""
    return sha256_bytes(*(column.numpy().tobytes() for column in (sample_ids, labels)))
