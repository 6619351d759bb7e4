"""The throw-away cluster does what a cluster does, and leaves nothing behind."""

import contextlib
import time

import psutil
import pytest
from slurm.cluster import PROGRAMS, Cluster, missing

pytestmark = pytest.mark.slurm


def test_gpus_are_allocated(cluster):
    script = "echo on $CUDA_VISIBLE_DEVICES; sleep 600"
    jobs = [cluster.submit(script, "--gpus=1") for _ in range(2)]
    nodes = {cluster.wait_for(job, "RUNNING").node for job in jobs}
    assert nodes == {"n1", "n2"}
    third = cluster.submit("srun --gpus=1 echo on $CUDA_VISIBLE_DEVICES", "--gpus=1")
    without = cluster.submit("echo on $CUDA_VISIBLE_DEVICES.")
    cluster.wait_for(without, "COMPLETED")
    assert cluster.output(without) == "on .\n"
    assert cluster.jobs()[third].state == "PENDING"
    cluster.scancel(jobs[0])
    cluster.wait_for(jobs[0], "CANCELLED")
    cluster.wait_for(third, "COMPLETED")
    assert cluster.output(third) == "on 0\n"


def test_a_node_goes_and_comes_back(cluster):
    job = cluster.submit("sleep 600", "--nodelist=n1", "--no-requeue")
    cluster.wait_for(job, "RUNNING")
    cluster.node_down(1)
    cluster.wait_for(job, "NODE_FAIL")
    cluster.wait_for_node(1, "down")
    cluster.node_resume(1)
    cluster.wait_for_node(1, "idle")
    cluster.wait_for(cluster.submit("true", "--nodelist=n1"), "COMPLETED")


def names(cluster):
    """Return the names of a cluster's processes."""
    found = set()
    for process in cluster.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.name())
    return found


def test_nothing_is_left_when_a_test_fails(cluster):
    class Failure(Exception):
        pass

    folder = cluster.root / "another"
    folder.mkdir()
    with pytest.raises(Failure), Cluster(folder) as other:
        other.submit("srun sleep 600")
        deadline = time.monotonic() + 60
        while "sleep" not in names(other):
            assert time.monotonic() < deadline, other.jobs()
        assert cluster.jobs() == {}, "two clusters do not see each other"
        other.kill_slurmd(1)
        assert {"munged", "slurmctld", "sleep"} <= names(other)
        raise Failure
    assert other.processes() == []
    assert cluster.processes() != []


def test_what_is_missing_is_named(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("slurm.cluster.PROGRAMS", ())
        patch.setattr("slurm.cluster.PLUGIN", "no_such_plugin")
        assert "pip install -r requirements.txt" in missing()
    monkeypatch.setattr("slurm.cluster.SEARCH", "/nowhere")
    assert f"no {', '.join(PROGRAMS)} on" in missing()
    assert "apt-get install slurm-wlm munge" in missing()
