"""How far runs have come: real trainings that end, fail, run and are killed."""

import os
import re
import signal
import subprocess
import time
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.tiny import NAME, Files, tiny_config

from smoothdescent.cli import main
from smoothdescent.config.load import resolve
from smoothdescent.files import write_table
from smoothdescent.plan.events import EventFiles
from smoothdescent.plan.status import read_study, run_states

ENDLESS = {"epochs": 1_000_000, "snapshots": [1], "evaluate_every": 20}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that writes a configuration and returns the files of its experiment."""
    monkeypatch.chdir(tmp_path)

    def make(**changes):
        config = tiny_config(**changes)
        names = config["experiments"]
        config["scales"]["demo"]["experiments"] |= {name: None for name in names if name != NAME}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        return Files(tmp_path / "results/demo" / NAME, resolve(config))

    return make


def status(capsys, *arguments):
    """Return the rows of the table by run, and all that was printed."""
    capsys.readouterr()
    main(["status", *arguments])
    printed = capsys.readouterr().out
    rows = re.findall(r"^(w\d+_s\d+)  (.*)$", printed, re.M)
    return {name: re.split(r"  +", row.strip()) for name, row in rows}, printed


def test_a_study_that_has_not_begun(study, capsys):
    study(seeds=[0, 1])
    rows, printed = status(capsys)
    assert printed.startswith(f"{'results/demo'}: 0 of 2 runs trained, 0 of 8 checkpoints measured")
    assert "time left not known yet" in printed
    assert rows == {f"w2_s{seed}": ["0/6", "0/4", "?", "waiting"] for seed in (0, 1)}


def scalars(folder):
    """Return what TensorBoard reads in a folder: (epoch, value) of each name."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_event_files(study, capsys, tmp_path):
    files = study(seeds=[0, 1])
    folder = tmp_path / "tb"
    for _ in range(2):  # again: once, not twice in the files
        files.train("w2_s0")
        status(capsys, "--tensorboard", str(folder))
        history = pd.read_parquet(files.folder / "runs/w2_s0/history.parquet").dropna(
            subset="test_error"
        )
        assert len(history) > 1
        assert scalars(folder / NAME / "w2_s0") == {
            name: list(zip(history["epoch"], history[name], strict=True))
            for name in ("train_loss_all", "train_accuracy_all", "test_error")
        }
    assert not (folder / NAME / "w2_s1").exists()


def test_event_files_grow(study, tmp_path):
    files = study(seeds=[0])
    files.train("w2_s0")
    whole = read_study(None, [])
    [state] = run_states(whole, NAME)
    events = EventFiles(tmp_path)
    for seen in (1, 1, 2):
        events.write({NAME: [replace(state, epoch=0, evaluations=state.evaluations[:seen])]})
    events.write({NAME: [state]})
    events.close()
    epochs = [epoch for epoch, _ in scalars(tmp_path / NAME / state.name)["test_error"]]
    assert epochs == list(state.evaluations["epoch"]) and len(epochs) > 2


def test_runs_that_have_ended_and_others(study, capsys):
    files = study(seeds=[0, 1])
    files.train("w2_s0")
    rows, printed = status(capsys, "results/demo")
    epoch, error, test_error, speed, measured, *_ = rows["w2_s0"]
    assert (epoch, measured) == ("6/6", "0/4")
    assert re.fullmatch(r"[\d.]+ %", error) and re.fullmatch(r"[\d.]+ %", test_error)
    assert int(speed.replace(",", "")) > 0
    assert "1 of 2 runs trained" in printed
    states = run_states(read_study(None, []), NAME)
    ended, waiting = states
    assert ended.training_left == 0 and waiting.training_left > 0, "from the speed of the first"
    assert list(ended.evaluations["epoch"]) == [0, 1, 2, 3, 4, 6]
    # Raised epochs are asked for, and what is trained counts.
    study(seeds=[0, 1], epochs=8)
    assert status(capsys)[0]["w2_s0"][0] == "6/8"
    study(seeds=[0, 1], optimizer={"learning_rate": 0.5})
    assert status(capsys)[0]["w2_s0"][0] != "6/6", "another run's history"


def test_a_run_that_diverges_is_told(study, capsys):
    files = study(optimizer={"learning_rate": 900.0, "warmup_epochs": 0})
    files.train("w2_s0")
    rows, printed = status(capsys)
    assert rows["w2_s0"][0] == "6/6"
    assert rows["w2_s0"][-1].startswith("diverged in epoch ")
    assert "failed" not in printed


def test_a_run_at_work_and_then_killed(study, capsys):
    files = study(**ENDLESS)
    process = subprocess.Popen(files.command("w2_s0"), stderr=subprocess.PIPE, env=os.environ)
    try:
        deadline = time.monotonic() + 500
        while "20/1000000" not in (printed := status(capsys)[1]):
            if re.search(r"^w2_s0  \d\d+/1000000 ", printed, re.M):
                break
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert status(capsys)[0]["w2_s0"][-1] == "training"
        [state] = run_states(read_study(None, []), NAME)
        assert state.evaluations["epoch"].iloc[0] == 0
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    rows, _ = status(capsys)
    assert rows["w2_s0"][-1].startswith(f"left by process {process.pid} on host ")
    assert rows["w2_s0"][0] == "0/1000000", "nothing had been saved"


def test_watching_ends_when_all_is_done(study, capsys, monkeypatch):
    files = study()
    files.train("w2_s0")
    identity = {"measuring_identity": files.resolved.measuring_identity}
    for epoch in (0, 1, 3, 6):
        table = files.folder / f"runs/w2_s0/sharpness/e{epoch}.parquet"
        write_table(table, pd.DataFrame({"x": [0]}), identity)
    rows, printed = status(capsys, "--watch", "0.01")
    assert rows["w2_s0"][0] == "6/6"
    assert printed.startswith("results/demo: 1 of 1 runs trained, 4 of 4 checkpoints measured\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["results/huge"], "no scale 'huge'"),
        (["--configfile", "no.yaml"], "no.yaml does not exist"),
    ],
)
def test_a_mistake_is_told(study, capsys, arguments, words):
    study()
    with pytest.raises(SystemExit):
        main(["status", *arguments])
    assert words in capsys.readouterr().err
