"""`make gpu-check`, as far as it goes without a GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training.tiny import NAME, tiny_study

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "benchmarks/gpu_check.py"


@pytest.fixture(scope="module")
def check():
    specification = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["gpu_check"] = module  # where dataclasses look
    specification.loader.exec_module(module)
    yield module
    del sys.modules["gpu_check"]


def test_without_a_gpu_it_says_so():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, SCRIPT], env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == ("gpu_check: no CUDA device is visible; expected a machine with a GPU\n")


def test_parts_report_what_they_print_and_how_they_end(check, capsys):
    code = "import sys; print('seen'); sys.exit(int(sys.argv[1]))"
    command = [sys.executable, "-c", code]
    assert check.report(check.Part("Good", [*command, "0"], 100))
    assert not check.report(check.Part("Bad", [*command, "3"], 100))
    long = [sys.executable, "-c", "import time; time.sleep(1000)"]
    assert not check.report(check.Part("Long", long, 1))
    printed = capsys.readouterr().out
    assert printed.count("```\nseen\n```") == 2
    for line in ("s, exit code 0)", "s, exit code 3)", "s, cut short after 1 s)"):
        assert line in printed


@pytest.mark.parametrize("cifar10", [None, "shards"])
def test_its_parts_are_there_and_its_study_is_valid(check, tmp_path, cifar10):
    parts = check.parts(tmp_path, cifar10)
    assert sum(part.seconds + check.GRACE for part in parts) <= 8 * 60
    for part in parts:
        scripts = [word for word in part.command if word.endswith(".py")]
        assert all((REPOSITORY / script).exists() for script in scripts)
    study = check.miniature(cifar10)
    assert {e.network for e in study.experiments.values()} == {"convnet", "resnet18"}
    assert {e.precision for e in study.experiments.values()} == {"tf32"}
    names = {e.data.dataset for e in study.experiments.values()}
    assert names == {"cifar10" if cifar10 else "procedural10"}


def test_its_study(check, tmp_path, capsys):
    """On a CPU, and smaller."""
    study = tiny_study(widths=[33], seeds=[0, 1], measure={"samples": 20})
    study = study.model_copy(update={"experiments": {NAME: study.experiments[NAME]}})
    check.run_study(study, tmp_path, "cpu")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [[NAME, "w33_s0"], [NAME, "w33_s1"]]
    assert all(0 <= float(row[3]) <= 1 for row in rows[1:])


SMALL = ["--widths", "2", "--device", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["train.py", *SMALL, *("--image-size", "8", "--batch-size", "8", "--seconds", "0.1")],
        ["sharpness.py", *SMALL, *("--image-size", "16", "--images", "8", "--slices", "2")],
        ["overhead.py", *SMALL, "--images", "128"],
    ],
)
def test_its_benchmarks(command):
    """On a CPU, and smaller."""
    script = SCRIPT.with_name(command[0])
    done = subprocess.run(
        [sys.executable, script, *command[1:]], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
