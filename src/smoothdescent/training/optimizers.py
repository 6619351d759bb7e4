"""Optimisers, each with its settings in `config.yaml`, and the learning-rate schedule.

A new optimiser is one class here, named in `OptimizerSettings`. PyTorch is imported only to build
one: the configuration is read without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from smoothdescent.config.types import Block, Count, Positive, Real

if TYPE_CHECKING:
    import torch


Rate = Annotated[Positive, Field(le=1000)]
Schedule = Literal["constant", "inverse_sqrt"]
# Steps between two changes of an inverse square root schedule: Nakkiran et al. (2019), appendix B.
INTERVAL = 512


class SGD(Block):
    """Stochastic gradient descent with momentum, a linear warm-up and a schedule of the rate."""

    buffers: ClassVar[int] = 1  # numbers kept per parameter

    name: Literal["sgd"]
    learning_rate: Rate
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.9
    warmup_epochs: Count = 5
    schedule: Schedule = "constant"

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters, without weight decay."""
        import torch

        return torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, fused=True
        )


class Adam(Block):
    """Adam with PyTorch's default betas, a linear warm-up and a schedule of the rate."""

    buffers: ClassVar[int] = 2

    name: Literal["adam"]
    learning_rate: Rate
    warmup_epochs: Count = 0
    schedule: Schedule = "constant"

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters, without weight decay."""
        import torch

        return torch.optim.Adam(parameters, lr=self.learning_rate, fused=True)


OptimizerSettings = Annotated[SGD | Adam, Field(discriminator="name")]


def learning_rate(settings: SGD | Adam, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step counted from 0 over the whole training.

    It rises linearly over the first `warmup_epochs` epochs, reaching the schedule at their last
    step. The schedule is constant, or learning_rate / sqrt(1 + floor(step / 512)): Nakkiran et al.,
    "Deep Double Descent" (2019), use the latter for SGD (with a rate of 0.1, no warm-up and no
    momentum).
    """
    warmup = settings.warmup_epochs * steps_per_epoch
    rate = settings.learning_rate * min(1.0, (step + 1) / warmup if warmup else 1.0)
    if settings.schedule == "inverse_sqrt":
        rate /= math.sqrt(1 + step // INTERVAL)
    return rate
