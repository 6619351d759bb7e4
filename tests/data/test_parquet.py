from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smoothdescent.data.sources import Decoded
from smoothdescent.data.sources import parquet as module
from smoothdescent.data.sources.parquet import parquet
from smoothdescent.errors import UserError

TEST = "test-00000-of-00001.parquet"


def assert_same(found: Decoded, expected: Decoded) -> None:
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("threads", [1, 3])
def test_reads_all_shards_in_order(folder: Path, decoded: Decoded, threads: int) -> None:
    found = parquet(path=folder, threads=threads)
    assert_same(found, decoded)
    assert found.train_images.dtype == np.uint8
    assert found.train_labels.dtype == np.int64
    assert found.class_names == decoded.class_names
    assert found.mean is None


def test_batches_do_not_show(
    folder: Path, decoded: Decoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    assert_same(parquet(path=folder), decoded)


def test_given_moments_are_passed_on(folder: Path) -> None:
    found = parquet(path=folder, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_other_files_in_the_folder_are_ignored(folder: Path, decoded: Decoded) -> None:
    (folder / "README.md").write_text("about")
    (folder / "validation-00000-of-00001.parquet").write_text("not read")
    assert_same(parquet(path=folder), decoded)


def test_webp_and_column_image(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable
) -> None:
    write_shard(
        folder / TEST,
        [encode(image, "WEBP") for image in decoded.test_images],
        {"label": decoded.test_labels.tolist()},
        image_column="image",
    )
    assert_same(parquet(path=folder), decoded)


def test_jpeg(folder: Path, write_shard: Callable, encode: Callable) -> None:
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    write_shard(folder / TEST, [encode(grey, "JPEG")], {"label": [1]})
    np.testing.assert_array_equal(parquet(path=folder).test_images[0], grey)


def test_grey_and_transparent_images_become_colour(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable
) -> None:
    pixels = decoded.test_images[0]
    transparent = np.concatenate([pixels, np.full((8, 8, 1), 9, dtype=np.uint8)], axis=2)
    images = [encode(pixels[..., 0]), encode(transparent)]
    write_shard(folder / TEST, images, {"label": [0, 1]})
    found = parquet(path=folder).test_images
    np.testing.assert_array_equal(found[0], np.repeat(pixels[..., :1], 3, axis=2))
    np.testing.assert_array_equal(found[1], pixels)


@pytest.fixture
def two_labels(tmp_path: Path, write_shard: Callable, encode: Callable) -> Path:
    """Return a folder with the label columns of CIFAR-100."""
    for split in ("train", "test"):
        write_shard(
            tmp_path / f"{split}-00000-of-00001.parquet",
            [encode(np.zeros((4, 4, 3), dtype=np.uint8))] * 3,
            {"coarse_label": [1, 0, 1], "fine_label": [2, 0, 1]},
            names={"coarse_label": ["x", "y"], "fine_label": ["a", "b", "c"]},
        )
    return tmp_path


def test_the_fine_label_is_taken(two_labels: Path) -> None:
    found = parquet(path=two_labels)
    assert found.train_labels.tolist() == [2, 0, 1]
    assert found.class_names == ("a", "b", "c")


def test_the_label_column_can_be_chosen(two_labels: Path) -> None:
    found = parquet(path=two_labels, label_column="coarse_label")
    assert found.train_labels.tolist() == [1, 0, 1]
    assert found.class_names == ("x", "y")


def test_classes_without_names(tmp_path: Path, write_shard: Callable, encode: Callable) -> None:
    image = encode(np.zeros((4, 4, 3), dtype=np.uint8))
    write_shard(tmp_path / "train-00000-of-00001.parquet", [image] * 3, {"label": [2, 0, 1]})
    write_shard(tmp_path / TEST, [image], {"label": [1]})
    assert parquet(path=tmp_path).class_names == ("class 0", "class 1", "class 2")


def fails(folder: Path, message: str, **arguments: object) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parquet(path=folder, **arguments)


def test_missing_folder(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "nowhere is not a folder; data key 'path' expects one")


def test_missing_split(folder: Path) -> None:
    (folder / TEST).unlink()
    fails(folder, "images has no shard of the split 'test'; expected files named test-00000-of-0")


@pytest.mark.parametrize("shard", ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"])
def test_missing_shard(folder: Path, shard: str) -> None:
    (folder / shard).unlink()
    fails(folder, f"{shard} is missing; the split 'train' has 2 shards")


def test_mixed_sets_of_shards(folder: Path) -> None:
    (folder / "train-00000-of-00001.parquet").write_bytes(b"")
    fails(folder, "mixes shards of several sets of the split 'train': of 00001 and of 00002")


@pytest.mark.parametrize("shard", ["train-00000-of-00002", "train-00001-of-00002", TEST[:-8]])
def test_truncated_shard(folder: Path, shard: str) -> None:
    file = folder / f"{shard}.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    fails(folder, f"{shard}.parquet is truncated or not a Parquet file")


def test_damaged_pages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    file = folder / "train-00001-of-00002.parquet"
    third = pq.ParquetFile(file).metadata.row_group(2).column(0)
    contents = bytearray(file.read_bytes())
    start = third.dictionary_page_offset or third.data_page_offset
    contents[start : start + 30] = bytes(30)
    file.write_bytes(contents)
    fails(folder, "train-00001-of-00002.parquet is damaged after row 8")


def test_undecodable_image(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable
) -> None:
    good = encode(decoded.test_images[0])
    write_shard(folder / TEST, [good, good, b"no image"], {"label": [0, 1, 2]})
    fails(folder, f"{TEST}: the image in row 2 cannot be decoded: cannot identify image file")


def test_truncated_image(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable
) -> None:
    good = encode(decoded.test_images[0])
    write_shard(folder / TEST, [good, good[: len(good) // 2]], {"label": [0, 1]})
    fails(folder, f"{TEST}: the image in row 1 cannot be decoded")


def test_row_numbers_count_within_the_shard(
    folder: Path,
    write_shard: Callable,
    encode: Callable,
    decoded: Decoded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    good = encode(decoded.test_images[0])
    shard = "train-00001-of-00002.parquet"
    write_shard(folder / shard, [good] * 5 + [b"", good], {"label": [0] * 7})
    fails(folder, f"{shard}: the image in row 5 cannot be decoded")


def test_missing_image(folder: Path, write_shard: Callable) -> None:
    write_shard(folder / TEST, [None], {"label": [0]})
    fails(folder, f"{TEST}: row 0 holds no image bytes")


def test_image_of_another_size(folder: Path, write_shard: Callable, encode: Callable) -> None:
    image = encode(np.zeros((9, 8, 3), dtype=np.uint8))
    write_shard(folder / TEST, [image], {"label": [0]})
    fails(folder, f"{TEST}: row 0 is an image of 8x9; expected 8x8, the size of the first")


def test_images_that_are_not_square(
    tmp_path: Path, write_shard: Callable, encode: Callable
) -> None:
    image = encode(np.zeros((4, 6, 3), dtype=np.uint8))
    for split in ("train", "test"):
        write_shard(tmp_path / f"{split}-00000-of-00001.parquet", [image], {"label": [0]})
    fails(tmp_path, "train-00000-of-00001.parquet: row 0 is an image of 6x4; expected a square one")


def test_sixteen_bits(folder: Path, write_shard: Callable, encode: Callable) -> None:
    image = encode(np.full((8, 8), 1000, dtype=np.uint16))
    write_shard(folder / TEST, [image], {"label": [0]})
    fails(folder, f"{TEST}: row 0 has more than 8 bits a channel")


@pytest.mark.parametrize("label", [-1, 4])
@pytest.mark.parametrize("shard", ["train-00001-of-00002.parquet", TEST])
def test_label_out_of_range(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable, shard: str, label: int
) -> None:
    image = encode(decoded.test_images[0])
    write_shard(folder / shard, [image] * 4, {"label": [0, 1, label, 3]})
    fails(folder, f"{shard}: row 2 has 'label' {label}; expected 0 to 3, since there are 4 classes")


def test_missing_label(
    folder: Path,
    decoded: Decoded,
    write_shard: Callable,
    encode: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    write_shard(folder / TEST, [encode(decoded.test_images[0])] * 4, {"label": [0, 1, 2, None]})
    fails(folder, f"{TEST}: row 3 has no label in column 'label'")


def test_unknown_label_column(folder: Path) -> None:
    message = "has no column 'species'; its columns are img, label: name the labels' column"
    fails(folder, message, label_column="species")


def test_columns_of_the_wrong_type(folder: Path) -> None:
    pq.write_table(pa.table({"img": ["a"], "label": [0]}), folder / TEST)
    fails(folder, f"{TEST}: column 'img' is string; expected a struct of bytes and path")
    images = pa.array([{"bytes": b"", "path": ""}])
    pq.write_table(pa.table({"img": images, "label": ["cat"]}), folder / TEST)
    fails(folder, f"{TEST}: column 'label' is string; expected integers")


def test_missing_image_column(folder: Path) -> None:
    pq.write_table(pa.table({"picture": ["a"], "label": [0]}), folder / TEST)
    fails(folder, f"{TEST} has no column 'img' or 'image'; its columns are picture, label")


def test_empty_shard(folder: Path, write_shard: Callable) -> None:
    write_shard(folder / TEST, [], {"label": pa.array([], pa.int64())})
    fails(folder, f"{TEST} has no rows")
