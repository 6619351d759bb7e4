"""The device of a job, and how jobs spread over several GPUs."""

import subprocess
import sys

import pytest
import torch

from smoothdescent.devices import (
    choose_device,
    describe,
    precision_in_force,
    prepare_training,
    tf32,
)
from smoothdescent.errors import UserError

TAKE = """
import sys
from pathlib import Path
from smoothdescent.devices import least_used
print(least_used(int(sys.argv[1]), Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def take(tmp_path):
    """A function that starts a process on one of some GPUs and returns it with its GPU."""
    processes = []

    def start(gpus):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(gpus), str(tmp_path / "gpus")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_jobs_spread_over_gpus_and_leave_their_place(take):
    jobs = [take(3) for _ in range(5)]
    assert [gpu for _, gpu in jobs] == [0, 1, 2, 0, 1]
    jobs[2][0].kill()
    jobs[2][0].wait()
    assert take(3)[1] == 2
    assert take(3)[1] == 2
    jobs[0][0].kill()
    jobs[0][0].wait()
    assert take(3)[1] == 0


def test_one_gpu_is_shared(take):
    assert [take(1)[1] for _ in range(3)] == [0, 0, 0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu():
    assert describe(choose_device("auto")) == "cpu"
    with pytest.raises(UserError, match="no CUDA device is visible"):
        choose_device("cuda")


def test_tf32_is_on_where_it_was_asked_for_alone():
    def switches():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    with tf32():  # from PyTorch's own defaults, and back to them
        assert switches() == (True, True)
    assert switches() == (False, True)

    cpu = torch.device("cpu")
    prepare_training(cpu, torch.get_num_threads())
    assert switches() == (False, False)
    with tf32():
        with tf32(enabled=False):
            assert switches() == (False, False)
        assert switches() == (True, True)
    assert switches() == (False, False)
    assert precision_in_force("tf32", cpu) == "float32"
    assert precision_in_force("tf32", torch.device("cuda")) == "tf32"
    assert precision_in_force("bfloat16", cpu) == "bfloat16"
