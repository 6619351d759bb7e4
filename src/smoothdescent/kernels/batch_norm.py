"""Batch norm that is fast for few channels on a CPU, and free in evaluation mode.

PyTorch's batch norm walks through channels-last images a pixel at a time; with 2 channels it takes
two thirds of the time of training a ResNet. Here several pixels form one row, so that sums and
products run over whole vectors; the function is the same. In evaluation mode batch norm is a fixed
affine map of each channel, which is folded into the convolution before it.

Narrow ResNets in one thread are compiled as a whole (`kernels.residual`); this is for wider ones,
for several threads and for processes without numba.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_ROW = 128  # numbers in a row, at most


class ConvNorm(nn.Module):
    """A convolution without bias, followed by batch norm.

    Args:
        before, after: channels of inputs and outputs.
        size: height and width of the kernel, which is padded to keep the image's size.
        stride: of the convolution.
    """

    def __init__(self, before: int, after: int, size: int, stride: int = 1):
        super().__init__()
        # PyTorch's backward pass of a 1x1 convolution with a stride writes outside its memory on
        # some CPUs (torch 2.14.1, channels-last, channels not a multiple of 8): the pixels that it
        # would skip are left out beforehand, which is the same function.
        self.skip = stride if size == 1 else 1
        self.convolution = nn.Conv2d(
            before, after, size, stride // self.skip, size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(after)
        self.folded = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, before, H, W] to [N, after, H / stride, W / stride]."""
        norm, convolution = self.norm, self.convolution
        if self.skip > 1:
            x = x[:, :, :: self.skip, :: self.skip]
        if norm.training:
            x = convolution(x)
            return _train_norm(x, norm) if _slow_in_pytorch(x) else norm(x)
        weight, bias = (self.weight, self.bias) if self.folded else self._fold()
        return functional.conv2d(x, weight, bias, convolution.stride, convolution.padding)

    @torch.no_grad()
    def fold(self) -> None:
        """Compute the weights of evaluations once, for a network that is trained no more."""
        weight, bias = self._fold()
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.folded = True

    def _fold(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights and the bias of the convolution with batch norm in it."""
        norm = self.norm
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.convolution.weight * scale[:, None, None, None]
        return weight, norm.bias - norm.running_mean * scale


def _slow_in_pytorch(x: torch.Tensor) -> bool:
    # Its loop over pixels needs multiples of the vector length, or one channel; measured: from
    # 2 to 30 other channels this one is 2 to 13 times faster, and slower everywhere else.
    channels = x.shape[1]
    return not x.is_cuda and 1 < channels < 32 and channels % 8 != 0


def _train_norm(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Normalise by the batch's moments, and update the running ones as PyTorch does."""
    pixels = x.numel() // x.shape[1]
    if pixels == 1:
        return norm(x)  # which says that there is no variance
    y, mean, variance = _BatchNorm.apply(x, norm.weight, norm.bias, norm.eps)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (pixels / (pixels - 1)), norm.momentum)
    return y


class _BatchNorm(torch.autograd.Function):
    """Batch norm of channels-last images, in rows of several pixels."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        rows, repeats = _rows(x)
        pixels = x.numel() // x.shape[1]
        mean = _per_channel(rows.sum(0), repeats) / pixels
        centred = rows - mean.repeat(repeats)
        variance = _per_channel(centred.square().sum(0), repeats) / pixels
        inverse = torch.rsqrt(variance + eps)
        y = torch.addcmul(bias.repeat(repeats), centred, (weight * inverse).repeat(repeats))
        ctx.save_for_backward(centred, weight, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return _images(y, x.shape), mean, variance

    @staticmethod
    def backward(ctx, grad, *_):
        centred, weight, inverse = ctx.saved_tensors
        rows, repeats = _rows(grad)
        pixels = grad.numel() // grad.shape[1]
        total = _per_channel(rows.sum(0), repeats)
        projection = _per_channel((rows * centred).sum(0), repeats)
        # dL/dx = weight / sigma * (g - mean(g) - x_hat * mean(g x_hat))
        scale = weight * inverse
        constant = -scale * total / pixels
        slope = -scale * inverse.square() * projection / pixels
        result = torch.addcmul(constant.repeat(repeats), centred, slope.repeat(repeats))
        result.addcmul_(rows, scale.repeat(repeats))
        return _images(result, grad.shape), projection * inverse, total, None


def _rows(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return images [N, C, H, W] as rows of several pixels, and how many pixels make a row."""
    count, channels, height, width = x.shape
    pixels = count * height * width
    repeats = 1
    while 2 * repeats * channels <= _ROW and pixels % (2 * repeats) == 0:
        repeats *= 2
    return x.permute(0, 2, 3, 1).reshape(-1, repeats * channels), repeats


def _images(rows: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    count, channels, height, width = shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _per_channel(sums: torch.Tensor, repeats: int) -> torch.Tensor:
    return sums.view(repeats, -1).sum(0)
