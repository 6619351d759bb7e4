from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdescent.data import loading
from smoothdescent.data.labels import corrupted_classes, make_labels
from smoothdescent.data.loading import (
    load_experiment_data,
    load_pixels,
    normalise,
    read_label_table,
)
from smoothdescent.data.sources import Decoded
from smoothdescent.data.store import Store, open_store, write_store
from smoothdescent.errors import UserError
from smoothdescent.files import write_table

NOISE = {"kind": "asymmetric", "classes": 2, "rate": 0.5}


def write_labels(path: Path, store: Store, **arguments: object) -> Path:
    frame = make_labels(store.train.labels, store.num_classes, noise=NOISE, **arguments)
    metadata = {
        "data_sha256": store.sha256,
        "settings": {"noise": NOISE, **arguments},
        "corrupted_classes": corrupted_classes(store.num_classes, NOISE, 0),
    }
    write_table(path, frame, metadata)
    return path


@pytest.fixture
def store(tmp_path: Path, decoded: Decoded) -> Store:
    """Return a data set of 8 x 8 images."""
    write_store(tmp_path / "data.safetensors", "random", decoded)
    return open_store(tmp_path / "data.safetensors")


@pytest.fixture
def labels(store: Store, tmp_path: Path) -> Path:
    """Return a label table with 20 training and 6 validation samples."""
    return write_labels(tmp_path / "labels.parquet", store, train_samples=20, validation=6)


def reference(images: np.ndarray, store: Store, block: int = 1) -> np.ndarray:
    """Return normalised images, float64 [N, 3, S, S], block by block."""
    size = images.shape[1] // block
    result = np.empty((len(images), 3, size, size))
    for y in range(size):
        for x in range(size):
            cut = images[:, y * block : (y + 1) * block, x * block : (x + 1) * block] / 255.0
            result[:, :, y, x] = (cut.mean(axis=(1, 2)) - store.mean) / store.std
    return result


@pytest.mark.parametrize(("size", "block"), [(None, 1), (8, 1), (4, 2), (1, 8)])
def test_tensors_of_an_experiment(
    store: Store, labels: Path, size: int | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_CHUNK", 7)
    data = load_experiment_data(store.path, labels, size)
    frame = make_labels(store.train.labels, 4, train_samples=20, validation=6, noise=NOISE)
    for samples, split in ((data.train, "train"), (data.validation, "validation")):
        rows = frame[frame["split"] == split]
        assert samples.sample_ids.tolist() == rows["sample_id"].tolist()
        assert samples.labels.tolist() == rows["label"].tolist()
        assert samples.labels_true.tolist() == rows["label_true"].tolist()
        assert samples.is_noisy.tolist() == rows["is_noisy"].tolist()
        assert samples.is_noisy.dtype == torch.bool
        expected = reference(store.train.images[rows["sample_id"]], store, block)
        np.testing.assert_allclose(samples.images.numpy(), expected, atol=2e-6)
        assert samples.images.dtype == torch.float32
        assert samples.images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(
        data.test_images.numpy(), reference(store.test.images, store, block), atol=2e-6
    )
    assert data.test_labels.tolist() == store.test.labels.tolist()
    assert data.image_size == 8 // block
    assert (data.name, data.num_classes) == ("random", 4)
    assert (data.mean, data.std) == (store.mean, store.std)
    assert data.corrupted_classes.tolist() == corrupted_classes(4, NOISE, 0)


def test_tensors_can_be_written(store: Store, labels: Path) -> None:
    data = load_experiment_data(store.path, labels)
    before = open_store(store.path).test.labels.tolist()
    for tensor in (data.test_labels, data.train.labels, data.train.is_noisy, data.test_images):
        tensor.zero_()
    assert open_store(store.path).test.labels.tolist() == before


def test_validation_may_be_empty(store: Store, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.parquet", store)
    data = load_experiment_data(store.path, labels)
    assert data.validation.images.shape == (0, 3, 8, 8)
    assert data.train.images.shape == (40, 3, 8, 8)


def test_normalised_pixels_are_the_images_bit_for_bit(store: Store, labels: Path) -> None:
    data = load_experiment_data(store.path, labels, 4)
    pixels = load_pixels(store, data.train.sample_ids, 4)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert torch.equal(normalise(pixels, data.mean, data.std), data.train.images)


def test_normalising_takes_no_second_copy() -> None:
    pixels = torch.ones(2, 3, 1, 1)
    result = normalise(pixels, (0.5, 0.25, 1.0), (0.5, 0.25, 2.0))
    assert result.flatten().tolist() == [1, 3, 0, 1, 3, 0]
    assert result.data_ptr() == pixels.data_ptr()


@settings(max_examples=30)
@given(ids=st.lists(st.integers(0, 39), max_size=60))
def test_pixels_in_any_order(small: Store, ids: list[int]) -> None:
    pixels = load_pixels(small, ids)
    expected = small.train.images[ids].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(pixels.permute(0, 2, 3, 1).numpy(), expected)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return one data set for all examples."""
    path = tmp_path_factory.mktemp("small") / "data.safetensors"
    pixels = np.random.default_rng(1).integers(0, 256, (40, 2, 2, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    write_store(path, "small", Decoded(pixels, labels, pixels, labels, ("a", "b"), "random"))
    return open_store(path)


def test_pixels_of_an_unknown_sample(store: Store) -> None:
    with pytest.raises(UserError, match="has no sample_id 40; expected 0 to 39"):
        load_pixels(store, [3, 40])
    with pytest.raises(UserError, match="has no sample_id -1; expected 0 to 39"):
        load_pixels(store, torch.tensor([-1]))


@pytest.mark.parametrize("size", [0, -4, 3, 16])
def test_size_that_does_not_divide(store: Store, labels: Path, size: int) -> None:
    message = (
        f"key 'image_size' is {size}; expected 8, the size in {store.path}, divided by a whole"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        load_experiment_data(store.path, labels, size)


def test_labels_of_other_data(store: Store, labels: Path, decoded: Decoded, tmp_path: Path) -> None:
    other = dataclasses.replace(decoded, train_images=decoded.train_images[::-1])
    write_store(tmp_path / "other.safetensors", "other", other)
    with pytest.raises(UserError, match=r"labels.parquet: its data_sha256 is"):
        load_experiment_data(tmp_path / "other.safetensors", labels)


def test_a_table_that_is_no_label_table(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_table(path, make_labels(store.train.labels, 4))
    with pytest.raises(UserError, match="its data_sha256 is None"):
        load_experiment_data(store.path, path)


def test_a_truncated_table(store: Store, labels: Path) -> None:
    labels.write_bytes(labels.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"labels.parquet is damaged.*makes the labels again"):
        load_experiment_data(store.path, labels)


def test_labels_of_another_noise_seed_are_refused(store: Store, tmp_path: Path) -> None:
    wanted = {"noise": NOISE, "noise_seed": 0}
    path = write_labels(tmp_path / "labels.parquet", store, noise_seed=1)
    with pytest.raises(UserError, match=r"its settings is .*1.*, expected .*0"):
        read_label_table(path, store, wanted)
    read_label_table(write_labels(path, store, noise_seed=0), store, wanted)
