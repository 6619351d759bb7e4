"""A network's weights on disk: safetensors only, with metadata that says where they come from.

The metadata is JSON under one key: the format's own order of several keys changes from run to run,
and equal weights shall make equal files.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from smoothdescent.errors import UserError
from smoothdescent.files import (
    CHECKSUM,
    METADATA_KEY,
    SEAL,
    UNSEALED,
    atomic_path,
    canonical_json,
    check_seal,
    expect,
    read_bytes,
    seal,
    tensors_header,
    tensors_metadata,
)

# Number types that differ by rounding alone.
ROUNDED = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
PREFIXES = ("module.", "_orig_mod.")  # of wrappers: DataParallel, torch.compile


def save_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """Write tensors to a safetensors file atomically, sealed.

    Tensors that share memory are written as one copy each.
    """
    contiguous, storages = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        contiguous[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    text = canonical_json({**metadata, CHECKSUM: UNSEALED})
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, {METADATA_KEY: text})
        seal(temporary)


def load_tensors(
    path: str | Path, expected: Mapping[str, str] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read every tensor and the metadata of a safetensors file.

    Args:
        path: the file; without metadata of this program, it may come from elsewhere.
        expected: what its metadata should say, among other things.

    Raises:
        UserError: the file is missing, damaged or not safetensors, or says otherwise.
    """
    content = read_bytes(path, "safetensors file")
    metadata = _metadata(path, content)
    expect(path, metadata, expected or {})
    try:
        return load(content), metadata
    except SafetensorError as error:
        raise UserError(f"{path} is truncated or not a safetensors file: {error}") from error


def read_weights_metadata(path: str | Path) -> dict[str, str]:
    """Return what this program wrote about weights; nothing for a file from elsewhere.

    Raises:
        UserError: the file is missing, damaged or not safetensors.
    """
    return _metadata(path, read_bytes(path, "safetensors file"))


def _metadata(path: str | Path, content: bytes) -> dict[str, str]:
    try:
        metadata = tensors_metadata(content)
    except ValueError as error:
        raise UserError(f"{path} is truncated or not a safetensors file: {error}") from None
    if metadata or SEAL in content:
        check_seal(path, content)
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
    header, _ = tensors_header(read_bytes(path, "safetensors file"))
    entries = (entry for name, entry in header.items() if name != "__metadata__")
    return ", ".join(sorted({entry["dtype"] for entry in entries}))


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
