"""CIFAR-10 and CIFAR-100, downloaded by torchvision or from an existing copy.

What is read is the data set's *binary version*, plain records of bytes. torchvision's own readers
take the Python version, whose files are pickles: a pickle can run any code when it is loaded, so
this program reads none. torchvision downloads the archive and verifies its checksum.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from smoothdescent.data.sources.decoded import Decoded
from smoothdescent.errors import UserError
from smoothdescent.files import atomic_path

URL = "https://www.cs.toronto.edu/~kriz/"
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Archive:
    """One data set's binary version, as published.

    Attributes:
        file, md5: the archive and its published checksum.
        folder: what the archive unpacks to.
        python_folder: the same of the Python version, which is not read.
        train_files, test_files, names_file: in that folder.
        label_bytes: label bytes before the pixels of a record; the last one is the (fine) label.
        train, test: number of records.
        mean, std: per channel of the [0,1] pixels, as commonly used for normalising.
    """

    file: str
    md5: str
    folder: str
    python_folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    names_file: str
    label_bytes: int
    train: int
    test: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


ARCHIVES = {
    "cifar10": Archive(
        file="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        python_folder="cifar-10-batches-py",
        train_files=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test_files=("test_batch.bin",),
        names_file="batches.meta.txt",
        label_bytes=1,
        train=50_000,
        test=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
    "cifar100": Archive(
        file="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        python_folder="cifar-100-python",
        train_files=("train.bin",),
        test_files=("test.bin",),
        names_file="fine_label_names.txt",
        label_bytes=2,
        train=50_000,
        test=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2009, 0.1984, 0.2023),
    ),
}


def torchvision(
    *,
    name: Literal["cifar10", "cifar100"],
    path: Path,
    download: bool = False,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Decoded:
    """Read CIFAR-10 or CIFAR-100.

    Args:
        name: which of the two.
        path: the folder that holds the unpacked folder or the archive, or shall hold the archive.
        download: whether to download the archive if `path` has neither.
        mean, std: per channel of the [0,1] pixels; None: the values in common use.

    Raises:
        UserError: no copy and no download, a failed download, a wrong checksum, a file that is
            missing or of the wrong size, or a label out of range.
    """
    archive, path = ARCHIVES[name], Path(path)
    archive = replace(archive, mean=mean or archive.mean, std=std or archive.std)
    folder, packed = path / archive.folder, path / archive.file
    if folder.is_dir():
        return _decode(archive, folder, _folder_reader(folder))
    if not packed.is_file():
        if not download:
            raise UserError(_missing(archive, path))
        _download(archive, packed)
    with packed.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != archive.md5:
        raise UserError(
            f"{packed} is damaged: its MD5 is {md5}; expected {archive.md5}: remove it and "
            "download it again"
        )
    try:
        with tarfile.open(packed) as tar:
            return _decode(archive, packed, _archive_reader(tar, archive.folder))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{packed} cannot be unpacked: {error}") from error


def _missing(archive: Archive, path: Path) -> str:
    pickled = ""
    if (path / archive.python_folder).exists():
        pickled = f" ({archive.python_folder} is the Python version, whose pickles are not read)"
    return (
        f"{path} has neither {archive.folder}/ nor {archive.file}{pickled}: set data key "
        f"'download' to true, put {URL}{archive.file} there, or use the source 'parquet'"
    )


def _download(archive: Archive, packed: Path) -> None:
    from torchvision.datasets.utils import download_url

    try:
        with atomic_path(packed) as temporary:
            download_url(
                URL + archive.file,
                root=temporary.parent,
                filename=temporary.name,
                md5=archive.md5,
            )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"cannot download {URL}{archive.file}: {error}; without a network, put that file into "
            f"{packed.parent} by other means, or use the source 'parquet' with a copy of the data "
            "set in the Hugging Face layout"
        ) from error


def _folder_reader(folder: Path) -> Callable[[str], bytes | None]:
    def read(name: str) -> bytes | None:
        file = folder / name
        return file.read_bytes() if file.is_file() else None

    return read


def _archive_reader(tar: tarfile.TarFile, folder: str) -> Callable[[str], bytes | None]:
    def read(name: str) -> bytes | None:
        try:
            member = tar.extractfile(f"{folder}/{name}")
        except KeyError:
            return None
        return None if member is None else member.read()

    return read


def _decode(archive: Archive, where: Path, read: Callable[[str], bytes | None]) -> Decoded:
    """Decode all files; `read` returns a file's contents, None if it is missing."""
    names = _read(archive.names_file, where, read).decode().split()
    splits = []
    for files, count in (
        (archive.train_files, archive.train),
        (archive.test_files, archive.test),
    ):
        parts = [
            _records(archive, _read(name, where, read), count // len(files), where / name)
            for name in files
        ]
        records = np.concatenate(parts)
        pixels = records[:, archive.label_bytes :].reshape(-1, 3, 32, 32)
        labels = records[:, archive.label_bytes - 1].astype(np.int64)
        if labels.max() >= len(names):
            row = int(np.argmax(labels))
            raise UserError(
                f"{where / files[row // (count // len(files))]}: record "
                f"{row % (count // len(files))} has label {labels[row]}; expected 0 to "
                f"{len(names) - 1}"
            )
        splits += [np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels]
    return Decoded(
        *splits,
        class_names=tuple(names),
        description=f"{archive.file}, MD5 {archive.md5}",
        mean=archive.mean,
        std=archive.std,
    )


def _read(name: str, where: Path, read: Callable[[str], bytes | None]) -> bytes:
    contents = read(name)
    if contents is None:
        raise UserError(f"{where / name} is missing; {where} is not a whole copy of the data set")
    return contents


def _records(archive: Archive, contents: bytes, count: int, file: Path) -> np.ndarray:
    """Return the records of a file, uint8 [count, label bytes + pixels]."""
    size = archive.label_bytes + PIXELS
    if len(contents) != count * size:
        raise UserError(
            f"{file} has {len(contents)} bytes; expected {count * size}: {count} records of {size}"
        )
    return np.frombuffer(contents, dtype=np.uint8).reshape(count, size)
