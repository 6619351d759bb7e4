"""The tensors of one experiment: normalised images, labels, and who is noisy."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smoothdescent.data.store import Store, open_store
from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table, sha256_bytes

# Images converted at a time: bounds the memory beyond that of the result.
_CHUNK = 512

# The columns of a label table, and their Arrow types.
LABEL_COLUMNS = {
    "sample_id": ("int64",),
    "label_true": ("int64",),
    "label": ("int64",),
    "is_noisy": ("bool",),
    "split": ("string", "large_string"),
}


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
        num_classes: C.
        image_size: S, after averaging.
        mean, std: per channel of the [0,1] pixels, used to normalise.
        train, validation: the samples of the label table; validation may be empty.
        test_images: float32 [N, 3, S, S], normalised, channels-last in memory.
        test_labels: int64 [N].
        corrupted_classes: int64, those that asymmetric noise corrupted; empty for other noise.
    """

    name: str
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
    store_path: str | Path, labels_path: str | Path, image_size: int | None = None
) -> ExperimentData:
    """Load an experiment's images and labels.

    Args:
        store_path: the data set's file (see `store`).
        labels_path: the label table made from it (see `labels`).
        image_size: height and width in pixels; None: as stored.

    Raises:
        UserError: a file is missing or damaged, the table was made from other data, or
            `image_size` does not divide the stored size.
    """
    store = open_store(store_path)
    table = read_label_table(labels_path, store)
    return ExperimentData(
        name=store.name,
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
            json.loads(read_metadata(labels_path)["corrupted_classes"]), dtype=torch.int64
        ),
    )


def read_label_table(path: str | Path, store: Store) -> dict[str, np.ndarray]:
    """Read a label table that was made from this data set.

    Returns:
        Its columns (see `labels.make_labels`), sorted by sample_id.

    Raises:
        UserError: the file is missing or damaged, was made from other data, or its rows are not
            those that its settings ask for, once each.
    """
    stored = read_table(path, list(LABEL_COLUMNS))
    metadata = read_metadata(path)
    found = metadata.get("data_sha256")
    if found != store.sha256:
        raise UserError(
            f"{path} was made from other data than {store.path}: its key 'data_sha256' is {found}, "
            f"the data set's checksum is {store.sha256}; make the labels again"
        )
    for name, kinds in LABEL_COLUMNS.items():
        column = stored[name]
        if column.null_count or str(column.type) not in kinds:
            raise UserError(
                f"{path}: column {name!r} is {column.type} with {column.null_count} empty rows; "
                f"expected {kinds[0]} in all rows; make the labels again"
            )
    stored = stored.sort_by("sample_id")
    table = {name: stored[name].to_numpy() for name in LABEL_COLUMNS}
    wrong = _wrong_rows(table, json.loads(metadata.get("settings", "null")), store)
    if wrong:
        raise UserError(f"{path}: {wrong}; make the labels again")
    return table


def _wrong_rows(
    table: dict[str, np.ndarray], settings: dict[str, Any] | None, store: Store
) -> str | None:
    """Say what is wrong with the rows of a label table, sorted by sample_id, if anything is."""
    ids, label = table["sample_id"], table["label"]
    total = len(store.train.labels)
    for name, limit in (("sample_id", total), ("label", store.num_classes)):
        outside = table[name][(table[name] < 0) | (table[name] >= limit)]
        if len(outside):
            return f"{name} {outside[0]} is out of range, expected 0 to {limit - 1}"
    doubled = ids[1:][ids[1:] == ids[:-1]]
    if len(doubled):
        return f"sample_id {doubled[0]} has several rows, expected one"
    other = ids[table["label_true"] != store.train.labels[ids]]
    if len(other):
        return f"label_true of sample_id {other[0]} is not the data set's label"
    other = ids[table["is_noisy"] != (label != table["label_true"])]
    if len(other):
        return f"is_noisy of sample_id {other[0]} contradicts its labels"
    splits, counts = np.unique(table["split"].astype(str), return_counts=True)
    if not set(splits) <= {"train", "validation"}:
        return f"column 'split' has the values {', '.join(splits)}, expected train and validation"
    if settings is None:
        return None
    found = dict(zip(splits.tolist(), counts.tolist(), strict=True))
    validation = settings.get("validation") or 0
    expected = {
        "train": settings.get("train_samples") or total - validation,
        "validation": validation,
    }
    for split, count in expected.items():
        if found.get(split, 0) != count:
            return f"it has {found.get(split, 0)} {split} samples, expected {count}"
    return None


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
