"""What a table's numbers were made with, for its metadata."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from smoothdescent import __version__

_LIBRARIES = (
    "torch",
    "torchvision",
    "numba",
    "numpy",
    "pandas",
    "scipy",
    "pyarrow",
    "safetensors",
    "matplotlib",
)


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the results depend on."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def provenance(**facts: str) -> dict[str, str | dict[str, str]]:
    """Return the program's version, the libraries' versions and further facts."""
    return {"smoothdescent_version": __version__, "library_versions": library_versions(), **facts}
