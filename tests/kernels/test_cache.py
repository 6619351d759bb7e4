"""Where the compiled kernels are kept when neither the checkout nor the home can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import smoothdescent

KERNEL = """
from smoothdescent.kernels.cache import cached

@cached
def double(x):
    return 2 * x

print(double(21))
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
    (source / "smoothdescent" / "kernels" / "__pycache__").touch()
    kernel = source / "smoothdescent" / "kernels" / "small.py"
    kernel.write_text(KERNEL)
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
        command = [sys.executable, str(kernel)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return call


def test_kernels_are_cached_in_a_private_temporary_folder(run, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    found = run(temporary)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "42\n"
    folder = temporary / f"smoothdescent-numba-{os.getuid()}"
    assert found.stderr.count(f"kernels are cached in {folder}") == 1
    assert list(folder.rglob("*.nbc"))
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_fastest_is_chosen_once(tmp_path, monkeypatch):
    cache = pytest.importorskip("smoothdescent.kernels.cache")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    calls = []

    def sleep(name, seconds):
        calls.append(name)
        clock[0] += seconds

    clock = [0.0]
    monkeypatch.setattr(cache.time, "perf_counter", lambda: clock[0])

    def ask(question, new, old):
        contestants = {"new": lambda: sleep("new", new), "old": lambda: sleep("old", old)}
        return cache.fastest(question, contestants, needed=0.9)

    assert ask("a", 1.0, 2.0) == "new" and ask("b", 1.95, 2.0) == "old"
    asked = len(calls)
    assert ask("a", 3.0, 2.0) == "new" and ask("b", 1.0, 2.0) == "old", "they are remembered"
    assert len(calls) == asked and {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    (tmp_path / "a").write_text("nonsense")
    assert ask("a", 3.0, 2.0) == "old"


def test_a_folder_that_others_may_write_is_not_trusted(run, tmp_path):
    temporary = tmp_path / "temporary"
    folder = temporary / f"smoothdescent-numba-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    found = run(temporary)
    assert (found.returncode, found.stdout) == (0, "42\n"), found.stderr
    assert "kernels are compiled anew" in found.stderr
    assert not list(folder.iterdir())
