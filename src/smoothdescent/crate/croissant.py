"""The tables of a study in Croissant, the vocabulary in which data sets for learning are described.

One record set for each table, one field for each column.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smoothdescent.files import sha256_file
from smoothdescent.tables.columns import describe
from smoothdescent.tables.dictionary import TABLES

VERSION = "http://mlcommons.org/croissant/1.0"
_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty"),
    *("fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField"),
    *("path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
    *("separator", "source", "subField", "transform"),
)
# The context that the specification recommends, word for word: readers look for it.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_ABOUT = {table.file: table for table in TABLES}


def croissant(about: Mapping[str, str], tables: Mapping[str, Path]) -> dict[str, Any]:
    """Return the description of some tables as JSON-LD.

    Args:
        about: name, description, license and further properties of all of them.
        tables: files `<experiment>/<table>.parquet`, by where they will lie beside the description.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        **about,
        "distribution": [_file(*table) for table in tables.items()],
        "recordSet": [_record_set(*table) for table in tables.items()],
    }


def _file(place: str, path: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": place,
        "name": place,
        "contentUrl": place,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256_file(path),
    }


def _record_set(place: str, path: Path) -> dict[str, Any]:
    name = f"{path.parent.name}/{path.stem}"
    table = _ABOUT[path.name]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"A row is a {table.row}.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": column.name,
                # A measure of the user's own goes by its name.
                "description": table.columns.get(column.name, describe(column.name).text),
                "dataType": _data_type(column.type),
                "source": {
                    "fileObject": {"@id": place},
                    "extract": {"column": column.name},
                },
            }
            for column in pq.read_schema(path)
        ],
    }


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
