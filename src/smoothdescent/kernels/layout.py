"""How a block of images and the weights of a ConvNet lie in memory while kernels work on them.

- In *lanes*, the images of a block lie side by side: [channels, S + 2, S + 2, BLOCK].
- As *pixels*, the channels do: [BLOCK, S + 2, S + 2, pitch], and a gap after each image. Where the
  channels of three pixels, a row of a window, fit a vector, the pitch is their number, as it is
  for the input; otherwise it is a number of whole vectors.
- In *tiles*, weights lie in the order in which sums of R output channels at a time ask for them.

Around each image is a border of zeros, the padding of a convolution. All arrays are
one-dimensional, in C order of the shapes given.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit
from numba.extending import register_jitable

from smoothdescent.kernels.tiles import VECTOR, gather, store, zeros

BLOCK = 2 * VECTOR  # images: two vectors
ROWS = 4  # of a tile: channels whose sums are in registers at a time

# The images of one stage, in both layouts, and the loss's gradient in them in the second one, in
# which two images are `apart` numbers from each other.
Images = namedtuple("Images", "channels size pitch apart lanes pixels gradient")
# A convolution with what follows it. `taps`: its weights in tiles, [out / R, in, 3, 3, R];
# `backward`: [out, 3, row], the row of a window being 3 pixels, filled up to whole vectors; of the
# first stage turned round in tiles, [in / R, out, 3, 3, R]; `slopes`: the gradient of the weights,
# [out, 3, row], of a wide first stage [3, 3, in, out filled up to whole vectors]; `winners`:
# [BLOCK, S / pool, S / pool, out], where in an image's pixels the window begins whose sum was the
# maximum.
Stage = namedtuple("Stage", "pool taps backward slopes bias_slopes winners")
# The last layer. `taps`: [classes / R, in, R]; `logits`: [BLOCK, classes], later their gradient.
Linear = namedtuple("Linear", "taps slopes bias_slopes logits")

_LINE = 16  # numbers of which a cache line is made
inner = njit(
    error_model="numpy", fastmath={"contract"}, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


def workspace(channels: int, width: int, size: int, classes: int, dtype: np.dtype) -> np.ndarray:
    """Return the memory for one network's images and weights, all zeros.

    Args:
        channels: of the input.
        width: base width w.
        size: height and width of the input.
        classes: number of logits.
        dtype: float32 or float64.
    """
    needed = carve(np.empty(0, dtype), channels, width, size, classes)[-1]
    memory = np.zeros(needed + _LINE, dtype)
    # On a cache line, as every array in it: a vector is then never on two of them.
    start = -memory.ctypes.data % 64 // memory.itemsize
    return memory[start : start + needed]


def in_tiles(work, columns=2):
    """Make a function of a tile of channels one of all channels, R at a time.

    Args:
        work: called as work(first channel, tile of zeros [R, columns], *arguments).
        columns: vectors of a channel.

    Returns:
        A function (channels, array of the tile's type, arguments).
    """
    work = inner(work)
    one, two, three, four = (rows * columns for rows in range(1, ROWS + 1))  # literals for numba

    @inner
    def for_all(channels, like, arguments):
        for first in range(0, channels - 3, ROWS):
            work(first, zeros(like, four), *arguments)
        first = channels - channels % ROWS
        if channels % ROWS == 3:
            work(first, zeros(like, three), *arguments)
        elif channels % ROWS == 2:
            work(first, zeros(like, two), *arguments)
        elif channels % ROWS == 1:
            work(first, zeros(like, one), *arguments)

    return for_all


@register_jitable
def _take(memory, start, count):
    """Return `count` numbers from `start` on, and the cache line after them."""
    return memory[start : start + count], start + (count + _LINE - 1) // _LINE * _LINE


@register_jitable
def padded(channels):
    return (channels + VECTOR - 1) // VECTOR * VECTOR


@register_jitable
def row_fits(channels):
    """Return whether a row of a window, three pixels, fits a vector."""
    return 3 * channels <= VECTOR


@register_jitable
def row_length(x):
    """Return how many numbers the weights of a row of a window take."""
    return padded(3 * x.pitch)


@register_jitable
def _pitch(channels):
    return channels if row_fits(channels) else padded(channels)


@register_jitable
def winners_apart(y):
    """Return how far the winners of two images are apart: no power of two, or their cache lines
    would drive each other out.
    """
    return y.size * y.size * y.channels + _LINE


@register_jitable
def _images(memory, start, channels, size, pitch):
    area = (size + 2) * (size + 2)
    # A vector that begins in the last row of an image may end in the gap: so nothing of an image,
    # be it zero times an infinite gradient, reaches the next one.
    apart = padded(area * pitch) + VECTOR
    lanes, start = _take(memory, start, channels * area * BLOCK)
    pixels, start = _take(memory, start, apart * BLOCK)
    gradient, start = _take(memory, start, apart * BLOCK)
    return Images(channels, size, pitch, apart, lanes, pixels, gradient), start


@register_jitable
def _stage(memory, start, x, y, pool):
    taps, start = _take(memory, start, y.channels * 9 * x.channels)
    backward, start = _take(memory, start, y.channels * 3 * row_length(x))
    slopes, start = _take(memory, start, padded(y.channels) * 3 * row_length(x))
    bias_slopes, start = _take(memory, start, padded(y.channels))
    winners, start = _take(memory, start, winners_apart(y) * BLOCK)
    return Stage(pool, taps, backward, slopes, bias_slopes, winners), start


@register_jitable
def carve(memory, channels, width, size, classes):
    """Return the images before each stage and after the last, the stages, and the memory used."""
    x0, start = _images(memory, 0, channels, size, channels)
    x1, start = _images(memory, start, width, size, _pitch(width))
    x2, start = _images(memory, start, 2 * width, size // 2, _pitch(2 * width))
    x3, start = _images(memory, start, 4 * width, size // 4, _pitch(4 * width))
    x4, start = _images(memory, start, 8 * width, 1, _pitch(8 * width))
    s0, start = _stage(memory, start, x0, x1, 1)
    s1, start = _stage(memory, start, x1, x2, 2)
    s2, start = _stage(memory, start, x2, x3, 2)
    s3, start = _stage(memory, start, x3, x4, size // 4)
    taps, start = _take(memory, start, classes * 8 * width)
    slopes, start = _take(memory, start, classes * 8 * width)
    bias_slopes, start = _take(memory, start, classes)
    logits, start = _take(memory, start, BLOCK * classes)
    linear = Linear(taps, slopes, bias_slopes, logits)
    return (x0, x1, x2, x3, x4), (s0, s1, s2, s3), linear, start


@inner
def pack(x, y, stage, weights):
    """Lay the weights of a stage out as the forward and the backward pass read them."""
    pack_tiles(weights, stage.taps, y.channels, 9)
    for row in range(y.channels * 3):
        for c in range(3):
            for i in range(x.channels):  # the rest is zero from the beginning
                at = row * row_length(x) + c * x.pitch + i
                stage.backward[at] = weights[(row * 3 + c) * x.channels + i]


@inner
def clear(stage):
    stage.slopes[:] = 0
    stage.bias_slopes[:] = 0


@inner
def pack_tiles(weights, tiles, outputs, taps):
    """Turn [out, taps, in] into [out / R, in, taps, R]."""
    inputs = len(weights) // (outputs * taps)
    at = 0
    for first in range(0, outputs, ROWS):
        for i in range(inputs):
            for k in range(taps):
                for o in range(first, min(first + ROWS, outputs)):
                    tiles[at] = weights[(o * taps + k) * inputs + i]
                    at += 1


@inner
def pack_turned(weights, tiles, inputs, outputs, taps):
    """Turn [out, taps, in] round, into [in / R, out, taps, R], the last tap first."""
    at = 0
    for first in range(0, inputs, ROWS):
        for o in range(outputs):
            for k in range(taps - 1, -1, -1):
                for i in range(first, min(first + ROWS, inputs)):
                    tiles[at] = weights[(o * taps + k) * inputs + i]
                    at += 1


@inner
def read(images, start, count, x):
    """Put images [B, S, S, channels] from `start` on into both layouts."""
    side, line = x.size + 2, x.size * x.channels
    for n in range(count):
        for i in range(x.size):
            source = ((start + n) * x.size + i) * line
            target = n * x.apart + ((i + 1) * side + 1) * x.channels
            for k in range(line):
                x.pixels[target + k] = images[source + k]
    to_lanes(x.channels, x.lanes, (x, x.pixels))


@inner
def write(x, gradient, start, count):
    """Take the gradient out of its layout, into [B, S, S, channels] from `start` on."""
    side, line = x.size + 2, x.size * x.channels
    for n in range(count):
        for i in range(x.size):
            source = n * x.apart + ((i + 1) * side + 1) * x.channels
            target = ((start + n) * x.size + i) * line
            for k in range(line):
                gradient[target + k] = x.gradient[source + k]


@in_tiles
def to_lanes(first, nothing, x, values):
    """Put values laid out as pixels into the lanes."""
    side = x.size + 2
    area = side * side
    for i in range(1, side - 1):
        for j in range(1, side - 1):
            pixel = i * side + j
            tile = gather(values, pixel * x.pitch + first, x.apart, nothing)
            store(x.lanes, (first * area + pixel) * BLOCK, area * BLOCK, tile)
