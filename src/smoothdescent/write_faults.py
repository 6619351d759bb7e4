"""Faults of writing that a user can mend, such as a full disk, in words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from smoothdescent.errors import UserError

# Of the process, not of a disk or a path: they are mended otherwise.
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
WRITE_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.ENOTDIR: "a folder of this path is a file",
    errno.EFBIG: "the file is too large for the file system or the user's limit",
    **dict.fromkeys(
        TOO_MANY_FILES, "too many files are open; raise the limit that `ulimit -n` shows"
    ),
}


@contextlib.contextmanager
def write_faults_told(path: Path) -> Iterator[None]:
    """Turn the faults of writing `path` that a user can mend into a UserError."""
    try:
        yield
    except Exception as error:
        cause = _os_error(error)
        if cause is not None:
            raise UserError(f"cannot write {path}: {_explain(cause)}") from error
        raise


def _os_error(error: BaseException) -> OSError | None:
    """Return the write fault behind `error`, if it is one that the user can mend."""
    if isinstance(error, OSError) and error.errno in WRITE_FAULTS:
        return error
    # The safetensors library raises an error of its own whose text carries the system's number.
    for number in WRITE_FAULTS:
        if f"(os error {number})" in str(error):
            return OSError(number, os.strerror(number))
    return None


def _explain(error: OSError) -> str:
    told = f"{WRITE_FAULTS[error.errno]} ({error.strerror})"
    if error.errno in TOO_MANY_FILES:
        return told
    return f"{told}; free some space or choose another place"
