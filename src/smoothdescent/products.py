"""Are the files that a study has made still what they were made as?

Snakemake looks at the dates of files. This looks into those that may have changed since their job
ended: their form (a truncated file), and whose they say they are (a file copied over another). What
lies between is found by the checksums, when a file is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, safetensors_header

# Snakemake gives all outputs of a job the same date. Files farther apart were touched since.
SECONDS_APART = 2.0
# Groups of so few files are always looked into.
SMALL_GROUP = 4


# What a file says of itself, in its metadata.
Facts = Mapping[str, str]


def damaged(groups: Iterable[Mapping[Path, Facts]]) -> dict[Path, str]:
    """Return the files that are not what they should be, each with what is wrong.

    Args:
        groups: the files of one job each, with what each should say of itself; missing ones are
            passed over.
    """
    found = {}
    for group in groups:
        dates = {path: path.stat().st_mtime for path in group if path.exists()}
        apart = max(dates.values(), default=0) - min(dates.values(), default=0)
        if len(group) > SMALL_GROUP and apart <= SECONDS_APART:
            continue
        for path in dates:
            if fault := _fault(path, group[path]):
                found[path] = fault
    return found


def _fault(path: Path, expected: Facts) -> str:
    """Say what is wrong with a file; empty if nothing is."""
    looked_into = _FORMS.get(path.suffix)
    if looked_into is None:
        return "" if path.stat().st_size else "is empty"
    try:
        found = looked_into(path)
    except (UserError, OSError, ValueError, KeyError) as error:
        return f"is damaged ({error})"
    for key, value in expected.items():
        if found.get(key) != value:
            return f"says that its {key} is {found.get(key)!r}, not {value!r}"
    return ""


def _safetensors(path: Path) -> dict[str, str]:
    return json.loads(safetensors_header(path).get("smoothdescent", "{}"))


def _ends_with(ending: bytes) -> Callable[[Path], dict[str, str]]:
    def look(path: Path) -> dict[str, str]:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64))
            if ending not in file.read():
                raise ValueError("it does not end as a file of its kind does")
        return {}

    return look


_FORMS: dict[str, Callable[[Path], dict[str, str]]] = {
    ".safetensors": _safetensors,
    ".parquet": read_metadata,
    ".pdf": _ends_with(b"%%EOF"),
    ".png": _ends_with(b"IEND"),
}
