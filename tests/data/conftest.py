"""Small data sets and folders of shards for the tests of the data layer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from smoothdescent.data.sources import Decoded


@pytest.fixture
def decoded() -> Decoded:
    """Return 40 training and 12 test images of 8 x 8 random pixels, 4 classes."""
    generator = np.random.default_rng(0)
    return Decoded(
        train_images=generator.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8),
        train_labels=np.arange(40) % 4,
        test_images=generator.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        test_labels=np.arange(12) % 4,
        class_names=("ant", "bee", "cat", "dog"),
        description="random pixels",
    )


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """Return an image file; WebP is written without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def write_shard(
    path: Path,
    images: list[bytes | None],
    labels: dict[str, list[int | None]],
    *,
    image_column: str = "img",
    names: dict[str, object] | None = None,
    row_group_size: int = 4,
) -> None:
    """Write one shard in the hub's layout."""
    rows = [None if i is None else {"bytes": i, "path": f"{n}.png"} for n, i in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image_column: pa.array(rows, kind), **labels})
    if names is not None:
        features = {key: {"names": value, "_type": "ClassLabel"} for key, value in names.items()}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    pq.write_table(table, path, row_group_size=row_group_size)


@pytest.fixture
def folder(tmp_path: Path, decoded: Decoded) -> Path:
    """Return a folder with two training shards and one test shard of the images of `decoded`."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = {"label": list(decoded.class_names)}
    images = [encode(image) for image in decoded.train_images]
    labels = decoded.train_labels.tolist()
    for shard, rows in enumerate((slice(0, 25), slice(25, 40))):
        write_shard(
            folder / f"train-{shard:05d}-of-00002.parquet",
            images[rows],
            {"label": labels[rows]},
            names=names,
        )
    write_shard(
        folder / "test-00000-of-00001.parquet",
        [encode(image) for image in decoded.test_images],
        {"label": decoded.test_labels.tolist()},
        names=names,
    )
    return folder


@pytest.fixture(name="write_shard")
def write_shard_fixture() -> Callable[..., None]:
    """Return the function that writes one shard."""
    return write_shard


@pytest.fixture(name="encode")
def encode_fixture() -> Callable[..., bytes]:
    """Return the function that encodes one image."""
    return encode
