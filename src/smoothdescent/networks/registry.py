"""Networks by name: the families of the study, or any importable factory."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from smoothdescent.errors import UserError
from smoothdescent.networks.convnet import ConvNet
from smoothdescent.networks.resnet18 import ResNet18
from smoothdescent.source_code import module_sources

NETWORKS: dict[str, Callable[..., nn.Module]] = {"convnet": ConvNet, "resnet18": ResNet18}


def build(network: str, *, width: int | None, num_classes: int, image_size: int) -> nn.Module:
    """Build a network by its registry name or import path.

    Args:
        network: a name in `NETWORKS`, or the import path `package.module:factory` of a callable
            that takes any of the keywords `width`, `num_classes` and `image_size`, or `num_classes`
            among others, and returns a module mapping images [N, 3, H, W] to logits
            [N, num_classes].
        width: base width of the family; None for a network without one.
        num_classes: number of outputs.
        image_size: height and width of the inputs in pixels.

    Raises:
        UserError: there is no such network, or it cannot be built with these settings.
    """
    factory = find_factory(network)
    if width is not None and width < 1:
        raise UserError(f"network {network}: width is {width}, expected a whole number >= 1")
    settings = {"width": width, "num_classes": num_classes, "image_size": image_size}
    try:
        parameters = inspect.signature(factory).parameters
        # A factory with ** hands on what it does not name, as torchvision's do with num_classes.
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        named = {*parameters, *(["num_classes"] if open_ended else [])}
        settings = {name: value for name, value in settings.items() if name in named}
        if settings.get("width", 0) is None:
            raise UserError(f"network {network} needs a width")
        module = factory(**settings)
    except UserError:
        raise
    except Exception as error:  # whatever a user's own code may raise
        raise UserError(f"network {network} cannot be built with {settings}: {error}") from error
    if not isinstance(module, nn.Module):
        raise UserError(
            f"network {network} returned a {type(module).__name__}, expected a torch.nn.Module"
        )
    _size_lazy_layers(module, network, image_size)
    return module


def _size_lazy_layers(module: nn.Module, network: str, image_size: int) -> None:
    """Show lazy layers an image, from which they take their sizes."""
    if not any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        return
    mode = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:  # whatever a user's own code may raise
        raise UserError(
            f"network {network} has lazy layers, and cannot evaluate an image of {image_size} "
            f"pixels to size them: {error}"
        ) from error
    module.train(mode)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def find_factory(network: str) -> Callable[..., nn.Module]:
    """Return the callable that a registry name or an import path stands for.

    Raises:
        UserError: there is no such network.
    """
    if network in NETWORKS:
        return NETWORKS[network]
    module_name, colon, attribute = network.partition(":")
    if not colon:
        raise UserError(
            f"there is no network {network!r}; expected one of {', '.join(NETWORKS)}, or an import "
            "path such as 'my_package.my_module:MyNetwork'"
        )
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever a user's own module may raise
        raise UserError(f"network {network!r} cannot be imported: {error}") from error


def network_sources(network: str) -> list[Path]:
    """Return the source files whose code determines a network's results.

    These are the file of the network's factory, the module that its import path names, and what
    they import from the same folder or package, directly or through each other. Installed packages
    are told by their versions, and the program's own modules by whoever uses this list.

    Raises:
        UserError: there is no such network, or its factory has no source file.
    """
    factory = find_factory(network)
    try:
        source = Path(inspect.getsourcefile(inspect.unwrap(factory))).resolve()
    except TypeError:  # a callable object, such as functools.partial
        raise UserError(
            f"network {network!r} is a {type(factory).__name__} without source code, expected a "
            "class or a function"
        ) from None
    found = {source}
    for name in {factory.__module__, network.partition(":")[0]} - {*NETWORKS}:
        found |= module_sources(name)
    return sorted(found)
