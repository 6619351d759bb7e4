"""The cost of what is left, from costs that are known."""

import json

import pytest
from training.tiny import NAME, tiny_study

from smoothdescent.errors import UserError
from smoothdescent.plan.forecast import (
    Calibration,
    Costs,
    Work,
    done,
    duration,
    finished,
    job_memory,
    job_seconds,
    jobs,
    pack_seconds,
    report,
    run_work,
    size,
    still_to_do,
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
    sizes = {"widths": [1, 2, 4], "seeds": [0, 1], "epochs": 10, "segments": [4]}
    sizes |= {"snapshots": [0, 2, 4], "evaluate_every": 5, "measure": {"samples": 8}}
    return tiny_study(**sizes | changes).restricted_to(NAME)


def test_between_widths_costs_follow_a_power_law():
    assert COSTS.at("train", 2) == pytest.approx(2e-4)
    assert COSTS.at("parameters", 2) == pytest.approx(400)
    assert COSTS.at("train", 1) == pytest.approx(1e-4)
    assert COSTS.at("train", 8) == pytest.approx(4e-4), "nothing is known beyond"


def test_a_run_by_hand():
    experiment = study().experiments[NAME]
    work = run_work(COSTS, experiment, 1, 0, 10, [])
    # Evaluations at epochs 2, 4, 5 and 10; the untrained network is not counted.
    assert work.train == pytest.approx(10 * 100 * 1e-4 + 4 * 150 * 1e-5)
    assert work.measure == pytest.approx(8 * (3 * 1e-3 + 1e-2))
    later = run_work(COSTS, experiment, 1, 4, 10, [0, 2, 4])
    assert later.train == pytest.approx(6 * 100 * 1e-4 + 2 * 150 * 1e-5)
    assert later.measure == pytest.approx(8 * 1e-2)
    assert work.disk > 4 * 100 * 4


def test_what_is_done_costs_nothing(tmp_path):
    whole = study().model_copy(update={"results": str(tmp_path)})
    experiment = whole.experiments[NAME]
    before = still_to_do(CALIBRATION, whole, NAME)
    run = tmp_path / whole.scale / NAME / "runs/w4_s1"
    (run / "sharpness").mkdir(parents=True)
    (run / "state_e4.safetensors").touch()
    for epoch in (0, 2):
        (run / f"sharpness/e{epoch}.parquet").touch()
    assert done(run.parent, "w4_s1", experiment) == (4, [0, 2])
    after = still_to_do(CALIBRATION, whole, NAME)
    assert after[1] == before[1] and after[2] == before[2]
    rest = run_work(COSTS, experiment, 4, 4, 10, [0, 2])
    assert after[4].train == pytest.approx(before[4].train / 2 + rest.train)
    assert before[4].measure - after[4].measure == pytest.approx(2 * 8 * 1e-3)


def test_jobs_and_their_times():
    whole = study().model_copy(update={"runs_per_job": 2})
    assert jobs(whole, NAME) == 3 * 4
    assert jobs(whole.model_copy(update={"measure_after": "training"}), NAME) == 3 * 3
    job = pack_seconds(CALIBRATION, whole, NAME, [1, 1], 0, 4)
    one = run_work(COSTS, whole.experiments[NAME], 1, 0, 4, [])
    assert job.train == pytest.approx(2 + 2 * one.train)
    last = pack_seconds(CALIBRATION, whole, NAME, [1], 4, 10)
    assert last.measure == pytest.approx(2 + 8 * 1e-2)


def test_memory_of_a_job():
    images = 150 * 3 * 16 * 16 * 4
    assert 2**29 + 2 * images <= job_memory(COSTS) <= 2**29 + 4 * images


def test_report(tmp_path):
    text = report(CALIBRATION, study().model_copy(update={"results": str(tmp_path)}))
    [row] = [line for line in text.splitlines() if line.startswith(NAME)]
    assert row.split()[-1] == "4" and "1.0 GiB" in row
    assert "device-hours" in text


def test_what_ended_jobs_took(tmp_path):
    whole = study().model_copy(update={"results": str(tmp_path), "runs_per_job": 2})
    assert "have ended" not in report(CALIBRATION, whole)
    folder = tmp_path / whole.scale / NAME / "benchmarks"
    for kind, file in (("train", "w1_s0-w1_s1_e4"), ("train", "w2_s0-w2_s1_e10"), ("measure", "x")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{file}.tsv").write_text("s\th:m:s\n7.5\t0:00:07\n")
    count, expected, taken = finished(CALIBRATION, whole, NAME, "train")
    assert (count, taken) == (2, 15.0)
    first = pack_seconds(CALIBRATION, whole, NAME, [1, 1], 0, 4)
    second = pack_seconds(CALIBRATION, whole, NAME, [2, 2], 4, 10)
    assert expected == pytest.approx(first.train + second.train)
    text = report(CALIBRATION, whole)
    assert text.splitlines()[-1].split()[-1] == f"{taken / expected:.2f}"
    later = whole.model_copy(update={"measure_after": "training"})
    job = (NAME, "w1_s0-w1_s1", 10, "measure")
    difference = job_seconds(CALIBRATION, later, *job) - job_seconds(CALIBRATION, whole, *job)
    assert difference == pytest.approx(2 * 3 * 8 * 1e-3), "snapshots 0, 2 and 4 as well"


def test_round_trip_and_faults(tmp_path):
    path = tmp_path / "costs.json"
    CALIBRATION.save(path)
    assert Calibration.load(path) == CALIBRATION
    for text in ("", "[]", "{}", json.dumps({"device": "cpu", "startup": 1, "experiments": 3})):
        path.write_text(text)
        with pytest.raises(UserError, match=r"costs\.json is no calibration"):
            Calibration.load(path)


def test_words():
    assert [duration(s) for s in (1, 90, 600, 9000, 200000)] == [
        *("1 s", "90 s", "10.0 min", "2.5 h", "2.3 d"),
    ]
    assert [size(b) for b in (2048, 3 * 2**20, 5 * 2**30)] == ["2 KiB", "3.0 MiB", "5.0 GiB"]
    assert (Work(1, 2, 3) + Work(1, 1, 1)).seconds == 5
