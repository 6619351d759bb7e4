"""Clusters for the tests marked `slurm`; without SLURM on the machine they are skipped."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from slurm.cluster import Cluster, missing


@contextlib.contextmanager
def running_cluster(nodes):
    """A cluster with one GPU on each node, which ends with the block whatever happens."""
    if lacking := missing():
        pytest.skip(lacking)
    # Not in tmp_path: the name of a socket must be short.
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        Cluster(Path(folder), nodes) as running,
    ):
        yield running


@pytest.fixture
def cluster():
    """A cluster of two nodes."""
    with running_cluster(2) as running:
        yield running


@pytest.fixture
def large_cluster():
    """A cluster of four nodes."""
    with running_cluster(4) as running:
        yield running
