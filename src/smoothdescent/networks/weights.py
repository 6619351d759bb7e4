"""A network's weights on disk: safetensors only, with metadata that says where they come from.

The metadata is JSON under one key: the format's own order of several keys changes from run to run,
and equal weights shall make equal files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Set
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from smoothdescent.errors import UserError
from smoothdescent.files import atomic_path, canonical_json

METADATA_KEY = "smoothdescent"
CHECKSUM = "checksum"  # in that metadata: of the tensors' names, types, shapes and bytes
# Number types that differ by rounding alone.
ROUNDED = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
PREFIXES = ("module.", "_orig_mod.")  # of wrappers: DataParallel, torch.compile


def save_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """Write tensors to a safetensors file atomically, with a checksum of them.

    Tensors that share memory are written as one copy each.
    """
    contiguous, storages = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        contiguous[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    text = canonical_json({**metadata, CHECKSUM: _checksum(contiguous)})
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, {METADATA_KEY: text})


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read every tensor and the metadata of a safetensors file.

    Raises:
        UserError: the file is missing, truncated or not safetensors, or its tensors are not those
            that this program wrote.
    """
    with _opened(path) as file:
        # A copy of each tensor: the mapped pages would otherwise keep a replaced file alive.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        metadata = _metadata(path, file)
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and (found := _checksum(tensors)) != expected:
        raise UserError(
            f"{path} is damaged: the checksum of its tensors is {found}, not {expected}"
        )
    return tensors, metadata


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy() if tensor.numel() else b"")
    return digest.hexdigest()


def _metadata(path: str | Path, file: safe_open) -> dict[str, str]:
    """Return what this program wrote about a file; nothing for a file from elsewhere."""
    text = (file.metadata() or {}).get(METADATA_KEY, "{}")
    try:
        metadata = json.loads(text)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        raise UserError(f"{path} is damaged: its metadata {METADATA_KEY!r} is not a JSON object")
    return metadata


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a safetensors file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or not a safetensors file: {error}") from error


def read_weights_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file without reading its tensors.

    Raises:
        UserError: the file is missing, truncated or not safetensors.
    """
    with _opened(path) as file:
        metadata = _metadata(path, file)
    metadata.pop(CHECKSUM, None)
    return metadata


def save_weights(path: str | Path, module: nn.Module, metadata: dict[str, str]) -> None:
    """Write a module's parameters and buffers to a safetensors file atomically."""
    save_tensors(path, dict(module.state_dict()), metadata)


def weights_dtypes(path: str | Path) -> str:
    """Return the number types of a safetensors file, such as 'F16, I64'.

    Raises:
        UserError: the file is missing, truncated or not safetensors.
    """
    with _opened(path) as file:
        names = file.keys()
        return ", ".join(sorted({file.get_slice(name).get_dtype() for name in names}))


def load_weights(path: str | Path, module: nn.Module) -> dict[str, str]:
    """Load a safetensors file into a module and return the file's metadata.

    Tensors that the module holds under several names may be in the file under one. Floating-point
    numbers of 16, 32 or 64 bits are rounded to the module's precision.

    Raises:
        UserError: the file does not hold exactly the module's tensors (it was made by another
            architecture or width), holds them in a number type that loses their meaning, or holds
            NaN or infinite values.
    """
    tensors, metadata = load_tensors(path)
    expected = module.state_dict()
    for name in expected.keys() - tensors.keys():
        same = [other for other in tensors if _is_same(expected[name], expected.get(other))]
        if same:
            tensors[name] = tensors[same[0]]
    if tensors.keys() != expected.keys():
        raise UserError(
            f"{path} holds the weights of another architecture than {type(module).__name__}: "
            + _difference(tensors.keys(), expected.keys())
        )
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise UserError(
                f"{path}: tensor {name} has shape {list(tensor.shape)}, but the network expects "
                f"{list(wanted.shape)}; is it a snapshot of another width or class count?"
            )
        if tensor.dtype != wanted.dtype and not {tensor.dtype, wanted.dtype} <= ROUNDED:
            raise UserError(
                f"{path}: tensor {name} holds {tensor.dtype}, but the network expects "
                f"{wanted.dtype}; numbers of another kind lose their meaning"
            )
        if tensor.is_floating_point() and not torch.isfinite(tensor.to(wanted.dtype)).all():
            raise UserError(f"{path}: tensor {name} holds NaN or infinite values")
    module.load_state_dict(tensors)
    return metadata


def _is_same(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Return whether two tensors are one under two names."""
    return other is not None and tensor.is_set_to(other)


def _difference(found: Set[str], expected: Set[str]) -> str:
    """Say how the names of tensors differ."""
    clauses = []
    for what, names in (("it lacks", expected - found), ("it also holds", found - expected)):
        if names:
            first = ", ".join(sorted(names)[:3])
            clauses.append(f"{what} {first}{' ...' if len(names) > 3 else ''}")
    for prefix in PREFIXES:
        if {name.replace(prefix, "") for name in found} == expected:
            clauses.append(
                f"its names have the prefix {prefix!r} of a wrapper: save the state dictionary of "
                "the network inside"
            )
    return "; ".join(clauses)
