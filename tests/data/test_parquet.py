from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(position=st.integers(0, 2**20), value=st.integers(1, 255), cut=st.booleans())
def test_any_damage_is_a_sentence(folder: Path, position: int, value: int, cut: bool) -> None:
    file = folder / TEST
    good = file.read_bytes()
    position %= len(good)
    end = b"" if cut else bytes([good[position] ^ value]) + good[position + 1 :]
    try:
        file.write_bytes(good[:position] + end)
        assert parquet(path=folder).test_images.shape == (12, 8, 8, 3)
    except UserError as error:
        assert TEST in str(error)
        assert "\n" not in str(error)
    finally:
        file.write_bytes(good)


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


# Labels mean what their file says.


def rewrite(
    folder: Path,
    decoded: Decoded,
    write_shard: Callable,
    encode: Callable,
    names: object,
    labels: list[int] | None = None,
    shard: str = TEST,
) -> None:
    """Write a shard with the first test images and the labels and class names given."""
    labels = decoded.test_labels.tolist() if labels is None else labels
    images = [encode(image) for image in decoded.test_images[: len(labels)]]
    write_shard(folder / shard, images, {"label": labels}, names={"label": names})


@pytest.mark.parametrize("shard", [TEST, "train-00001-of-00002.parquet"])
def test_names_in_another_order_are_mapped(
    folder: Path,
    decoded: Decoded,
    write_shard: Callable,
    encode: Callable,
    capsys: pytest.CaptureFixture,
    shard: str,
) -> None:
    rewrite(folder, decoded, write_shard, encode, ["dog", "ant", "cat", "bee"], shard=shard)
    found = parquet(path=folder)
    assert found.class_names == ("ant", "bee", "cat", "dog")
    labels = found.test_labels if shard == TEST else found.train_labels[25:]
    assert labels.tolist() == [3, 0, 2, 1] * 3
    assert f"{shard} lists its classes in another order than" in capsys.readouterr().err


def test_a_shard_may_name_some_of_the_classes(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable
) -> None:
    rewrite(folder, decoded, write_shard, encode, ["dog", "bee"], [0, 1, 1])
    assert parquet(path=folder).test_labels.tolist() == [3, 1, 1]
    rewrite(folder, decoded, write_shard, encode, ["dog", "bee"], [0, 2, 1])
    fails(folder, f"{TEST}: row 1 has 'label' 2; expected 0 to 1, since there are 2 classes")


def test_other_names_are_refused(
    folder: Path, decoded: Decoded, write_shard: Callable, encode: Callable
) -> None:
    rewrite(folder, decoded, write_shard, encode, ["ant", "bee", "cat", "wolf"])
    message = f"{TEST} names the classes 'wolf', which {folder / 'train-00000-of-00002.parquet'}"
    fails(folder, message)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["ant", "bee", "ant", "dog"],
            "the metadata name the class 'ant' 2 times; expected a name",
        ),
        ("ants", "the metadata's names of column 'label' are ants; expected a list of class names"),
        ({"0": "ant"}, "expected a list of class names"),
        ([], "expected a list of class names"),
        (["ant", 3], "expected a list of class names"),
        (["ant", None], "expected a list of class names"),
        (["ant", "bee"], "row 2 has 'label' 2; expected 0 to 1, since there are 2 classes"),
    ],
)
def test_names_that_name_nothing(
    folder: Path,
    decoded: Decoded,
    write_shard: Callable,
    encode: Callable,
    names: object,
    message: str,
) -> None:
    shard = "train-00000-of-00002.parquet"
    rewrite(folder, decoded, write_shard, encode, names, shard=shard)
    fails(folder, f"{shard}: {message}" if message[0] in "tr" else message)


def test_shards_without_names_take_those_of_the_others(
    folder: Path,
    decoded: Decoded,
    write_shard: Callable,
    encode: Callable,
    capsys: pytest.CaptureFixture,
) -> None:
    image = encode(decoded.test_images[0])
    write_shard(folder / "train-00000-of-00002.parquet", [image], {"label": [2]})
    found = parquet(path=folder)
    assert (found.class_names, found.train_labels[0]) == (decoded.class_names, 2)
    assert "train-00000-of-00002.parquet does not name its classes" in capsys.readouterr().err


def test_a_named_class_without_an_image_is_told(
    folder: Path,
    decoded: Decoded,
    write_shard: Callable,
    encode: Callable,
    capsys: pytest.CaptureFixture,
) -> None:
    for shard in (0, 1):
        name = f"train-{shard:05d}-of-00002.parquet"
        rewrite(folder, decoded, write_shard, encode, list(decoded.class_names), [0, 2], name)
    assert parquet(path=folder).class_names == decoded.class_names
    assert f"{folder}: no training image shows 'bee', 'dog'\n" in capsys.readouterr().err


@pytest.fixture
def unnamed(tmp_path: Path, write_shard: Callable, encode: Callable) -> Callable[..., Path]:
    """Return what writes a folder of shards without class names."""

    def write(train: object, test: object = (0,)) -> Path:
        image = encode(np.zeros((4, 4, 3), dtype=np.uint8))
        for split, labels in (("train", train), ("test", test)):
            name = tmp_path / f"{split}-00000-of-00001.parquet"
            write_shard(name, [image] * len(labels), {"label": labels})
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (list(range(1, 11)), "'label' goes up to 10, but no training image has 0; number the cl"),
        ([0, 1, 4], "'label' goes up to 4, but no training image has 2, 3; number the classes"),
        ([0, 50_000_000], "'label' goes up to 50000000, but no training image has 1, 2, 3 and 499"),
        ([2**63 - 1], "but no training image has 0, 1, 2 and 9223372036854775804 more; number"),
        ([0, -1], "row 1 has 'label' -1; expected 0 or more"),
        (
            pa.array([0, 2**64 - 1], pa.uint64()),
            "the labels in column 'label' are damaged: Integer",
        ),
        ([0.0, 1.0], "column 'label' is double; expected integers"),
        ([True, False], "column 'label' is bool; expected integers"),
        (pa.array(["a", "b"]).dictionary_encode(), "expected integers"),
        ([None, 0], "row 0 has no label in column 'label'"),
    ],
)
def test_labels_without_names_that_number_no_classes(
    unnamed: Callable[..., Path], labels: object, message: str
) -> None:
    fails(unnamed(labels), message)


def test_a_test_label_without_a_training_image(unnamed: Callable[..., Path]) -> None:
    message = f"{TEST}: row 1 has 'label' 2; expected 0 to 1, since there are 2 classes"
    fails(unnamed([1, 0], [0, 2]), message)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_integers_of_any_width(unnamed: Callable[..., Path], kind: pa.DataType) -> None:
    assert parquet(path=unnamed(pa.array([1, 0, 2], kind))).train_labels.tolist() == [1, 0, 2]


def test_two_columns_of_one_name(folder: Path) -> None:
    table = pq.read_table(folder / TEST)
    for column in ("label", "img"):
        twice = table.append_column(column, table[column])
        pq.write_table(twice, folder / TEST)
        fails(folder, f"{TEST} has 2 columns named '{column}'; expected one")


@pytest.fixture
def many_columns(folder: Path, decoded: Decoded) -> Path:
    """Return a folder whose column `image` holds the images of `img`, mirrored in time."""
    for path in folder.iterdir():
        table = pq.read_table(path)
        other = table["img"].combine_chunks()[::-1]
        table = table.append_column("image", other).append_column("fine_label", table["label"])
        pq.write_table(table, path)
    return folder


def test_of_several_columns_the_one_taken_is_told(
    many_columns: Path, decoded: Decoded, capsys: pytest.CaptureFixture
) -> None:
    assert_same(parquet(path=many_columns), decoded)
    told = capsys.readouterr().err
    assert "'img' is taken, not 'image'; data key 'image_column' chooses" in told
    assert "'label' is taken, not 'fine_label'; data key 'label_column' chooses" in told


def test_the_image_column_can_be_chosen(
    many_columns: Path, decoded: Decoded, capsys: pytest.CaptureFixture
) -> None:
    found = parquet(path=many_columns, image_column="image", label_column="label")
    np.testing.assert_array_equal(found.test_images, decoded.test_images[::-1])
    assert "is taken" not in capsys.readouterr().err
    assert found.description == "parquet: images from column 'image', labels from 'label'"
    fails(many_columns, "has no column 'photo'; its columns are", image_column="photo")


def test_the_column_of_the_training_images_is_that_of_the_test_images(
    folder: Path, decoded: Decoded
) -> None:
    table = pq.read_table(folder / TEST)
    table = table.rename_columns({"img": "image"}).append_column("img", table["img"][::-1])
    for path in folder.glob("train*"):
        pq.write_table(pq.read_table(path).rename_columns({"img": "image"}), path)
    pq.write_table(table, folder / TEST)
    assert_same(parquet(path=folder), decoded)


def test_shards_that_do_not_say_of_how_many(folder: Path, decoded: Decoded) -> None:
    for path in list(folder.iterdir()):
        path.rename(folder / re.sub("-of-[0-9]+", "", path.name))
    assert_same(parquet(path=folder), decoded)
    (folder / "train-00000.parquet").rename(folder / "train-00002.parquet")
    fails(folder, "train-00000.parquet is missing; the split 'train' has 2 shards")


def test_a_huge_image_is_refused_before_anything_is_decoded(
    tmp_path: Path, write_shard: Callable
) -> None:
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00\x00\x32\xc8" * 2 + b"\x08\x02\0\0\0"
    header += zlib.crc32(header[12:]).to_bytes(4, "big") + b"\x00\x00\x00\x00IDAT"
    for split in ("train", "test"):
        write_shard(
            tmp_path / f"{split}-00000-of-00001.parquet", [header] * 20, {"label": [0] * 20}
        )
    fails(tmp_path, "row 0 is an image of 13000x13000; expected at most 1024x1024: scale")
