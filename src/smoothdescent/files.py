"""Files that are never half-written, that say what they are, and that prove it.

Every file that the program reads again is sealed: its metadata hold the SHA-256 of its own bytes,
taken with zeros in that place. So a reader finds any change, before a library reads the file; and
equal content gives equal files. The rest of the metadata says what the file is of. A reader states
what it expects of that (`expect`), and the first difference refuses the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothdescent.errors import UserError
from smoothdescent.write_faults import write_faults_told

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq


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
    with write_faults_told(path):
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
    """Remove the temporary files of writers that were killed; none may be writing in the folder.

    They are those of `atomic_path` and those that the safetensors library makes beside them.
    """
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{12}\.\w+|\.tmp[0-9A-Za-z]{6}", path.name):
            path.unlink(missing_ok=True)


def expect(path: str | Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Compare what a file says of itself with what is expected of it.

    Raises:
        UserError: names the first difference.
    """
    for key, value in expected.items():
        if found.get(key) != value:
            raise UserError(f"{path}: its {key} is {found.get(key)!r}, expected {value!r}")


@contextlib.contextmanager
def made_again(path: Path, how: str = "the same command makes it again") -> Iterator[None]:
    """Set a product aside that cannot be used inside the block, and say what makes it again."""
    try:
        yield
    except UserError as error:
        if path.exists():
            raise UserError(f"{error}; it is kept as {set_aside(path).name}, and {how}") from None
        raise


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that it can be made again; return its new name."""
    aside = path.with_name(f"{path.name}.unusable")
    os.replace(path, aside)
    return aside


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


# Once in a sealed file, followed by the 64 digits of its checksum.
SEAL = b"sha256-of-this-file:"
_OPEN = b"0" * 64
CHECKSUM = "checksum"  # the key of the metadata that holds the seal
UNSEALED = (SEAL + _OPEN).decode()
METADATA_KEY = "smoothdescent"  # of safetensors files: all metadata, as JSON
# safetensors writes several keys in an arbitrary order, and equal content would give files that
# differ.


def seal(path: Path) -> None:
    """Write a file's checksum into the place that its metadata keep for it (`UNSEALED`)."""
    with path.open("rb+") as file:
        # Mapped: a file may be larger than the memory.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = content.find(SEAL)
            if found < 0:
                raise ValueError(f"{path} has no place for its checksum")
            place = found + len(SEAL)
            checksum = _checksum(content, place)
        file.seek(place)
        file.write(checksum)


def check_seal(path: str | Path, content: bytes | mmap.mmap) -> None:
    """Make sure that a file is as this program wrote it.

    Args:
        path: its name, for messages.
        content: all of its bytes.

    Raises:
        UserError: it is not.
    """
    if not len(content):
        raise UserError(f"{path} is empty")
    place = content.find(SEAL) + len(SEAL)
    if place < len(SEAL):
        raise UserError(
            f"{path} is damaged, or not of this program: it has no {CHECKSUM}, which its files have"
        )
    says, found = content[place : place + len(_OPEN)], _checksum(content, place)
    if says != found:
        raise UserError(
            f"{path} is damaged: its {CHECKSUM} is {found[:16].decode()}, "
            f"expected {says[:16].decode(errors='replace')}"
        )


def _checksum(content: bytes | mmap.mmap, place: int) -> bytes:
    with memoryview(content) as view:
        parts = (view[:place], _OPEN, view[place + len(_OPEN) :])
        return sha256_bytes(*parts).encode()


def read_sealed(path: str | Path, kind: str = "file", content: bytes | None = None) -> bytes:
    """Return the bytes of a file that is as this program wrote it.

    Args:
        path: the file.
        kind: what is expected there, for messages.
        content: its bytes, where they are read already.

    Raises:
        UserError: it is missing, cannot be read, is damaged or not of this program.
    """
    content = read_bytes(path, kind) if content is None else content
    check_seal(path, content)
    return content


def read_bytes(path: str | Path, kind: str = "file") -> bytes:
    """Return the bytes of a file.

    Raises:
        UserError: it is missing, or a folder.
        OSError: it cannot be read now: it need not be damaged.
    """
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist; expected a {kind}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; expected a {kind}") from None
    except OSError as error:
        error.filename = str(path)  # which that of reading an open file lacks
        raise


def read_metadata(
    path: str | Path,
    expected: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> dict[str, str]:
    """Return what a sealed file says of itself: a Parquet, safetensors or JSON file.

    Args:
        path: the file.
        expected: what it should say, among other things.
        content: its bytes, where they are read already.

    Raises:
        UserError: it is missing, damaged, not of this program or of its kind, or says otherwise.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = _KINDS[Path(path).suffix]
    content = read_sealed(path, f"{kind} file", content)
    try:
        if kind == "Parquet":
            found = table_metadata(pq.read_schema(pa.BufferReader(content)))
        elif kind == "safetensors":
            found = tensors_metadata(content)
        else:
            found = _json_object(content)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is not a {kind} file: {error}") from None
    found.pop(CHECKSUM, None)
    expect(path, found, expected or {})
    return found


_KINDS = {".parquet": "Parquet", ".safetensors": "safetensors", ".json": "JSON"}


def tensors_header(content: bytes | mmap.mmap) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where its tensors begin.

    Raises:
        ValueError: it has none.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    if not 8 < start <= len(content):
        raise ValueError("it has no header")
    return _json_object(content[8:start]), start


def _json_object(text: bytes | str) -> dict[str, Any]:
    """Return the JSON object that a text holds.

    Raises:
        ValueError: it holds none.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"its JSON is a {type(found).__name__}, not an object")
    return found


def tensors_metadata(content: bytes | mmap.mmap) -> dict[str, str]:
    """Return what this program wrote about a safetensors file; nothing for one from elsewhere.

    Args:
        content: the file, or its beginning.

    Raises:
        ValueError: it is not safetensors.
    """
    header, _ = tensors_header(content)
    try:
        return _json_object(header.get("__metadata__", {}).get(METADATA_KEY, "{}"))
    except (AttributeError, TypeError) as error:
        raise ValueError(f"its header is not that of safetensors ({error})") from None


def peek_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file from its beginning, unproven: for forecasts.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not safetensors.
    """
    with path.open("rb") as file:
        length = file.read(8)
        rest = min(int.from_bytes(length, "little"), path.stat().st_size)
        return tensors_metadata(length + file.read(rest))


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, sealed."""
    with atomic_path(path) as temporary:
        text = json.dumps({**content, CHECKSUM: UNSEALED}, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        seal(temporary)


def write_table(
    path: str | Path,
    table: pa.Table | pd.DataFrame,
    metadata: dict[str, Any] | None = None,
    companions: Iterable[Path] = (),
) -> None:
    """Write a Parquet file atomically, with key-value metadata, sealed.

    Args:
        path: the Parquet file.
        table: an Arrow table or a data frame; a frame's index is not stored.
        metadata: strings are stored as they are, other values as JSON.
        companions: files of this folder that were written with it; their checksums are kept, so
            that `check_companions` finds one that was changed or is of another time.
    """
    import pyarrow as pa

    if checksums := {file.name: sha256_file(file) for file in companions}:
        metadata = {**(metadata or {}), "companions": checksums}
    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    with table_writer(path, table.schema, metadata) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def table_writer(
    path: str | Path, schema: pa.Schema, metadata: dict[str, Any] | None = None
) -> Iterator[pq.ParquetWriter]:
    """Yield the writer of a file as `write_table` writes it, for rows that do not fit into memory.

    Args:
        path, metadata: see `write_table`.
        schema: of the tables that are written into it, one row group each.
    """
    import pyarrow.parquet as pq

    pairs = {
        key: value if isinstance(value, str) else canonical_json(value)
        for key, value in (metadata or {}).items()
    }
    schema = schema.with_metadata({**(schema.metadata or {}), **pairs})
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            yield writer
            # The schema's own metadata are in the file twice, once in another code.
            writer.add_key_value_metadata({CHECKSUM: UNSEALED})
        seal(temporary)


def check_companions(path: Path, metadata: Mapping[str, str]) -> None:
    """Make sure that the files that were written with a table are beside it.

    Raises:
        UserError: one is missing, or another than it was.
    """
    for name, expected in json.loads(metadata.get("companions", "{}")).items():
        companion = path.with_name(name)
        if not companion.exists() or sha256_file(companion) != expected:
            raise UserError(f"{companion} is missing, or not the file that {path} was written with")


def read_table(
    path: str | Path,
    columns: list[str] | None = None,
    expected: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> pa.Table:
    """Read a sealed Parquet file.

    Args:
        path: the file.
        columns: those to read; default: all.
        expected: what its metadata should say, among other things.
        content: its bytes, where they are read already.

    Raises:
        UserError: the file is missing, damaged, not of this program or not Parquet, says otherwise,
            or lacks one of `columns`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = read_sealed(path, "Parquet file", content)
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            expect(path, table_metadata(file.schema_arrow), expected or {})
            missing = [name for name in columns or [] if name not in file.schema_arrow.names]
            if missing:
                raise UserError(
                    f"{path} has no column {missing[0]!r}; its columns are "
                    f"{', '.join(file.schema_arrow.names)}"
                )
            return file.read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is not a Parquet file: {error}") from None


def table_metadata(schema: pa.Schema) -> dict[str, str]:
    """Return the key-value metadata of a table's schema, as strings."""
    pairs = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    pairs.pop(CHECKSUM, None)
    return pairs
