"""The device a job computes on, and how many threads it may use."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from smoothdescent.errors import UserError


def choose_device(device: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`: of several GPUs the one with the fewest jobs.

    Raises:
        UserError: `cuda` was asked for and no CUDA device is visible.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device is 'cuda', but no CUDA device is visible (CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')!r}); expected 'auto' or 'cpu' here"
        )
    if device == "cuda":
        return torch.device("cuda", least_used(torch.cuda.device_count()))
    return torch.device(device)


_held: list[IO[str]] = []


def least_used(gpus: int, folder: Path | None = None) -> int:
    """Return the GPU with the fewest of this user's jobs, and count this process to it.

    Snakemake counts GPUs but assigns none. On a cluster a job sees its own alone; on a workstation
    jobs spread themselves here. Each holds a locked file, a place on a GPU, until its process ends.

    Args:
        gpus: how many this process sees.
        folder: of the locked files, on a local disk; default: in the temporary folder.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"smoothdescent-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for place, gpu in ((place, gpu) for place in itertools.count() for gpu in range(gpus)):
        file = (folder / f"gpu{gpu}-{place}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _held.append(file)
        return gpu
    raise AssertionError("places never end")


def describe(device: torch.device) -> str:
    """Return a device's name for a table's metadata, such as 'cuda (NVIDIA H100)'."""
    if device.type != "cuda":
        return device.type
    return f"cuda ({torch.cuda.get_device_name(device)})"


def set_threads(threads: int) -> None:
    """Let this process use `threads` CPU threads.

    A CPU run is bit-identical only for one thread count: reductions are split among the threads.
    """
    if threads < 1:
        raise UserError(f"--threads is {threads}, expected at least 1")
    torch.set_num_threads(threads)


def prepare_training(device: torch.device, threads: int) -> None:
    """Let this process train on a device, in full float32, with `threads` CPU threads."""
    set_threads(threads)
    _set_tf32(False, False)  # it is PyTorch's default for convolutions on GPUs
    if device.type == "cuda":
        # Batches have one or two sizes: choosing the fastest convolutions for them pays.
        torch.backends.cudnn.benchmark = True
    keep_pages(device)


@contextlib.contextmanager
def tf32(enabled: bool = True) -> Iterator[None]:
    """Compute float32 products in TF32 inside the block if `enabled`, else in full float32.

    TF32 is a mode of NVIDIA GPUs that rounds factors to 10 bits; elsewhere it changes nothing.
    """
    before = _tf32()
    _set_tf32(enabled, enabled)
    try:
        yield
    finally:
        _set_tf32(*before)


def _tf32() -> tuple[bool, bool]:
    """Return whether matrix products and convolutions of float32 numbers are computed in TF32."""
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        # torch >= 2.9: reading an older switch is an error once a new one was written.
        return matmul.fp32_precision == "tf32", convolutions.conv.fp32_precision == "tf32"
    return matmul.allow_tf32, convolutions.allow_tf32


def _set_tf32(matmul: bool, convolutions: bool) -> None:
    # Writing an older switch writes the new ones too, and leaves both kinds readable.
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = convolutions


def precision_in_force(precision: str, device: torch.device) -> str:
    """Return a training's precision on a device: TF32 is full float32 where there is none."""
    return "float32" if precision == "tf32" and device.type != "cuda" else precision


def keep_pages(device: torch.device) -> None:
    """Let the C library keep freed memory instead of returning it to the kernel after each batch.

    glibc keeps up to twice the size of the largest block that was allocated and freed on its own,
    32 MiB at most. Without this, faulting the same pages in again costs up to a third of the time
    of a narrow network.
    """
    if device.type == "cpu":
        torch.empty(31 * 2**20, dtype=torch.uint8)
