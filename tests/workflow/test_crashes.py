"""Processes of a study killed without warning; the same command then ends with the same tables.

A training that is to be killed is longer than any test; the study then asks for a nearer end.
"""

import contextlib
import json
import os
import signal

import pytest
from workflow.study import assert_same_tables, processes, wait_until

from smoothdescent.files import peek_metadata, sha256_file

pytestmark = pytest.mark.slow

ENDLESS = {"widths": [2], "seeds": [0], "epochs": 1_000_000, "snapshots": [1, 5]}
ENDLESS |= {"evaluate_every": 50, "batch_size": 20}
LOG = "logs/train/w2_s0.log"


def start_training(study):
    """Start an endless training, and return Snakemake when some of the work has been saved."""
    study.config["autosave_minutes"] = 0.5 / 60
    study.set(**ENDLESS)
    run = study.results / "runs/w2_s0"
    earlier = written(run / "snapshots")
    process = study.start(*study.tables)
    wait_until(lambda: "e5.safetensors" in written(run / "snapshots", earlier), process)
    wait_until((run / "state.safetensors").exists, process)
    return process


def written(folder, earlier=None):
    """Return the checksums of an epoch's files by name, without those that are as they were."""
    found = {}
    for path in folder.glob("e*[!e]"):  # none that is `.unusable`
        with contextlib.suppress(FileNotFoundError):  # set aside since
            found[path.name] = sha256_file(path)
    return dict(found.items() - (earlier or {}).items())


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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_training_killed_after_a_change_of_settings(new_study, tmp_path, number):
    """What it has made stays: the earlier run's files do not come back over it."""
    new_study.set(**ENDLESS | {"epochs": 6})
    new_study.run(*new_study.tables)
    new_study.set(optimizer={"learning_rate": 0.002})
    process = start_training(new_study)
    [training] = processes("train", process)
    training.send_signal(number)
    snapshots = new_study.results / "runs/w2_s0/snapshots"
    made = written(snapshots)
    process.communicate(timeout=300)
    assert made.items() <= written(snapshots).items()
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


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("whole", [True, False])
def test_measuring_killed_keeps_the_finished_checkpoints(new_study, tmp_path, whole, again):
    """Of all its processes, or of the job alone: its outputs stay either way.

    So they do where checkpoints are measured again, with other settings.
    """
    # So many checkpoints that no machine measures them between two looks.
    new_study.set(widths=[2], seeds=[0], epochs=80, snapshots=list(range(80)), batch_size=100)
    done = new_study.results / "runs/w2_s0/sharpness"
    if again:
        new_study.run(*new_study.tables)
        new_study.set(measure={"jitters": 3})
    earlier = written(done)
    process = new_study.start(*new_study.tables)
    wait_until(lambda: len(written(done, earlier)) >= 3, process)
    if whole:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        [measuring] = processes("measure-runs", process)
        measuring.kill()
    process.communicate(timeout=300)
    finished = written(done, earlier)
    assert 3 <= len(finished) < 81
    if whole:
        new_study.run("--unlock")
    new_study.run(*new_study.tables)
    assert finished.items() <= written(done).items()
    undisturbed = new_study.copy_to(tmp_path / "undisturbed")
    undisturbed.run(*undisturbed.tables)
    assert_same_tables(new_study, undisturbed)
