"""The cost of what is left, from costs that are known."""

import json
import shutil

import pandas as pd
import pytest
import torch
from training.tiny import NAME, tiny_study

from smoothdescent.errors import UserError
from smoothdescent.files import write_json, write_table
from smoothdescent.networks.weights import save_tensors
from smoothdescent.plan.forecast import (
    Calibration,
    Costs,
    Work,
    done,
    duration,
    finished,
    job_memory,
    job_name,
    job_seconds,
    jobs_left,
    report,
    run_work,
    size,
    still_to_do,
    trained_again,
)

COSTS = Costs(
    widths=[1, 4],
    parameters=[100, 1600],
    train=[1e-4, 4e-4],
    evaluate=[1e-5, 4e-5],
    point=[1e-3, 1e-3],
    volumes=[1e-2, 4e-2],
    train_samples=100,
    test_samples=50,
    image_size=16,
    device_memory=2**30,
    host_memory=2**29,
)
CALIBRATION = Calibration("cpu", 2.0, {NAME: COSTS})


def study(**changes):
    sizes = {"widths": [1, 2, 4], "seeds": [0, 1], "epochs": 10, "seeds_per_job": 2}
    sizes |= {"snapshots": [0, 2, 4], "evaluate_every": 5, "measure": {"samples": 8}}
    study = tiny_study(**sizes | changes)
    return study.model_copy(update={"experiments": {NAME: study.experiments[NAME]}})


def test_between_widths_costs_follow_a_power_law():
    assert COSTS.at("train", 2) == pytest.approx(2e-4)
    assert COSTS.at("parameters", 2) == pytest.approx(400)
    assert COSTS.at("train", 1) == pytest.approx(1e-4)
    assert COSTS.at("train", 8) == pytest.approx(4e-4), "nothing is known beyond"


def test_a_run_by_hand():
    experiment = study().experiments[NAME]
    work = run_work(COSTS, experiment, 1, 0, [])
    # Evaluations at epochs 2, 4, 5 and 10; the untrained network is not counted.
    assert work.train == pytest.approx(10 * 100 * 1e-4 + 4 * 150 * 1e-5)
    assert work.measure == pytest.approx(8 * (3 * 1e-3 + 1e-2))
    later = run_work(COSTS, experiment, 1, 4, [0, 2, 4])
    assert later.train == pytest.approx(6 * 100 * 1e-4 + 2 * 150 * 1e-5)
    assert later.measure == pytest.approx(8 * 1e-2)
    assert work.disk > 4 * 100 * 4


def test_final_snapshots_are_measured_over_all_volumes():
    one = study().experiments[NAME]
    experiment = study(final_snapshots={"count": 3, "every": 3}).experiments[NAME]
    work = run_work(COSTS, experiment, 1, 0, [])
    # The final ones are at epochs 4, 7 and 10; evaluations at 2, 4, 5, 7 and 10.
    assert work.measure == pytest.approx(8 * (2 * 1e-3 + 3 * 1e-2))
    assert work.train == pytest.approx(10 * 100 * 1e-4 + 5 * 150 * 1e-5)
    volumes = len(experiment.measure.paths.strengths)
    more = work.disk - run_work(COSTS, one, 1, 0, []).disk
    assert more == pytest.approx(4 * 100 + 40 * 8 * (1 + 2 * volumes))


def test_finished_work_is_not_counted(tmp_path):
    whole = study().model_copy(update={"results": str(tmp_path)})
    resolved = whole.resolved(NAME)
    experiment = resolved.experiment
    before = still_to_do(CALIBRATION, whole, NAME)
    run = tmp_path / whole.scale / NAME / "runs/w4_s1"
    (run / "sharpness").mkdir(parents=True)
    position = {"position": json.dumps({"epoch": 4, "step": 3})}
    save_tensors(run / "state.safetensors", {"x": torch.zeros(3)}, position)
    touch_snapshots(run, (0, 2, 4))
    of_run = {"training_identity": resolved.training_identity}
    write_json(run / "run.json", of_run)
    identity = {"measuring_identity": resolved.measuring_identity}
    for epoch in (0, 2):
        write_table(run / f"sharpness/e{epoch}.parquet", pd.DataFrame({"x": [0]}), identity)
    assert done(run, resolved) == (4, [0, 2])
    assert jobs_left(whole, NAME) == 2 * 3
    end = {"position": json.dumps({"epoch": 10, "step": 0})}
    for name in ("w1_s0", "w1_s1"):
        save_tensors(run.parent / name / "state.safetensors", {"x": torch.zeros(3)}, end)
        write_json(run.parent / name / "run.json", of_run)
        touch_snapshots(run.parent / name, (0, 2, 4, 10))
    assert jobs_left(whole, NAME) == 2 * 3 - 1, "width 1 is trained, but not measured"
    for name in ("w1_s0", "w1_s1"):
        shutil.rmtree(run.parent / name)
    after = still_to_do(CALIBRATION, whole, NAME)
    assert after[1] == before[1] and after[2] == before[2]
    rest = run_work(COSTS, experiment, 4, 4, [0, 2])
    assert after[4].train == pytest.approx(before[4].train / 2 + rest.train)
    assert before[4].measure - after[4].measure == pytest.approx(2 * 8 * 1e-3)
    # A snapshot that the run has passed without is trained for again, from the beginning.
    (run / "snapshots/e2.safetensors").unlink()
    assert trained_again(run, resolved) == 2
    again = still_to_do(CALIBRATION, whole, NAME)[4].train - after[4].train
    assert again == pytest.approx(2 * 100 * 4e-4)


def test_work_with_other_settings_is_not_done(tmp_path):
    whole = study().model_copy(update={"results": str(tmp_path)})
    resolved = whole.resolved(NAME)
    run = tmp_path / whole.scale / NAME / "runs/w4_s1"
    (run / "sharpness").mkdir(parents=True)
    write_json(run / "run.json", {"training_identity": resolved.training_identity})
    position = {"position": json.dumps({"epoch": 10, "step": 0})}
    save_tensors(run / "state.safetensors", {"x": torch.zeros(3)}, position)
    identity = {"measuring_identity": resolved.measuring_identity}
    for epoch in resolved.experiment.snapshot_epochs:
        write_table(run / f"sharpness/e{epoch}.parquet", pd.DataFrame({"x": [0]}), identity)
    assert done(run, resolved) == (10, [0, 2, 4, 10])
    measured_otherwise = study(measure={"samples": 9}).resolved(NAME)
    assert done(run, measured_otherwise) == (10, [])
    assert done(run, study(batch_size=7).resolved(NAME)) == (0, [])


def touch_snapshots(run, epochs):
    """Make empty snapshots in a run's folder."""
    (run / "snapshots").mkdir(parents=True)
    for epoch in epochs:
        (run / f"snapshots/e{epoch}.safetensors").touch()


def test_jobs_and_their_times():
    experiment = study().experiments[NAME]
    one = run_work(COSTS, experiment, 1, 0, [])
    assert job_seconds(CALIBRATION, experiment, NAME, 1, 2, "train") == 2 + 2 * one.train
    assert job_seconds(CALIBRATION, experiment, NAME, 1, 1, "measure") == 2 + one.measure


def test_names_of_jobs():
    assert job_name(4, [0]) == "w4_s0"
    assert job_name(4, [0, 1, 2]) == "w4_s0-2"
    assert job_name("{width}", ["{seed}"]) == "w{width}_s{seed}"
    assert job_name(None, [3, 5]) == "s3-5"


def test_memory_of_a_job():
    images = 150 * 3 * 16 * 16 * 4
    assert 2**29 + 2 * images <= job_memory(COSTS) <= 2**29 + 4 * images


def test_report(tmp_path):
    text = report(CALIBRATION, study().model_copy(update={"results": str(tmp_path)}))
    [row] = [line for line in text.splitlines() if line.startswith(NAME)]
    assert row.split()[-1] == "4" and "1.0 GiB" in row
    assert "device-hours" in text


def test_what_ended_jobs_took(tmp_path):
    whole = study().model_copy(update={"results": str(tmp_path)})
    assert "have ended" not in report(CALIBRATION, whole)
    folder = tmp_path / whole.scale / NAME / "logs/train"
    folder.mkdir(parents=True)
    ended = "12:00:00 w1_s0 is trained\n12:00:01 took 7.5 s, 3.0 s of processor time\n"
    for job, text in (("w1_s0-1", ended), ("w2_s0-1", ended), ("w4_s0-1", "w4_s0 is finished")):
        (folder / f"{job}.log").write_text(text)
    count, expected, taken = finished(CALIBRATION, whole, NAME, "train")
    assert (count, taken) == (2, 2 * 3.0)
    threads = whole.model_copy(update={"threads": 2})
    assert finished(CALIBRATION, threads, NAME, "train") == (2, expected, 2 * 7.5)
    experiment = whole.experiments[NAME]
    by_hand = [job_seconds(CALIBRATION, experiment, NAME, width, 2, "train") for width in (1, 2)]
    assert expected == pytest.approx(sum(by_hand))
    text = report(CALIBRATION, whole)
    assert text.splitlines()[-1].split()[-1] == f"{taken / expected:.2f}"


def test_round_trip_and_faults(tmp_path):
    path = tmp_path / "costs.json"
    CALIBRATION.save(path)
    assert Calibration.load(path) == CALIBRATION
    for text in ("", "[]", "{}", json.dumps({"device": "cpu", "startup": 1, "experiments": 3})):
        path.write_text(text)
        with pytest.raises(UserError, match=r"costs\.json does not hold the costs"):
            Calibration.load(path)


def test_words():
    assert [duration(s) for s in (1, 90, 600, 9000, 200000)] == [
        *("1 s", "90 s", "10.0 min", "2.5 h", "2.3 d"),
    ]
    assert [size(b) for b in (2048, 3 * 2**20, 5 * 2**30)] == ["2 KiB", "3.0 MiB", "5.0 GiB"]
    assert (Work(1, 2, 3) + Work(1, 1, 1)).seconds == 5
