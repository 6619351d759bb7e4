"""One holder at a time, with real processes: contention, kill -9, a holder that sleeps."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from smoothdescent import lease as module
from smoothdescent.errors import UserError
from smoothdescent.lease import Deposed, Lease

FAST = {"beat": 0.1, "stale": 0.8}
HOLD = """
import sys, time
from pathlib import Path
from smoothdescent.lease import Lease
with Lease(Path(sys.argv[1]) / "run.lease", beat=0.1, stale=0.8) as lease:
    print("held", flush=True)
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        lease.check()
        with open(Path(sys.argv[1]) / "writes", "a") as file:
            file.write(f"{sys.argv[3]}\\n")
        time.sleep(0.02)
"""


def holder(folder, seconds=60, name="other", **options):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds), name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture
def other(tmp_path):
    """A process that holds the folder's lease."""
    process = holder(tmp_path, env={**os.environ, "SLURM_JOB_ID": "77"})
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def elsewhere(monkeypatch):
    """As seen from another host, where process numbers say nothing."""
    monkeypatch.setattr(module, "_machine", lambda: "another host")


def test_released_at_the_end(tmp_path):
    for _ in range(2):
        with Lease(tmp_path / "run.lease", **FAST) as lease:
            lease.check()
            content = json.loads((tmp_path / "run.lease").read_text())
            assert content["pid"] == os.getpid()
        assert list(tmp_path.iterdir()) == []


def test_a_living_holder_is_named(tmp_path, other):
    start = time.monotonic()
    with pytest.raises(UserError) as raised, Lease(tmp_path / "run.lease", **FAST):
        pytest.fail("two holders")
    assert time.monotonic() - start > 1
    message = str(raised.value)
    assert f"SLURM job 77, process {other.pid} on host" in message
    assert other.poll() is None
    assert not list(tmp_path.glob(".*"))


def test_a_killed_holder_is_followed_at_once(tmp_path, other):
    other.kill()
    other.wait()
    start = time.monotonic()
    with Lease(tmp_path / "run.lease", **FAST) as lease:
        lease.check()
    assert time.monotonic() - start < 0.7


def test_a_holder_killed_on_another_host_is_followed_when_stale(tmp_path, other, elsewhere):
    other.kill()
    other.wait()
    start = time.monotonic()
    with Lease(tmp_path / "run.lease", **FAST) as lease:
        lease.check()
    assert 0.7 < time.monotonic() - start < 5


def test_a_sleeping_holder_is_deposed_and_touches_nothing(tmp_path, other):
    other.send_signal(signal.SIGSTOP)
    with Lease(tmp_path / "run.lease", **FAST) as lease:
        time.sleep(0.2)
        before = (tmp_path / "writes").read_text()
        other.send_signal(signal.SIGCONT)
        assert other.wait(timeout=10) != 0
        # It may have been stopped between its check and its write: one more line at most.
        assert (tmp_path / "writes").read_text().count("\n") <= before.count("\n") + 1
        assert "has been taken over by process" in other.stderr.read()
        lease.check()
    assert not (tmp_path / "run.lease").exists()


def test_the_deposed_leaves_the_new_lease_alone(tmp_path):
    first = Lease(tmp_path / "run.lease", **FAST).__enter__()
    (tmp_path / "run.lease").unlink()
    with Lease(tmp_path / "run.lease", **FAST) as second:
        with pytest.raises(Deposed, match="taken over by process"):
            first.check()
        second.check()
        first.__exit__(None, None, None)
        second.check()


def test_many_contenders_one_writer_at_a_time(tmp_path):
    """Whoever holds it writes its name; names never interleave."""
    processes = [holder(tmp_path, seconds=0.3, name=str(i)) for i in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 or "is being written by" in errors
    names = (tmp_path / "writes").read_text().split()
    blocks = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    assert len(blocks) == len(set(blocks)) >= 2


@pytest.mark.parametrize("text", ["", "[]", "no json", "{}"])
def test_a_damaged_lease_is_nobodys_once_it_is_stale(tmp_path, text):
    (tmp_path / "run.lease").write_text(text)
    with Lease(tmp_path / "run.lease", **FAST) as lease:
        lease.check()
