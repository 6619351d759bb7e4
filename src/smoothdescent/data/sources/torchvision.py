"""CIFAR-10 and CIFAR-100, downloaded by torchvision or from an existing copy.

What is read is the data set's *binary version*, plain records of bytes. torchvision's own readers
take the Python version, whose files are pickles: a pickle can run any code when it is loaded, so
this program reads none. torchvision downloads the archive and verifies its checksum.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, StrictBool

from smoothdescent.config.types import Place
from smoothdescent.data.sources.base import Decoded, FileRead, RealSource
from smoothdescent.errors import UserError
from smoothdescent.files import atomic_path

URL = "https://www.cs.toronto.edu/~kriz/"
SIZE = 32
PIXELS = 3 * SIZE**2


@dataclass(frozen=True)
class Archive:
    """One data set's binary version, as published.

    Attributes:
        file, md5: the archive and its published checksum.
        folder: what the archive unpacks to.
        python_folder: the same of the Python version, which is not read.
        train_files, test_files, names_file: in that folder.
        label_bytes: label bytes before the pixels of a record; the last one is the (fine) label.
        classes: number of classes; a split has as many images of one as of another.
        train, test: number of records.
        repeats: images that may equal an earlier one; CIFAR-100 is known to have 24.
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
    classes: int
    train: int
    test: int
    repeats: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are read, in order."""
        return (self.names_file, *self.train_files, *self.test_files)


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
        classes=10,
        train=50_000,
        test=10_000,
        repeats=0,
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
        classes=100,
        train=50_000,
        test=10_000,
        repeats=50,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2009, 0.1984, 0.2023),
    ),
}


class TorchvisionSource(RealSource):
    """CIFAR as its authors ship it: downloaded with a checksum, or an existing copy."""

    source: Literal["torchvision"]
    name: Literal["cifar10", "cifar100"] = Field(description="which data set")
    path: Place = Field(description="folder that holds, or will hold, the archive")
    download: StrictBool = Field(True, description="fetch the archive if it is not in `path`")

    def read(self, threads: int) -> Decoded:
        """Decode the copy in `path`, or download it; one thread does it."""
        return torchvision(**self.model_dump(exclude={"source"}))

    def files(self) -> list[Path]:
        """Return the unpacked files, none if it is the archive that is read.

        What the archive holds is fixed by its published checksum, and a download may put it there.
        """
        archive, path = ARCHIVES[self.name], Path(self.path)
        if (path / archive.file).is_file():
            return []
        files = (path / archive.folder / name for name in archive.files)
        return [file for file in files if file.is_file()]

    def image_size(self) -> int:
        """Return the images' height and width in pixels."""
        return SIZE

    def check(self) -> int:
        """Look whether there is a copy, or a download is allowed."""
        archive, path = ARCHIVES[self.name], Path(self.path)
        copies = (path / archive.file).is_file() or (path / archive.folder).is_dir()
        if not copies and not self.download:
            raise UserError(_missing(archive, path))
        return SIZE


def torchvision(
    *,
    name: Literal["cifar10", "cifar100"],
    path: str | Path,
    download: bool = False,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Decoded:
    """Read CIFAR-10 or CIFAR-100.

    The archive is checked against its published MD5. An unpacked folder, which is read where there
    is no archive, has none: there the number of images of each class is checked, and that images do
    not repeat.

    Args:
        name: which of the two.
        path: the folder that holds the unpacked folder or the archive, or shall hold the archive.
        download: whether to download the archive if `path` has neither.
        mean, std: per channel of the [0,1] pixels; None: the values in common use.

    Raises:
        UserError: no copy and no download, a failed download, a wrong checksum, a file that is
            missing or of the wrong size, a label out of range, or an unpacked copy whose images
            are not those of the data set.
    """
    archive, path = ARCHIVES[name], Path(path)
    archive = replace(archive, mean=mean or archive.mean, std=std or archive.std)
    folder, packed = path / archive.folder, path / archive.file
    # Where both are there, the archive is taken, since its checksum is known.
    if not packed.is_file():
        if folder.is_dir():
            return _read_folder(archive, folder)
        if not download:
            raise UserError(_missing(archive, path))
        _download(archive, packed)
    return _read_archive(archive, packed)


def _read_folder(archive: Archive, folder: Path) -> Decoded:
    """Decode an unpacked copy; whether it is whole, only its own contents tell."""
    contents, files = {}, []
    for name in archive.files:
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"{folder / name} is missing; {folder} is not a whole copy of the data set "
                f"({error.strerror})"
            ) from error
        files.append(FileRead.of(f"{archive.folder}/{name}", io.BytesIO(contents[name])))
    description = f"{archive.folder}/, unpacked; numbers of images and repetitions checked"
    decoded = _decode(archive, folder, contents.get, description, files)
    _check_copy(archive, folder, decoded)
    return decoded


def _read_archive(archive: Archive, packed: Path) -> Decoded:
    """Decode the archive, if it has the published checksum."""
    with packed.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
        if md5 != archive.md5:
            raise UserError(
                f"{packed} is damaged: its MD5 is {md5}; expected {archive.md5}: remove it and "
                "download it again"
            )
        file.seek(0)
        files = [FileRead.of(archive.file, file)]
        description = f"{archive.file}, MD5 {archive.md5}"
        try:
            with tarfile.open(fileobj=file) as tar:
                read = _archive_reader(tar, archive.folder)
                return _decode(archive, packed, read, description, files)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise UserError(f"{packed} cannot be unpacked: {error}") from error


def _check_copy(archive: Archive, folder: Path, decoded: Decoded) -> None:
    """Refuse a copy whose classes differ in their number of images, or whose images repeat."""
    again = f"the copy is damaged, unpack {archive.file} again"
    seen: set[bytes] = set()
    repeated = []
    for names, images, labels in (
        (archive.train_files, decoded.train_images, decoded.train_labels),
        (archive.test_files, decoded.test_images, decoded.test_labels),
    ):
        counts = np.bincount(labels, minlength=archive.classes)
        expected = len(labels) // archive.classes
        if (counts != expected).any():
            label = np.flatnonzero(counts != expected)[0]
            raise UserError(
                f"{folder}: in {' '.join(names)}, {counts[label]} images have label {label}; "
                f"expected {expected} of each: {again}"
            )
        for row, image in enumerate(images):
            digest = hashlib.md5(image, usedforsecurity=False).digest()
            if digest in seen:
                file, record = divmod(row, len(images) // len(names))
                repeated.append(f"{folder / names[file]}: record {record}")
            seen.add(digest)
    if len(repeated) > archive.repeats:
        raise UserError(
            f"{repeated[0]} has an earlier record's image, as {len(repeated) - 1} others have; "
            f"expected at most {archive.repeats}: {again}"
        )


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


def _archive_reader(tar: tarfile.TarFile, folder: str) -> Callable[[str], bytes | None]:
    def read(name: str) -> bytes | None:
        try:
            member = tar.extractfile(f"{folder}/{name}")
        except KeyError:
            return None
        return None if member is None else member.read()

    return read


def _decode(
    archive: Archive,
    where: Path,
    read: Callable[[str], bytes | None],
    description: str,
    files: list[FileRead],
) -> Decoded:
    """Decode all files; `read` returns a file's contents, None if it is missing."""
    names = _read(archive.names_file, where, read).decode(errors="replace").split()
    if len(set(names)) != archive.classes or len(names) != archive.classes:
        raise UserError(
            f"{where / archive.names_file} has {len(names)} names, {len(set(names))} of them "
            f"different; expected those of {archive.classes} classes"
        )
    splits = []
    for group, count in (
        (archive.train_files, archive.train),
        (archive.test_files, archive.test),
    ):
        parts = [
            _records(archive, _read(name, where, read), count // len(group), where / name)
            for name in group
        ]
        records = np.concatenate(parts)
        pixels = records[:, archive.label_bytes :].reshape(-1, 3, SIZE, SIZE)
        labels = records[:, archive.label_bytes - 1].astype(np.int64)
        if labels.max() >= len(names):
            row = int(np.argmax(labels))
            raise UserError(
                f"{where / group[row // (count // len(group))]}: record "
                f"{row % (count // len(group))} has label {labels[row]}; expected 0 to "
                f"{len(names) - 1}"
            )
        splits += [np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), labels]
    return Decoded(
        *splits,
        class_names=tuple(names),
        description=description,
        mean=archive.mean,
        std=archive.std,
        files=tuple(files),
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
