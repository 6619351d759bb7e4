"""Full precision around the engine, whatever the training's settings were."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch


@contextlib.contextmanager
def full_precision(device: torch.device | str = "cpu") -> Iterator[None]:
    """Compute matrix products and convolutions in full float32 inside the block.

    TF32 and the reduced precisions of float32 kernels are off, autocast is off, and gradients are
    recorded even under `torch.no_grad`. On leaving, every setting is what it was.

    Args:
        device: where the computation runs; autocast is switched off for its type.
    """
    switches = _switches()
    before = [read() for read, _, _ in switches]
    benchmark = torch.backends.cudnn.benchmark
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(torch.device(device).type, enabled=False))
        try:
            for _, write, value in switches:
                write(value)
            # The batches have few shapes: choosing the fastest convolution for each pays.
            torch.backends.cudnn.benchmark = True
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark
            for (_, write, _), value in zip(switches, before, strict=True):
                write(value)


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that lacks it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _switches() -> list[tuple[Callable[[], Any], Callable[[Any], None], Any]]:
    """Return how to read and to write each setting of this torch version, and its full value."""
    backends = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        # torch >= 2.9: reading the older switches after these were used is an error there.
        owners = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
        owners += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
        return [_attribute(owner, "fp32_precision", "ieee") for owner in owners]
    return [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        _attribute(backends.cudnn, "allow_tf32", False),
    ]


def _attribute(owner: Any, name: str, value: Any) -> tuple[Callable, Callable, Any]:
    return partial(getattr, owner, name), partial(setattr, owner, name), value
