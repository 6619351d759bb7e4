"""What networks with compiled kernels share: which kernels they use, and when."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

COMPILED, TORCH = "compiled", "torch"  # kernels


class Compilable(nn.Module):
    """A network that compiled kernels may compute where they are faster; see `choose_kernels`.

    Its class has a `WIDEST_COMPILED`, the base width up to which they are tried, and the methods
    `_calls`, `_width` and `_image_size`. Its last layer is `linear`.
    """

    def __init__(self):
        super().__init__()
        self.kernels = TORCH

    def choose_kernels(self, wanted: str | None = None) -> None:
        """Use from now on the kernels that are faster on this machine.

        Args:
            wanted: those that a run was begun with. It keeps to them, because others round
                differently, unless this process lacks them.
        """
        compiled = self._can_be_compiled() and wanted != TORCH
        if compiled and wanted != COMPILED:
            compiled = self._calls().are_faster(self, self._image_size)
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
        return self._calls().input_gradients(self, x, labels) if self.uses_compiled(x) else None

    def training_step(self, optimizer: torch.optim.Optimizer) -> Callable[..., None] | None:
        """Return a compiled step of training, a `TrainingStep`; None if there is none.

        Args:
            optimizer: over the network's parameters.
        """
        if self.kernels != COMPILED or not self._can_be_compiled():
            return None
        step = self._calls().TrainingStep
        return step(self, optimizer) if step.can_take(self, optimizer) else None

    def _calls(self) -> ModuleType | None:
        """Import the compiled kernels; None without numba, whose import takes long."""
        raise NotImplementedError

    def _can_be_compiled(self) -> bool:
        """Return whether the network is still as it was built, and in a process of one thread."""
        weight = self.linear.weight
        return (
            repr(self) == self._as_built
            and not any(m._forward_hooks or m._forward_pre_hooks for m in self.modules())
            and self._width <= self.WIDEST_COMPILED
            and weight.device.type == "cpu"
            and weight.dtype in (torch.float32, torch.float64)
            and torch.get_num_threads() == 1
            and self._calls() is not None
        )
