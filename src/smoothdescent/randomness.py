"""Every random draw of the study, derived from (seed, purpose, index).

There is no global generator: a draw is a function of its name alone, so nothing has to be restored
when a run resumes, and no draw depends on how many came before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str, *index: int) -> int:
    """Return a 63-bit seed that is a hash of (seed, purpose, index)."""
    name = "/".join([str(int(seed)), purpose, *(str(int(i)) for i in index)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Return a NumPy generator for one named purpose."""
    return np.random.default_rng(derive_seed(seed, purpose, *index))


def generator(seed: int, purpose: str, *index: int) -> torch.Generator:
    """Return a CPU torch generator for one named purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, *index))


def sample_uniforms(
    seed: int, purpose: str, *index: int, sample_ids: torch.Tensor, count: int
) -> torch.Tensor:
    """Draw `count` uniform numbers for each sample, independent of the samples' order.

    Entry (i, j) is a hash (two rounds of the SplitMix64 finaliser) of (seed, purpose, index,
    sample_ids[i], j): the same on every device, in every batch and for every batch size.

    Args:
        seed, purpose, index: the name of the draw.
        sample_ids: int64 [N].
        count: numbers per sample.

    Returns:
        float64 [N, count] in [0, 1), on the device of `sample_ids`.
    """
    import torch

    columns = torch.arange(1, count + 1, dtype=torch.int64, device=sample_ids.device)
    state = _mix(sample_ids[:, None] * _GOLDEN_GAMMA + derive_seed(seed, purpose, *index))
    bits = _mix(state + columns * _GOLDEN_GAMMA)
    return _shift_right(bits, 11).to(torch.float64) * 2.0**-53


# SplitMix64 (Steele, Lea and Flood, 2014), its constants written as signed 64-bit integers.
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLIER_2 = 0x94D049BB133111EB - 2**64


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts signed integers arithmetically; the mask makes the shift a logical one.
    return (x >> bits) & ((1 << (64 - bits)) - 1)
