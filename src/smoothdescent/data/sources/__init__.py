"""Where images come from: a registry of sources by name.

A new source is a module with a subclass of `Source`, its block of the configuration, and one line
in `Dataset`. The configuration's schema imports this package, in every job: what is slow to import
(Pillow, Arrow, torch), a source imports where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError

from smoothdescent.data.sources.base import Decoded, FileRead, Source
from smoothdescent.data.sources.parquet import ParquetSource
from smoothdescent.data.sources.procedural import ProceduralSource
from smoothdescent.data.sources.torchvision import TorchvisionSource
from smoothdescent.errors import UserError

Dataset = Annotated[
    TorchvisionSource | ParquetSource | ProceduralSource, Field(discriminator="source")
]

SOURCES: dict[str, type[Source]] = {
    get_args(block.model_fields["source"].annotation)[0]: block
    for block in get_args(get_args(Dataset)[0])
}

__all__ = ["SOURCES", "Dataset", "Decoded", "FileRead", "Source", "read_source", "source_files"]


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
    return _block(settings).read(threads)


def source_files(settings: Mapping[str, Any]) -> list[Path]:
    """Return the files on disk that determine what `read_source` would read now.

    Nothing is opened. The list is empty where the folder or its files are missing, for an archive
    whose checksum is published, and for images that are drawn.

    Raises:
        UserError: a fault in the block itself.
    """
    return _block(settings).files()


def _block(settings: Mapping[str, Any]) -> Source:
    given = {key: value for key, value in settings.items() if value is not None}
    name = given.get("source")
    if name not in SOURCES:
        raise UserError(f"data key 'source' is {name!r}; expected one of {', '.join(SOURCES)}")
    try:
        return SOURCES[name].model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
    key = fault["loc"][0]
    if fault["type"] == "extra_forbidden":
        keys = ", ".join(known for known in SOURCES[name].model_fields if known != "source")
        raise UserError(f"data source {name!r} has no key {key!r}; its keys are {keys}")
    if key not in given:
        raise UserError(f"data source {name!r} needs the key {key!r}; it is missing")
    raise UserError(f"data source {name!r}: key {key!r} is {given[key]!r}: {fault['msg']}")
