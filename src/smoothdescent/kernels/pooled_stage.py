"""A ConvNet's stage after its convolution, on a GPU: bias, max-pooling and ReLU in one kernel.

PyTorch reads and writes the convolution's output for each of the three. Here it is read once, and
its gradient is written once, without the atomic sums of PyTorch's. Compiled by Triton, which comes
with PyTorch for NVIDIA GPUs.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable
from torch.nn import functional

from smoothdescent.progress import log

_BLOCK = 256  # outputs of a program


@triton.jit
def _places(
    channels, height, width, count, LAST: tl.constexpr, WINDOW: tl.constexpr, BLOCK: tl.constexpr
):
    """Return outputs' places in memory, which are there, their channels, the places of their
    windows' first pixels, and how far apart pixels are downwards and to the right."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if LAST:  # channels vary fastest
        channel = place % channels
        pixel = place // channels
        column = pixel % width
        row = pixel // width  # of all images' rows
        right = channels
    else:
        column = place % width
        row = place // width  # of all images' and channels' rows
        channel = row // height % channels
        right = 1
    down = width * WINDOW * right
    first = row * WINDOW * down + column * WINDOW * right
    if LAST:
        first += channel
    return place, place < count, channel, first, down, right


@triton.jit
def _forward(
    x, bias, y, chosen, channels, height, width, count,
    LAST: tl.constexpr, WINDOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place, inside, channel, first, down, right = _places(
        channels, height, width, count, LAST, WINDOW, BLOCK
    )
    best = tl.load(x + first, inside).to(tl.float32)
    which = tl.full([BLOCK], 0, tl.int32)
    for k in range(1, WINDOW * WINDOW):
        pixel = first + (k // WINDOW) * down + (k % WINDOW) * right
        value = tl.load(x + pixel, inside).to(tl.float32)
        better = (value > best) | (value != value)  # the first of equal ones; NaN is kept
        best = tl.where(better, value, best)
        which = tl.where(better, k, which)
    best += tl.load(bias + channel, inside)
    tl.store(y + place, tl.where(best <= 0, 0.0, best), inside)
    if WINDOW > 1:
        tl.store(chosen + place, which, inside)


@triton.jit
def _backward(
    grad, chosen, x_grad, channels, height, width, count,
    LAST: tl.constexpr, WINDOW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place, inside, _, first, down, right = _places(
        channels, height, width, count, LAST, WINDOW, BLOCK
    )
    value = tl.load(grad + place, inside)
    which = tl.load(chosen + place, inside)
    for k in range(WINDOW * WINDOW):
        pixel = first + (k // WINDOW) * down + (k % WINDOW) * right
        tl.store(x_grad + pixel, tl.where(which == k, value, 0.0), inside)


def _launch(kernel, first, tensors, y, layout, window):
    count, (channels, height, width) = y.numel(), y.shape[1:]
    with torch.cuda.device_of(first):
        kernel[(triton.cdiv(count, _BLOCK),)](
            first, *tensors, channels, height, width, count,
            LAST=layout == torch.channels_last, WINDOW=window, BLOCK=_BLOCK,
        )  # fmt: skip


class _Stage(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, window):
        last = x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        x = x.contiguous(memory_format=layout)
        count, channels, height, width = x.shape
        shape = (count, channels, height // window, width // window)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        chosen = torch.empty_like(y, dtype=torch.int16) if window > 1 else None
        _launch(_forward, x, (bias, y, y if chosen is None else chosen), y, layout, window)
        ctx.layout, ctx.window = layout, window
        ctx.save_for_backward(y, chosen)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, chosen = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, y, 0).contiguous(memory_format=ctx.layout)
        bias_grad = grad.sum((0, 2, 3), dtype=torch.float32)
        if chosen is None:
            return grad, bias_grad, None
        count, channels, height, width = grad.shape
        shape = (count, channels, height * ctx.window, width * ctx.window)
        x_grad = torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=ctx.layout)
        _launch(_backward, grad, (chosen, x_grad), grad, ctx.layout, ctx.window)
        return x_grad, bias_grad, None


def bias_pool_relu(x: torch.Tensor, bias: torch.Tensor, window: int) -> torch.Tensor:
    """Return relu(max_pool(x + bias)).

    Args:
        x: float32 or bfloat16 [N, C, H, W], on a GPU, the convolution's output.
        bias: float32 [C].
        window: height, width and stride of the pooling, which divides H and W; 1: none.
    """
    if x.numel() >= 2**31:  # places are 32-bit numbers
        return functional.relu(functional.max_pool2d(x + bias[:, None, None], window))
    return _Stage.apply(x, bias, window)


@functools.cache
@torch.enable_grad()
def can_be_used(device: torch.device) -> bool:
    """Return whether the kernels compile and compute what PyTorch's modules do; tried once."""
    try:
        difference = max(
            _difference(device, layout, window)
            for layout in (torch.channels_last, torch.contiguous_format)
            for window in (1, 2, 8)
        )
    except Exception as error:  # Triton, its C compiler and its driver raise what they like
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    else:
        if difference < 1e-4:
            return True
        reason = f"they differ from PyTorch's by {difference:.1g}"
    log(f"bias, pooling and ReLU are not one kernel on {device}: {reason}")
    return False


def _difference(device: torch.device, layout: torch.memory_format, window: int) -> float:
    """Return the largest difference to PyTorch's modules, of outputs and gradients."""
    draw = torch.Generator().manual_seed(0)
    x, bias = torch.randn(5, 24, 16, 16, generator=draw), torch.randn(24, generator=draw)
    slope = torch.randn(5, 24, 16 // window, 16 // window, generator=draw).to(device)
    found = []
    for fused in (True, False):
        inputs = [x.to(device, memory_format=layout).requires_grad_()]
        inputs.append(bias.to(device).requires_grad_())
        if fused:
            y = bias_pool_relu(*inputs, window)
        else:
            y = functional.relu(functional.max_pool2d(inputs[0] + inputs[1][:, None, None], window))
        found.append([y.detach(), *torch.autograd.grad((y * slope).sum(), inputs)])
    return max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))
