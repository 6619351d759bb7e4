"""Each example runs as it stands, with no warning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path, tmp_path):
    environment = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(path)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "sharpness.png").read_bytes().startswith(b"\x89PNG")
