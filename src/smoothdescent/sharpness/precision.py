"""Full precision around the engine, whatever the training's settings were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from smoothdescent.devices import tf32


@contextlib.contextmanager
def full_precision(device: torch.device | str = "cpu") -> Iterator[None]:
    """Compute matrix products and convolutions in full float32 inside the block.

    TF32 and the reduced precisions of float32 kernels are off, autocast is off, and gradients are
    recorded even under `torch.no_grad`. Convolutions are chosen by rule, not by timing, among those
    that repeat every bit: the Hessian is a difference of gradients that agree to three digits. On
    leaving, every setting is what it was. Threads take turns in such blocks.

    Args:
        device: where the computation runs; autocast is switched off for its type.
    """
    cudnn = torch.backends.cudnn
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(torch.device(device).type, enabled=False))
        stack.enter_context(tf32(False))
        before = cudnn.benchmark, cudnn.deterministic
        try:
            cudnn.benchmark, cudnn.deterministic = False, True
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that lacks it."""
    return torch.float32 if device.type == "mps" else torch.float64
