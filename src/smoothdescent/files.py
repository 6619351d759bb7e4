"""Files that are never half-written, and tables that say where they come from."""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothdescent.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


_UMASK = os.umask(0o022)
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it to `path` when the block succeeds.

    The file is flushed to disk before it gets its name, so a reader sees the old file or the whole
    new one, also after a power cut. If the block fails, nothing remains. The temporary name keeps
    the suffix of `path`, and is unique, so two writers do not mix.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    with _write_faults_told(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            # Some writers make files that their owner alone can read, whatever the umask says.
            temporary.chmod(0o666 & ~_UMASK)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # already renamed, or never begun
                temporary.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; none may be writing in the folder."""
    for path in folder.glob(".*.*.*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{12}\.\w+", path.name):
            path.unlink(missing_ok=True)


def expect(path: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Compare what a file says of itself with what is expected of it.

    Raises:
        UserError: names the first difference.
    """
    for key, value in expected.items():
        if found.get(key) != value:
            raise UserError(f"{path}: its {key} is {found.get(key)!r}, expected {value!r}")


def put_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that it can be made again; return its new name."""
    aside = path.with_name(f"{path.name}.unusable")
    os.replace(path, aside)
    return aside


@contextlib.contextmanager
def _write_faults_told(path: Path) -> Iterator[None]:
    """Turn the faults of writing `path` that a user can mend into a UserError."""
    try:
        yield
    except Exception as error:
        cause = _os_error(error)
        if cause is not None:
            raise UserError(f"cannot write {path}: {_explain(cause)}") from error
        raise


WRITE_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.ENOTDIR: "a folder of this path is a file",
    errno.EFBIG: "the file is too large for the file system or the user's limit",
}


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
    return (
        f"{WRITE_FAULTS[error.errno]} ({error.strerror}); free some space or choose another place"
    )


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(*parts: bytes) -> str:
    """Return the hexadecimal SHA-256 of some bytes, one part after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """Return JSON that does not depend on the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def code_digest(*files: str | Path) -> str:
    """Return a hash of Python source files that comments, formatting and links do not change."""
    digest = hashlib.sha256()
    for file in sorted(str(Path(file).resolve()) for file in files):
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        digest.update(Path(file).name.encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def safetensors_header(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, without a library that needs torch.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not safetensors, or has not the size that its header tells.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    told = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if told != size:
        raise ValueError(f"it has {size} bytes, but its header tells {told}")
    return metadata


def write_table(
    path: str | Path, table: pa.Table | pd.DataFrame, metadata: dict[str, Any] | None = None
) -> None:
    """Write a Parquet file atomically, with key-value metadata.

    Args:
        path: the Parquet file.
        table: an Arrow table or a data frame; a frame's index is not stored.
        metadata: strings are stored as they are, other values as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    pairs = {
        key: value if isinstance(value, str) else canonical_json(value)
        for key, value in (metadata or {}).items()
    }
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **pairs})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_table(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises:
        UserError: the file is missing, damaged or not Parquet, or lacks one of `columns`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile reads this one file; read_table would take parent folders for partitions.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = [name for name in columns or [] if name not in file.schema_arrow.names]
            if missing:
                raise UserError(
                    f"{path} has no column {missing[0]!r}; its columns are "
                    f"{', '.join(file.schema_arrow.names)}"
                )
            return file.read(columns=columns)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a Parquet file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is damaged or not a Parquet file: {error}") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file, as strings.

    Raises:
        UserError: the file is missing, truncated or not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return table_metadata(pq.read_schema(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; expected a Parquet file") from None
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged or not a Parquet file: {error}") from error


def table_metadata(schema: pa.Schema) -> dict[str, str]:
    """Return the key-value metadata of a table's schema, as strings."""
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
