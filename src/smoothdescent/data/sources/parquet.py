"""Images in Parquet files, in the layout in which the Hugging Face hub ships its image data sets.

A folder holds the shards `train-XXXXX-of-YYYYY.parquet` and `test-XXXXX-of-YYYYY.parquet`; a set
may leave out `-of-YYYYY`. A row is one image: column `img` or `image`, a struct of `bytes` (a PNG,
JPEG or WebP file) and `path`; and a column of integer labels. Class names come from the schema's
metadata, where they are kept there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from smoothdescent.config.types import Place
from smoothdescent.data.sources.base import Decoded, FileRead, RealSource
from smoothdescent.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
SHARD = re.compile(r"(train|test)-(\d+)(?:-of-(\d+))?\.parquet")

# Rows read and decoded at a time: bounds the memory that encoded images take.
BATCH_ROWS = 1024

# Classes listed in a message.
LISTED = 3


class ParquetSource(RealSource):
    """A folder of Parquet shards in the layout of the Hugging Face hub."""

    source: Literal["parquet"]
    path: Place = Field(description="folder with train-*.parquet and test-*.parquet")
    image_column: str | None = Field(None, description="default: img, else image")
    label_column: str | None = Field(None, description="default: label, else fine_label")

    def read(self, threads: int) -> Decoded:
        """Decode the shards."""
        return parquet(**self.model_dump(exclude={"source"}), threads=threads)

    def files(self) -> list[Path]:
        """Return the shards."""
        return sorted(path for path in _listed(Path(self.path)) if SHARD.fullmatch(path.name))

    def check(self) -> int:
        """Look at the names of the shards, and at the columns and first image of each split."""
        from smoothdescent.data.sources.images import image_size

        columns = _candidates(self.image_column, self.label_column)
        sizes = []
        for paths in _splits(Path(self.path)).values():
            with ExitStack() as opened:
                shard = _open(paths[0], opened, columns)
                encoded = next(_batches(shard), None)
                if not encoded:
                    raise UserError(f"{paths[0]} has no rows; expected at least one image")
                sizes.append(image_size(encoded[0], paths[0], 0))
        if len(set(sizes)) > 1:
            raise UserError(
                f"{self.path}: the first training image has {sizes[0]} pixels, the first test "
                f"image {sizes[1]}; expected one size"
            )
        return sizes[0]


@dataclass(frozen=True)
class Shard:
    """An open shard; `class_names` is None where the shard does not tell them."""

    path: Path
    file: pq.ParquetFile
    record: FileRead
    image_column: str
    label_column: str
    class_names: list[str] | None


def parquet(
    *,
    path: str | Path,
    image_column: str | None = None,
    label_column: str | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    threads: int = 1,
) -> Decoded:
    """Decode the splits `train` and `test` of a folder of Parquet shards.

    Labels mean the class names of their own shard: where shards list the same names in another
    order, labels are mapped by name to the order of the first.

    Args:
        path: the folder.
        image_column: column of the images; None takes `img`, or else `image`.
        label_column: column of the labels; None takes `label`, or else `fine_label`.
        mean, std: per channel of the [0,1] pixels; None: computed from the training images.
        threads: number of images decoded at a time.

    Raises:
        UserError: the folder or a shard is missing, a shard is truncated, lacks a column or names
            other classes than the first; a label is out of range, or a class without a name has no
            training image; an image is refused (see `images.decode`).
    """
    from smoothdescent.progress import log

    folder = Path(path)
    paths = _splits(folder)
    with ExitStack() as opened:
        image_columns, label_columns = _candidates(image_column, label_column)
        first = _open(paths["train"][0], opened, (image_columns, label_columns))
        # Of the first shard's columns, the other shards may call that of the images otherwise.
        columns = ((first.image_column, *image_columns), (first.label_column,))
        train = [first, *(_open(path, opened, columns) for path in paths["train"][1:])]
        test = [_open(path, opened, columns) for path in paths["test"]]
        names, labels = _read_labels(train, test)
        images = _read_images(train, test, threads)
        absent = [names[c] for c in np.setdiff1d(np.arange(len(names)), labels[0])]
        if absent:
            log(f"{folder}: no training image shows {_some(absent)}")
    columns_read = f"images from column {first.image_column!r}, labels from {first.label_column!r}"
    return Decoded(
        images[0],
        labels[0],
        images[1],
        labels[1],
        class_names=tuple(names),
        description=f"parquet: {columns_read}",
        mean=mean,
        std=std,
        files=tuple(shard.record for shard in (*train, *test)),
    )


def _listed(folder: Path) -> list[Path]:
    """Return what a folder holds, nothing if it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _splits(folder: Path) -> dict[str, list[Path]]:
    """Return the shards of both splits, or say what is missing."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; data key 'path' expects one with Parquet shards"
        )
    return {split: _shards(folder, split) for split in ("train", "test")}


def _candidates(
    image_column: str | None, label_column: str | None
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the columns that may hold the images and the labels, the first there is counts."""
    return (
        IMAGE_COLUMNS if image_column is None else (image_column,),
        LABEL_COLUMNS if label_column is None else (label_column,),
    )


def _shards(folder: Path, split: str) -> list[Path]:
    """Return the shards of a split in order, or say which one is missing."""
    matches = [SHARD.fullmatch(path.name) for path in _listed(folder)]
    found = {match[0]: match for match in matches if match and match[1] == split}
    if not found:
        raise UserError(
            f"{folder} has no shard of the split {split!r}; expected files named "
            f"{split}-00000-of-00001.parquet"
        )
    totals = {match[3] for match in found.values()}
    if len(totals) > 1:
        raise UserError(
            f"{folder} mixes shards of several sets of the split {split!r}: of "
            f"{' and of '.join(sorted(total or 'an unknown number' for total in totals))}; "
            "expected one set"
        )
    total = totals.pop()
    digits = len(next(iter(found.values()))[2])
    count = len(found) if total is None else int(total)
    end = "" if total is None else f"-of-{total}"
    paths = []
    for i in range(count):
        paths.append(folder / f"{split}-{i:0{digits}d}{end}.parquet")
        if paths[-1].name not in found:
            raise UserError(f"{paths[-1]} is missing; the split {split!r} has {count} shards")
    return paths


def _open(path: Path, opened: ExitStack, columns: tuple[Sequence[str], Sequence[str]]) -> Shard:
    """Open a shard and check its columns. It stays open: what is read is what was recorded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        raw = opened.enter_context(path.open("rb"))
        record = FileRead.of(path.name, raw)
        file = pq.ParquetFile(raw)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is truncated or not a Parquet file: {error}") from error
    schema = file.schema_arrow
    image_column = _choose(path, schema.names, columns[0], "image")
    label_column = _choose(path, schema.names, columns[1], "label")
    kind = schema.field(image_column).type
    if not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        raise UserError(
            f"{path}: column {image_column!r} is {kind}; expected a struct of bytes and path"
        )
    if not pa.types.is_integer(schema.field(label_column).type):
        raise UserError(
            f"{path}: column {label_column!r} is {schema.field(label_column).type}; expected "
            "integers"
        )
    names = _class_names(path, schema, label_column)
    return Shard(path, file, record, image_column, label_column, names)


def _choose(path: Path, names: list[str], candidates: Sequence[str], what: str) -> str:
    """Return the first candidate among a shard's columns; say so if there are several."""
    from smoothdescent.progress import log

    present = [name for name in dict.fromkeys(candidates) if name in names]
    if not present:
        wanted = " or ".join(repr(name) for name in dict.fromkeys(candidates))
        raise UserError(
            f"{path} has no column {wanted}; its columns are {', '.join(names)}: name the "
            f"{what}s' column in data key '{what}_column'"
        )
    if names.count(present[0]) > 1:
        raise UserError(
            f"{path} has {names.count(present[0])} columns named {present[0]!r}; expected one"
        )
    if len(present) > 1:
        others = " and ".join(repr(name) for name in present[1:])
        log(f"{path}: {present[0]!r} is taken, not {others}; data key '{what}_column' chooses")
    return present[0]


def _class_names(path: Path, schema: pa.Schema, column: str) -> list[str] | None:
    """Return the names of a shard's classes, None where it does not tell them."""
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(
            f"{path}: the metadata's names of column {column!r} are {str(names)[:80]}; expected a "
            "list of class names"
        )
    [(name, times)] = Counter(names).most_common(1)
    if times > 1:
        raise UserError(
            f"{path}: the metadata name the class {name!r} {times} times; expected a name for each "
            "class"
        )
    return names


def _read_labels(train: list[Shard], test: list[Shard]) -> tuple[list[str], list[np.ndarray]]:
    """Return the class names and the labels of both splits, int64 [N] each."""
    named = [shard for shard in (*train, *test) if shard.class_names is not None]
    names = named[0].class_names if named else None
    labels = []
    for shards in (train, test):
        parts = [_labels(shard, names, named[0].path if named else None) for shard in shards]
        labels.append(np.concatenate(parts))
        if len(labels[-1]) == 0:
            raise UserError(f"{shards[0].path} has no rows; expected at least one image")
        if names is None:
            names = _numbered(shards[0], labels[0])
    return names, labels


def _labels(shard: Shard, names: list[str] | None, names_from: Path | None) -> np.ndarray:
    """Return a shard's labels, int64 [rows], as positions in `names`."""
    import pyarrow as pa

    from smoothdescent.progress import log

    path, column, own = shard.path, shard.label_column, shard.class_names or names
    try:
        stored = shard.file.read(columns=[column], use_threads=False)[column].combine_chunks()
        if stored.null_count:
            absent = stored.is_null().to_pylist().index(True)
            raise UserError(f"{path}: row {absent} has no label in column {column!r}")
        labels = stored.cast(pa.int64()).to_numpy()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: the labels in column {column!r} are damaged: {error}") from error
    outside = np.flatnonzero((labels < 0) | (labels >= len(own)) if own else labels < 0)
    if len(outside):
        expected = (
            f"0 to {len(own) - 1}, since there are {len(own)} classes" if own else "0 or more"
        )
        raise UserError(
            f"{path}: row {outside[0]} has {column!r} {labels[outside[0]]}; expected {expected}"
        )
    if shard.class_names is None:
        if names_from is not None:
            log(f"{path} does not name its classes; they are taken to be those of {names_from}")
        return labels
    if own == names:
        return labels
    positions = {name: position for position, name in enumerate(names)}
    unknown = [name for name in own if name not in positions]
    if unknown:
        raise UserError(
            f"{path} names the classes {_some(unknown)}, which {names_from} does not; expected the "
            "same classes in all shards"
        )
    log(f"{path} lists its classes in another order than {names_from}; labels are mapped by name")
    return np.array([positions[name] for name in own])[labels]


def _numbered(shard: Shard, labels: np.ndarray) -> list[str]:
    """Return names for classes that have none, if each has an image."""
    ids = np.unique(labels)
    classes = int(ids[-1]) + 1
    if len(ids) < classes:
        # The first missing ids are among the first few more than there are ids, however large
        # the largest one is.
        nearby = np.arange(min(classes, len(ids) + LISTED + 1))
        missing = [str(c) for c in np.setdiff1d(nearby, ids)]
        more = classes - len(ids) - LISTED
        listed = ", ".join(missing[:LISTED]) + (f" and {more} more" if more > 0 else "")
        raise UserError(
            f"{shard.path.parent}: {shard.label_column!r} goes up to {classes - 1}, but no "
            f"training image has {listed}; number the classes from 0 without gaps, or write their "
            "names into the shards' metadata"
        )
    return [f"class {c}" for c in range(classes)]


def _some(names: list[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:LISTED])
    return listed + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _read_images(train: list[Shard], test: list[Shard], threads: int) -> list[np.ndarray]:
    """Return the images of both splits, uint8 [N, size, size, 3] each."""
    from smoothdescent.data.sources.images import decode, image_size
    from smoothdescent.progress import log

    size, splits = None, []
    with ThreadPoolExecutor(threads) as pool:
        for shards in (train, test):
            images, row = None, 0
            for shard in shards:
                first, transparent = row, 0
                for encoded in _batches(shard):
                    if images is None:
                        size = size or image_size(encoded[0], shard.path, 0)
                        images = _room(shards, size)
                    rows = range(row - first, row - first + len(encoded))
                    out = images[row : row + len(encoded)]
                    # sum() takes the results, so that the first error of a thread is raised here.
                    transparent += sum(pool.map(decode, encoded, out, repeat(shard.path), rows))
                    row += len(encoded)
                if transparent:
                    log(f"{shard.path}: the transparency of {transparent} images is dropped")
            splits.append(images)
    return splits


def _room(shards: list[Shard], size: int) -> np.ndarray:
    rows = sum(shard.file.metadata.num_rows for shard in shards)
    try:
        return np.empty((rows, size, size, 3), dtype=np.uint8)
    except MemoryError:
        raise UserError(
            f"{shards[0].path.parent}: {rows} images of {size}x{size} do not fit into memory; "
            "expected fewer or smaller ones"
        ) from None


def _batches(shard: Shard) -> Iterator[list[bytes | None]]:
    """Yield the encoded images of a shard, some rows at a time."""
    import pyarrow as pa

    row, column = 0, shard.image_column
    try:
        for batch in shard.file.iter_batches(BATCH_ROWS, columns=[column], use_threads=False):
            yield batch.column(column).field("bytes").to_pylist()
            row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{shard.path} is damaged after row {row}: {error}") from error
