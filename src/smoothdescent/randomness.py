"""Every random draw of the study, derived from (seed, purpose, index).

No draw depends on how many came before it: each is a function of its name alone, so nothing has to
be restored when a run resumes. Layers that draw from a global generator, such as dropout, find it
seeded by name as well (`global_generators`).
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

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


# Threads that train runs side by side share the global generators.
GLOBAL_GENERATORS = threading.RLock()


@contextlib.contextmanager
def global_generators(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Seed the generators that any code may draw from, and restore them after the block.

    These are Python's, NumPy's and PyTorch's, on the CPU and on `device`. Other threads wait before
    such a block of their own until this one ends.

    Args:
        seed: below 2^63.
        device: where the block computes.

    Yields:
        A function that tells whether anything has been drawn in the block.
    """
    import torch

    places = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        places.append(torch.cuda.default_generators[index])

    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state(), *(p.get_state() for p in places)]

    with GLOBAL_GENERATORS:
        before = states()
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            for place in places:
                place.manual_seed(seed)
            seeded = states()
            yield lambda: _comparable(states()) != _comparable(seeded)
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            for place, state in zip(places, before[2:], strict=True):
                place.set_state(state)


def _comparable(states: list[Any]) -> list[Any]:
    python, (name, key, *rest), *torch_states = states
    return [python, name, key.tobytes(), *rest, *(s.numpy().tobytes() for s in torch_states)]


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
