"""Where the compiled kernels are kept when neither the checkout nor the home can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import smoothdescent

CODE = """
import torch
torch.set_num_threads(1)
from smoothdescent.networks.convnet import ConvNet, kernels
network, images = ConvNet(1, 2, 8), torch.randn(2, 3, 8, 8)
print(network._fits_lanes(images), network(images).shape)
"""


@pytest.fixture
def run(tmp_path):
    """Run the kernels from a read-only copy of the program, with a home that is not there."""
    pytest.importorskip("numba")
    source = tmp_path / "src"
    shutil.copytree(
        Path(smoothdescent.__file__).parent,
        source / "smoothdescent",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    # Files in the way of the folders that would be made: also for a user who may write anywhere.
    for folder in ("kernels", "networks"):
        (source / "smoothdescent" / folder / "__pycache__").touch()
    blocked = tmp_path / "file"
    blocked.touch()

    def call(temporary):
        environment = {
            **{k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"},
            "PYTHONPATH": str(source),
            "HOME": str(blocked),
            "XDG_CACHE_HOME": str(blocked),
            "TMPDIR": str(temporary),
        }
        command = [sys.executable, "-c", CODE]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return call


def test_kernels_are_cached_in_a_private_temporary_folder(run, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    found = run(temporary)
    assert found.returncode == 0, found.stderr
    assert "True torch.Size([2, 2])" in found.stdout
    folder = temporary / f"smoothdescent-numba-{os.getuid()}"
    assert found.stderr.count(f"kernels are cached in {folder}") == 1
    assert list(folder.rglob("*.nbc"))
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_is_not_trusted(run, tmp_path):
    temporary = tmp_path / "temporary"
    folder = temporary / f"smoothdescent-numba-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    found = run(temporary)
    assert found.returncode == 0, found.stderr
    assert "kernels are compiled anew" in found.stderr
    assert not list(folder.iterdir())
