"""The ResNet18 family: residual networks of growing base width for small images."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from smoothdescent.kernels.batch_norm import ConvNorm
from smoothdescent.networks.compiled import Compilable


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut.

    The shortcut is the identity, or a 1x1 convolution with batch norm where shapes change.
    """

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = ConvNorm(before, after, 3, stride)
        self.second = ConvNorm(after, after, 3)
        same = stride == 1 and before == after
        self.shortcut = nn.Identity() if same else ConvNorm(before, after, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, before, H, W] to [N, after, H / stride, W / stride]."""
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


class ResNet18(Compilable):
    """A 3x3 stem with w channels, four stages of two basic blocks, and one linear layer.

    The stages have w, 2w, 4w and 8w channels; from the second on they begin with stride 2. The stem
    neither strides nor pools. Batch norm follows every convolution, so none has a bias. Global
    average pooling before the linear layer. PyTorch's default initialisation.

    Args:
        width: base width w >= 1.
        num_classes: number of outputs.
        in_channels: colour channels of the inputs, which may have any size.
        image_size: the one with which kernels are compared.
    """

    KERNELS = "residual_calls"
    WIDEST_COMPILED = 12  # at 16 both take the same time

    def __init__(self, width: int, num_classes: int, in_channels: int = 3, image_size: int = 32):
        super().__init__()
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        self.stem = ConvNorm(in_channels, width, 3)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    BasicBlock(before, after, stride=1 if stage == 0 else 2),
                    BasicBlock(after, after, stride=1),
                )
                for stage, (before, after) in enumerate(pairwise(channels))
            )
        )
        self.linear = nn.Linear(channels[-1], num_classes)
        self._width, self._image_size = width, image_size
        self._as_built = repr(self)

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Do the same with PyTorch's kernels."""
        x = self.stages(torch.relu(self.stem(x)))
        return self.linear(x.mean(dim=(2, 3)))

    def uses_compiled(self, x: torch.Tensor) -> bool:
        """Return whether images [N, C, H, W] are evaluated by compiled kernels."""
        return (
            super().uses_compiled(x)
            and x.shape[2] == x.shape[3]
            and x.shape[1] == self.stem.convolution.in_channels
            and not any(module.training for module in self.modules())
        )

    def _can_be_compiled(self) -> bool:
        return type(self) is ResNet18 and super()._can_be_compiled()
