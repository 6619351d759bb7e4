"""How sharply a trained classifier interpolates its training data, measured in input space.

The public names are imported on first use, so that `hessian_norm` is available without torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "measure": "engine",
    "Evaluation": "gradients",
    "input_gradients": "gradients",
    "register_measure": "measures",
    "hessian_norm": "normalisation",
    "Paths": "paths",
    "SVDPaths": "paths",
    "ShiftPaths": "paths",
    "path_images": "paths",
    "register_path_family": "paths",
    "full_precision": "precision",
    "Tangent": "tangent",
    "jitter_coefficients": "tangent",
    "tangent_points": "tangent",
    "segment_lengths": "volumes",
    "volume_integrals": "volumes",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
