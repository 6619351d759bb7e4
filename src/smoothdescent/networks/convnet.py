"""The ConvNet family: the five-layer CNN of Nakkiran et al. without batch norm."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from smoothdescent.errors import UserError
from smoothdescent.networks.compiled import FUSED, Compilable, kernels

SMALLEST_IMAGE = 8  # three 2x2 poolings leave one pixel


class ConvNet(Compilable):
    """Four 3x3 convolutions with w, 2w, 4w and 8w channels, max-pooling and one linear layer.

    Each convolution (stride 1, padding 1, bias) is followed by ReLU; 2x2 max-pooling follows stages
    2, 3 and 4; a last max-pooling takes the maximum over what is left. PyTorch's default
    initialisation.

    Args:
        width: base width w >= 1.
        num_classes: number of outputs.
        image_size: height and width of the inputs, a multiple of 8.
        in_channels: colour channels of the inputs.

    Raises:
        UserError: the image size is not a multiple of 8.
    """

    KERNELS = "calls"
    WIDEST_COMPILED = 32  # none beyond was seen to gain

    def __init__(self, width: int, num_classes: int, image_size: int, in_channels: int = 3):
        super().__init__()
        if image_size < SMALLEST_IMAGE or image_size % SMALLEST_IMAGE:
            raise UserError(
                f"network convnet: image_size is {image_size}, expected a multiple of "
                f"{SMALLEST_IMAGE}, because three 2x2 poolings halve it"
            )
        channels = [in_channels, width, 2 * width, 4 * width, 8 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, padding=1)
            for before, after in pairwise(channels)
        )
        self.pool = nn.MaxPool2d(2)
        # The pooling of stage 4 and the last one are one: a maximum of maxima.
        self.last_pool = nn.MaxPool2d(2 * image_size // SMALLEST_IMAGE)
        self.linear = nn.Linear(channels[-1], num_classes)
        self._width, self._image_size = width, image_size
        self._as_built = repr(self)

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Do the same with PyTorch's kernels."""
        if self.kernels == FUSED:
            return self._fused_layers(x)
        first, second, third, fourth = self.convolutions
        # Pooling before ReLU is the same function as after it, with a quarter of the ReLUs.
        x = torch.relu(first(x))
        x = torch.relu(self.pool(second(x)))
        x = torch.relu(self.pool(third(x)))
        x = torch.relu(self.last_pool(fourth(x)))
        return self.linear(x.flatten(1))

    def _fused_layers(self, x: torch.Tensor) -> torch.Tensor:
        fused = kernels("pooled_stage").bias_pool_relu
        windows = (1, self.pool.kernel_size, self.pool.kernel_size, self.last_pool.kernel_size)
        for convolution, window in zip(self.convolutions, windows, strict=True):
            x = functional.conv2d(x, convolution.weight, padding=1)
            x = fused(x, convolution.bias, window)
        return self.linear(x.flatten(1))

    def _can_be_fused(self) -> bool:
        weight = self.linear.weight
        return (
            type(self) is ConvNet
            and self._is_as_built()
            and weight.is_cuda
            and weight.dtype == torch.float32
            and kernels("pooled_stage") is not None
            and kernels("pooled_stage").can_be_used(weight.device)
        )

    def _can_be_compiled(self) -> bool:
        return type(self) is ConvNet and super()._can_be_compiled()
