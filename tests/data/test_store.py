from __future__ import annotations

import dataclasses
import mmap
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from smoothdescent.data.sources import Decoded, FileRead, read_source
from smoothdescent.data.store import open_store, write_store
from smoothdescent.errors import UserError
from smoothdescent.files import sha256_file, write_table


@pytest.fixture
def path(tmp_path: Path, decoded: Decoded) -> Path:
    """Return a data set file."""
    path = tmp_path / "data.safetensors"
    write_store(path, "random", decoded)
    return path


def test_round_trip(path: Path, decoded: Decoded) -> None:
    store = open_store(path)
    np.testing.assert_array_equal(store.train.images, decoded.train_images)
    np.testing.assert_array_equal(store.train.labels, decoded.train_labels)
    np.testing.assert_array_equal(store.test.images, decoded.test_images)
    np.testing.assert_array_equal(store.test.labels, decoded.test_labels)
    assert store.name == "random"
    assert store.class_names == decoded.class_names
    assert store.description == "random pixels"
    assert (store.num_classes, store.image_size) == (4, 8)


def test_images_are_mapped_and_read_only(path: Path) -> None:
    images = open_store(path).train.images
    assert isinstance(images.base.base.obj, mmap.mmap)
    assert not images.flags.writeable


def test_moments_are_computed_over_the_training_pixels(path: Path, decoded: Decoded) -> None:
    store = open_store(path)
    pixels = decoded.train_images.astype(np.float64) / 255
    np.testing.assert_allclose(store.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(store.std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)


@settings(max_examples=30)
@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(3), st.just(3), st.just(3)))
)
def test_moments_of_any_images(images: np.ndarray) -> None:
    from smoothdescent.data.store import _moments

    mean, std = _moments(images)
    pixels = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), atol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), atol=1e-7)


def test_moments_do_not_depend_on_the_chunks(
    decoded: Decoded, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoothdescent.data.store._CHUNK", 1400)  # 7 images
    write_store(tmp_path / "chunks.safetensors", "random", decoded)
    assert open_store(tmp_path / "chunks.safetensors").mean == open_store(path).mean


def test_given_moments_are_kept(decoded: Decoded, tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    given_moments = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    write_store(path, "given", dataclasses.replace(decoded, **given_moments))
    assert open_store(path).mean == (0.1, 0.2, 0.3)
    assert open_store(path).std == (0.4, 0.5, 0.6)


def test_equal_data_gives_equal_files(path: Path, decoded: Decoded, tmp_path: Path) -> None:
    write_store(tmp_path / "again.safetensors", "random", decoded)
    assert sha256_file(tmp_path / "again.safetensors") == sha256_file(path)


def test_what_was_read_is_recorded_but_changes_no_checksum(
    path: Path, decoded: Decoded, tmp_path: Path
) -> None:
    record = FileRead("train-00000-of-00001.parquet", 1234, "ab" * 32)
    other = dataclasses.replace(decoded, description="elsewhere", files=(record,))
    write_store(tmp_path / "other.safetensors", "renamed", other)
    store = open_store(tmp_path / "other.safetensors")
    assert store.files == (record,)
    assert store.sha256 == open_store(path).sha256


def test_equal_shards_in_two_folders_give_equal_files(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    digests = set()
    for place in (folder, tmp_path / "moved"):
        decoded = read_source({"source": "parquet", "path": str(place)})
        write_store(tmp_path / "data.safetensors", "set", decoded)
        digests.add(sha256_file(tmp_path / "data.safetensors"))
    assert len(digests) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5, 0.5, 0.5)},
        {"class_names": ("ant", "bee", "cat", "eel")},
        {"train_labels": (np.arange(40) + 1) % 4},
    ],
)
def test_the_checksum_covers_what_determines_a_result(
    path: Path, decoded: Decoded, tmp_path: Path, change: dict
) -> None:
    write_store(tmp_path / "other.safetensors", "random", dataclasses.replace(decoded, **change))
    assert open_store(tmp_path / "other.safetensors").sha256 != open_store(path).sha256


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(position=st.integers(0, 2**31), value=st.integers(1, 255), kept=st.floats(0, 1))
def test_a_changed_byte_or_a_truncated_file_is_found(
    path: Path, position: int, value: int, kept: float
) -> None:
    contents = bytearray(path.read_bytes())
    contents[position % len(contents)] ^= value
    damaged = path.with_name("damaged.safetensors")
    damaged.write_bytes(contents[: int(kept * len(contents))])
    with pytest.raises(UserError, match=r"damaged.safetensors is (damaged|empty)"):
        open_store(damaged)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"none.safetensors does not exist; expected a data set file"
    ):
        open_store(tmp_path / "none.safetensors")


def test_another_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged, or not of this program"):
        open_store(path)
    write_table(path, pd.DataFrame({"x": [1]}))
    with pytest.raises(UserError, match=r"weights.safetensors is not a data set file"):
        open_store(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_images": np.zeros((40, 8, 8, 3))},
            "the train images are float64 (40, 8, 8, 3); expected uint8 (N, S, S, 3)",
        ),
        (
            {"train_images": np.zeros((40, 8, 6, 3), dtype=np.uint8)},
            "the train images are uint8 (40, 8, 6, 3); expected uint8 (N, S, S, 3)",
        ),
        (
            {"test_images": np.zeros((12, 9, 9, 3), dtype=np.uint8)},
            "the test images are uint8 (12, 9, 9, 3); expected uint8 (N, S, S, 3)",
        ),
        (
            {"test_labels": np.zeros(11, dtype=np.int64)},
            "the test labels are int64 (11,); expected one int64 for each of 12 images",
        ),
        (
            {"train_labels": np.arange(40) % 5},
            "the train labels span 0 to 4; expected 0 to 3",
        ),
        (
            {"train_images": np.full((40, 8, 8, 3), 7, dtype=np.uint8)},
            "the channels' standard deviations are [0.0, 0.0, 0.0]; expected positive numbers",
        ),
    ],
)
def test_unsound_arrays_are_not_written(
    decoded: Decoded, tmp_path: Path, change: dict, message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    with pytest.raises(UserError, match=re.escape(f"cannot write {path}: {message}")):
        write_store(path, "bad", dataclasses.replace(decoded, **change))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(small_disk: Path, decoded: Decoded) -> None:
    path = small_disk / "data.safetensors"
    write_store(path, "random", decoded)
    large = dataclasses.replace(
        decoded,
        train_images=np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
        test_images=np.zeros((12, 32, 32, 3), dtype=np.uint8),
    )
    with pytest.raises(UserError, match=f"cannot write {path}: the disk is full"):
        write_store(path, "large", large)
    assert list(small_disk.iterdir()) == [path]
    assert open_store(path).name == "random"
