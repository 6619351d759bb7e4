"""How much is computed at a time, from a memory budget."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothdescent.errors import UserError

if TYPE_CHECKING:
    import torch

# On a CPU, what a batch stores for the backward pass should stay near the caches, and below what
# `devices.keep_pages` keeps.
CPU_INPUTS = range(16, 201)
CPU_SAVED_BYTES = 48 * 2**20
# Compiled kernels store nothing for each input: as many as hide what surrounds a call, and fit in
# the caches together with their gradients.
COMPILED_BYTES = 8 * 2**20
# On a GPU, enough inputs to hide the launches of the narrowest networks.
GPU_INPUTS = 8192

_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Plan:
    """Sizes of the engine's batches.

    Attributes:
        inputs: network inputs per evaluation.
        points: points whose tangent points are held at a time.
        samples: samples whose paths are held at a time.
    """

    inputs: int
    points: int
    samples: int

    def halved(self) -> Plan:
        """Return a plan that needs about half the memory."""
        return Plan(*(max(1, size // 2) for size in (self.inputs, self.points, self.samples)))


def parse_memory(memory: int | str | None, device: torch.device) -> int:
    """Return a budget in bytes; None takes 1 GiB, or on a GPU a quarter of what is free there.

    Raises:
        UserError: the budget is no positive number of bytes.
    """
    if memory is not None:
        return parse_bytes(memory)
    if device.type != "cuda":
        return 2**30
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    # What this process has kept of earlier measurements is free to it.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (free + kept) // 4


def parse_bytes(memory: int | str) -> int:
    """Return a number of bytes that is written as such, or as a text like 512MiB.

    Raises:
        UserError: it is no positive number of bytes.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*", str(memory))
    unit = _UNITS.get(match[2].upper()) if match else None
    if unit is None or not (size := int(float(match[1]) * unit)) > 0:
        raise UserError(
            f"memory is {memory!r}; expected a number of bytes, or one such as '512MiB' or '4GiB'"
        )
    return size


def plan(
    budget: int,
    device: torch.device,
    *,
    saved_bytes: int,
    fixed_bytes: int,
    image_bytes: int,
    points_per_sample: int,
    inputs_per_point: int,
    block: int = 1,
) -> Plan:
    """Choose the sizes of batches so that the engine's tensors stay within a budget.

    Args:
        budget: bytes, the network's weights and the results apart.
        device: where the network is evaluated.
        saved_bytes: what one network input stores for the backward pass.
        fixed_bytes: what an evaluation stores beside that, however many inputs it has.
        image_bytes: one image in the working precision.
        points_per_sample: 1 + P K.
        inputs_per_point: 1 + M, or 1 without tangent points.
        block: inputs that compiled kernels evaluate at once, fewer take as long; 1 for PyTorch's.

    Raises:
        UserError: the budget does not hold one sample and one network input.
    """
    # Half again as much as is saved lives during the backward pass; a point in a group holds its
    # inputs, their gradients, their differences and the jitters' basis; a sample its path images,
    # their segments and, in float64, its decomposition.
    per_input = 2 * saved_bytes + 4 * image_bytes
    per_point = (4 * inputs_per_point + 6) * image_bytes
    per_sample = (3 * points_per_sample + 16) * image_bytes
    smallest = 2 * fixed_bytes + per_input + per_point + per_sample
    if smallest > budget:
        raise UserError(
            f"memory is {budget} bytes; this network and image size need at least {smallest}"
        )
    if block > 1:
        wanted = COMPILED_BYTES // image_bytes
    elif device.type == "cpu":
        wanted = CPU_SAVED_BYTES // max(1, saved_bytes)
        wanted = min(max(wanted, CPU_INPUTS[0]), CPU_INPUTS[-1])
    else:
        wanted = GPU_INPUTS
    inputs = max(1, min(wanted, (budget // 2 - 2 * fixed_bytes) // per_input))
    points = max(1, min(inputs // inputs_per_point, budget // 4 // per_point))
    # A few groups of points per chunk, so that a smaller last one matters little.
    samples = -(-4 * points // points_per_sample)
    # In whole blocks, as far as there is room.
    whole = block // math.gcd(block, inputs_per_point)
    points -= points % whole if points > whole else 0
    samples = -(-samples // whole) * whole
    samples = max(1, min(samples, budget // 4 // per_sample))
    return Plan(inputs, points, samples)
