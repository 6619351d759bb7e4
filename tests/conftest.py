"""Fixtures of all tests."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from workflow.study import Study

from smoothdescent.devices import prepare_training

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those about them, and let Hypothesis take its time.

    Others than those, asked for alone, compare bytes, and would train on a GPU that they found.
    """
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with contextlib.suppress(ImportError):  # a machine with a GPU may lack it, and its tests do too
        from hypothesis import HealthCheck, settings

        # Nothing is said of how fast a machine makes examples, or tries one.
        slow = [HealthCheck.too_slow]
        settings.register_profile("any machine", deadline=None, suppress_health_check=slow)
        settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _prepared_gpu(request: pytest.FixtureRequest) -> None:
    """Before a test marked `gpu`, let the process be as one that trains on a GPU."""
    if request.node.get_closest_marker("gpu"):
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU; `make gpu-check` runs it where there is one")
        prepare_training(torch.device("cuda"), torch.get_num_threads())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as jobs do: compiled kernels are made for that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def new_study(tmp_path):
    """A study that nothing has run of."""
    return Study(tmp_path)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """A study that has run to its end; tests that change it work on what they change alone."""
    study = Study(tmp_path_factory.mktemp("study"))
    study.printed = study.run()
    return study


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium without a network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        installed = next(filter(None, map(shutil.which, BROWSERS)), None)
        try:
            # As root, in a container, Chromium has no sandbox.
            chromium = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"needs a Chromium; none was found: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()
