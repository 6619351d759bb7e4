"""A cluster for the tests marked `slurm`; without SLURM on the machine they are skipped."""

import tempfile
from pathlib import Path

import pytest
from slurm.cluster import Cluster, missing


@pytest.fixture
def cluster():
    """A cluster of two nodes with one GPU each, which ends with the test whatever happens."""
    if lacking := missing():
        pytest.skip(lacking)
    # Not in tmp_path: the name of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, Cluster(Path(folder)) as running:
        yield running
