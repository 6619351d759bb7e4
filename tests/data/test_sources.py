from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smoothdescent.data.sources import SOURCES, Source, read_source, source_files
from smoothdescent.data.sources.procedural import procedural
from smoothdescent.errors import UserError
from smoothdescent.files import sha256_file


def test_reads_the_named_source() -> None:
    block = {"source": "procedural", "seed": 1, "train": 20, "test": 5}
    expected = procedural(seed=1, train=20, test=5)
    np.testing.assert_array_equal(read_source(block).train_images, expected.train_images)


def test_null_means_absent() -> None:
    block = {"source": "procedural", "seed": 1, "train": 20, "test": 5, "size": None}
    assert read_source(block).train_images.shape == (20, 16, 16, 3)


@pytest.mark.parametrize("name", SOURCES)
def test_every_registered_source_exists(name: str) -> None:
    assert issubclass(SOURCES[name], Source)
    assert SOURCES[name].model_fields["source"].annotation.__args__ == (name,)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({}, "data key 'source' is None; expected one of torchvision, parquet, procedural"),
        ({"source": "imagenet"}, "data key 'source' is 'imagenet'; expected one of"),
        (
            {"source": "procedural", "seed": 1, "train": 9, "test": 9, "colour": 1},
            "data source 'procedural' has no key 'colour'; its keys are seed, classes",
        ),
        ({"source": "parquet", "path": "x", "threads": 2}, "has no key 'threads'"),
        ({"source": "parquet"}, "data source 'parquet' needs the key 'path'; it is missing"),
        (
            {"source": "procedural", "seed": 1, "train": "many", "test": 9},
            "data source 'procedural': key 'train' is 'many': Input should be a valid integer",
        ),
        (
            {"source": "torchvision", "name": "mnist", "path": "x"},
            "data source 'torchvision': key 'name' is 'mnist': Input should be 'cifar10' or",
        ),
        ({"source": "parquet", "path": "x", "mean": [0.5]}, "key 'mean' is [0.5]"),
    ],
)
def test_a_faulty_block_is_explained(block: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_source(block)


def test_preparing_data_does_not_import_torch() -> None:
    code = (
        "import sys, smoothdescent.data.prepare, smoothdescent.data.labels, "
        "smoothdescent.data.sources.torchvision, smoothdescent.data.sources.parquet; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_schema_imports_nothing_slow() -> None:
    code = (
        "import sys, smoothdescent.config.load; "
        "print(*{'torch', 'torchvision', 'PIL', 'pyarrow', 'pandas'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert printed.split() == []


def test_the_shards_of_a_folder_are_its_files(folder: Path) -> None:
    for name in ("README.md", "validation-00000-of-00001.parquet", "train.parquet", ".train-0"):
        (folder / name).write_bytes(b"")
    assert source_files({"source": "parquet", "path": str(folder)}) == [
        folder / "test-00000-of-00001.parquet",
        folder / "train-00000-of-00002.parquet",
        folder / "train-00001-of-00002.parquet",
    ]


def test_the_files_of_cifar(tmp_path: Path) -> None:
    block = {"source": "torchvision", "name": "cifar100", "path": str(tmp_path)}
    assert source_files(block) == [], "to be downloaded"
    unpacked = tmp_path / "cifar-100-binary"
    unpacked.mkdir()
    for name in ("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"):
        (unpacked / name).write_bytes(b"")
    names = ("fine_label_names.txt", "train.bin", "test.bin")
    assert source_files(block) == [unpacked / name for name in names]
    archive = tmp_path / "cifar-100-binary.tar.gz"
    archive.write_bytes(b"")
    assert source_files(block) == [], "its checksum is known"


@pytest.mark.parametrize(
    "block",
    [
        {"source": "parquet", "path": "/nowhere"},
        {"source": "parquet", "path": "/etc/passwd"},
        {"source": "torchvision", "name": "cifar10", "path": "/nowhere"},
        {"source": "procedural"},
    ],
)
def test_where_nothing_is_there_are_no_files(block: dict) -> None:
    assert source_files(block) == []


def test_the_files_read_are_those_named_before(folder: Path) -> None:
    block = {"source": "parquet", "path": str(folder)}
    records = {record.name: record for record in read_source(block).files}
    assert {folder / name for name in records} == set(source_files(block))
    for name, record in records.items():
        assert record.size == (folder / name).stat().st_size
        assert record.sha256 == sha256_file(folder / name)
