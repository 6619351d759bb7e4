"""A job imports only what it uses: a study starts thousands."""

import subprocess
import sys

import pytest

CODE = """
import sys
from smoothdescent.cli import main
try:
    main([sys.argv[1], "--help"])
except SystemExit:
    pass
print("imported", *sys.modules)
"""


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("train", {"numba", "torchvision", "pandas", "pyarrow", "scipy", "matplotlib"}),
        ("measure-runs", {"numba", "torchvision", "pandas", "scipy", "matplotlib"}),
        ("config", {"torch", "pandas", "pyarrow", "numba"}),
        ("status", {"torch", "numba", "scipy", "matplotlib"}),
    ],
)
def test_what_a_command_does_not_import(command, unused):
    result = subprocess.run(
        [sys.executable, "-c", CODE, command], capture_output=True, text=True, check=True
    )
    imported = set(result.stdout.split("imported")[-1].split())
    assert "smoothdescent" in imported
    assert not unused & imported
