"""The ConvNet family: the five-layer CNN of Nakkiran et al. without batch norm."""

from __future__ import annotations

import functools
from itertools import pairwise
from types import ModuleType

import torch
from torch import nn

from smoothdescent.errors import UserError

WIDEST_LANES = 8  # base width up to which they were measured to be the faster ones
SMALLEST_IMAGE = 8  # three 2x2 poolings leave one pixel


class ConvNet(nn.Module):
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [N, C, H, W] to logits [N, num_classes]."""
        first, second, third, fourth = self.convolutions
        if self._fits_lanes(x):
            lanes = kernels()
            x = lanes.to_lanes(x)
            x = lanes.stage(x, first.weight, first.bias)
            x = lanes.stage(x, second.weight, second.bias, pool=2)
            x = lanes.stage(x, third.weight, third.bias, pool=2)
            pool = self.last_pool.kernel_size
            x = lanes.stage(x, fourth.weight, fourth.bias, pool=pool, border=0)
            return self.linear(x.flatten(0, 2).t())
        # Pooling before ReLU is the same function as after it, with a quarter of the ReLUs.
        x = torch.relu(first(x))
        x = torch.relu(self.pool(second(x)))
        x = torch.relu(self.pool(third(x)))
        x = torch.relu(self.last_pool(fourth(x)))
        return self.linear(x.flatten(1))

    def _fits_lanes(self, x: torch.Tensor) -> bool:
        """Return whether the kernels for few channels can take these images, and are faster."""
        return (
            x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.float64)
            and self.convolutions[0].out_channels <= WIDEST_LANES
            and torch.get_num_threads() == 1
            and not torch.is_autocast_enabled("cpu")
            and kernels() is not None
            and self.last_pool.kernel_size <= kernels().LARGEST_POOL
        )


@functools.cache
def kernels() -> ModuleType | None:
    """Import the kernels for few channels; None without numba, whose import takes long."""
    try:
        from smoothdescent.kernels import lanes
    except ImportError:  # PyTorch's convolutions do the same more slowly
        return None
    return lanes
