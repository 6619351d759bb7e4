"""Synthetic images with a natural-image-like spectrum, drawn from a seed.

A class is a handful of prototypes: smooth random fields on a torus whose amplitude falls as
1/f^exponent. An image is one prototype of its class, shifted cyclically by a few pixels, plus a
random field of its own (`noise`, amplitude 1/f^noise_exponent). The noise reaches every frequency,
so the images have full rank. More prototypes, larger shifts and more noise make the task harder.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from smoothdescent.config.types import Count, Natural, Real, Seed
from smoothdescent.data.sources.base import Decoded, Source
from smoothdescent.errors import UserError
from smoothdescent.randomness import numpy_generator

# Standard deviation of the [0,1] pixels around their mean 0.5; CIFAR's is about 0.25. At 0.2 about
# one pixel in a hundred leaves [0,1] and is clipped.
CONTRAST = 0.2

# Images made at a time: bounds the memory, does not change the result.
CHUNK = 2048


Several = Annotated[int, Field(ge=2, strict=True)]
Slope = Annotated[Real, Field(ge=-10, le=10)]


class ProceduralSource(Source):
    """Embedded images drawn from a seed: shifted random-field prototypes plus 1/f noise."""

    source: Literal["procedural"]
    seed: Seed = Field(0, description="of the images")
    classes: Several = Field(10, le=10_000, description="number of classes")
    size: Several = Field(16, le=1024, description="height and width in pixels")
    train: Natural = Field(3000, le=10_000_000, description="training images")
    test: Natural = Field(2000, le=10_000_000, description="test images")
    prototypes: Natural = Field(3, le=1000, description="prototypes of each class")
    max_shift: Count = Field(2, le=1024, description="largest shift of a prototype in pixels")
    noise: Real = Field(0.4, ge=0, le=1000, description="noise amplitude, prototypes' = 1")
    exponent: Slope = Field(1.5, description="prototypes' amplitude falls as 1 / f ** exponent")
    noise_exponent: Slope = Field(1.0, description="noise amplitude falls as 1 / f ** this")

    def read(self, threads: int) -> Decoded:
        """Draw the images; one thread does it."""
        return procedural(**self.model_dump(exclude={"source"}))

    def image_size(self) -> int:
        """Return the images' height and width in pixels."""
        return self.size


def procedural(
    *,
    seed: int,
    classes: int = 10,
    size: int = 16,
    train: int,
    test: int,
    prototypes: int = 3,
    max_shift: int = 2,
    noise: float = 0.4,
    exponent: float = 1.5,
    noise_exponent: float = 1.0,
) -> Decoded:
    """Draw a data set of size x size colour images.

    The first n images of a split do not depend on how many are drawn, and any `classes`
    consecutive images, counted from a multiple of `classes`, hold one of each class.

    The result is identical on every run. Across machines it rests on NumPy's generators being
    specified (PCG64 and the ziggurat), and on the 8-bit rounding at the end, which hides the last
    bits in which one build's Fourier transform may differ from another's.

    Args:
        seed: fixes everything.
        classes: number of classes C.
        size: height and width of an image in pixels.
        train, test: number of images of the split.
        prototypes: fields per class.
        max_shift: largest cyclic shift, in pixels, in either direction and on either axis.
        noise: standard deviation of the noise field, that of a prototype being 1.
        exponent, noise_exponent: spectral slopes of the prototypes and of the noise; 1 is that of
            natural images, larger is smoother.

    Raises:
        UserError: an argument out of range.
    """
    lowest = {
        "classes": (classes, 2),
        "size": (size, 2),
        "train": (train, 1),
        "test": (test, 1),
        "prototypes": (prototypes, 1),
        "max_shift": (max_shift, 0),
        "noise": (noise, 0),
    }
    for key, (value, minimum) in lowest.items():
        if not value >= minimum:
            raise UserError(
                f"data source 'procedural': key {key!r} is {value}; expected at least {minimum}"
            )

    generator = numpy_generator(seed, "procedural/prototypes")
    fields = _fields(generator, classes * prototypes, size, exponent)
    # Each prototype has the same contrast, so that no class is easier for being stronger.
    fields /= fields.std(axis=(1, 2, 3), keepdims=True)
    fields = fields.reshape(classes, prototypes, size, size, 3)

    splits = []
    for split, count in enumerate((train, test)):
        labels = _labels(numpy_generator(seed, "procedural/labels", split), count, classes)
        which = numpy_generator(seed, "procedural/choice", split).integers(prototypes, size=count)
        shifts = numpy_generator(seed, "procedural/shift", split).integers(
            -max_shift, max_shift, size=(count, 2), endpoint=True
        )
        generator = numpy_generator(seed, "procedural/noise", split)
        images = np.empty((count, size, size, 3), dtype=np.uint8)
        for start in range(0, count, CHUNK):
            part = slice(start, min(start + CHUNK, count))
            image = _shifted(fields, labels[part], which[part], shifts[part])
            image += noise * _fields(generator, len(image), size, noise_exponent)
            image *= CONTRAST / np.sqrt(1 + noise**2)
            images[part] = np.rint(255 * np.clip(image + 0.5, 0, 1))
        splits += [images, labels]

    return Decoded(
        *splits,
        class_names=tuple(f"class {c}" for c in range(classes)),
        description=(
            f"procedural: seed {seed}, {prototypes} prototypes a class, max_shift {max_shift}, "
            f"noise {noise}, exponent {exponent}, noise_exponent {noise_exponent}"
        ),
    )


def _fields(generator: np.random.Generator, count: int, size: int, slope: float) -> np.ndarray:
    """Return `count` colour fields, float64 [count, size, size, 3], of expected variance 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf  # no constant part: the mean of a field is zero
    amplitude = frequency**-slope
    # A column of the half spectrum other than the first and the Nyquist one stands for two.
    twice = np.full(amplitude.shape[1], 2.0)
    twice[0] = 1
    if size % 2 == 0:
        twice[-1] = 1
    amplitude *= size / np.sqrt(np.sum(amplitude**2 * twice))
    white = generator.standard_normal((count, 3, size, size))
    fields = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(size, size))
    return np.moveaxis(fields, 1, -1)


def _labels(generator: np.random.Generator, count: int, classes: int) -> np.ndarray:
    """Return int64 [count]: one random order of the classes after another."""
    rounds = np.tile(np.arange(classes, dtype=np.int64), (-(-count // classes), 1))
    return generator.permuted(rounds, axis=1).ravel()[:count]


def _shifted(
    fields: np.ndarray, labels: np.ndarray, which: np.ndarray, shifts: np.ndarray
) -> np.ndarray:
    """Return the chosen prototype of each image, cyclically shifted: float64 [n, size, size, 3]."""
    size = fields.shape[2]
    rows = (np.arange(size) - shifts[:, :1]) % size
    columns = (np.arange(size) - shifts[:, 1:]) % size
    return fields[
        labels[:, None, None], which[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
