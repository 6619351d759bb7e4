"""What a network must keep to be measured, tried on a few images in evaluation mode.

A network's logits for an image are a function of that image alone, computed in the precision that
was asked for, and an evaluation leaves the network and its input as they are.
"""

from __future__ import annotations

import torch
from torch import nn

from smoothdescent.errors import UserError
from smoothdescent.randomness import global_generators

IMAGES = 4  # as many as `check_evaluation` wants
# Logits may differ by so many roundings: of sums in another order, through all layers.
ROUNDINGS = 2**10
# Steps in the input by which the precision is tried, in units of its size: far above a rounding in
# the promised precision, and far below one in the next lower precision.
STEPS = {torch.float32: 2.0**-14, torch.float64: 2.0**-30}
# The second difference of logits over such steps, in units of the first: 0 for a smooth function,
# about 1 where the steps are lost in rounding.
MOST_CURVED = 0.25


@torch.no_grad()
def check_evaluation(network: nn.Module, images: torch.Tensor, name: str) -> None:
    """Check that a network in evaluation mode can be measured.

    Args:
        network: in evaluation mode; left as it is if it keeps the contract.
        images: [`IMAGES`, C, H, W], normalised, float32 or float64: the promised precision.
        name: of the network, for messages.

    Raises:
        UserError: says what was seen.
    """
    kept = {key: tensor.clone() for key, tensor in _named_tensors(network)}
    given, version = images.clone(memory_format=torch.preserve_format), images._version
    with global_generators(0, images.device):
        logits = _logits(network, images, name)
        if images._version != version or not torch.equal(images, given):
            raise UserError(
                f"{name} changes its input in place, which would spoil the images of others; let "
                "it work on a result of its own, such as x = x * 0.5"
            )
        again = _logits(network, images, name)
        alone = _logits(network, images[-1:].contiguous(memory_format=_layout(images)), name)
        _check_state(network, kept, name)
        rounding = ROUNDINGS * torch.finfo(images.dtype).eps * logits.abs().max()
        if (difference := (again - logits).abs().max()) > rounding:
            raise UserError(
                f"{name} gives different logits when it evaluates the same images again: they "
                f"differ by {difference:.2g}; expected no randomness and no memory in evaluation "
                "mode"
            )
        _check_precision(network, images, logits, name)
        if (difference := (alone - logits[-1:]).abs().max()) > rounding:
            raise UserError(
                f"{name} gives an image different logits alone than in a batch: they differ by "
                f"{difference:.2g}, as with batch norm without running statistics; expected that "
                "images do not depend on each other in evaluation mode"
            )


@torch.no_grad()
def check_logits(network: nn.Module, images: torch.Tensor, name: str) -> None:
    """Check one evaluation alone; see `check_evaluation`, of which this is the beginning."""
    _logits(network, images, name)


def _check_state(network: nn.Module, kept: dict[str, torch.Tensor], name: str) -> None:
    """Check that evaluations have left parameters, buffers and the mode alone."""
    for key, tensor in _named_tensors(network):
        if key not in kept or not torch.equal(tensor, kept[key]):
            raise UserError(f"{name} changes its tensor {key} when it evaluates images")
    for key, module in network.named_modules():
        if module.training:
            where = f"its module {key}" if key else "itself"
            raise UserError(f"{name} puts {where} into training mode when it evaluates images")


def _check_precision(
    network: nn.Module, images: torch.Tensor, logits: torch.Tensor, name: str
) -> None:
    """Check that steps in the input that the promised precision resolves are not lost."""
    signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(0))
    step = STEPS[images.dtype] * images.abs().max() * (2 * signs.to(images) - 1)
    first, second = (_logits(network, images + k * step, name) for k in (1, 2))
    change = torch.linalg.vector_norm(second - logits, dim=1)
    curved = torch.linalg.vector_norm(second - 2 * first + logits, dim=1)
    # Logits that hardly depend on the image change by roundings alone, and tell nothing. An image
    # may lie beside a kink; where steps are lost in rounding, they are for all images.
    size = torch.linalg.vector_norm(logits, dim=1)
    noise = ROUNDINGS / 4 * torch.finfo(images.dtype).eps * size
    told = change > noise
    lost = not change.any() and _expected_change(network, images, 2 * step) > noise.sum()
    if lost or (told.any() and (curved > MOST_CURVED * change)[told].all()):
        raise UserError(
            f"{name} does not compute in {str(images.dtype).removeprefix('torch.')}: its logits do "
            f"not follow steps of {STEPS[images.dtype]:.1g} in the input; expected that it casts "
            "to no lower precision, and rounds nothing"
        )


@torch.enable_grad()
def _expected_change(network: nn.Module, images: torch.Tensor, step: torch.Tensor) -> float:
    """Return by how much the sum of logits should change, to first order."""
    points = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    logits = network(points)
    if not logits.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(logits.sum(), points, allow_unused=True)
    return 0.0 if gradient is None else abs(float((gradient * step).sum()))


def _logits(network: nn.Module, images: torch.Tensor, name: str) -> torch.Tensor:
    try:
        logits = network(images)
    except Exception as error:  # whatever a user's own code may raise
        raise UserError(
            f"{name} cannot evaluate {len(images)} images of shape {list(images.shape[1:])}: "
            f"{describe_error(error)}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"{name} returned {found} for {len(images)} images; expected logits of shape "
            f"[{len(images)}, classes]"
        )
    if logits.dtype != images.dtype:
        raise UserError(f"{name} returned {logits.dtype} for images of {images.dtype}")
    if not torch.isfinite(logits).all():
        raise UserError(f"{name} returned NaN or infinite logits for ordinary images")
    return logits.clone()


def describe_error(error: Exception) -> str:
    """Return the kind of an error and the first line that it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _layout(images: torch.Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _named_tensors(network: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]
