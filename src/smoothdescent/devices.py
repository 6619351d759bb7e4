"""The device a job computes on, and how many threads it may use."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

from smoothdescent.errors import UserError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


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
    # Another process may see other GPUs, and count from 0 too.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = [name.strip() for name in visible] if len(visible) == gpus else [*range(gpus)]
    for place, gpu in ((place, gpu) for place in itertools.count() for gpu in range(gpus)):
        file = (folder / f"gpu{names[gpu]}-{place}").open("w")
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


def kernel_choice(device: torch.device) -> dict[str, Any]:
    """Return what decides, beside a GPU's name, which of its kernels compute."""
    if device.type != "cuda":
        return {}
    cudnn = torch.backends.cudnn
    return {"cudnn": cudnn.version(), "deterministic": cudnn.deterministic}


def set_threads(threads: int) -> None:
    """Let this process use `threads` CPU threads.

    A CPU run is bit-identical only for one thread count: reductions are split among the threads.
    """
    if threads < 1:
        raise UserError(f"--threads is {threads}, expected at least 1")
    torch.set_num_threads(threads)


def prepare_training(device: torch.device, threads: int, deterministic: bool = False) -> None:
    """Let this process train on a device, in full float32, with `threads` CPU threads.

    Args:
        device: where.
        threads: CPU threads.
        deterministic: on a GPU, use kernels that repeat every bit, chosen without timing.
    """
    set_threads(threads)
    _write_products(False)  # TF32 is PyTorch's default for convolutions on GPUs
    if device.type == "cuda":
        # Batches have one or two sizes: choosing the fastest convolutions for them pays.
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.deterministic = deterministic
        if deterministic:
            # Read when the first matrix product is computed; without it, products on several
            # streams share a workspace and may differ.
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    keep_pages(device)


# Held while kernels are launched in a precision: its switches belong to the process.
_PRODUCTS = threading.RLock()


@contextlib.contextmanager
def tf32(enabled: bool = True) -> Iterator[None]:
    """Compute float32 products in TF32 inside the block if `enabled`, else in full float32.

    TF32 is a mode of NVIDIA GPUs that rounds factors to 10 bits; elsewhere it changes nothing. On
    leaving, every setting is what it was. Threads take turns in such blocks. A captured graph keeps
    the mode that it was captured in, and may be replayed outside.
    """
    with _PRODUCTS:
        before = _read_products()
        _write_products(enabled)
        try:
            yield
        finally:
            for write, value in before:
                write(value)


def _write_products(tf32: bool) -> None:
    # PyTorch has older and, since 2.9, newer switches, and refuses to read the older ones where
    # both disagree: a network that uses `cudnn.flags` does that.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    for owner, on_gpu in _newer_switches():
        owner.fp32_precision = "tf32" if tf32 and on_gpu else "ieee"


def _read_products() -> list[tuple[Callable[[Any], None], Any]]:
    """Return how to write each switch, the older ones first, and its present value."""
    cudnn = torch.backends.cudnn
    older = [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (lambda: cudnn.allow_tf32, partial(setattr, cudnn, "allow_tf32")),
    ]
    found = []
    for read, write in older:
        with contextlib.suppress(RuntimeError):  # both kinds disagree: the newer ones count
            found.append((write, read()))
    for owner, _ in _newer_switches():
        found.append((partial(setattr, owner, "fp32_precision"), owner.fp32_precision))
    return found


def _newer_switches() -> list[tuple[Any, bool]]:
    """Return what holds the newer switches, and whether it is a GPU's; none before torch 2.9."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    if not hasattr(cuda.matmul, "fp32_precision"):
        return []
    on_gpu = [(owner, True) for owner in (cuda.matmul, cudnn.conv, cudnn.rnn)]
    return on_gpu + [(owner, False) for owner in (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)]


def precision_in_force(precision: str, device: torch.device) -> str:
    """Return a training's precision on a device: TF32 is full float32 where there is none."""
    return "float32" if precision == "tf32" and not _is_ampere(device) else precision


def is_emulated(precision: str, device: torch.device) -> bool:
    """Return whether a GPU computes in a precision that it has no units for."""
    if precision != "bfloat16" or device.type != "cuda" or torch.version.hip:
        return False
    return not _is_ampere(device)


def _is_ampere(device: torch.device) -> bool:
    """Return whether this is an NVIDIA GPU with units for TF32 and bfloat16."""
    if device.type != "cuda" or torch.version.hip:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def keep_pages(device: torch.device) -> None:
    """Let the C library keep freed memory instead of returning it to the kernel after each batch.

    Faulting the same pages in again would cost up to a third of the time of a narrow network. Other
    C libraries than glibc have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if device.type == "cpu" and mallopt:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that it accepts
        mallopt(_M_TRIM_THRESHOLD, 128 * 2**20)
