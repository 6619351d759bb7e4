"""Processes of a study killed without warning; the same command then ends with the same tables.

A training that is to be killed is longer than any test; the study then asks for a nearer end.
"""

import json
import os
import signal

import pytest
from workflow.study import assert_same_tables, processes, wait_until

from smoothdescent.files import peek_metadata

pytestmark = pytest.mark.slow

ENDLESS = {"widths": [2], "seeds": [0], "epochs": 1_000_000, "snapshots": [1, 5]}
ENDLESS |= {"evaluate_every": 50, "batch_size": 20}
LOG = "logs/train/w2_s0.log"


def start_training(study):
    """Start an endless training, and return Snakemake when some of the work has been saved."""
    study.config["autosave_minutes"] = 0.5 / 60
    study.set(**ENDLESS)
    process = study.start(*study.tables)
    run = study.results / "runs/w2_s0"
    wait_until((run / "snapshots/e5.safetensors").exists, process)
    wait_until((run / "state.safetensors").exists, process)
    return process


def finish(study, tmp_path):
    """Run the study to an end near what it has reached, and compare it with one undisturbed."""
    state = peek_metadata(study.results / "runs/w2_s0/state.safetensors")
    position = json.loads(state["position"])
    study.set(epochs=position["epoch"] + 20)
    study.run(*study.tables)
    assert "resumed from" in (study.results / LOG).read_text()
    undisturbed = study.copy_to(tmp_path / "undisturbed")
    undisturbed.run(*undisturbed.tables)
    assert_same_tables(study, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_training_killed(new_study, tmp_path, number):
    process = start_training(new_study)
    [training] = processes("train", process)
    training.send_signal(number)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode != 0, printed
    said = "killed from outside" if number == signal.SIGKILL else "stopped by SIGTERM"
    assert said in printed and "w2_s0.log" in printed
    assert "--settings" not in printed and "e5.safetensors" not in printed
    assert not (new_study.results / "history.parquet").exists()
    assert (new_study.results / "runs/w2_s0/snapshots/e1.safetensors").exists()
    finish(new_study, tmp_path)


def test_snakemake_and_all_its_jobs_killed(new_study, tmp_path):
    """As after a power cut: a stale lock and incomplete files remain."""
    process = start_training(new_study)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    new_study.run("--unlock")
    finish(new_study, tmp_path)


def test_ctrl_c_saves(new_study, tmp_path):
    process = start_training(new_study)
    os.killpg(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=300)[0]
    assert "stopped by SIGINT" in (new_study.results / LOG).read_text()
    assert "What was done is saved; the same command continues" in printed
    finish(new_study, tmp_path)


@pytest.mark.parametrize("whole", [True, False])
def test_measuring_killed_keeps_the_finished_checkpoints(new_study, tmp_path, whole):
    """Of all its processes, or of the job alone: its outputs stay either way."""
    # So many checkpoints that no machine measures them between two looks.
    new_study.set(widths=[2], seeds=[0], epochs=80, snapshots=list(range(80)), batch_size=100)
    process = new_study.start(*new_study.tables)
    done = new_study.results / "runs/w2_s0/sharpness"
    wait_until(lambda: len(list(done.glob("e*.parquet"))) >= 3, process)
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        [measuring] = processes("measure-runs", process)
        measuring.kill()
    process.communicate(timeout=300)
    finished = {p: p.stat().st_ino for p in done.glob("e*.parquet")}
    assert 3 <= len(finished) < 81
    if whole:
        new_study.run("--unlock")
    new_study.run(*new_study.tables)
    assert finished.items() <= {p: p.stat().st_ino for p in done.glob("e*.parquet")}.items()
    undisturbed = new_study.copy_to(tmp_path / "undisturbed")
    undisturbed.run(*undisturbed.tables)
    assert_same_tables(new_study, undisturbed)
