"""What networks with kernels of this program share: which kernels they use, and when."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import ClassVar

import torch
from torch import nn

from smoothdescent.progress import log

COMPILED, FUSED, TORCH = "compiled", "fused", "torch"  # kernels


class Compilable(nn.Module):
    """A network that compiled kernels may compute where they are faster; see `choose_kernels`.

    Its class says how PyTorch computes it (`layers`), in which module of `kernels` the compiled
    ones are (`KERNELS`), and up to which base width they are tried (`WIDEST_COMPILED`). It has a
    `_width` and an `_image_size`; its last layer is `linear`.
    """

    KERNELS: ClassVar[str]
    WIDEST_COMPILED: ClassVar[int]

    def __init__(self):
        super().__init__()
        self.kernels = TORCH

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [N, C, H, W] to logits [N, num_classes]."""
        if not torch.is_grad_enabled() and self.uses_compiled(x):
            return kernels(self.KERNELS).logits(self, x)
        return self.layers(x)

    def choose_kernels(self, wanted: str | None = None) -> None:
        """Use from now on the kernels that are faster on this machine.

        Args:
            wanted: those that a run was begun with. It keeps to them, because others round
                differently, unless this process lacks them.
        """
        if wanted == FUSED and self._can_be_fused():
            self.kernels = FUSED
            return
        compiled = self._can_be_compiled() and wanted != TORCH
        if compiled and wanted != COMPILED:
            compiled = kernels(self.KERNELS).are_faster(self, self._image_size)
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
        if not self.uses_compiled(x):
            return None
        return kernels(self.KERNELS).input_gradients(self, x, labels)

    def evaluated_together(self, x: torch.Tensor) -> int:
        """Return how many images [N, C, H, W] are evaluated at once: fewer take as long."""
        return kernels("layout").BLOCK if self.uses_compiled(x) else 1

    def training_step(self, optimizer: torch.optim.Optimizer) -> Callable[..., None] | None:
        """Return a compiled step of training, a `TrainingStep`; None if there is none.

        Args:
            optimizer: over the network's parameters.
        """
        if self.kernels != COMPILED or not self._can_be_compiled():
            return None
        step = kernels(self.KERNELS).TrainingStep
        return step(self, optimizer) if step.can_take(self, optimizer) else None

    def _can_be_fused(self) -> bool:
        """Return whether a GPU has `FUSED` kernels for the network; most have none."""
        return False

    def _is_as_built(self) -> bool:
        return repr(self) == self._as_built and not any(
            module._forward_hooks or module._forward_pre_hooks for module in self.modules()
        )

    def _can_be_compiled(self) -> bool:
        """Return whether the network is still as it was built, and in a process of one thread."""
        weight = self.linear.weight
        return (
            self._is_as_built()
            and self._width <= self.WIDEST_COMPILED
            and weight.device.type == "cpu"
            and weight.dtype in (torch.float32, torch.float64)
            and torch.get_num_threads() == 1
            and kernels(self.KERNELS) is not None
        )


def kernels_on(name: str, *tensors: torch.Tensor) -> ModuleType | None:
    """Return compiled kernels for tensors; None where PyTorch has to do the work.

    Kernels work on a CPU, and nothing can be differentiated through them.
    """
    can = all(tensor.device.type == "cpu" and not tensor.requires_grad for tensor in tensors)
    return kernels(name) if can else None


@functools.cache
def kernels(name: str) -> ModuleType | None:
    """Import kernels; None without numba or Triton, whose import takes long."""
    try:
        return importlib.import_module(f"smoothdescent.kernels.{name}")
    except ImportError as error:
        log(f"kernels.{name} is not used, PyTorch's kernels do the same more slowly: {error}")
        return None
