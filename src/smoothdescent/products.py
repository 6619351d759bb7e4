"""Are the files that a study has made still what they were made as?

Snakemake looks at the dates of files. This looks into those that may have changed since their job
ended: whether they are as they were written, and whose they say they are (a file copied over
another). Any other change is found when a file is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from smoothdescent.errors import UserError
from smoothdescent.files import check_companions, read_metadata

# Snakemake gives all outputs of a job the same date. Files farther apart were touched since.
SECONDS_APART = 2.0
# Groups of so few files are always looked into.
SMALL_GROUP = 4


SEALED = (".parquet", ".safetensors")  # others are companions of a table
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
    try:
        if path.suffix in SEALED:
            check_companions(path, read_metadata(path, expected))
        elif not path.stat().st_size:
            return "is empty"
    except (UserError, OSError) as error:
        return f"is not what it was ({error})"
    return ""
