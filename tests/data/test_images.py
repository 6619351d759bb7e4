"""Pixels are those that a viewer shows, or the image is refused."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from smoothdescent.data.sources.images import MOST_PIXELS, decode, image_size
from smoothdescent.errors import UserError

SHARD = Path("train-00000-of-00001.parquet")
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(encoded: bytes, transparent: bool = False) -> np.ndarray:
    out = np.empty((8, 8, 3), dtype=np.uint8)
    assert decode(encoded, out, SHARD, 5) == transparent
    return out


def refused(encoded: bytes, message: str) -> None:
    out = np.full((8, 8, 3), 7, dtype=np.uint8)
    with pytest.raises(UserError, match=re.escape(f"{SHARD}: row 5 {message}")) as raised:
        decode(encoded, out, SHARD, 5)
    assert "\n" not in str(raised.value)
    assert (out == 7).all(), "a refused image leaves nothing"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks behind its header."""
    return png[:33] + b"".join(chunks) + png[33:]


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decoded(encode(PIXELS, kind, exif=exif, **options))
    np.testing.assert_array_equal(found, UPRIGHT[orientation](PIXELS))


def test_the_orientation_of_a_jpeg_is_applied() -> None:
    halves = np.zeros((8, 8, 3), dtype=np.uint8)
    halves[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    found = decoded(encode(halves, "JPEG", exif=exif))
    np.testing.assert_array_equal(found > 127, halves[::-1] > 127)


def test_an_orientation_that_does_not_exist_changes_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    np.testing.assert_array_equal(decoded(encode(PIXELS, exif=exif)), PIXELS)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_every_mode_becomes_colour(mode: str) -> None:
    source = Image.fromarray(PIXELS).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    found = decoded(encode(source, kind, **options), transparent=mode in ("LA", "RGBA"))
    expected = np.asarray(source.convert("RGB")).astype(int)
    assert np.abs(found - expected).max() <= (6 if mode == "CMYK" else 0)


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("P", 3), ("P", bytes(range(100))), ("L", 3), ("RGB", (1, 2, 3))],
    ids=["palette", "table", "grey", "colour"],
)
def test_the_colour_below_transparency_is_kept(mode: str, transparency: object) -> None:
    source = Image.fromarray(PIXELS).convert(mode)
    found = decoded(encode(source, transparency=transparency), transparent=True)
    np.testing.assert_array_equal(found, np.asarray(source.convert("RGB")))


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_sixteen_bits_are_refused(colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(8 * channels * 2)) for _ in range(8))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    refused(png + chunk(b"IEND", b""), "has more than 8 bits a channel; expected 8")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    animation = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    refused(animation, "is an animation of 2 frames; expected one image")


def test_of_a_jpeg_with_several_pictures_the_first_is_shown() -> None:
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    both = encode(
        Image.fromarray(grey), "MPO", save_all=True, append_images=[Image.new("L", (8, 8))]
    )
    np.testing.assert_array_equal(decoded(both), grey)


def profile(red: tuple[float, float]) -> bytes:
    """Return an RGB matrix profile with these chromaticities of red and a gamma of 2.2."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = bytearray(srgb)
    for i in range(struct.unpack(">I", data[128:132])[0]):
        tag, offset, _ = struct.unpack(">4sII", data[132 + 12 * i : 144 + 12 * i])
        if tag == b"rXYZ":
            x, y = red
            values = (int(65536 * v) for v in (0.2225 * x / y, 0.2225, 0.2225 * (1 - x - y) / y))
            data[offset + 8 : offset + 20] = struct.pack(">3i", *values)
    return bytes(data)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("WEBP", "RGB")])
def test_a_profile_of_srgb_changes_nothing(kind: str, mode: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = Image.fromarray(PIXELS).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decoded(encode(source, kind, icc_profile=srgb, **options))
    np.testing.assert_array_equal(found, np.asarray(source.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("icc", [profile((0.72, 0.28)), b"not a profile"], ids=["wide", "broken"])
def test_a_profile_of_other_colours_is_refused(kind: str, icc: bytes) -> None:
    encoded = encode(PIXELS, kind, icc_profile=icc)
    refused(encoded, "has a colour profile, which shows other colours than sRGB; expected sRGB")


def test_a_profile_of_inks_is_refused() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    inks = encode(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", icc_profile=srgb)
    refused(inks, "has a colour profile")


def gamma(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def chromaticities(*values: int) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *values))


SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
WIDE = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(45455)],
        [gamma(45455), chromaticities(*SRGB)],
        [chunk(b"sRGB", b"\0"), gamma(100000), chromaticities(*WIDE)],
    ],
    ids=["gamma", "both", "sRGB before all"],
)
def test_chunks_that_say_srgb_change_nothing(chunks: list[bytes]) -> None:
    np.testing.assert_array_equal(decoded(with_chunks(encode(PIXELS), *chunks)), PIXELS)


def test_chunks_that_say_other_colours_are_refused() -> None:
    refused(with_chunks(encode(PIXELS), gamma(100000)), "has a gamma chunk of 1, which shows other")
    refused(with_chunks(encode(PIXELS), chromaticities(*WIDE)), "has a chromaticity chunk, which")


def header_of(width: int, height: int) -> bytes:
    """Return a PNG that promises an image and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize("size", [MOST_PIXELS + 1, 13_000, 60_000])
def test_a_huge_image_is_refused_from_its_header(size: int) -> None:
    message = f"row 5 is an image of {size}x{size}; expected at most {MOST_PIXELS}x{MOST_PIXELS}"
    with pytest.raises(UserError, match=message):
        image_size(header_of(size, size), SHARD, 5)
    refused(header_of(size, size), f"is an image of {size}x{size}; expected 8x8, the size of the")


def test_the_largest_size() -> None:
    assert image_size(header_of(MOST_PIXELS, MOST_PIXELS), SHARD, 5) == MOST_PIXELS
