"""Optimisers by name, and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from smoothdescent.config.schema import SGD, Adam

Parameters = Iterable[torch.nn.Parameter]

OPTIMIZERS: dict[str, Callable[[Parameters, Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters, settings: torch.optim.SGD(
        parameters, lr=settings.learning_rate, momentum=settings.momentum, fused=True
    ),
    "adam": lambda parameters, settings: torch.optim.Adam(
        parameters, lr=settings.learning_rate, fused=True
    ),
}


def build_optimizer(parameters: Parameters, settings: SGD | Adam) -> torch.optim.Optimizer:
    """Return the optimiser that `settings.name` names, without weight decay."""
    return OPTIMIZERS[settings.name](parameters, settings)


def learning_rate(settings: SGD | Adam, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step counted from 0 over the whole training.

    It rises linearly over the first `warmup_epochs` epochs, reaching its constant value at their
    last step.
    """
    warmup = settings.warmup_epochs * steps_per_epoch
    return settings.learning_rate * min(1.0, (step + 1) / warmup if warmup else 1.0)
