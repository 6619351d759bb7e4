"""How a block of images and the weights of a ConvNet lie in memory while kernels work on them.

- In *lanes*, the images of a block lie side by side: [channels, S + 2, S + 2, BLOCK].
- As *pixels*, the channels do: [BLOCK, S + 2, S + 2, pitch], the pitch being a number of whole
  vectors, but of the input, whose pitch is the number of its channels.
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

# The images of one stage, in both layouts, and the loss's gradient in them in the second one.
Images = namedtuple("Images", "channels size pitch lanes pixels gradient")
# A convolution with what follows it. `taps`: its weights in tiles, [out / R, in, 3, 3, R];
# `backward`: [out, 3, 3, pitch], of the first stage turned round in tiles, [in / R, out, 3, 3, R];
# `slopes`: the gradient of the weights, [out, 3, 3, pitch], of the first stage [3, 3, in, pitch of
# out]; `winners`: [BLOCK, S / pool, S / pool, out], where in an image's pixels the window begins
# whose sum was the maximum.
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


def in_tiles(work):
    """Make a function of a tile of channels one of all channels, R at a time.

    Args:
        work: called as work(first channel, tile of zeros, *arguments).

    Returns:
        A function (channels, array of the tile's type, arguments).
    """
    work = inner(work)

    @inner
    def for_all(channels, like, arguments):
        for first in range(0, channels - 3, ROWS):
            work(first, zeros(like, 8), *arguments)
        first = channels - channels % ROWS
        if channels % ROWS == 3:
            work(first, zeros(like, 6), *arguments)
        elif channels % ROWS == 2:
            work(first, zeros(like, 4), *arguments)
        elif channels % ROWS == 1:
            work(first, zeros(like, 2), *arguments)

    return for_all


@register_jitable
def _take(memory, start, count):
    """Return `count` numbers from `start` on, and the cache line after them."""
    return memory[start : start + count], start + (count + _LINE - 1) // _LINE * _LINE


@register_jitable
def padded(channels):
    return (channels + VECTOR - 1) // VECTOR * VECTOR


@register_jitable
def winners_apart(y):
    """Return how far the winners of two images are apart: no power of two, or their cache lines
    would drive each other out.
    """
    return y.size * y.size * y.channels + _LINE


@register_jitable
def _images(memory, start, channels, size, pitch):
    area = (size + 2) * (size + 2) * BLOCK
    lanes, start = _take(memory, start, channels * area)
    pixels, start = _take(memory, start, area * pitch)
    gradient, start = _take(memory, start, area * pitch)
    return Images(channels, size, pitch, lanes, pixels, gradient), start


@register_jitable
def _stage(memory, start, x, y, pool):
    taps, start = _take(memory, start, y.channels * 9 * x.channels)
    backward, start = _take(memory, start, y.channels * 9 * x.pitch)
    slopes, start = _take(memory, start, y.pitch * 9 * x.pitch)
    bias_slopes, start = _take(memory, start, y.pitch)
    winners, start = _take(memory, start, winners_apart(y) * BLOCK)
    return Stage(pool, taps, backward, slopes, bias_slopes, winners), start


@register_jitable
def carve(memory, channels, width, size, classes):
    """Return the images before each stage and after the last, the stages, and the memory used."""
    x0, start = _images(memory, 0, channels, size, channels)
    x1, start = _images(memory, start, width, size, padded(width))
    x2, start = _images(memory, start, 2 * width, size // 2, padded(2 * width))
    x3, start = _images(memory, start, 4 * width, size // 4, padded(4 * width))
    x4, start = _images(memory, start, 8 * width, 1, padded(8 * width))
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
    for row in range(y.channels * 9):
        for i in range(x.channels):  # the rest of the pitch is zero from the beginning
            stage.backward[row * x.pitch + i] = weights[row * x.channels + i]


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
            target = ((n * side + i + 1) * side + 1) * x.channels
            for k in range(line):
                x.pixels[target + k] = images[source + k]
    to_lanes(x.channels, x.lanes, (x, x.pixels))


@inner
def write(x, gradient, start, count):
    """Take the gradient out of its layout, into [B, S, S, channels] from `start` on."""
    side, line = x.size + 2, x.size * x.channels
    for n in range(count):
        for i in range(x.size):
            source = ((n * side + i + 1) * side + 1) * x.channels
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
            tile = gather(values, pixel * x.pitch + first, area * x.pitch, nothing)
            store(x.lanes, (first * area + pixel) * BLOCK, area * BLOCK, tile)
