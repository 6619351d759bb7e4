"""Where images come from: a registry of sources by name.

A new source is a module with one function that takes the keys of its configuration block as
keywords and returns a `Decoded`, and one line in `SOURCES`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import pydantic

from smoothdescent.data.sources.decoded import Decoded
from smoothdescent.errors import UserError

# name in the configuration -> (module, function); a module is imported when it is asked for.
SOURCES = {
    "torchvision": ("smoothdescent.data.sources.torchvision", "torchvision"),
    "parquet": ("smoothdescent.data.sources.parquet", "parquet"),
    "procedural": ("smoothdescent.data.sources.procedural", "procedural"),
}

__all__ = ["SOURCES", "Decoded", "read_source"]


def read_source(settings: Mapping[str, Any], *, threads: int = 1) -> Decoded:
    """Decode the data set that a configuration block describes.

    Args:
        settings: the block: `source` names the source, the other keys are its arguments; a key
            whose value is null counts as absent.
        threads: number of decoding threads, for the sources that can use more than one.

    Raises:
        UserError: unknown source, unknown or missing key, a value of the wrong type, or a fault in
            the files read.
    """
    arguments = {key: value for key, value in settings.items() if value is not None}
    name = arguments.pop("source", None)
    if name not in SOURCES:
        raise UserError(f"data key 'source' is {name!r}; expected one of {', '.join(SOURCES)}")
    function = _function(name)
    parameters = inspect.signature(function).parameters
    keys = [key for key in parameters if key != "threads"]
    for key in arguments:
        if key not in keys:
            raise UserError(
                f"data source {name!r} has no key {key!r}; its keys are {', '.join(keys)}"
            )
    for key in keys:
        if parameters[key].default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f"data source {name!r} needs the key {key!r}; it is missing")
    hints = get_type_hints(function)
    for key, value in arguments.items():
        try:
            arguments[key] = pydantic.TypeAdapter(hints[key]).validate_python(value)
        except pydantic.ValidationError as error:
            raise UserError(
                f"data source {name!r}: key {key!r} is {value!r}: {error.errors()[0]['msg']}"
            ) from None
    if "threads" in parameters:
        arguments["threads"] = threads
    return function(**arguments)


def _function(name: str) -> Callable[..., Decoded]:
    module, function = SOURCES[name]
    return getattr(importlib.import_module(module), function)
