"""3x3 convolutions of few channels on a CPU: the images of a batch lie side by side in memory.

PyTorch's convolutions fill a processor's vectors with channels, and one to eight channels leave
most of a vector empty. Here the batch is the innermost dimension, so that vectors are full for any
number of channels. Convolution, max-pooling and ReLU are one step, which remembers only the place
of each maximum. The function is the same up to rounding.

A tensor "in lanes" is [C, H + 2, W + 2, N], with a border of one pixel. Numba compiles the kernels
for the processor at hand when they are first called, and keeps them in a cache on disk.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch
from numba import njit
from torch.autograd.function import once_differentiable
from torch.nn import functional

from smoothdescent.progress import log

LARGEST_POOL = 15  # the places of a window are numbered in a byte

# Products may be fused into sums, and where they are reductions, sums reordered; NaN and infinity
# keep their meaning.
_SETTINGS = {"error_model": "numpy", "nogil": True}


def _kernel(*fastmath: str) -> Callable[[Callable], Callable]:
    """Return a decorator that compiles a kernel and keeps it in a cache where there is one."""
    settings = {"fastmath": set(fastmath), **_SETTINGS}

    def compiled(function: Callable) -> Callable:
        try:
            return njit(cache=_cached, **settings)(function)
        except RuntimeError:  # neither beside this file nor at home is a place to write
            _find_cache()
            return njit(cache=_cached, **settings)(function)

    return compiled


_cached = True


def _find_cache() -> None:
    """Cache in the user's part of the temporary folder from now on, or not at all."""
    global _cached
    folder = Path(tempfile.gettempdir()) / f"smoothdescent-numba-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # What is cached is run: nobody else may have made it, nor write into it.
        private = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        _cached = private and stat.S_ISDIR(found.st_mode) and os.access(folder, os.W_OK)
    except OSError:
        _cached = False
    if _cached:
        numba.config.CACHE_DIR = str(folder)
        log(f"kernels are cached in {folder}: neither the program's folder nor home is writable")
    else:
        log("kernels are compiled anew: no folder to cache them in is writable")


_compiled = _kernel("contract")
_reduction = _kernel("contract", "reassoc", "nsz")
# Compiled only as a part of its callers, which is much faster to compile.
_inlined = njit(inline="always")


def to_lanes(images: torch.Tensor) -> torch.Tensor:
    """Return images [N, C, H, W], best channels-last, in lanes, with a border of zeros."""
    count, channels, height, width = images.shape
    columns = images.permute(0, 2, 3, 1).reshape(count, -1).t().contiguous()
    lanes = columns.view(height, width, channels, count).permute(2, 0, 1, 3)
    return functional.pad(lanes, (0, 0, 1, 1, 1, 1))


def stage(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, pool: int = 1, border: int = 1
) -> torch.Tensor:
    """Convolve (3x3, padding 1), take maxima over pool x pool pixels, and apply ReLU.

    Args:
        x: [I, H + 2, W + 2, N], with a border of zeros.
        weight: [O, I, 3, 3].
        bias: [O].
        pool: divides H and W; at most `LARGEST_POOL`.
        border: of the result, 0 or 1.

    Returns:
        [O, H / pool + 2 border, W / pool + 2 border, N], a border being of zeros.
    """
    return _Stage.apply(x, weight, bias, pool, border)


class _Stage(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, pool, border):
        x = x.contiguous()
        outputs, (_, height, width, count) = len(weight), x.shape
        height, width = (height - 2) // pool, (width - 2) // pool
        y = x.new_empty(outputs, height + 2 * border, width + 2 * border, count)
        winner = x.new_empty(outputs, height, width, count, dtype=torch.uint8)
        taps = weight.detach().permute(0, 2, 3, 1).contiguous()
        _forward(x.numpy(), taps.numpy(), bias.detach().numpy(), y.numpy(), winner.numpy(), pool)
        ctx.save_for_backward(x, taps, winner)
        ctx.pool = pool
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, taps, winner = ctx.saved_tensors
        g = x.new_empty(len(taps), *x.shape[1:])
        _spread(gradient.contiguous().numpy(), winner.numpy(), g.numpy(), ctx.pool)
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            _input_gradient(g.numpy(), taps.numpy(), dx.numpy())
        if ctx.needs_input_grad[1]:
            dw, db = torch.zeros_like(taps), x.new_zeros(len(taps))
            _weight_gradient(x.numpy(), g.numpy(), dw.numpy(), db.numpy())
            dw = dw.permute(0, 3, 1, 2)
        return dx, dw, db, None, None


@_inlined
def _rows(x):
    """Return images in lanes as rows of pixels: [C, H + 2, (W + 2) N]."""
    return x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])


@_inlined
def _clear_border(x):
    x[:, 0] = 0
    x[:, -1] = 0
    x[:, :, 0] = 0
    x[:, :, -1] = 0


@_compiled
def _forward(x, taps, bias, y, winner, pool):
    """Fill `y`, the result of a stage, and `winner` [O, H / pool, W / pool, N].

    The winner is the place of the first maximum in its window, row by row; 255 if ReLU is flat.
    """
    outputs, height, width, n = winner.shape
    border = (y.shape[1] - height) // 2
    x = _rows(x)
    z = np.empty((outputs, pool, pool * width * n), x.dtype)  # convolved rows of one window
    if border:
        _clear_border(y)
    for i in range(height):
        for r in range(pool):
            for o in range(outputs):
                z[o, r] = bias[o]
            _convolve(x, taps, i * pool + r, z, r, 0, n)
        for o in range(outputs):
            for j in range(width):
                row, place = y[o, i + border, j + border], winner[o, i, j]
                row[:] = z[o, 0, j * pool * n : (j * pool + 1) * n]
                place[:] = 0
                for k in range(1, pool * pool):
                    start = (j * pool + k % pool) * n
                    candidate = z[o, k // pool, start : start + n]
                    for m in range(n):
                        better = candidate[m] > row[m]
                        row[m] = candidate[m] if better else row[m]
                        place[m] = k if better else place[m]
                for m in range(n):
                    flat = row[m] <= 0
                    row[m] = 0 if flat else row[m]
                    place[m] = 255 if flat else place[m]


@_compiled
def _spread(gradient, winner, g, pool):
    """Fill `g` [O, H + 2, W + 2, N] with the gradient of the winners, and 0 elsewhere."""
    outputs, height, width, n = winner.shape
    border = (gradient.shape[1] - height) // 2
    zero = g.dtype.type(0)
    _clear_border(g)
    for o in range(outputs):
        for i in range(height):
            for j in range(width):
                upper, place = gradient[o, i + border, j + border], winner[o, i, j]
                for k in range(pool * pool):
                    row = g[o, 1 + i * pool + k // pool, 1 + j * pool + k % pool]
                    for m in range(n):
                        row[m] = upper[m] if place[m] == k else zero


@_compiled
def _input_gradient(g, taps, dx):
    """Fill the interior of `dx`: the convolution of `g` with the kernels turned round."""
    outputs, _, _, inputs = taps.shape
    n = g.shape[3]
    turned = np.empty((inputs, 3, 3, outputs), g.dtype)
    for i in range(inputs):
        for k in range(9):
            turned[i, k // 3, k % 3] = taps[:, 2 - k // 3, 2 - k % 3, i]
    g, dx = _rows(g), _rows(dx)
    for r in range(g.shape[1] - 2):
        dx[:, r + 1] = 0
        _convolve(g, turned, r, dx, r + 1, n, n)


@_inlined
def _convolve(x, taps, row, out, to_row, start, n):
    """Add row `row` of a convolution of `x` to row `to_row` of `out`, from `start` on."""
    outputs, _, _, inputs = taps.shape
    # Four outputs at a time: each number that is loaded serves four products.
    for o in range(0, outputs - 3, 4):
        for i in range(inputs):
            _add_four(x, taps, row, out, to_row, start, n, o, i)
    for o in range(outputs - outputs % 4, outputs):
        for i in range(inputs):
            _add_one(x, taps, row, out, to_row, start, n, o, i)


@_inlined
def _add_four(x, taps, row, out, to_row, start, n, o, i):
    """Add what outputs o to o + 3 get from input i."""
    inner = slice(start, start + x.shape[2] - 2 * n)
    a, b = out[o, to_row, inner], out[o + 1, to_row, inner]
    c, d = out[o + 2, to_row, inner], out[o + 3, to_row, inner]
    x0, x1, x2, x3, x4, x5, x6, x7, x8 = _shifted(x, i, row, n)
    s0, s1, s2, s3, s4, s5, s6, s7, s8 = _nine(taps, o, i)
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = _nine(taps, o + 1, i)
    u0, u1, u2, u3, u4, u5, u6, u7, u8 = _nine(taps, o + 2, i)
    v0, v1, v2, v3, v4, v5, v6, v7, v8 = _nine(taps, o + 3, i)
    for p in range(len(a)):
        r0, r1, r2 = x0[p], x1[p], x2[p]
        e = a[p] + s0 * r0 + s1 * r1 + s2 * r2
        f = b[p] + t0 * r0 + t1 * r1 + t2 * r2
        g = c[p] + u0 * r0 + u1 * r1 + u2 * r2
        h = d[p] + v0 * r0 + v1 * r1 + v2 * r2
        r3, r4, r5 = x3[p], x4[p], x5[p]
        e = e + s3 * r3 + s4 * r4 + s5 * r5
        f = f + t3 * r3 + t4 * r4 + t5 * r5
        g = g + u3 * r3 + u4 * r4 + u5 * r5
        h = h + v3 * r3 + v4 * r4 + v5 * r5
        r6, r7, r8 = x6[p], x7[p], x8[p]
        a[p] = e + s6 * r6 + s7 * r7 + s8 * r8
        b[p] = f + t6 * r6 + t7 * r7 + t8 * r8
        c[p] = g + u6 * r6 + u7 * r7 + u8 * r8
        d[p] = h + v6 * r6 + v7 * r7 + v8 * r8


@_inlined
def _add_one(x, taps, row, out, to_row, start, n, o, i):
    """Add what output o gets from input i."""
    a = out[o, to_row, start : start + x.shape[2] - 2 * n]
    x0, x1, x2, x3, x4, x5, x6, x7, x8 = _shifted(x, i, row, n)
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = _nine(taps, o, i)
    for p in range(len(a)):
        e = a[p] + t0 * x0[p] + t1 * x1[p] + t2 * x2[p]
        e = e + t3 * x3[p] + t4 * x4[p] + t5 * x5[p]
        a[p] = e + t6 * x6[p] + t7 * x7[p] + t8 * x8[p]


@_inlined
def _nine(w, o, i):
    """Return the nine taps of the kernel from input i to output o, row by row."""
    return (
        *(w[o, 0, 0, i], w[o, 0, 1, i], w[o, 0, 2, i]),
        *(w[o, 1, 0, i], w[o, 1, 1, i], w[o, 1, 2, i]),
        *(w[o, 2, 0, i], w[o, 2, 1, i], w[o, 2, 2, i]),
    )


@_inlined
def _shifted(x, i, y, n):
    """Return what the nine taps of a kernel see when they fill row y, from input i."""
    m = x.shape[2] - 2 * n
    r, s, t = x[i, y], x[i, y + 1], x[i, y + 2]
    return (
        *(r[:m], r[n : n + m], r[2 * n :]),
        *(s[:m], s[n : n + m], s[2 * n :]),
        *(t[:m], t[n : n + m], t[2 * n :]),
    )


@_reduction
def _weight_gradient(x, g, dw, db):
    """Add to `dw` [O, 3, 3, I] and `db` [O] the sums over pixels of g times the shifted x."""
    outputs, _, _, inputs = dw.shape
    n = x.shape[3]
    x, g = _rows(x), _rows(g)
    length = x.shape[2] - 2 * n
    zero = x.dtype.type(0)
    for y in range(x.shape[1] - 2):
        # Two outputs at a time; a last one that is left is its own partner, and counted once.
        for o in range(0, outputs, 2):
            other = min(o + 1, outputs - 1)
            a, b = g[o, y + 1, n : n + length], g[other, y + 1, n : n + length]
            e, f = zero, zero
            for p in range(length):
                e += a[p]
                f += b[p]
            db[o] += e
            if other > o:
                db[other] += f
            for i in range(inputs):
                x0, x1, x2, x3, x4, x5, x6, x7, x8 = _shifted(x, i, y, n)
                u0 = u1 = u2 = u3 = u4 = u5 = u6 = u7 = u8 = zero
                v0 = v1 = v2 = v3 = v4 = v5 = v6 = v7 = v8 = zero
                for p in range(length):
                    e, f = a[p], b[p]
                    u0 += e * x0[p]
                    u1 += e * x1[p]
                    u2 += e * x2[p]
                    u3 += e * x3[p]
                    u4 += e * x4[p]
                    u5 += e * x5[p]
                    u6 += e * x6[p]
                    u7 += e * x7[p]
                    u8 += e * x8[p]
                    v0 += f * x0[p]
                    v1 += f * x1[p]
                    v2 += f * x2[p]
                    v3 += f * x3[p]
                    v4 += f * x4[p]
                    v5 += f * x5[p]
                    v6 += f * x6[p]
                    v7 += f * x7[p]
                    v8 += f * x8[p]
                for k, u in enumerate((u0, u1, u2, u3, u4, u5, u6, u7, u8)):
                    dw[o, k // 3, k % 3, i] += u
                if other > o:
                    for k, v in enumerate((v0, v1, v2, v3, v4, v5, v6, v7, v8)):
                        dw[other, k // 3, k % 3, i] += v
