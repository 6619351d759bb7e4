"""An encoded image becomes the pixels that a viewer shows, or is refused (see docs/data.md)."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from smoothdescent.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP")

# Largest height and width: a header may ask for gigabytes. Pillow's own limit, which warns and then
# fails, is not needed: no image is decoded before its size is checked.
MOST_PIXELS = 1024
Image.MAX_IMAGE_PIXELS = None

# A PNG of sRGB colours says so with these values, if it states them at all.
SRGB_GAMMA = 0.45455
SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)

# Levels of 255 by which a profile of sRGB colours, rounded in its own way, may change them.
SRGB_TOLERANCE = 3


def image_size(encoded: bytes | None, shard: Path, row: int) -> int:
    """Return the height and width of a square image, from its header.

    Args:
        encoded: a PNG, JPEG or WebP file.
        shard, row: where it lies, for messages.

    Raises:
        UserError: the image is missing, cannot be read, is too large or is not square.
    """
    width, height = _open(encoded, shard, row).size
    if max(width, height) > MOST_PIXELS:
        raise UserError(
            f"{shard}: row {row} is an image of {width}x{height}; expected at most "
            f"{MOST_PIXELS}x{MOST_PIXELS}: scale the images down"
        )
    if width != height:
        raise UserError(
            f"{shard}: row {row} is an image of {width}x{height}; expected a square one"
        )
    return width


def decode(encoded: bytes | None, out: np.ndarray, shard: Path, row: int) -> bool:
    """Decode an image into `out`, uint8 [size, size, 3], values 0..255 of sRGB colours.

    Args:
        encoded: a PNG, JPEG or WebP file.
        out: overwritten.
        shard, row: where the image lies, for messages.

    Returns:
        Whether the image has transparency, which is dropped.

    Raises:
        UserError: the image is missing, cannot be decoded, is of another size, or would lose what
            it means.
    """
    image = _open(encoded, shard, row)
    size = out.shape[0]
    if image.size != (size, size):
        width, height = image.size
        raise UserError(
            f"{shard}: row {row} is an image of {width}x{height}; expected {size}x{size}, "
            "the size of the first training image"
        )
    # Pillow reads colours of 16 bits as 8 without a word; only the raw mode tells.
    if any(";16" in str(tile.args) for tile in image.tile):
        raise UserError(f"{shard}: row {row} has more than 8 bits a channel; expected 8")
    # Of a JPEG with several pictures (MPO), viewers show the first.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise UserError(
            f"{shard}: row {row} is an animation of {image.n_frames} frames; expected one image"
        )
    try:
        image.load()
        unlike = _unlike_srgb(image)
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
        transparent = image.has_transparency_data
        # Pillow warns when it converts some transparent images directly.
        pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))[..., :3]
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UserError(f"{shard}: the image in row {row} cannot be decoded: {error}") from error
    if unlike:
        raise UserError(
            f"{shard}: row {row} has {unlike}, which shows other colours than sRGB; expected sRGB: "
            "convert the images"
        )
    out[:] = pixels
    return transparent


def _open(encoded: bytes | None, shard: Path, row: int) -> Image.Image:
    """Return an image of which only the header has been read."""
    if encoded is None:
        raise UserError(f"{shard}: row {row} holds no image bytes; expected PNG, JPEG or WebP")
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UserError(f"{shard}: the image in row {row} cannot be decoded: {error}") from error


def _unlike_srgb(image: Image.Image) -> str | None:
    """Return what gives an image other colours than its bytes have in sRGB, if anything does."""
    profile = image.info.get("icc_profile")
    if profile:
        grey = image.mode in ("1", "L", "LA")
        same = image.mode != "CMYK" and _is_srgb(profile, "L" if grey else "RGB")
        return None if same else "a colour profile"
    if image.format != "PNG" or "srgb" in image.info:
        return None
    gamma = image.info.get("gamma", SRGB_GAMMA)
    if abs(gamma - SRGB_GAMMA) > 0.001:
        return f"a gamma chunk of {gamma:g}"
    chromaticities = image.info.get("chromaticity", SRGB_CHROMATICITIES)
    if not np.allclose(chromaticities, SRGB_CHROMATICITIES, atol=0.002):
        return "a chromaticity chunk"
    return None


@functools.lru_cache(maxsize=16)
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Return whether an ICC profile shows colours, within rounding, as sRGB does."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, len(levels), 3)
    stored = Image.fromarray(colours if mode == "RGB" else levels[None])
    try:
        shown = ImageCms.profileToProfile(
            stored,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return False
    change = np.asarray(shown, dtype=np.int64) - np.asarray(stored.convert("RGB"))
    return bool(np.abs(change).max() <= SRGB_TOLERANCE)
