"""The convolutions of a ResNet, forward and backward, on images that lie side by side.

- Sums over the window of a pixel stay in registers, for several output channels at a time.
- Their gradient in the images is a convolution with the window turned round; with a stride, each
  pixel has the windows that it is in.
- Their gradient in the weights is a sum over pixels and images, kept in registers too, for several
  outputs and a row of the window at a time.

`first` is the first of the channels of a tile, `nothing` a tile of zeros; see `layout.in_tiles`.
"""

from __future__ import annotations

import numpy as np

from smoothdescent.kernels.layout import BLOCK, ROWS, in_tiles, inner, pack_tiles, pack_turned
from smoothdescent.kernels.residual_layout import NONE
from smoothdescent.kernels.tiles import (
    VECTOR,
    add_outer,
    add_totals,
    load,
    load_rows,
    multiply_add,
    plus,
    rectify,
    repeat,
    store,
    zeros,
)


@inner
def pack(layer, parameters, memory):
    """Lay the weights of a layer out as sums of either direction read them."""
    area = layer.taps * layer.taps
    count = layer.inputs * layer.outputs * area
    weights = parameters[layer.weights : layer.weights + count]
    pack_tiles(weights, memory[layer.tiles : layer.tiles + count], layer.outputs, area)
    pack_turned(
        weights, memory[layer.turned : layer.turned + count], layer.inputs, layer.outputs, area
    )


@in_tiles
def convolve(first, nothing, layer, block, memory):
    """Put the sums of a convolution, [C, S, S, BLOCK], into y."""
    area = layer.size * layer.size
    at = layer.y + (block * layer.outputs + first) * area * BLOCK
    for i in range(layer.size):
        for j in range(layer.size):
            store(memory, at, area * BLOCK, _window(layer, block, i, j, first, memory, nothing))
            at += BLOCK


@in_tiles
def convolve_folded(first, nothing, layer, folded, memory):
    """Convolve one block with folded weights, add and rectify what the layer says."""
    side, row = layer.size + 2, layer.inputs * layer.taps * layer.taps
    plane = side * side * BLOCK
    bias = repeat(folded, layer.weights + layer.outputs * (row + 1) + first, nothing)
    for i in range(layer.size):
        at = first * plane + ((i + 1) * side + 1) * BLOCK
        for j in range(layer.size):
            z = _window(layer, 0, i, j, first, memory, bias)
            if layer.added != NONE:
                z = plus(z, load_rows(memory, layer.added + at, plane, nothing, 2))
            if layer.rectified:
                z = rectify(z)
            store(memory, layer.z + at, plane, z)
            at += BLOCK


@inner
def _window(layer, block, i, j, first, memory, sums):
    """Add the products of a window of x and the weights of the outputs from `first` on."""
    row = (layer.size_in + 2) * BLOCK
    plane = (layer.size_in + 2) * row
    tap = layer.tiles + first * layer.inputs * layer.taps * layer.taps
    at = layer.x + block * layer.inputs * plane + i * layer.stride * row + j * layer.stride * BLOCK
    if layer.taps == 3:
        return _window_of_nine(at, row, plane, layer.inputs, tap, memory, sums)
    at += row + BLOCK
    for _ in range(layer.inputs):
        sums = multiply_add(sums, load(memory, at, 2), memory, tap)
        tap += len(sums) // 2
        at += plane
    return sums


@inner
def _window_of_nine(at, row, plane, channels, tap, memory, sums):
    """Add the products of 3 x 3 pixels of each channel, the first of them at `at`, and weights."""
    for _ in range(channels):
        for r in range(3):
            for c in range(3):
                sums = multiply_add(sums, load(memory, at + r * row + c * BLOCK, 2), memory, tap)
                tap += len(sums) // 2
        at += plane
    return sums


@inner
def weight_gradient(layer, arguments):
    """Take the sums over pixels and images of gradient times window."""
    like = arguments[-1]
    for first in range(0, layer.outputs - 3, ROWS):
        _weight_gradients(first, zeros(like, 4), zeros(like, 12), layer, arguments)
    first = layer.outputs - layer.outputs % ROWS
    if layer.outputs % ROWS == 3:
        _weight_gradients(first, zeros(like, 3), zeros(like, 9), layer, arguments)
    elif layer.outputs % ROWS == 2:
        _weight_gradients(first, zeros(like, 2), zeros(like, 6), layer, arguments)
    elif layer.outputs % ROWS == 1:
        _weight_gradients(first, zeros(like, 1), zeros(like, 3), layer, arguments)


@inner
def _weight_gradients(first, rows, nothing, layer, arguments):
    """Do so for the outputs from `first` on, and a row of the window at a time."""
    blocks, scratch, slopes, memory = arguments
    found = np.empty((len(rows), 3), memory.dtype)
    outside = (3 - layer.taps) // 2  # a window of one pixel is the middle of a row of three
    for i in range(layer.inputs):
        for r in range(layer.taps):
            sums = nothing
            for n in range(blocks):
                where = first, n, i, r + outside
                sums = _row_sums(sums, rows, where, layer, scratch, memory)
            found[:] = 0
            add_totals(found.reshape(-1), 0, 3, 1, sums, rows)
            for o in range(len(rows)):
                for c in range(layer.taps):
                    tap = ((first + o) * layer.taps + r) * layer.taps + c
                    slopes[layer.weights + tap * layer.inputs + i] = found[o, c + outside]


@inner
def _row_sums(sums, rows, where, layer, scratch, memory):
    """Add the products of a block's gradients and the pixels in a row of their windows."""
    first, block, channel, r = where
    side, side_in = layer.size + 2, layer.size_in + 2
    plane, step = side * side * BLOCK, layer.stride * BLOCK
    for i in range(layer.size):
        at = scratch + (block * layer.outputs + first) * plane + ((i + 1) * side + 1) * BLOCK
        row = (block * layer.inputs + channel) * side_in + i * layer.stride + r
        pixel = layer.x + row * side_in * BLOCK
        for _ in range(layer.size):
            for v in range(0, BLOCK, VECTOR):
                slopes = load_rows(memory, at + v, plane, rows, 1)
                window = load_rows(memory, pixel + v, BLOCK, zeros(memory, 3), 1)
                sums = add_outer(sums, slopes, window)
            at += BLOCK
            pixel += step
    return sums


@in_tiles
def input_gradient(first, nothing, layer, block, scratch, memory):
    """Put the gradient in x, without a border, in its place, or add it to what is there."""
    size, side = layer.size_in, layer.size + 2
    row, plane = side * BLOCK, side * side * BLOCK
    at = layer.gradient_in + (block * layer.inputs + first) * size * size * BLOCK
    gradient = scratch + block * layer.outputs * plane
    tap = layer.turned + first * layer.outputs * layer.taps * layer.taps
    for i in range(size):
        for j in range(size):
            sums = nothing
            if layer.adds:
                sums = load_rows(memory, at, size * size * BLOCK, nothing, 2)
            if layer.taps == 3 and layer.stride == 1:
                pixel = gradient + (i * side + j) * BLOCK
                sums = _window_of_nine(pixel, row, plane, layer.outputs, tap, memory, sums)
            else:
                sums = _window_of_some(layer, i, j, gradient, tap, memory, sums)
            store(memory, at, size * size * BLOCK, sums)
            at += BLOCK


@inner
def _window_of_some(layer, i, j, at, tap, memory, sums):
    """Add the products of those gradients whose window has the pixel (i, j), and weights."""
    taps, stride, side = layer.taps, layer.stride, layer.size + 2
    padding, rows = taps // 2, len(sums) // 2
    for _ in range(layer.outputs):
        for r in range((i + padding) % stride, taps, stride):
            for c in range((j + padding) % stride, taps, stride):
                k, m = (i + padding - r) // stride, (j + padding - c) // stride
                pixel = at + ((k + 1) * side + m + 1) * BLOCK
                turned = tap + (taps * taps - 1 - r * taps - c) * rows
                sums = multiply_add(sums, load(memory, pixel, 2), memory, turned)
        tap += taps * taps * rows
        at += side * side * BLOCK
    return sums
