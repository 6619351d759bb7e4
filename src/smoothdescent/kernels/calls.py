"""The compiled kernels of the ConvNet family, called with networks and tensors."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from llvmlite import binding
from torch import nn
from torch.nn import functional

from smoothdescent.kernels import convnet as kernel
from smoothdescent.kernels.cache import fastest
from smoothdescent.kernels.layout import workspace

if TYPE_CHECKING:
    from smoothdescent.networks.compiled import Compilable
    from smoothdescent.networks.convnet import ConvNet

# The compiled kernels must take at most this fraction of the time of PyTorch's: of two that are
# equally fast, chance would choose.
WORTH = 0.95
_IMAGES = 64  # that both are timed with


def are_faster(network: ConvNet, size: int) -> bool:
    """Return whether they take a step of a network's training in less time than PyTorch.

    Args:
        network: float32 or float64, on the CPU; left as it is.
        size: height and width of its images.
    """
    optimizer = functools.partial(torch.optim.SGD, lr=0.0, momentum=0.9, fused=True)
    return compiled_wins(network, network.convolutions[0].weight, size, TrainingStep, optimizer)


def compiled_wins(
    network: Compilable,
    weight: torch.Tensor,
    size: int,
    step: Callable[..., Callable[..., None]],
    optimizer: Callable[..., torch.optim.Optimizer],
) -> bool:
    """Return whether a compiled step of training takes less time than PyTorch's.

    Both are timed once on a machine; the answer is kept.

    Args:
        network: float32 or float64, on the CPU; left as it is.
        weight: of its first convolution.
        size: height and width of its images.
        step: makes the compiled step of a network and its optimiser.
        optimizer: makes the optimiser of parameters.
    """
    width, channels = weight.shape[:2]
    classes = network.linear.out_features

    @functools.cache
    def contest() -> tuple[Callable[[], None], Callable[[], None]]:
        """Prepare both, which a known answer spares."""
        ours, plain = (copy.deepcopy(network).requires_grad_().train() for _ in range(2))
        ours, plain = (each.to(memory_format=torch.channels_last) for each in (ours, plain))
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(_IMAGES, size, size, channels, generator=draw, dtype=weight.dtype)
        labels = torch.randint(classes, (_IMAGES,), generator=draw)
        compiled_step = step(ours, optimizer(ours.parameters()))
        plain_optimizer = optimizer(plain.parameters())
        sums = torch.zeros(2, dtype=torch.float64)

        def compiled() -> None:
            compiled_step(images, labels, 0.0, sums)

        @torch.enable_grad()
        def torchs() -> None:
            plain_optimizer.zero_grad()
            logits = plain.layers(images.permute(0, 3, 1, 2))
            functional.cross_entropy(logits, labels).backward()
            plain_optimizer.step()

        return compiled, torchs

    question = (
        f"{type(network).__name__.lower()}-{channels}-{width}-{size}-{classes}-"
        f"{str(weight.dtype)[6:]}-{binding.get_host_cpu_name()}-torch-{torch.__version__}"
    )
    contestants = {"compiled": lambda: contest()[0](), "torch": lambda: contest()[1]()}
    return fastest(question, contestants, needed=WORTH) == "compiled"


@torch.no_grad()
def logits(network: ConvNet, images: torch.Tensor) -> torch.Tensor:
    """Return the logits [N, classes] of images [N, C, H, W]."""
    return _evaluate(network, kernel.LOGITS, images, torch.empty(0, dtype=torch.int64))[0]


@torch.no_grad()
def input_gradients(
    network: ConvNet, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits [N, classes], and each image's gradient of its own cross-entropy.

    The last step, from logits to the gradient in them, is taken in float64.

    Args:
        network: float32 or float64, on the CPU.
        images: [N, C, H, W], of the network's type.
        labels: int64 [N].
    """
    return _evaluate(network, kernel.INPUT_GRADIENTS, images, labels)


def _evaluate(
    network: ConvNet, task: int, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = images.permute(0, 2, 3, 1).contiguous()
    classes = network.linear.out_features
    found = pixels.new_empty(len(pixels), classes)
    gradient = torch.empty_like(pixels) if task == kernel.INPUT_GRADIENTS else pixels[:0]
    weights = _flat(_tensors(network))
    kernel.run(
        task,
        _shape(pixels),
        pixels.numpy().reshape(-1),
        labels.contiguous().numpy(),
        weights,
        _workspace(network, pixels),
        (found.numpy().reshape(-1), gradient.numpy().reshape(-1)),
        weights,  # momentum buffers, which only a step uses
        0.0,
        0.0,
        np.zeros(2),
    )
    return found, gradient.permute(0, 3, 1, 2)


class TrainingStep:
    """One step of SGD with momentum on a batch, in one call.

    Args:
        network: float32 or float64, on the CPU, its weights channels-last; changed by each call.
        optimizer: over its parameters; its momentum buffers are changed by each call.
    """

    def __init__(self, network: ConvNet, optimizer: torch.optim.SGD):
        self._network = network
        self._momentum = optimizer.param_groups[0]["momentum"]
        parameters = _tensors(network)
        for parameter in parameters:
            # PyTorch's first step makes what a step from zero makes.
            state = optimizer.state[parameter]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
        self._weights = _flat(parameters)  # in the same memory
        self._momenta = _flat(optimizer.state[p]["momentum_buffer"] for p in parameters)
        self._outputs = (np.empty(0, self._weights[0].dtype),) * 2

    @staticmethod
    def can_take(network: ConvNet, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether an optimiser's step is the one that is compiled, on such weights."""
        groups = optimizer.param_groups
        return (
            type(optimizer) is torch.optim.SGD
            and len(groups) == 1
            and trains_all(network, optimizer)
            and groups[0]["momentum"] > 0
            and not any(groups[0][key] for key in ("dampening", "weight_decay", "nesterov"))
            and not groups[0]["maximize"]
        )

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, rate: float, sums: torch.Tensor
    ) -> None:
        """Take the step.

        Args:
            images: [B, H, W, C], contiguous.
            labels: int64 [B].
            rate: the learning rate.
            sums: float64 [2]; the losses and the number of correct samples are added.
        """
        kernel.run(
            kernel.TRAINING_STEP,
            _shape(images),
            images.numpy().reshape(-1),
            labels.numpy(),
            self._weights,
            _workspace(self._network, images),
            self._outputs,
            self._momenta,
            rate,
            self._momentum,
            sums.numpy(),
        )


def _tensors(network: ConvNet) -> list[torch.Tensor]:
    """Return weight and bias of each layer."""
    layers = [*network.convolutions, network.linear]
    return [tensor for layer in layers for tensor in (layer.weight, layer.bias)]


def ordered(tensor: torch.Tensor) -> torch.Tensor:
    """View the weights of a convolution as [out, 3, 3, in], and leave others as they are."""
    return tensor.detach().permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor.detach()


def trains_all(network: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimiser trains all of a network, and its weights lie channels-last."""
    trained = [each for group in optimizer.param_groups for each in group["params"]]
    parameters = list(network.parameters())
    return (
        list(map(id, trained)) == list(map(id, parameters))
        and all(each.requires_grad for each in parameters)
        and all(ordered(each).is_contiguous() for each in parameters)
    )


def _flat(tensors: Iterable[torch.Tensor]) -> tuple[np.ndarray, ...]:
    """Return one-dimensional arrays; copies of convolutions' weights that are not channels-last."""
    return tuple(ordered(tensor).contiguous().numpy().reshape(-1) for tensor in tensors)


def _shape(pixels: torch.Tensor) -> tuple[int, int, int]:
    return pixels.shape[0], pixels.shape[1], pixels.shape[3]


_last = threading.local()  # of each thread, the workspace that it has used last


def _workspace(network: ConvNet, pixels: torch.Tensor) -> np.ndarray:
    _, size, _, channels = pixels.shape
    width, classes = network.convolutions[0].out_channels, network.linear.out_features
    wanted = (channels, width, size, classes, pixels.numpy().dtype)
    if getattr(_last, "wanted", None) != wanted:
        _last.wanted, _last.memory = wanted, workspace(*wanted)
    return _last.memory
