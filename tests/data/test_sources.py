from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from smoothdescent.data.sources import SOURCES, Source, read_source, source_files
from smoothdescent.data.sources.procedural import procedural
from smoothdescent.errors import UserError


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
