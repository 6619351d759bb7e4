"""Networks as users bring them: `network: training.networks:NAME`."""

import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def body(width, num_classes, *layers):
    """Return a small network; the layers come before its last one."""
    return nn.Sequential(
        nn.Conv2d(3, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        *layers,
        nn.Linear(16 * width, num_classes),
    )


def plain(width, num_classes):
    """Nothing special."""
    return body(width, num_classes)


def dropout(width, num_classes):
    """Draws from PyTorch's generator of the device."""
    return body(width, num_classes, nn.Dropout(0.5))


class _Depth(nn.Module):
    """Leaves a block out, by chance, in training mode; `draw` gives a number in [0, 1)."""

    def __init__(self, width, num_classes, draw):
        super().__init__()
        self.first, self.draw = nn.Conv2d(3, 4 * width, 3, padding=1), draw
        self.second = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.first(x).relu()
        if not self.training or self.draw() < 0.5:
            x = x + self.second(x).relu()
        return self.head(x.mean((2, 3)))


def depth_torch(width, num_classes):
    """Stochastic depth, drawn by PyTorch."""
    return _Depth(width, num_classes, lambda: torch.rand(()).item())


def depth_python(width, num_classes):
    """Stochastic depth, drawn by Python."""
    return _Depth(width, num_classes, random.random)


def depth_numpy(width, num_classes):
    """Stochastic depth, drawn by NumPy."""
    return _Depth(width, num_classes, np.random.rand)


class UsedTwice(nn.Module):
    """One layer under two names."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.first = nn.Conv2d(3, 4 * width, 3, padding=1)
        self.second = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.third = self.second
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = functional.relu(self.second(functional.relu(self.first(x))))
        return self.head(functional.relu(self.third(x)).mean((2, 3)))
