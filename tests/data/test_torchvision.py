from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from smoothdescent.data.sources import Decoded
from smoothdescent.data.sources import torchvision as module
from smoothdescent.data.sources.torchvision import ARCHIVES, torchvision
from smoothdescent.errors import UserError
from smoothdescent.files import sha256_file

TRAIN, TEST = 200, 100


def contents(name: str) -> dict[str, bytes]:
    """Return the files of a small data set, with as many images of one class as of another."""
    archive = ARCHIVES[name]
    generator = np.random.default_rng(len(name))
    classes = 10 if name == "cifar10" else 100

    files = {}
    for names, count in ((archive.train_files, TRAIN), (archive.test_files, TEST)):
        records = generator.integers(0, 256, (count, archive.label_bytes + 3072), dtype=np.uint8)
        records[:, archive.label_bytes - 1] = generator.permutation(count) % classes
        parts = np.split(records, len(names))
        files |= {file: part.tobytes() for file, part in zip(names, parts, strict=True)}
    files[archive.names_file] = ("\n".join(f"name{c}" for c in range(classes)) + "\n\n").encode()
    return files


def pack(name: str, files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, data in files.items():
            member = tarfile.TarInfo(f"{ARCHIVES[name].folder}/{file}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture(params=["cifar10", "cifar100"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a data set's name, its counts replaced by those of the test."""
    small = dataclasses.replace(ARCHIVES[request.param], train=TRAIN, test=TEST)
    monkeypatch.setitem(module.ARCHIVES, request.param, small)
    return request.param


def set_md5(name: str, packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    md5 = hashlib.md5(packed).hexdigest()
    monkeypatch.setitem(module.ARCHIVES, name, dataclasses.replace(ARCHIVES[name], md5=md5))


def unpack(name: str, files: dict[str, bytes], path: Path) -> Path:
    folder = path / ARCHIVES[name].folder
    folder.mkdir()
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return folder


def check(name: str, path: Path, files: dict[str, bytes], **arguments: object) -> Decoded:
    found = torchvision(name=name, path=path, **arguments)
    archive = ARCHIVES[name]
    size = archive.label_bytes + 3072
    row = 0
    for file in archive.train_files:
        for start in range(0, len(files[file]), size):
            record = files[file][start : start + size]
            assert found.train_labels[row] == record[archive.label_bytes - 1]
            # One channel after the other, each row by row.
            for channel, y, x in ((0, 0, 0), (1, 2, 3), (2, 31, 30)):
                position = archive.label_bytes + channel * 1024 + y * 32 + x
                assert found.train_images[row, y, x, channel] == record[position]
            row += 1
    assert row == TRAIN == len(found.train_images)
    assert found.test_images.shape == (TEST, 32, 32, 3)
    assert found.test_labels[0] == files[archive.test_files[0]][archive.label_bytes - 1]
    assert found.class_names[:2] == ("name0", "name1")
    assert found.mean == archive.mean
    for record in found.files:
        assert record.size == (path / record.name).stat().st_size
        assert record.sha256 == sha256_file(path / record.name)
    return found


def test_reads_the_unpacked_folder(name: str, tmp_path: Path) -> None:
    files = contents(name)
    archive = ARCHIVES[name]
    unpack(name, files, tmp_path)
    found = check(name, tmp_path, files)
    assert [record.name for record in found.files] == [
        f"{archive.folder}/{f}" for f in archive.files
    ]
    assert archive.file not in found.description, "no archive was read"
    assert archive.md5 not in found.description


def test_reads_the_archive(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(name)
    packed = pack(name, files)
    set_md5(name, packed, monkeypatch)
    (tmp_path / ARCHIVES[name].file).write_bytes(packed)
    found = check(name, tmp_path, files)
    assert [record.name for record in found.files] == [ARCHIVES[name].file]
    assert found.description == f"{ARCHIVES[name].file}, MD5 {hashlib.md5(packed).hexdigest()}"


def test_the_archive_is_taken_before_an_unpacked_copy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(name)
    packed = pack(name, files)
    set_md5(name, packed, monkeypatch)
    (tmp_path / ARCHIVES[name].file).write_bytes(packed)
    unpack(name, dict.fromkeys(files, b"damaged"), tmp_path)
    check(name, tmp_path, files)


def test_downloads_and_verifies(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(name)
    packed = pack(name, files)
    set_md5(name, packed, monkeypatch)
    asked = []

    def fetch(url: str, filename: Path, **_: object) -> None:
        asked.append(url)
        Path(filename).write_bytes(packed)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fetch)
    folder = tmp_path / "new"
    for _ in range(2):  # the second time the archive is there
        check(name, folder, files, download=True)
    assert asked == [f"https://www.cs.toronto.edu/~kriz/{ARCHIVES[name].file}"]
    assert [file.name for file in folder.iterdir()] == [ARCHIVES[name].file]


def fails(name: str, path: Path, message: str, **arguments: object) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        torchvision(name=name, path=path, **arguments)


def test_no_copy_and_no_download(name: str, tmp_path: Path) -> None:
    archive = ARCHIVES[name]
    message = (
        f"{tmp_path} has neither {archive.folder}/ nor {archive.file}: set data key 'download'"
    )
    fails(name, tmp_path, message)


def test_the_pickled_version_is_not_read(name: str, tmp_path: Path) -> None:
    folder = ARCHIVES[name].python_folder
    (tmp_path / folder).mkdir()
    fails(name, tmp_path, f"({folder} is the Python version, whose pickles are not read)")


def test_no_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(url: str, *_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", fetch)
    message = f"without a network, put that file into {tmp_path} by other means, or use the source"
    fails(name, tmp_path, message, download=True)
    assert list(tmp_path.iterdir()) == []


def test_a_download_with_a_wrong_checksum_is_not_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, filename: Path, **_: object) -> None:
        Path(filename).write_bytes(b"a login page")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fetch)
    fails(name, tmp_path, "File not found or corrupted", download=True)
    assert list(tmp_path.iterdir()) == []


def test_damaged_archive(name: str, tmp_path: Path) -> None:
    file = tmp_path / ARCHIVES[name].file
    file.write_bytes(pack(name, contents(name)))
    fails(name, tmp_path, f"{file} is damaged: its MD5 is ")


def test_archive_that_is_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(name, contents(name))[:-50]
    set_md5(name, packed, monkeypatch)
    (tmp_path / ARCHIVES[name].file).write_bytes(packed)
    fails(name, tmp_path, f"{ARCHIVES[name].file} cannot be unpacked")


def test_missing_file(name: str, tmp_path: Path) -> None:
    files = contents(name)
    del files[ARCHIVES[name].test_files[0]]
    folder = unpack(name, files, tmp_path)
    fails(
        name, tmp_path, f"{ARCHIVES[name].test_files[0]} is missing; {folder} is not a whole copy"
    )


def test_missing_file_in_the_archive(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(name)
    del files[ARCHIVES[name].names_file]
    packed = pack(name, files)
    set_md5(name, packed, monkeypatch)
    (tmp_path / ARCHIVES[name].file).write_bytes(packed)
    fails(name, tmp_path, f"{ARCHIVES[name].names_file} is missing")


def test_wrong_size(name: str, tmp_path: Path) -> None:
    files = contents(name)
    file = ARCHIVES[name].train_files[-1]
    files[file] = files[file][:-1]
    folder = unpack(name, files, tmp_path)
    size = len(files[file])
    fails(name, tmp_path, f"{folder / file} has {size} bytes; expected {size + 1}: ")


def test_the_published_counts_are_expected(tmp_path: Path) -> None:
    folder = unpack("cifar10", contents("cifar10"), tmp_path)
    message = f"{folder / 'data_batch_1.bin'} has 122920 bytes; expected 30730000: 10000 records"
    fails("cifar10", tmp_path, message)


def test_label_out_of_range(name: str, tmp_path: Path) -> None:
    files = contents(name)
    archive = ARCHIVES[name]
    file = archive.train_files[-1]
    record = bytearray(files[file])
    record[archive.label_bytes + 3072 + archive.label_bytes - 1] = 100
    files[file] = bytes(record)
    folder = unpack(name, files, tmp_path)
    last = 9 if name == "cifar10" else 99
    fails(name, tmp_path, f"{folder / file}: record 1 has label 100; expected 0 to {last}")


def test_a_batch_of_zeros(name: str, tmp_path: Path) -> None:
    files = contents(name)
    file = ARCHIVES[name].train_files[-1]
    files[file] = bytes(len(files[file]))
    unpack(name, files, tmp_path)
    fails(name, tmp_path, "images have label 0; expected ")


def test_pixels_of_zeros(name: str, tmp_path: Path) -> None:
    files, archive = contents(name), ARCHIVES[name]
    file = archive.train_files[-1]
    records = np.frombuffer(files[file], np.uint8).reshape(-1, archive.label_bytes + 3072).copy()
    records[-archive.repeats - 2 :, archive.label_bytes :] = 0
    files[file] = records.tobytes()
    folder = unpack(name, files, tmp_path)
    record = len(records) - archive.repeats - 1
    fails(name, tmp_path, f"{folder / file}: record {record} has an earlier record's image")


def test_training_images_that_are_test_images_too(name: str, tmp_path: Path) -> None:
    files, archive = contents(name), ARCHIVES[name]
    files[archive.test_files[0]] = b"".join(files[file] for file in archive.train_files)[
        : len(files[archive.test_files[0]])
    ]
    unpack(name, files, tmp_path)
    with pytest.raises(UserError, match="the copy is damaged, unpack"):
        torchvision(name=name, path=tmp_path)


def test_the_few_repetitions_of_cifar100_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(ARCHIVES["cifar100"], train=TRAIN, test=TEST)
    monkeypatch.setitem(module.ARCHIVES, "cifar100", small)
    files = contents("cifar100")
    records = np.frombuffer(files["train.bin"], np.uint8).reshape(-1, 3074).copy()
    records[:25, 2:] = 0
    files["train.bin"] = records.tobytes()
    unpack("cifar100", files, tmp_path)
    assert len(torchvision(name="cifar100", path=tmp_path).train_labels) == TRAIN


@pytest.mark.parametrize("text", [b"one two", b"a " * 100, b"\xff\xfe" * 50])
def test_class_names_that_are_not_those_of_the_classes(
    name: str, tmp_path: Path, text: bytes
) -> None:
    files = contents(name) | {ARCHIVES[name].names_file: text}
    folder = unpack(name, files, tmp_path)
    fails(name, tmp_path, f"{folder / ARCHIVES[name].names_file} has ")
