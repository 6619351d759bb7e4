"""Where the images, sums and gradients of a ResNet lie in one array while kernels work on them.

Images lie in blocks of `BLOCK`, side by side within a block. One number of each is two vectors:

- what convolutions read has a border of zeros, their padding: [blocks, C, S + 2, S + 2, BLOCK];
- everything else has none: [blocks, C, S, S, BLOCK].

The last block may hold fewer images. Its other lanes stay zero, so that they add nothing to sums
over images; constants are multiplied by a mask before they are added.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from smoothdescent.kernels.layout import BLOCK

STAGES = 4
NONE = -1


class Layer(NamedTuple):
    """A convolution without bias, batch norm, and what follows; where its arrays begin.

    Attributes:
        inputs, outputs: channels.
        taps, stride: height and width of the convolution's window, and its stride.
        size_in, size: height and width of the images before and after.
        weights: [out, taps, taps, in], then scale and shift of batch norm, [out] each; among all
            parameters, as their gradients.
        tiles, turned: the weights in the order in which sums read them, and the gradient's sums.
        moments: mean and variance of each channel, [2, out], among those of all layers.
        x, y, z: the images before, the sums of the convolution, the images after it. x and z have
            a border.
        added: images with a border that are added before ReLU, or `NONE`.
        rectified: whether ReLU is the end.
        gradient, gradient_in: the loss's gradient in z and in x.
        adds: whether x has other uses, which have put their gradient into `gradient_in` before.
    """

    inputs: int
    outputs: int
    taps: int
    stride: int
    size_in: int
    size: int
    weights: int
    tiles: int
    turned: int
    moments: int
    x: int
    y: int
    z: int
    added: int
    rectified: bool
    gradient: int
    gradient_in: int
    adds: bool


@dataclass(frozen=True)
class Plan:
    """The layers of a network for a number of images.

    Attributes:
        described: the layers, in the order of evaluation.
        layers: the same as int64 [layers, attributes of `Layer`].
        scratch: where the gradient in the sums of one layer begins; it has a border.
        moments, memory: numbers in the array of the moments and in that of everything else.
    """

    described: tuple[Layer, ...]
    layers: np.ndarray
    scratch: int
    moments: int
    memory: int


class _Layers:
    """Lays layers out one after the other."""

    def __init__(self, blocks: int):
        self.layers: list[Layer] = []
        self.blocks, self.weights, self.moments, self.memory = blocks, 0, 0, 0

    def images(self, channels: int, size: int, border: int = 2) -> int:
        """Return where new images begin."""
        return self.room(self.blocks * channels * (size + border) ** 2 * BLOCK)

    def room(self, count: int) -> int:
        start = self.memory
        self.memory += -(-count // BLOCK) * BLOCK
        return start

    def parameters(self, inputs: int, outputs: int, taps: int) -> int:
        start = self.weights
        self.weights += outputs * (inputs * taps * taps + 2)
        return start

    def add(self, inputs: int, outputs: int, taps: int, stride: int, size_in: int, **other) -> int:
        """Add a layer, and return where its images begin."""
        size = -(-size_in // stride)
        weights = inputs * outputs * taps * taps
        z = self.images(outputs, size)
        layer = Layer(
            inputs,
            outputs,
            taps,
            stride,
            size_in,
            size,
            tiles=self.room(weights),
            turned=self.room(weights),
            moments=self.moments,
            y=self.images(outputs, size, border=0),
            z=z,
            **other,
        )
        self.moments += 2 * outputs
        self.layers.append(layer)
        return z


@functools.lru_cache
def plan(channels: int, width: int, size: int, count: int) -> Plan:
    """Lay out a ResNet.

    Args:
        channels: of the input.
        width: base width w.
        size: height and width of the input.
        count: images that go through the network together.
    """
    blocks = -(-count // BLOCK)
    net = _Layers(blocks)
    x = net.images(channels, size)
    gradient_in, gradient = net.images(channels, size, 0), net.images(width, size, 0)
    weights = net.parameters(channels, width, 3)
    x = net.add(
        channels, width, 3, 1, size, weights=weights, x=x, added=NONE, rectified=True,
        gradient=gradient, gradient_in=gradient_in, adds=False,
    )  # fmt: skip
    before = width
    for stage in range(STAGES):
        after, stride = width << stage, 1 if stage == 0 else 2
        for strides in (stride, 1):
            x, size, gradient = _block(net, x, before, after, strides, size, gradient)
            before = after
    scratch = net.room(max(_bordered(layer) for layer in net.layers) * blocks)
    table = np.array(net.layers, np.int64)
    return Plan(tuple(net.layers), table, scratch, net.moments, net.memory)


def _block(net, x, before, after, stride, size, gradient):
    """Lay out a basic block, and return images, size and gradient after it."""
    shrunk = -(-size // stride)
    same = stride == 1 and before == after
    first = net.parameters(before, after, 3)
    second = net.parameters(after, after, 3)
    between = net.images(after, shrunk, 0)
    # What is added to the second convolution has its gradient in the same place as their sum.
    gradient_out = gradient if same else net.images(after, shrunk, 0)
    added = x
    if not same:
        added = net.add(
            before, after, 1, stride, size, weights=net.parameters(before, after, 1), x=x,
            added=NONE, rectified=False, gradient=gradient_out, gradient_in=gradient, adds=True,
        )  # fmt: skip
    y = net.add(
        before, after, 3, stride, size, weights=first, x=x, added=NONE, rectified=True,
        gradient=between, gradient_in=gradient, adds=same,
    )  # fmt: skip
    z = net.add(
        after, after, 3, 1, shrunk, weights=second, x=y, added=added, rectified=True,
        gradient=gradient_out, gradient_in=between, adds=False,
    )  # fmt: skip
    return z, shrunk, gradient_out


def _bordered(layer: Layer) -> int:
    return layer.outputs * (layer.size + 2) ** 2 * BLOCK
