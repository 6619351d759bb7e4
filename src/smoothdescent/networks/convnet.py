"""The ConvNet family: the five-layer CNN of Nakkiran et al. without batch norm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import torch
from torch import nn

from smoothdescent.errors import UserError

WIDEST_COMPILED = 32  # base width; none beyond was seen to gain from compiled kernels
COMPILED, TORCH = "compiled", "torch"  # kernels
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
        self.kernels = TORCH
        self._image_size = image_size
        self._as_built = repr(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [N, C, H, W] to logits [N, num_classes]."""
        if not torch.is_grad_enabled() and self.uses_compiled(x):
            return calls().logits(self, x)
        return self.layers(x)

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Do the same with PyTorch's kernels."""
        first, second, third, fourth = self.convolutions
        # Pooling before ReLU is the same function as after it, with a quarter of the ReLUs.
        x = torch.relu(first(x))
        x = torch.relu(self.pool(second(x)))
        x = torch.relu(self.pool(third(x)))
        x = torch.relu(self.last_pool(fourth(x)))
        return self.linear(x.flatten(1))

    def choose_kernels(self, wanted: str | None = None) -> None:
        """Use from now on the kernels that are faster on this machine.

        Args:
            wanted: those that a run was begun with. It keeps to them, because others round
                differently, unless this process lacks them.
        """
        compiled = self._can_be_compiled() and wanted != TORCH
        if compiled and wanted != COMPILED:
            compiled = calls().are_faster(self, self._image_size)
        self.kernels = COMPILED if compiled else TORCH

    def uses_compiled(self, x: torch.Tensor) -> bool:
        """Return whether images [N, C, H, W] are evaluated by compiled kernels."""
        return (
            self.kernels == COMPILED
            and x.dtype == self.linear.weight.dtype
            and x.device.type == "cpu"
            and torch.get_num_threads() == 1
            and not torch.is_autocast_enabled("cpu")
        )

    def input_gradients(
        self, x: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return logits and each image's gradient of its own cross-entropy; None if not compiled.

        Args:
            x: [N, C, H, W].
            labels: int64 [N].
        """
        return calls().input_gradients(self, x, labels) if self.uses_compiled(x) else None

    def training_step(self, optimizer: torch.optim.Optimizer) -> Callable[..., None] | None:
        """Return a compiled step of training, `kernels.calls.TrainingStep`; None if there is none.

        Args:
            optimizer: over the network's parameters.
        """
        if self.kernels != COMPILED or not self._can_be_compiled():
            return None
        step = calls().TrainingStep
        return step(self, optimizer) if step.can_take(self, optimizer) else None

    def _can_be_compiled(self) -> bool:
        """Return whether the network is still as it was built, and in a process of one thread."""
        weight = self.linear.weight
        return (
            type(self) is ConvNet
            and repr(self) == self._as_built
            and not any(m._forward_hooks or m._forward_pre_hooks for m in self.modules())
            and self.convolutions[0].out_channels <= WIDEST_COMPILED
            and weight.device.type == "cpu"
            and weight.dtype in (torch.float32, torch.float64)
            and torch.get_num_threads() == 1
            and calls() is not None
        )


@functools.cache
def calls() -> ModuleType | None:
    """Import the compiled kernels; None without numba, whose import takes long."""
    try:
        from smoothdescent.kernels import calls
    except ImportError:  # PyTorch's kernels do the same more slowly
        return None
    return calls
