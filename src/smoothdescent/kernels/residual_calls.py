"""The compiled kernels of the ResNet family, called with networks and tensors."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from smoothdescent.kernels import residual as kernel
from smoothdescent.kernels.calls import compiled_wins, ordered, trains_all
from smoothdescent.kernels.layout import BLOCK
from smoothdescent.kernels.residual_layout import Plan, plan

if TYPE_CHECKING:
    from smoothdescent.networks.resnet18 import ResNet18


def are_faster(network: ResNet18, size: int) -> bool:
    """Return whether they take a step of a network's training in less time than PyTorch.

    Args:
        network: float32 or float64, on the CPU; left as it is.
        size: height and width of its images.
    """
    optimizer = functools.partial(torch.optim.Adam, fused=True)
    return compiled_wins(network, network.stem.convolution.weight, size, TrainingStep, optimizer)


@torch.no_grad()
def logits(network: ResNet18, images: torch.Tensor) -> torch.Tensor:
    """Return the logits [N, classes] of images [N, C, S, S], in evaluation mode."""
    return _evaluate(network, images, torch.zeros(len(images), dtype=torch.int64), False)[0]


@torch.no_grad()
def input_gradients(
    network: ResNet18, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits [N, classes], and each image's gradient of its own cross-entropy.

    In evaluation mode. The last step, from logits to the gradient in them, is taken in float64.

    Args:
        network: float32 or float64, on the CPU.
        images: [N, C, S, S], of the network's type.
        labels: int64 [N].
    """
    return _evaluate(network, images, labels, True)


def _evaluate(
    network: ResNet18, images: torch.Tensor, labels: torch.Tensor, backward: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = images.permute(0, 2, 3, 1).contiguous()
    layout = _plan(network, pixels, BLOCK)
    parameters = _joined(network.parameters()).numpy()
    norms = _norms(network)
    moments = _joined(each for norm in norms for each in (norm.running_mean, norm.running_var))
    found = pixels.new_empty(len(pixels), network.linear.out_features)
    gradient = torch.empty_like(pixels) if backward else pixels[:0]
    kernel.evaluate(
        layout.layers,
        layout.scratch,
        pixels.numpy().reshape(-1),
        labels.contiguous().numpy(),
        parameters,
        norms[0].eps,
        np.zeros(layout.memory, parameters.dtype),
        moments.numpy(),
        found.numpy().reshape(-1),
        gradient.numpy().reshape(-1),
    )
    return found, gradient.permute(0, 3, 1, 2)


class TrainingStep:
    """One step of training on a batch: the gradients in one call, then the optimiser's own step.

    Args:
        network: float32 or float64, on the CPU, its weights channels-last; changed by each call.
        optimizer: over its parameters.
    """

    def __init__(self, network: ResNet18, optimizer: torch.optim.Optimizer):
        self._network, self._optimizer = network, optimizer
        self._parameters = list(network.parameters())
        self._views = [ordered(each).reshape(-1) for each in self._parameters]  # the same memory
        self._joined = torch.cat(self._views)
        self._slopes = torch.zeros_like(self._joined)
        parts = self._slopes.split([len(view) for view in self._views])
        self._gradients = [
            part.view(ordered(each).shape).permute(0, 3, 1, 2)
            if each.ndim == 4
            else part.view_as(each)
            for part, each in zip(parts, self._parameters, strict=True)
        ]
        norms = _norms(network)
        self._running = [each for norm in norms for each in (norm.running_mean, norm.running_var)]
        self._counters = [norm.num_batches_tracked for norm in norms]
        self._eps, self._momentum = norms[0].eps, norms[0].momentum
        self._batches: dict[int, _Batch] = {}

    @staticmethod
    def can_take(network: ResNet18, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the step is that of an optimiser: any that trains all of a network."""
        return trains_all(network, optimizer)

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, rate: float, sums: torch.Tensor
    ) -> None:
        """Take the step.

        Args:
            images: [B, S, S, C], contiguous.
            labels: int64 [B].
            rate: the learning rate.
            sums: float64 [2]; the losses and the number of correct samples are added.
        """
        if len(images) not in self._batches:
            self._batches[len(images)] = _Batch(self._network, images)
        batch = self._batches[len(images)]
        torch.cat(self._views, out=self._joined)
        kernel.train(
            batch.plan.layers,
            batch.plan.scratch,
            images.numpy().reshape(-1),
            labels.numpy(),
            self._joined.numpy(),
            self._eps,
            batch.memory,
            batch.moments.numpy(),
            batch.logits,
            self._slopes.numpy(),
            sums.numpy(),
        )
        moments = (batch.moments * batch.unbiased).split([len(each) for each in self._running])
        torch._foreach_lerp_(self._running, moments, self._momentum)
        torch._foreach_add_(self._counters, 1)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._optimizer.step()


class _Batch:
    """What steps on batches of one size work on.

    Attributes:
        plan, memory: see `kernel.train`.
        moments: of the batch, per layer mean and variance of each channel.
        unbiased: what makes them those of the distribution: 1, and n / (n - 1) for n pixels.
        logits: [B * classes].
    """

    def __init__(self, network: ResNet18, images: torch.Tensor):
        self.plan = _plan(network, images, len(images))
        dtype = images.numpy().dtype
        self.memory = np.zeros(self.plan.memory, dtype)
        self.moments = images.new_zeros(self.plan.moments)
        self.logits = np.zeros(len(images) * network.linear.out_features, dtype)
        self.unbiased = torch.ones_like(self.moments)
        for layer in self.plan.described:
            pixels = len(images) * layer.size**2
            if pixels == 1:
                raise ValueError("Expected more than 1 value per channel when training")
            variances = slice(layer.moments + layer.outputs, layer.moments + 2 * layer.outputs)
            self.unbiased[variances] = pixels / (pixels - 1)


def _norms(network: ResNet18) -> list[nn.BatchNorm2d]:
    """Return batch norms in the order in which layers are evaluated."""
    layers = [network.stem]
    for block in (block for stage in network.stages for block in stage):
        shortcut = [] if isinstance(block.shortcut, nn.Identity) else [block.shortcut]
        layers += [*shortcut, block.first, block.second]
    return [layer.norm for layer in layers]


def _joined(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([ordered(tensor).reshape(-1) for tensor in tensors])


def _plan(network: ResNet18, pixels: torch.Tensor, count: int) -> Plan:
    _, size, _, channels = pixels.shape
    return plan(channels, network.stem.convolution.out_channels, size, count)
