"""The device a job computes on, and how many threads it may use."""

from __future__ import annotations

import os

import torch

from smoothdescent.errors import UserError


def choose_device(device: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    Raises:
        UserError: `cuda` was asked for and no CUDA device is visible.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device is 'cuda', but no CUDA device is visible (CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')!r}); expected 'auto' or 'cpu' here"
        )
    return torch.device(device)


def set_threads(threads: int) -> None:
    """Let this process use `threads` CPU threads.

    A CPU run is bit-identical only for one thread count: reductions are split among the threads.
    """
    if threads < 1:
        raise UserError(f"--threads is {threads}, expected at least 1")
    torch.set_num_threads(threads)


def use_full_float32() -> None:
    """Compute in full float32 on GPUs, where convolutions use TF32 by default."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def keep_pages(device: torch.device) -> None:
    """Let the C library keep freed memory instead of returning it to the kernel after each batch.

    glibc keeps up to twice the size of the largest block that was allocated and freed on its own,
    32 MiB at most. Without this, faulting the same pages in again costs up to a third of the time
    of a narrow network.
    """
    if device.type == "cpu":
        torch.empty(31 * 2**20, dtype=torch.uint8)
