"""The device of a job, and how jobs spread over several GPUs."""

import os
import platform
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from smoothdescent.devices import (
    choose_device,
    describe,
    is_emulated,
    keep_pages,
    kernel_choice,
    precision_in_force,
    prepare_training,
    tf32,
)
from smoothdescent.errors import UserError

CPU = torch.device("cpu")
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

    def start(gpus, visible=""):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(gpus), str(tmp_path / "gpus")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": visible},
        )  # fmt: skip
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_that_see_other_gpus_do_not_count(take):
    assert [take(2, visible)[1] for visible in ("0,1", "2,3", "0,1", "2,3")] == [0, 0, 1, 1]


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


def switches():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_tf32_is_on_where_it_was_asked_for_alone():
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    with tf32():  # from PyTorch's own defaults, and back to them
        assert switches() == (True, True)
    assert switches() == (False, True)

    prepare_training(CPU, torch.get_num_threads())
    assert switches() == (False, False)
    with tf32():
        with tf32(enabled=False):
            assert switches() == (False, False)
        assert switches() == (True, True)
    assert switches() == (False, False)


def test_threads_do_not_change_each_others_precision():
    """The switches belong to the process: threads that want different ones take turns."""
    start = threading.Barrier(4)

    def work(wanted):
        start.wait()
        seen = set()
        for _ in range(200):
            with tf32(wanted):
                seen.add(switches())
                time.sleep(0)  # lets another thread go on
                seen.add(switches())
        return seen

    prepare_training(CPU, torch.get_num_threads())
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(work, [True, False, True, False]))
    assert seen == [{(True, True)}, {(False, False)}] * 2
    assert switches() == (False, False)


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch has no newer switches"
)
def test_both_kinds_of_switches_are_kept():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.backends.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    try:
        # A user's process in which the older switch and the newer ones disagree.
        torch.backends.fp32_precision = "tf32"
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "ieee", "tf32"
        with tf32(False):
            assert switches() == (False, False)
            found = matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
            assert found == ("ieee",) * 3
        assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("ieee", "tf32")
    finally:
        torch.backends.fp32_precision = before[0]
        torch.backends.cudnn.allow_tf32 = False
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before[1:]


@pytest.mark.parametrize(
    ("capability", "hip", "tf32_in_force", "emulated"),
    [
        ((8, 0), None, "tf32", False),
        ((7, 5), None, "float32", True),
        ((9, 4), "6", "float32", False),
    ],
)
def test_a_precision_that_a_gpu_lacks(monkeypatch, capability, hip, tf32_in_force, emulated):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    gpu = torch.device("cuda", 0)
    assert precision_in_force("tf32", gpu) == tf32_in_force
    assert is_emulated("bfloat16", gpu) == emulated
    assert not is_emulated("float32", gpu) and not is_emulated("bfloat16", CPU)
    assert precision_in_force("tf32", CPU) == "float32"
    assert precision_in_force("bfloat16", CPU) == precision_in_force("bfloat16", gpu) == "bfloat16"


def test_kernels_that_repeat_every_bit(monkeypatch):
    cudnn, gpu = torch.backends.cudnn, torch.device("cuda", 0)
    monkeypatch.setattr(cudnn, "benchmark", cudnn.benchmark)  # put back after the test
    monkeypatch.setattr(cudnn, "deterministic", cudnn.deterministic)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    prepare_training(gpu, torch.get_num_threads())
    assert cudnn.benchmark and not kernel_choice(gpu)["deterministic"]
    prepare_training(gpu, torch.get_num_threads(), deterministic=True)
    assert not cudnn.benchmark and kernel_choice(gpu)["deterministic"]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert kernel_choice(CPU) == {}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_kept():
    def faults():
        """Count the pages that are faulted in to hold 64 MiB."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [torch.ones(2**22) for _ in range(4)]
        del held
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_pages(CPU)
    # The least of several: the system may take pages back at any time.
    assert min(faults() for _ in range(6)) < 1000  # of 16,384


LEAVE = """
import threading
import torch
def work():
    layer = torch.nn.Conv2d(3, 4, 3)
    layer(torch.rand(8, 3, 8, 8)).sum().backward()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_a_process_ends_well_after_a_thread_that_ran_a_backward_pass():
    """PyTorch 2.12 aborted in most of such processes."""
    codes = [subprocess.run([sys.executable, "-c", LEAVE], check=False).returncode for _ in "ab"]
    assert codes == [0, 0]
