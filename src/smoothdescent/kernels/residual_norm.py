"""Batch norm, addition and ReLU of a ResNet, forward and backward, a channel at a time.

In training a channel is normalised by its moments in the batch (Ioffe and Szegedy 2015). In
evaluation that is a fixed affine map of each channel, which is folded into the convolution before.
"""

from __future__ import annotations

import math

from smoothdescent.kernels.layout import BLOCK, inner
from smoothdescent.kernels.residual_layout import NONE
from smoothdescent.kernels.tiles import (
    add_products,
    filled,
    load,
    pass_rectified,
    plus,
    rectify,
    store,
    total,
    zeros,
)


@inner
def normalise(layer, c, mask, count, parameters, eps, memory, moments):
    """Normalise a channel of y, add and rectify what the layer says, and put it into z."""
    size, side, outputs = layer.size, layer.size + 2, layer.outputs
    number = memory.dtype.type
    area = size * size
    sums = zeros(memory, 2)
    for n in range(len(mask) // BLOCK):
        at = layer.y + (n * outputs + c) * area * BLOCK
        for p in range(area):
            sums = plus(sums, load(memory, at + p * BLOCK, 2))
    mean = total(sums) / number(count * area)
    sums = zeros(memory, 2)
    for n in range(len(mask) // BLOCK):
        at = layer.y + (n * outputs + c) * area * BLOCK
        minus_mean = add_products(zeros(memory, 2), load(mask, n * BLOCK, 2), filled(sums, -mean))
        for p in range(area):
            centred = plus(load(memory, at + p * BLOCK, 2), minus_mean)
            sums = add_products(sums, centred, centred)
    variance = total(sums) / number(count * area)
    moments[layer.moments + c], moments[layer.moments + outputs + c] = mean, variance
    scale, shift = _affine(layer, c, mean, variance, eps, parameters)
    factor = filled(sums, scale)
    for n in range(len(mask) // BLOCK):
        at = layer.y + (n * outputs + c) * area * BLOCK
        constant = add_products(zeros(memory, 2), load(mask, n * BLOCK, 2), filled(sums, shift))
        for i in range(size):
            pixel = (((n * outputs + c) * side + i + 1) * side + 1) * BLOCK
            for _ in range(size):
                z = add_products(constant, load(memory, at, 2), factor)
                if layer.added != NONE:
                    z = plus(z, load(memory, layer.added + pixel, 2))
                if layer.rectified:
                    z = rectify(z)
                store(memory, layer.z + pixel, 0, z)
                at += BLOCK
                pixel += BLOCK


@inner
def _affine(layer, c, mean, variance, eps, parameters):
    """Return what batch norm multiplies a channel with, and what it adds then."""
    at = layer.weights + layer.inputs * layer.outputs * layer.taps * layer.taps + c
    number = parameters.dtype.type
    scale = parameters[at] / number(math.sqrt(variance + eps))
    return scale, parameters[at + layer.outputs] - mean * scale


@inner
def normalise_back(layer, c, mask, count, parameters, eps, memory, moments, gradients):
    """Take a channel's gradient from z to y, into the scratch, and that of scale and shift.

    dL/dy = scale / sigma * (g - mean(g) - y_hat * mean(g * y_hat)), g where ReLU lets it pass.
    """
    slopes, scratch = gradients
    size, side, outputs = layer.size, layer.size + 2, layer.outputs
    number = memory.dtype.type
    mean, variance = moments[layer.moments + c], moments[layer.moments + outputs + c]
    scale, _ = _affine(layer, c, mean, variance, eps, parameters)
    sums, projection = zeros(memory, 2), zeros(memory, 2)
    for n in range(len(mask) // BLOCK):
        at = (n * outputs + c) * size * size * BLOCK
        minus_mean = add_products(zeros(memory, 2), load(mask, n * BLOCK, 2), filled(sums, -mean))
        for i in range(size):
            pixel = layer.z + (((n * outputs + c) * side + i + 1) * side + 1) * BLOCK
            for _ in range(size):
                gradient = load(memory, layer.gradient + at, 2)
                if layer.rectified:
                    gradient = pass_rectified(load(memory, pixel, 2), gradient)
                    store(memory, layer.gradient + at, 0, gradient)
                sums = plus(sums, gradient)
                centred = plus(load(memory, layer.y + at, 2), minus_mean)
                projection = add_products(projection, gradient, centred)
                at += BLOCK
                pixel += BLOCK
    inverse = number(1 / math.sqrt(variance + eps))
    of_scale, of_shift = total(projection) * inverse, total(sums)
    at = layer.weights + layer.inputs * outputs * layer.taps * layer.taps + c
    slopes[at], slopes[at + outputs] = of_scale, of_shift
    pixels = number(count * size * size)
    slope = -scale * of_scale * inverse / pixels
    constant = -scale * of_shift / pixels - slope * mean
    factor, slope_of_y = filled(sums, scale), filled(sums, slope)
    for n in range(len(mask) // BLOCK):
        at = (n * outputs + c) * size * size * BLOCK
        offset = add_products(zeros(memory, 2), load(mask, n * BLOCK, 2), filled(sums, constant))
        for i in range(size):
            pixel = scratch + (((n * outputs + c) * side + i + 1) * side + 1) * BLOCK
            for _ in range(size):
                result = add_products(offset, load(memory, layer.y + at, 2), slope_of_y)
                gradient = load(memory, layer.gradient + at, 2)
                store(memory, pixel, 0, add_products(result, gradient, factor))
                at += BLOCK
                pixel += BLOCK


@inner
def fold(layer, eps, moments, parameters):
    """Fold batch norm into the weights and, in place of its shift, a bias."""
    row = layer.inputs * layer.taps * layer.taps
    for o in range(layer.outputs):
        mean, variance = moments[layer.moments + o], moments[layer.moments + layer.outputs + o]
        scale, shift = _affine(layer, o, mean, variance, eps, parameters)
        for k in range(layer.weights + o * row, layer.weights + (o + 1) * row):
            parameters[k] *= scale
        parameters[layer.weights + layer.outputs * (row + 1) + o] = shift


@inner
def rectify_back(layer, scratch, memory):
    """Take the gradient of one block through ReLU, where it stays and into the scratch."""
    size, side = layer.size, layer.size + 2
    at = layer.gradient
    for c in range(layer.outputs):
        for i in range(size):
            pixel = ((c * side + i + 1) * side + 1) * BLOCK
            for _ in range(size):
                gradient = load(memory, at, 2)
                if layer.rectified:
                    gradient = pass_rectified(load(memory, layer.z + pixel, 2), gradient)
                    store(memory, at, 0, gradient)
                store(memory, scratch + pixel, 0, gradient)
                at += BLOCK
                pixel += BLOCK


@inner
def clear_border(at, planes, size, memory):
    """Put zeros around images, which lie one after the other."""
    side = size + 2
    for _ in range(planes):
        row = side * BLOCK
        memory[at : at + row] = 0
        for i in range(1, size + 1):
            memory[at + i * row : at + i * row + BLOCK] = 0
            memory[at + (i + 1) * row - BLOCK : at + (i + 1) * row] = 0
        memory[at + (side - 1) * row : at + side * row] = 0
        at += side * row
