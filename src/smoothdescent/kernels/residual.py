"""The ResNets on a CPU: evaluation, input gradients, or all gradients of a batch in one call.

PyTorch's convolutions and batch norm fill a processor's vectors with channels, of which narrow
networks have few. Here images lie side by side (`kernels.residual_layout`), so that vectors are
full at any number of channels, forward and backward.

In training a layer is computed for the whole batch before the next one, because batch norm needs
the batch's moments. In evaluation a block of images goes through all layers together.

The function is that of the plain layers up to rounding; ReLU is flat at 0. S is the height and
width of a layer's images.
"""

from __future__ import annotations

import numpy as np

from smoothdescent.kernels.cache import cached
from smoothdescent.kernels.layout import BLOCK, inner
from smoothdescent.kernels.loss import loss
from smoothdescent.kernels.residual_convolution import (
    convolve,
    convolve_folded,
    input_gradient,
    pack,
    weight_gradient,
)
from smoothdescent.kernels.residual_layout import Layer
from smoothdescent.kernels.residual_norm import (
    clear_border,
    fold,
    normalise,
    normalise_back,
    rectify_back,
)


@cached
def train(plan, scratch, images, labels, parameters, eps, memory, moments, logits, slopes, sums):
    """Take the gradients of a batch's mean cross-entropy, in training mode.

    Args:
        plan: layers of `residual_layout.plan` for B images.
        scratch: see there.
        images: [B, S, S, channels], normalised.
        labels: int64 [B].
        parameters: those of all layers, then weight and bias of the last one.
        eps: of batch norm.
        memory: of the plan's size, zeros before the first call.
        moments: the mean and the variance of each channel in the batch, which divides by the
            number of pixels, are put there.
        logits: [B, classes], filled with the gradient in them.
        slopes: the gradients, as `parameters`; filled.
        sums: float64 [2]; the loss and the number of correct samples are added.
    """
    count = len(labels)
    slopes[:] = 0
    mask = _mask(memory, count)
    stem, last = _layer(plan, 0), _layer(plan, len(plan) - 1)
    linear = _after(last)
    classes = (len(parameters) - linear) // (last.outputs + 1)
    _read(stem, images, 0, count, memory)
    for k in range(len(plan)):
        layer = _layer(plan, k)
        pack(layer, parameters, memory)
        for n in range(len(mask) // BLOCK):
            convolve(layer.outputs, memory, (layer, n, memory))
        for c in range(layer.outputs):
            normalise(layer, c, mask, count, parameters, eps, memory, moments)
    features = _pool(last, count, memory)
    _logits(features, parameters, linear, logits, classes)
    loss(logits, labels, classes, count, sums)
    _linear_gradients(last, features, logits, parameters, linear, slopes, classes, memory)
    for k in range(len(plan) - 1, -1, -1):
        layer = _layer(plan, k)
        clear_border(scratch, layer.outputs * (len(mask) // BLOCK), layer.size, memory)
        for c in range(layer.outputs):
            gradients = slopes, scratch
            normalise_back(layer, c, mask, count, parameters, eps, memory, moments, gradients)
        weight_gradient(layer, (len(mask) // BLOCK, scratch, slopes, memory))
        if k > 0:
            for n in range(len(mask) // BLOCK):
                input_gradient(layer.inputs, memory, (layer, n, scratch, memory))


@cached
def evaluate(plan, scratch, images, labels, parameters, eps, memory, moments, logits, gradient):
    """Evaluate images in evaluation mode, and take each one's gradient of its own cross-entropy.

    Args:
        plan, scratch, memory: for one block of images.
        images, labels, parameters, eps: see `train`.
        moments: the running mean and variance of each channel.
        logits: [B, classes], filled.
        gradient: [B, S, S, channels], filled; if it is empty, no gradient is taken.
    """
    count = len(labels)
    stem, last = _layer(plan, 0), _layer(plan, len(plan) - 1)
    linear = _after(last)
    classes = (len(parameters) - linear) // (last.outputs + 1)
    folded = parameters.copy()
    for k in range(len(plan)):
        fold(_layer(plan, k), eps, moments, folded)
        pack(_layer(plan, k), folded, memory)
    unused = np.zeros(2), np.empty_like(parameters)
    for start in range(0, count, BLOCK):
        block = min(BLOCK, count - start)
        _read(stem, images, start, block, memory)
        for k in range(len(plan)):
            layer = _layer(plan, k)
            convolve_folded(layer.outputs, memory, (layer, folded, memory))
        features = _pool(last, block, memory)
        found = logits[start * classes : (start + block) * classes]
        _logits(features, folded, linear, found, classes)
        if len(gradient) == 0:
            continue
        found = found.copy()
        loss(found, labels[start : start + block], classes, 1, unused[0])
        _linear_gradients(last, features, found, folded, linear, unused[1], classes, memory)
        for k in range(len(plan) - 1, -1, -1):
            layer = _layer(plan, k)
            clear_border(scratch, layer.outputs, layer.size, memory)
            rectify_back(layer, scratch, memory)
            input_gradient(layer.inputs, memory, (layer, 0, scratch, memory))
        _write(stem, gradient, start, block, memory)


@inner
def _layer(plan, k):
    row = plan[k]
    return Layer(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9],
        row[10], row[11], row[12], row[13], row[14], row[15], row[16], row[17],
    )  # fmt: skip


@inner
def _after(last):
    """Return where the parameters of the linear layer begin."""
    return last.weights + last.outputs * (last.inputs * last.taps * last.taps + 2)


@inner
def _mask(memory, count):
    """Return [blocks, BLOCK]: 1 for an image, 0 for what fills the last block up."""
    mask = np.zeros((count + BLOCK - 1) // BLOCK * BLOCK, memory.dtype)
    mask[:count] = 1
    return mask


@inner
def _read(stem, images, start, count, memory):
    """Put images [B, S, S, channels] from `start` on into blocks."""
    size, channels = stem.size_in, stem.inputs
    side = size + 2
    for n in range(count):
        block, lane = n // BLOCK, n % BLOCK
        for i in range(size):
            for j in range(size):
                source = (((start + n) * size + i) * size + j) * channels
                for c in range(channels):
                    plane = (block * channels + c) * side
                    at = stem.x + ((plane + i + 1) * side + j + 1) * BLOCK + lane
                    memory[at] = images[source + c]


@inner
def _write(stem, gradient, start, count, memory):
    """Take the gradient in one block of images to [B, S, S, channels] from `start` on."""
    area, channels = stem.size_in * stem.size_in, stem.inputs
    for n in range(count):
        for p in range(area):
            for c in range(channels):
                at = stem.gradient_in + (c * area + p) * BLOCK + n
                gradient[((start + n) * area + p) * channels + c] = memory[at]


@inner
def _pool(last, count, memory):
    """Return the means of the last images over their pixels, [B, channels]."""
    side = last.size + 2
    features = np.zeros((count, last.outputs), memory.dtype)
    for n in range(count):
        for c in range(last.outputs):
            plane = (n // BLOCK * last.outputs + c) * side
            for i in range(1, last.size + 1):
                for j in range(1, last.size + 1):
                    features[n, c] += memory[last.z + ((plane + i) * side + j) * BLOCK + n % BLOCK]
            features[n, c] /= last.size * last.size
    return features


@inner
def _logits(features, parameters, linear, logits, classes):
    count, channels = features.shape
    for n in range(count):
        for k in range(classes):
            value = parameters[linear + classes * channels + k]
            for f in range(channels):
                value += parameters[linear + k * channels + f] * features[n, f]
            logits[n * classes + k] = value


@inner
def _linear_gradients(last, features, logits, parameters, linear, slopes, classes, memory):
    """Take the gradients through the last layer and the mean over pixels."""
    count, channels = features.shape
    area = last.size * last.size
    gradient = np.empty(channels, memory.dtype)
    for n in range(count):
        gradient[:] = 0
        for k in range(classes):
            slope = logits[n * classes + k]
            at = linear + k * channels
            slopes[linear + classes * channels + k] += slope
            for f in range(channels):
                slopes[at + f] += slope * features[n, f]
                gradient[f] += slope * parameters[at + f]
        for f in range(channels):
            at = last.gradient + (n // BLOCK * channels + f) * area * BLOCK + n % BLOCK
            for p in range(area):
                memory[at + p * BLOCK] = gradient[f] / area
