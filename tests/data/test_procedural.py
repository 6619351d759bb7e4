from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdescent.data.sources.procedural import _fields, procedural
from smoothdescent.errors import UserError

SETTINGS = {
    "seed": 3,
    "classes": 5,
    "size": 16,
    "train": 500,
    "test": 100,
    "prototypes": 2,
    "max_shift": 2,
    "noise": 0.4,
    "exponent": 1.5,
    "noise_exponent": 1.0,
}


def test_is_the_same_on_every_run_and_machine() -> None:
    data = procedural(**SETTINGS)
    contents = b"".join(
        array.tobytes()
        for array in (data.train_images, data.train_labels, data.test_images, data.test_labels)
    )
    expected = "ac4fb550070c164a403523763092086972143d640ed6e6438b5a1c69fb71e788"
    assert hashlib.sha256(contents).hexdigest() == expected


def test_shapes_types_and_balance() -> None:
    data = procedural(**SETTINGS)
    assert data.train_images.shape == (500, 16, 16, 3)
    assert data.test_images.shape == (100, 16, 16, 3)
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int64
    assert np.bincount(data.train_labels).tolist() == [100] * 5
    assert len(data.class_names) == 5


@pytest.mark.parametrize("key", ["seed", "prototypes", "max_shift", "noise", "exponent"])
def test_every_parameter_changes_the_images(key: str) -> None:
    changed = procedural(**{**SETTINGS, key: SETTINGS[key] + 1})
    assert not np.array_equal(changed.train_images, procedural(**SETTINGS).train_images)


def test_a_smaller_split_is_the_start_of_a_larger_one() -> None:
    large = procedural(**SETTINGS)
    small = procedural(**{**SETTINGS, "train": 123, "test": 7})
    np.testing.assert_array_equal(small.train_images, large.train_images[:123])
    np.testing.assert_array_equal(small.train_labels, large.train_labels[:123])
    np.testing.assert_array_equal(small.test_images, large.test_images[:7])


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = procedural(**SETTINGS)
    monkeypatch.setattr("smoothdescent.data.sources.procedural.CHUNK", 77)
    np.testing.assert_array_equal(procedural(**SETTINGS).train_images, whole.train_images)


def test_train_and_test_images_differ() -> None:
    data = procedural(**SETTINGS)
    train = {image.tobytes() for image in data.train_images}
    assert len(train) == 500
    assert not train & {image.tobytes() for image in data.test_images}


def test_images_have_full_rank() -> None:
    pixels = procedural(**SETTINGS).train_images.transpose(0, 3, 1, 2) / 255.0
    assert np.linalg.svd(pixels, compute_uv=False).min() > 1e-9


def test_spectrum_falls_as_configured() -> None:
    fields = _fields(np.random.default_rng(0), 1000, 32, 1.5)
    assert fields.var() == pytest.approx(1, rel=0.05)
    power = (np.abs(np.fft.fft2(fields, axes=(1, 2))) ** 2).mean(axis=(0, 3))
    # An amplitude of f^-1.5 is a power of f^-3, along either axis of frequencies.
    logarithm = np.log(np.arange(1, 16))
    for axis in (power[0, 1:16], power[1:16, 0]):
        assert np.polyfit(logarithm, np.log(axis), 1)[0] == pytest.approx(-3, abs=0.1)


def test_without_noise_and_shift_an_image_is_a_prototype() -> None:
    data = procedural(**{**SETTINGS, "noise": 0, "max_shift": 0})
    for label in range(5):
        images = data.train_images[data.train_labels == label]
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 2


def test_shifts_are_cyclic_and_bounded() -> None:
    still = procedural(**{**SETTINGS, "noise": 0, "max_shift": 0})
    moved = procedural(**{**SETTINGS, "noise": 0, "max_shift": 1})
    for image, shifted in zip(still.train_images[:50], moved.train_images[:50], strict=True):
        candidates = [
            np.roll(image, (row, column), axis=(0, 1))
            for row in (-1, 0, 1)
            for column in (-1, 0, 1)
        ]
        assert any(np.array_equal(shifted, candidate) for candidate in candidates)


@settings(max_examples=25)
@given(
    classes=st.integers(2, 12),
    size=st.integers(2, 33),
    train=st.integers(1, 40),
    prototypes=st.integers(1, 4),
    max_shift=st.integers(0, 5),
    noise=st.floats(0, 5),
)
def test_any_size(
    classes: int, size: int, train: int, prototypes: int, max_shift: int, noise: float
) -> None:
    data = procedural(
        seed=0,
        classes=classes,
        size=size,
        train=train,
        test=1,
        prototypes=prototypes,
        max_shift=max_shift,
        noise=noise,
    )
    assert data.train_images.shape == (train, size, size, 3)
    counts = np.bincount(data.train_labels, minlength=classes)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", 1),
        ("size", 1),
        ("train", 0),
        ("test", 0),
        ("prototypes", 0),
        ("max_shift", -1),
        ("noise", -0.1),
        ("noise", float("nan")),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"key '{key}' is {value}; expected at least"):
        procedural(**{**SETTINGS, key: value})
