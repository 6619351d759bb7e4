"""Images in Parquet files, in the layout in which the Hugging Face hub ships its image data sets.

A folder holds the shards `train-XXXXX-of-YYYYY.parquet` and `test-XXXXX-of-YYYYY.parquet`. A row is
one image: column `img` or `image`, a struct of `bytes` (a PNG, JPEG or WebP file) and `path`; and a
column of integer labels. Class names come from the schema's metadata, where they are kept there.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from smoothdescent.data.sources.decoded import Decoded
from smoothdescent.errors import UserError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
FORMATS = ("PNG", "JPEG", "WEBP")

# Rows read and decoded at a time: bounds the memory that encoded images take.
BATCH_ROWS = 1024


def parquet(
    *,
    path: Path,
    label_column: str | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    threads: int = 1,
) -> Decoded:
    """Decode the splits `train` and `test` of a folder of Parquet shards.

    Args:
        path: the folder.
        label_column: column of the labels; None takes `label`, or else `fine_label`.
        mean, std: per channel of the [0,1] pixels; None: computed from the training images.
        threads: number of images decoded at a time.

    Raises:
        UserError: the folder or a shard is missing, a shard is truncated or lacks a column, an
            image cannot be decoded, is not square or differs in size from the first, or a label is
            out of range.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder; data key 'path' expects one with Parquet shards")
    shards = {split: _shards(path, split) for split in ("train", "test")}
    column, names = _schema(shards["train"][0], label_column)
    with ThreadPoolExecutor(threads) as pool:
        train_images, train_labels = _read_split(shards["train"], column, None, pool)
        test_images, test_labels = _read_split(shards["test"], column, train_images.shape[1], pool)
    if names is None:
        names = [f"class {c}" for c in range(int(train_labels.max()) + 1)]
    _check_range(shards["train"], train_labels, column, len(names))
    _check_range(shards["test"], test_labels, column, len(names))
    return Decoded(
        train_images,
        train_labels,
        test_images,
        test_labels,
        class_names=tuple(names),
        description=f"parquet: {path.name}, labels from column {column!r}",
        mean=mean,
        std=std,
    )


def _shards(folder: Path, split: str) -> list[Path]:
    """Return the shards of a split in order, or say which one is missing."""
    pattern = re.compile(rf"{split}-(\d+)-of-(\d+)\.parquet")
    found = {name.name: name for name in folder.iterdir() if pattern.fullmatch(name.name)}
    if not found:
        raise UserError(
            f"{folder} has no shard of the split {split!r}; expected files named "
            f"{split}-00000-of-00001.parquet"
        )
    totals = {pattern.fullmatch(name)[2] for name in found}
    if len(totals) > 1:
        raise UserError(
            f"{folder} mixes shards of several sets of the split {split!r}: of "
            f"{' and of '.join(sorted(totals))}; expected one set"
        )
    total = totals.pop()
    names = [f"{split}-{i:0{len(total)}d}-of-{total}.parquet" for i in range(int(total))]
    for name in names:
        if name not in found:
            raise UserError(
                f"{folder / name} is missing; the split {split!r} has {int(total)} shards"
            )
    return [found[name] for name in names]


def _open(shard: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(shard)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{shard} is truncated or not a Parquet file: {error}") from error


def _schema(shard: Path, label_column: str | None) -> tuple[str, list[str] | None]:
    """Return the label column and the class names, None where the file does not tell them."""
    with _open(shard) as file:
        schema = file.schema_arrow
    candidates = LABEL_COLUMNS if label_column is None else (label_column,)
    column = next((name for name in candidates if name in schema.names), None)
    if column is None:
        raise UserError(
            f"{shard} has no column {' or '.join(map(repr, candidates))}; its columns are "
            f"{', '.join(schema.names)}: name the labels' column in data key 'label_column'"
        )
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return column, None
    return column, [str(name) for name in names]


def _read_split(
    shards: list[Path], column: str, size: int | None, pool: Executor
) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 [N, size, size, 3], and labels, int64 [N]."""
    rows = 0
    for shard in shards:
        with _open(shard) as file:
            rows += file.metadata.num_rows
    if rows == 0:
        raise UserError(f"{shards[0]} has no rows; expected at least one image")
    images = None
    labels = np.empty(rows, dtype=np.int64)
    row = 0
    for shard in shards:
        first = row  # number in the split of the shard's first row
        for encoded, batch_labels in _batches(shard, column):
            if images is None:
                size = size or _size_of_first(encoded[0], shard)
                images = np.empty((rows, size, size, 3), dtype=np.uint8)
            stop = row + len(encoded)
            labels[row:stop] = batch_labels
            numbers = range(row - first, stop - first)
            # list() takes the results, so that the first error of a thread is raised here.
            list(pool.map(_decode, encoded, images[row:stop], repeat(shard), numbers))
            row = stop
    return images, labels


def _batches(shard: Path, column: str) -> Iterator[tuple[list[bytes | None], np.ndarray]]:
    """Yield the encoded images and the labels of a shard, some rows at a time."""
    with _open(shard) as file:
        schema = file.schema_arrow
        image_column = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
        if image_column is None or column not in schema.names:
            missing = "'img' or 'image'" if image_column is None else repr(column)
            raise UserError(
                f"{shard} has no column {missing}; its columns are {', '.join(schema.names)}"
            )
        kind = schema.field(image_column).type
        if not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            raise UserError(
                f"{shard}: column {image_column!r} is {kind}; expected a struct of bytes and path"
            )
        if not pa.types.is_integer(schema.field(column).type):
            raise UserError(
                f"{shard}: column {column!r} is {schema.field(column).type}; expected integers"
            )
        row = 0
        try:
            for batch in file.iter_batches(
                BATCH_ROWS, columns=[image_column, column], use_threads=False
            ):
                labels = batch.column(column)
                if labels.null_count:
                    absent = row + labels.is_null().to_pylist().index(True)
                    raise UserError(f"{shard}: row {absent} has no label in column {column!r}")
                yield (
                    batch.column(image_column).field("bytes").to_pylist(),
                    labels.to_numpy(zero_copy_only=False),
                )
                row += len(labels)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{shard} is damaged after row {row}: {error}") from error


def _size_of_first(encoded: bytes | None, shard: Path) -> int:
    image = _open_image(encoded, shard, 0)
    width, height = image.size
    if width != height:
        raise UserError(f"{shard}: row 0 is an image of {width}x{height}; expected a square one")
    return width


def _open_image(encoded: bytes | None, shard: Path, row: int) -> Image.Image:
    if encoded is None:
        raise UserError(f"{shard}: row {row} holds no image bytes; expected PNG, JPEG or WebP")
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UserError(f"{shard}: the image in row {row} cannot be decoded: {error}") from error


def _decode(encoded: bytes | None, out: np.ndarray, shard: Path, row: int) -> None:
    """Decode one image into `out`, uint8 [size, size, 3]."""
    image = _open_image(encoded, shard, row)
    size = out.shape[0]
    if image.size != (size, size):
        width, height = image.size
        raise UserError(
            f"{shard}: row {row} is an image of {width}x{height}; expected {size}x{size}, "
            "the size of the first training image"
        )
    if image.mode[0] in "IF":
        raise UserError(f"{shard}: row {row} has more than 8 bits a channel; expected 8")
    try:
        out[:] = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UserError(f"{shard}: the image in row {row} cannot be decoded: {error}") from error


def _check_range(shards: list[Path], labels: np.ndarray, column: str, classes: int) -> None:
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside) == 0:
        return
    label = labels[outside[0]]
    row = int(outside[0])
    for shard in shards:
        with _open(shard) as file:
            rows = file.metadata.num_rows
        if row < rows:
            break
        row -= rows
    raise UserError(
        f"{shard}: row {row} has {column!r} {label}; expected 0 to {classes - 1}, "
        f"since there are {classes} classes"
    )
