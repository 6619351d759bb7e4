"""The ConvNets on a CPU: evaluation, input gradients or a training step in one compiled call.

PyTorch's convolutions fill a processor's vectors with channels, of which narrow networks have few.
Here a *block* of `BLOCK` images goes through the network together:

- forward in lanes (`kernels.layout`), so that vectors are full at any number of channels:
  convolution, maximum and ReLU are one pass, which remembers the place of each maximum, and sums
  stay in registers;
- backward as pixels: each maximum gives its gradient to one window of the image before, so a stage
  that pools costs a fraction of its forward pass, and no product with zero is computed.

The function is that of the plain layers up to rounding, in the order of PyTorch: of equal maxima
the first counts, and ReLU is flat at 0. S is the height and width of a stage's images. All arrays
are one-dimensional, in C order of the shapes given; weights of convolutions are [out, 3, 3, in].
"""

from __future__ import annotations

from functools import partial

import numpy as np

from smoothdescent.kernels.cache import cached
from smoothdescent.kernels.layout import (
    BLOCK,
    carve,
    clear,
    in_tiles,
    inner,
    pack,
    pack_tiles,
    pack_turned,
    padded,
    read,
    row_fits,
    row_length,
    to_lanes,
    winners_apart,
    write,
)
from smoothdescent.kernels.loss import loss
from smoothdescent.kernels.tiles import (
    VECTOR,
    add,
    add_window,
    filled,
    get,
    keep_larger,
    load,
    load_rows,
    multiply_add,
    multiply_add_window,
    plus,
    rectify,
    repeat,
    scatter,
    store,
    zeros,
)

# What a call computes.
LOGITS, INPUT_GRADIENTS, TRAINING_STEP = range(3)


@cached
def run(task, shape, images, labels, weights, memory, outputs, momenta, rate, momentum, sums):
    """Evaluate images, and take the gradients or the step that `task` says.

    Args:
        task: `LOGITS`, `INPUT_GRADIENTS` of each image's own loss, or a `TRAINING_STEP` of SGD.
        shape: B, S and channels.
        images: [B, S, S, channels], normalised.
        labels: int64 [B]; not read for `LOGITS`.
        weights: weight and bias of each convolution, [out, 3, 3, in] and [out], then of the last
            layer, [classes, in] and [classes]; a step changes them.
        memory: a `workspace`; what is in it does not matter.
        outputs: logits [B, classes], filled but by a step, and the gradient in the images
            [B, S, S, channels], filled for `INPUT_GRADIENTS`.
        momenta: the momentum buffers of a step, as `weights`.
        rate, momentum: of a step.
        sums: float64 [2]; a step adds the loss and the number of correct samples.
    """
    count, size, channels = shape
    w0, b0, w1, b1, w2, b2, w3, b3, w4, b4 = weights
    x, stages, linear, _ = carve(memory, channels, len(b0), size, len(b4))
    # Written out: a compiler takes long for what indexes a tuple in a loop.
    (x0, x1, x2, x3, x4), (s0, s1, s2, s3) = x, stages
    step, backward = task == TRAINING_STEP, task != LOGITS
    # Whether rows of windows fill the vectors of the first weights' gradient better than outputs.
    narrow = row_fits(channels) and 2 * len(b0) <= VECTOR
    pack_tiles(w0, s0.taps, len(b0), 9)
    pack(x1, x2, s1, w1)
    pack(x2, x3, s2, w2)
    pack(x3, x4, s3, w3)
    pack_tiles(w4, linear.taps, len(b4), 1)
    pack_turned(w0, s0.backward, channels, len(b0), 9)
    if step:
        clear(s0)
        clear(s1)
        clear(s2)
        clear(s3)
        linear.slopes[:] = 0
        linear.bias_slopes[:] = 0
    for start in range(0, count, BLOCK):
        block = min(BLOCK, count - start)
        read(images, start, block, x0)
        _forward(x1.channels, memory, (x0, x1, s0, b0, backward))
        _forward(x2.channels, memory, (x1, x2, s1, b1, backward))
        _forward(x3.channels, memory, (x2, x3, s2, b2, backward))
        _forward(x4.channels, memory, (x3, x4, s3, b3, backward))
        _logits(len(b4), memory, (x4, linear, b4))
        if not step:
            for k in range(block * len(b4)):
                outputs[0][start * len(b4) + k] = linear.logits[k]
        if backward:
            loss(linear.logits, labels[start : start + block], len(b4), count if step else 1, sums)
            _linear_gradients(x4, linear, w4, block, step)
            _gradients(x3, x4, s3, block, step)
            _gradients(x2, x3, s2, block, step)
            _gradients(x1, x2, s1, block, step)
            _mask(x1)
        if step:
            if narrow:
                _narrow_first_weight_gradient(x1.channels, memory, (x0, x1, s0, block))
            elif channels % 3 == 0:
                _first_weight_gradient(x0, x1, s0, zeros(memory, 9), block)
            else:
                _first_weight_gradient(x0, x1, s0, zeros(memory, 3), block)
        elif backward:
            to_lanes(x1.channels, memory, (x1, x1.gradient))
            _first_input_gradient(channels, memory, (x1, x0, s0))
            write(x0, outputs[1], start, block)
    if step:
        m0, n0, m1, n1, m2, n2, m3, n3, m4, n4 = momenta
        rates = memory.dtype.type(rate), memory.dtype.type(momentum)
        if narrow:
            _descend(w0, m0, s0.slopes, (3, channels), _row_steps(x0), rates)
        else:
            vector = padded(x1.pitch)
            apart = 3 * channels * vector, channels * vector, vector
            _descend(w0, m0, s0.slopes, (3, channels), (1, *apart), rates)
        _descend(w1, m1, s1.slopes, (3, x1.channels), _row_steps(x1), rates)
        _descend(w2, m2, s2.slopes, (3, x2.channels), _row_steps(x2), rates)
        _descend(w3, m3, s3.slopes, (3, x3.channels), _row_steps(x3), rates)
        _descend(w4, m4, linear.slopes, (1, x4.channels), (x4.channels, 0, 0, 1), rates)
        _descend(b0, n0, s0.bias_slopes, (1, 1), (1, 0, 0, 0), rates)
        _descend(b1, n1, s1.bias_slopes, (1, 1), (1, 0, 0, 0), rates)
        _descend(b2, n2, s2.bias_slopes, (1, 1), (1, 0, 0, 0), rates)
        _descend(b3, n3, s3.bias_slopes, (1, 1), (1, 0, 0, 0), rates)
        _descend(b4, n4, linear.bias_slopes, (1, 1), (1, 0, 0, 0), rates)


@in_tiles
def _forward(first, nothing, x, y, stage, bias, keep):
    """Convolve, take maxima, apply ReLU; `keep` what the backward pass needs."""
    side, pool = y.size + 2, stage.pool
    sums = repeat(bias, first, nothing)
    tap = first * x.channels * 9
    for i in range(y.size):
        for j in range(y.size):
            top, left = i * pool, j * pool
            best = _window(x, top, left, stage.taps, tap, sums)
            winners = filled(nothing, x.lanes.dtype.type((top * (x.size + 2) + left) * x.pitch))
            for k in range(1, pool * pool):
                a, b = top + k // pool, left + k % pool
                place = x.lanes.dtype.type((a * (x.size + 2) + b) * x.pitch)
                sums_there = _window(x, a, b, stage.taps, tap, sums)
                best, winners = keep_larger(best, winners, sums_there, place)
            best = rectify(best)
            pixel = (i + 1) * side + j + 1
            store(y.lanes, (first * side * side + pixel) * BLOCK, side * side * BLOCK, best)
            if keep:
                scatter(y.pixels, pixel * y.pitch + first, y.apart, best)
                if pool > 1:
                    at = (i * y.size + j) * y.channels + first
                    scatter(stage.winners, at, winners_apart(y), winners)


@inner
def _window(x, top, left, taps, tap, sums):
    """Add the products of the taps from `tap` on with the 3 x 3 pixels at a place of the border."""
    side = x.size + 2
    for i in range(x.channels):
        for r in range(3):
            at = ((i * side + top + r) * side + left) * BLOCK
            for c in range(3):
                sums = multiply_add(sums, load(x.lanes, at + c * BLOCK, 2), taps, tap)
                tap += len(sums) // 2
    return sums


@in_tiles
def _logits(first, nothing, x, linear, bias):
    sums = repeat(bias, first, nothing)
    tap = first * x.channels
    for f in range(x.channels):
        sums = multiply_add(sums, load(x.lanes, (9 * f + 4) * BLOCK, 2), linear.taps, tap)
        tap += len(sums) // 2
    scatter(linear.logits, first, len(bias), sums)


@inner
def _gradients(x, y, stage, count, step):
    """Take the gradients of the first `count` images through a stage that pools."""
    _mask(y)
    if row_fits(x.channels):
        if step:
            _weight_gradient(x, y, stage, zeros(x.pixels, 3), count)
        _input_gradient(x, y, stage, zeros(x.pixels, 3), count, VECTOR)
    else:
        if step:
            _weight_gradient(x, y, stage, zeros(x.pixels, 9), count)
        _input_gradient(x, y, stage, zeros(x.pixels, 9), count, 1)


@inner
def _linear_gradients(x, linear, weights, count, step):
    classes = len(linear.bias_slopes)
    for n in range(count):
        at = n * x.apart + 4 * x.pitch
        gradient = x.gradient[at : at + x.channels]
        features = x.pixels[at : at + x.channels]
        gradient[:] = 0
        for c in range(classes):
            slope = linear.logits[n * classes + c]
            row = weights[c * x.channels : (c + 1) * x.channels]
            for f in range(x.channels):
                gradient[f] += slope * row[f]
            if step:
                row = linear.slopes[c * x.channels : (c + 1) * x.channels]
                for f in range(x.channels):
                    row[f] += slope * features[f]
                linear.bias_slopes[c] += slope


@inner
def _mask(y):
    """Let no gradient pass where ReLU is flat."""
    zero = y.gradient.dtype.type(0)
    for k in range(len(y.gradient)):
        y.gradient[k] = y.gradient[k] if y.pixels[k] > 0 else zero


@inner
def _weight_gradient(x, y, stage, nothing, count):
    """Add to the slopes, for each maximum, its gradient times the window that it was made of."""
    row, length = (x.size + 2) * x.pitch, row_length(x)
    for n in range(count):
        for o in range(y.channels):
            total = x.pixels.dtype.type(0)
            for v in range(0, length, len(nothing) // 3 * VECTOR):
                sums = nothing
                for i in range(y.size):
                    for j in range(y.size):
                        slope, window = _winner(n, i, j, o, y, stage)
                        at = n * x.apart + window + v
                        sums = multiply_add_window(sums, x.pixels, at, row, slope)
                        total += slope if v == 0 else 0
                add(stage.slopes, 3 * o * length + v, length, sums, zeros(x.pixels, 3))
            stage.bias_slopes[o] += total


@inner
def _input_gradient(x, y, stage, nothing, count, together):
    """Give to the window of each maximum its gradient times the weights.

    Images take turns, so many `together`, where the vectors of neighbouring windows overlap: what
    has just been stored in part must reach the cache before it can be loaded.
    """
    row, length = (x.size + 2) * x.pitch, row_length(x)
    x.gradient[:] = 0
    for start in range(0, count, together):
        for o in range(y.channels):
            for i in range(y.size):
                for j in range(y.size):
                    for n in range(start, min(start + together, count)):
                        slope, window = _winner(n, i, j, o, y, stage)
                        for v in range(0, length, len(nothing) // 3 * VECTOR):
                            at, weights = n * x.apart + window + v, 3 * o * length + v
                            add_window(
                                x.gradient, at, row, stage.backward, weights, length, slope, nothing
                            )


@inner
def _winner(n, i, j, o, y, stage):
    """Return the gradient of a maximum, and where in its image the window begins that made it."""
    pixel = (i + 1) * (y.size + 2) + j + 1
    at = n * winners_apart(y) + (i * y.size + j) * y.channels + o
    return get(y.gradient, n * y.apart + pixel * y.pitch + o), np.intp(get(stage.winners, at))


@partial(in_tiles, columns=3)
def _narrow_first_weight_gradient(first, nothing, x, y, stage, count):
    """Add to the slopes of the first stage the sums over pixels, a tile of outputs at a time."""
    row, length = (x.size + 2) * x.pitch, row_length(x)
    for n in range(count):
        sums, total = nothing, zeros(y.gradient, 1)
        for i in range(x.size):
            for j in range(x.size):
                pixel = n * y.apart + ((i + 1) * (y.size + 2) + j + 1) * y.pitch
                at = n * x.apart + i * row + j * x.pitch
                window = load_rows(x.pixels, at, row, zeros(x.pixels, 3), 1)
                sums = multiply_add(sums, window, y.gradient, pixel + first)
                total = plus(total, load(y.gradient, pixel, 1))
        add(stage.slopes, 3 * first * length, length, sums, sums)
        if first == 0:
            add(stage.bias_slopes, 0, 0, total, total)


@inner
def _first_weight_gradient(x, y, stage, nothing, count):
    """Add to the slopes of the first stage the sums over pixels, a tile of inputs at a time."""
    side, rows = x.size + 2, len(nothing)
    for n in range(count):
        for r in range(3):
            for first in range(0, 3 * x.channels, rows):
                for v in range(0, y.pitch, VECTOR):
                    sums, total = nothing, zeros(y.gradient, 1)
                    for i in range(x.size):
                        for j in range(x.size):
                            pixel = n * y.apart + ((i + 1) * side + j + 1) * y.pitch
                            slopes = load(y.gradient, pixel + v, 1)
                            at = n * x.apart + ((i + r) * side + j) * x.channels + first
                            sums = multiply_add(sums, slopes, x.pixels, at)
                            total = plus(total, slopes)
                    at = (3 * r * x.channels + first) * padded(y.pitch) + v
                    add(stage.slopes, at, padded(y.pitch), sums, sums)
                    if r == 0 and first == 0:
                        add(stage.bias_slopes, v, 0, total, total)


@in_tiles
def _first_input_gradient(first, nothing, y, x, stage):
    side = x.size + 2
    for i in range(x.size):
        for j in range(x.size):
            tap = first * y.channels * 9
            sums = _window(y, i, j, stage.backward, tap, nothing)
            at = ((i + 1) * side + j + 1) * x.channels + first
            scatter(x.gradient, at, x.apart, sums)


@inner
def _descend(weights, momenta, slopes, shape, steps, rates):
    """Take the step of SGD, without dampening: momenta = momentum * momenta + gradient.

    Slopes whose indices of output, row of the window, column and input differ by one are `steps`
    apart.
    """
    side, inputs = shape
    rate, momentum = rates
    for o in range(len(weights) // (side * side * inputs)):
        for k in range(side * side):
            for i in range(inputs):
                at = (o * side * side + k) * inputs + i
                row, column = k // side, k % side
                slope = slopes[o * steps[0] + row * steps[1] + column * steps[2] + i * steps[3]]
                momenta[at] = momentum * momenta[at] + slope
                weights[at] -= rate * momenta[at]


@inner
def _row_steps(x):
    """Return the steps of `_descend` for slopes that lie in rows of windows."""
    return 3 * row_length(x), row_length(x), x.pitch, 1
