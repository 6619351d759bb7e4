"""Processes of a study killed without warning; the same command then ends with the same tables."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from workflow.study import Study, assert_same_tables

pytestmark = pytest.mark.slow

# Some seconds of training, so that there is time to kill it.
LONG = {"widths": [2], "seeds": [0], "epochs": 150, "segments": [], "snapshots": [10, 30]}
LONG |= {"evaluate_every": 50, "batch_size": 5}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tables of a study that nothing disturbs."""
    study = Study(tmp_path_factory.mktemp("undisturbed"))
    prepare(study)
    study.run()
    return study


def prepare(study):
    study.config["autosave_minutes"] = 0.5 / 60
    study.set(**LONG)


def start(study):
    return subprocess.Popen(
        study.command(),
        cwd=study.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def wait_for(path: Path, process):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


def training_processes(process):
    """Return the Python processes below `process` that train."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [c for c in children if "train" in c.cmdline() and "python" in Path(c.exe()).name]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_training_killed(new_study, undisturbed, number):
    prepare(new_study)
    process = start(new_study)
    wait_for(new_study.results / "runs/w2_s0/autosave.safetensors", process)
    [training] = training_processes(process)
    training.send_signal(number)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode != 0, printed
    assert not (new_study.results / "history.parquet").exists()
    new_study.run()
    log = (new_study.results / "logs/train/w2_s0_e150.log").read_text()
    assert "resumed from" in log
    assert_same_tables(new_study, undisturbed)


def test_snakemake_and_all_its_jobs_killed(new_study, undisturbed):
    """As after a power cut: a stale lock and incomplete files remain."""
    prepare(new_study)
    process = start(new_study)
    wait_for(new_study.results / "runs/w2_s0/autosave.safetensors", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    new_study.run("--unlock")
    new_study.run()
    log = (new_study.results / "logs/train/w2_s0_e150.log").read_text()
    assert "resumed from" in log
    assert_same_tables(new_study, undisturbed)


def test_ctrl_c_saves(new_study, undisturbed):
    prepare(new_study)
    process = start(new_study)
    wait_for(new_study.results / "runs/w2_s0/autosave.safetensors", process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=300)
    log = (new_study.results / "logs/train/w2_s0_e150.log").read_text()
    assert "stopped by SIGINT" in log
    new_study.run()
    assert_same_tables(new_study, undisturbed)


def test_measuring_killed_keeps_the_finished_checkpoints(new_study, undisturbed):
    prepare(new_study)
    process = start(new_study)
    done = new_study.results / "runs/w2_s0/sharpness"
    wait_for(done / "e10.parquet", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {p: p.stat().st_ino for p in done.glob("e*.parquet")}
    new_study.run("--unlock")
    new_study.run()
    assert finished.items() <= {p: p.stat().st_ino for p in done.glob("e*.parquet")}.items()
    assert_same_tables(new_study, undisturbed)
