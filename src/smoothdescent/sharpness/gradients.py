"""Loss, correctness and the loss's gradient in the input, from one evaluation of a network."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from smoothdescent.errors import UserError
from smoothdescent.kernels.batch_norm import ConvNorm
from smoothdescent.networks.contract import (
    IMAGES,
    check_evaluation,
    check_logits,
    describe_error,
)
from smoothdescent.sharpness.precision import full_precision, wide_dtype


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated at N points of the input space.

    Attributes:
        points: [N, C, H, W], normalised images.
        labels: int64 [N].
        logits: [N, classes].
        gradient: [N, C, H, W], the loss's gradient in the point (equation 1).
        tangent_gradients: [N, M, C, H, W], the gradient at each tangent point; None where no
            measure asks for it.
    """

    points: torch.Tensor
    labels: torch.Tensor
    logits: torch.Tensor
    gradient: torch.Tensor
    tangent_gradients: torch.Tensor | None = None

    @property
    def loss(self) -> torch.Tensor:
        """Float64 [N], the cross-entropy in nats."""
        return _cross_entropy(self.logits, self.labels)

    @property
    def correct(self) -> torch.Tensor:
        """Bool [N]: the label has the largest logit (the first of equal ones)."""
        return self.logits.argmax(dim=1) == self.labels


def input_gradients(
    network: nn.Module,
    points: torch.Tensor,
    labels: torch.Tensor,
    *,
    batch_size: int = 100,
) -> Evaluation:
    """Evaluate a network, its loss and the loss's gradient at given points.

    A copy of the network is evaluated, in evaluation mode, on the device and in the precision of
    `points`; the network itself is left as it is.

    Args:
        network: maps normalised images [B, C, H, W] to logits [B, classes].
        points: float32 or float64 [N, C, H, W], normalised images.
        labels: int64 [N].
        batch_size: points per evaluation; it does not change the values beyond rounding.

    Raises:
        UserError: NaN or infinite weights, a label that the network has no logit for, or a network
            that cannot be measured (see `networks.contract`).
    """
    with full_precision(points.device):
        frozen = freeze(network, points.device, points.dtype, points[:1])
        labels = labels.to(points.device)
        check_labels(labels, frozen.classes)
        frozen.check(points[:1], f"network {type(network).__name__}")
        return frozen.evaluate(points, labels, batch_size)


@dataclass(frozen=True)
class FrozenNetwork:
    """A private copy of a network in evaluation mode, its parameters frozen.

    Attributes:
        module: the copy.
        layout: memory layout of the copy and of its inputs.
        classes: number of logits.
        saved_bytes: what each point stores for the backward pass.
        fixed_bytes: what an evaluation stores beside that, parameters excluded: weights that were
            computed from parameters, for example.
        block: points that compiled kernels evaluate at once, fewer take as long; 1 for PyTorch's.
    """

    module: nn.Module
    layout: torch.memory_format
    classes: int
    saved_bytes: int
    fixed_bytes: int
    block: int = 1

    def check(self, example: torch.Tensor, name: str) -> None:
        """Check that the network can be measured; see `check_evaluation`.

        Args:
            example: [1, C, H, W], a normalised image; others are drawn.
            name: of the network, for messages.
        """
        draw = torch.Generator().manual_seed(0)
        shape = (IMAGES - 1, *example.shape[1:])
        others = torch.randn(shape, generator=draw, dtype=torch.float64).to(example)
        images = torch.cat([others, example]).contiguous(memory_format=self.layout)
        # Compiled kernels know the network, which keeps the rest of the contract.
        check = check_evaluation if self.block == 1 else check_logits
        check(self.module, images, name)

    def evaluate(self, points: torch.Tensor, labels: torch.Tensor, batch_size: int) -> Evaluation:
        """Evaluate points [N, C, H, W] in batches; see `Evaluation` for the result."""
        parts = [
            self._evaluate(batch, batch_labels)
            for batch, batch_labels in zip(
                points.split(batch_size), labels.split(batch_size), strict=True
            )
        ]
        logits, gradient = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        return Evaluation(points, labels, logits, gradient)

    def _evaluate(self, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        compiled = getattr(self.module, "input_gradients", None)
        if compiled and (found := compiled(points, labels)):
            return found
        points = points.detach().contiguous(memory_format=self.layout).requires_grad_()
        logits = self.module(points)
        # Samples do not interact in evaluation mode: the sum's gradient holds each one's own.
        (gradient,) = torch.autograd.grad(_cross_entropy(logits, labels).sum(), points)
        return logits.detach(), gradient


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each point.

    In float64, which costs nothing, and keeps the tiny losses and gradients of a network that
    interpolates: float32 rounds 1 - p to a multiple of 6e-8.
    """
    return F.cross_entropy(logits.to(wide_dtype(logits.device)), labels, reduction="none")


def freeze(
    network: nn.Module, device: torch.device, dtype: torch.dtype, example: torch.Tensor
) -> FrozenNetwork:
    """Copy a network, check it on one point, and find the memory layout that it accepts.

    Args:
        network: any module.
        device, dtype: where and in which precision the copy computes.
        example: [1, C, H, W] on that device, a normalised image.

    Raises:
        UserError: NaN or infinite weights, or the network cannot map the image to logits.
    """
    _check_weights(network)
    module = _copy(network).to(device=device, dtype=dtype).eval().requires_grad_(False)
    if hasattr(module, "choose_kernels"):
        module.choose_kernels()
    for part in module.modules():
        if isinstance(part, ConvNorm):
            part.fold()
    layout, other = torch.channels_last, torch.contiguous_format
    try:
        logits, saved, fixed = _probe(module, example, layout)
        if device.type == "cuda":
            # Without TF32, either layout may be the faster one, depending on the network.
            batch = example.expand(max(1, min(256, 2**28 // max(1, saved))), -1, -1, -1)
            layout = min((other, layout), key=lambda one: _seconds(module, batch, one))
    except RuntimeError:
        # For example x.view(len(x), -1) after a convolution needs the usual layout.
        layout = other
        try:
            logits, saved, fixed = _probe(module, example, layout)
        except RuntimeError as error:
            raise UserError(
                f"network {type(network).__name__} cannot evaluate images of shape "
                f"{list(example.shape)}: {error}"
            ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 1:
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"network {type(network).__name__} returned {found} for one image; expected logits of "
            "shape [1, classes]"
        )
    block = module.evaluated_together(example) if hasattr(module, "evaluated_together") else 1
    module = module.to(memory_format=layout)
    return FrozenNetwork(module, layout, logits.shape[1], saved, fixed, block)


def _copy(network: nn.Module) -> nn.Module:
    """Return a copy that shares only those attributes that cannot be copied.

    These are locks, for example, and activations that a forward pass has left behind: old weight
    norm keeps its weight so, and computes it anew each time.
    """
    try:
        return copy.deepcopy(network)
    except Exception:  # whatever a user's own attributes may raise
        shared: dict[int, Any] = {}
        for module in network.modules():
            for value in vars(module).values():
                try:
                    copy.deepcopy(value)
                except Exception:
                    if not isinstance(value, dict) or not _holds_modules(value):
                        shared[id(value)] = value
    try:
        return copy.deepcopy(network, shared)
    except Exception as error:
        raise UserError(
            f"network {type(network).__name__} cannot be copied: {describe_error(error)}"
        ) from error


def _holds_modules(attribute: dict[Any, Any]) -> bool:
    return any(isinstance(value, nn.Module) for value in attribute.values())


def check_labels(labels: torch.Tensor, classes: int) -> None:
    """Raise a UserError if a label has no logit."""
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise UserError(
            f"labels range from {int(labels.min())} to {int(labels.max())}, but the network has "
            f"{classes} outputs; expected labels from 0 to {classes - 1}"
        )


def _check_weights(network: nn.Module) -> None:
    for name, tensor in _named_tensors(network):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"network {type(network).__name__}: tensor {name} holds NaN or infinite values"
            )


def _named_tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def _probe(
    module: nn.Module, example: torch.Tensor, layout: torch.memory_format
) -> tuple[torch.Tensor, int, int]:
    """Return the logits of one point, the bytes that each point stores for the backward pass, and
    those that an evaluation stores whatever their number."""
    module.to(memory_format=layout)
    logits, one = _stored_bytes(module, example, layout)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 1:
        return logits, one, 0  # the caller says so
    _, two = _stored_bytes(module, example.expand(2, -1, -1, -1), layout)
    each = min(max(two - one, 0), one)
    return logits, each, one - each


def _stored_bytes(
    module: nn.Module, points: torch.Tensor, layout: torch.memory_format
) -> tuple[torch.Tensor, int]:
    """Return the logits of points, and the bytes stored for the backward pass beside parameters."""
    weights = {tensor.untyped_storage().data_ptr() for _, tensor in _named_tensors(module)}
    stored: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    points = points.detach().clone(memory_format=layout).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = module(points)
    if isinstance(logits, torch.Tensor):
        torch.autograd.grad(logits.sum(), points)
    return logits, sum(stored.values())


def _seconds(module: nn.Module, points: torch.Tensor, layout: torch.memory_format) -> float:
    """Return the time of one evaluation of points [N, C, H, W] in a memory layout."""
    module.to(memory_format=layout)
    points = points.detach().clone(memory_format=layout).requires_grad_()
    for _ in range(3):  # the first ones choose and load kernels
        start = time.perf_counter()
        (gradient,) = torch.autograd.grad(module(points).sum(), points)
        float(gradient.sum())  # waits for the device
    return time.perf_counter() - start
