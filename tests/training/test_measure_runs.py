"""Measuring the snapshots of runs: nothing twice, nothing of another experiment."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from training.tiny import Files, tiny_study

from smoothdescent.cli import main
from smoothdescent.files import read_metadata, read_table
from smoothdescent.sharpness import measures, run_command

MEASURE = {"samples": 6, "paths": {"family": "svd", "strengths": [1, 3]}}
SIZES = {"epochs": 2, "snapshots": [0], "measure": MEASURE}


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path, tiny_study(**SIZES))
    files.train()
    return files


def measure(files, *runs):
    words = ["measure-runs", "--settings", files.settings, "--data", files.data]
    words += ["--labels", files.labels, "--runs", *(runs or ["w2_s0"])]
    main([str(word) for word in [*words, "--folder", files.folder / "runs"]])


def measured_tables(files, run="w2_s0"):
    folder = files.folder / "runs" / run / "sharpness"
    return {path.stem: read_table(path).to_pandas() for path in folder.iterdir()}


def test_volumes_at_the_last_epoch_and_points_at_the_others(files):
    measure(files)
    tables = measured_tables(files)
    assert set(tables) == {"e0", "e2"}
    assert set(tables["e0"]["volume"]) == {0}
    assert set(tables["e2"]["volume"]) == {0, 1, 2}
    ids = tables["e0"]["sample_id"]
    assert len(ids) == 6 and set(ids) == set(tables["e2"]["sample_id"])
    labels = read_table(files.labels).to_pandas().set_index("sample_id")["is_noisy"]
    assert (tables["e0"]["is_noisy"].to_numpy() == labels[ids].to_numpy()).all()


def test_every_final_snapshot_is_measured_over_all_volumes(tmp_path):
    final = {"final_snapshots": {"count": 2, "every": 1}}
    files = Files(tmp_path, tiny_study(**SIZES | {"epochs": 3} | final))
    files.train()
    measure(files)
    volumes = {name: set(table["volume"]) for name, table in measured_tables(files).items()}
    assert volumes == {"e0": {0}, "e2": {0, 1, 2}, "e3": {0, 1, 2}}


def test_several_runs(files):
    files.train("w2_s1", "w3_s0")
    measure(files, "w2_s0", "w2_s1", "w3_s0")
    keys = [measured_tables(files, run)["e2"].iloc[0] for run in ("w2_s0", "w2_s1", "w3_s0")]
    assert [(key["width"], key["seed"]) for key in keys] == [(2, 0), (2, 1), (3, 0)]


def count_measurements(monkeypatch):
    measured = []
    original = run_command.measure

    def counted(network, *arguments, **keywords):
        measured.append(keywords["volumes"])
        return original(network, *arguments, **keywords)

    monkeypatch.setattr(run_command, "measure", counted)
    return measured


def test_nothing_is_measured_twice(files, monkeypatch):
    measured = count_measurements(monkeypatch)
    measure(files)
    assert measured == [0, None]
    measure(files)
    assert measured == [0, None]
    # A table over all volumes also serves where the points alone are asked for.
    longer = Files(files.folder, tiny_study(**SIZES | {"epochs": 3, "snapshots": [0, 2]}))
    longer.train()
    measure(longer)
    assert measured == [0, None, None]


def test_volumes_that_are_asked_for_later(files, monkeypatch):
    longer = Files(files.folder, tiny_study(**SIZES | {"epochs": 3, "snapshots": [0, 2]}))
    longer.train()
    measured = count_measurements(monkeypatch)
    measure(longer)
    assert measured == [0, 0, None]
    measure(files)
    assert measured == [0, 0, None, None]


def test_two_jobs_measure_nothing_twice(files, monkeypatch):
    """Both have seen that all is still to be measured before one begins."""
    measured = count_measurements(monkeypatch)
    original, calls, both = run_command.is_finished, threading.local(), threading.Barrier(2)

    def is_finished(checkpoint):
        finished = original(checkpoint)
        calls.count = getattr(calls, "count", 0) + 1
        if calls.count == 2:
            both.wait()
        return finished

    def job():
        try:
            measure(files)
        except BaseException as error:
            both.abort()  # the other one does not wait for this one
            return error

    monkeypatch.setattr(run_command, "is_finished", is_finished)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(job) for _ in range(2)]
    assert [job.result() for job in jobs] == [None, None]
    assert measured == [0, None]


MARGIN = """
from smoothdescent.sharpness import register_measure

@register_measure("margin")
def margin(evaluation):
    own = evaluation.logits.gather(1, evaluation.labels[:, None])[:, 0]
    return own - evaluation.logits.mean(dim=1)
"""


def test_a_measure_of_ones_own(tmp_path, monkeypatch, capsys):
    """The configuration asks for it; it is measured, gathered and drawn."""
    monkeypatch.setattr(measures, "MEASURES", dict(measures.MEASURES))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_measures.py").write_text(MARGIN)
    names = ["accuracy", "crossentropy", "jacobian_norm", "my_measures:margin"]
    files = Files(tmp_path, tiny_study(**SIZES | {"measure": MEASURE | {"measures": names}}))
    files.train()
    measure(files)
    measured = measured_tables(files)["e2"]
    assert "hessian_sumsq" not in measured and measured["margin"].nunique() == len(measured)

    files.gather()
    gathered = read_table(files.gathered["sharpness"]).to_pandas()
    last = gathered[(gathered["epoch"] == 2) & (gathered["subset"] == "all")]
    expected = measured.groupby("volume")["margin"].mean()
    assert last.set_index("volume")["margin"].to_dict() == pytest.approx(expected.to_dict())

    main(["figure", "figure2", "--tables", str(tmp_path), "--output", str(tmp_path / "figure2")])
    drawn = read_table(tmp_path / "figure2.parquet").to_pandas()
    assert drawn[drawn["panel"] == "margin"]["y"].tolist() == pytest.approx(expected.tolist())
    assert (
        json.loads(read_metadata(tmp_path / "figure2.parquet")["axes"])["margin"]["y"] == "Margin"
    )
    assert drawn[drawn["panel"] == "hessian_norm"].empty

    # Its code determines results.
    measure(files)
    assert "measured again" not in capsys.readouterr().err
    (tmp_path / "my_measures.py").write_text(MARGIN.replace("mean(dim=1)", "amax(dim=1)"))
    measure(files)
    assert "measured again" in capsys.readouterr().err


def test_other_settings_code_or_labels_are_measured_again(files, monkeypatch, capsys):
    measured = count_measurements(monkeypatch)
    measure(files)
    other = Files(files.folder, tiny_study(**SIZES | {"measure": MEASURE | {"step_size": 0.2}}))
    measure(other)
    assert len(measured) == 4
    assert "measured again" in capsys.readouterr().err
    monkeypatch.setattr(run_command, "measuring_code", lambda experiment: "other")
    measure(other)
    assert len(measured) == 6


def unlink(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-10])


def replace(path):
    shutil.copy(path.with_name("e0.parquet"), path)


@pytest.mark.parametrize("damage", [unlink, truncate, replace])
def test_a_table_is_made_again_alone(files, monkeypatch, damage):
    measure(files)
    before = measured_tables(files)
    path = files.folder / "runs/w2_s0/sharpness/e2.parquet"
    damage(path)
    measured = count_measurements(monkeypatch)
    measure(files)
    assert measured == [None]
    kept = path.with_name("e2.parquet.unusable")
    assert kept.exists() == (damage is not unlink)
    kept.unlink(missing_ok=True)
    after = measured_tables(files)
    for name, table in before.items():
        pd.testing.assert_frame_equal(table, after[name])


@pytest.mark.parametrize(
    "damage", [truncate, lambda path: shutil.copy(path.with_name("e0.safetensors"), path)]
)
def test_a_wrong_snapshot_is_set_aside(files, capsys, damage):
    """And the command that trains makes it again."""
    measure(files)
    before = measured_tables(files)
    path = files.folder / "runs/w2_s0/snapshots/e2.safetensors"
    content = path.read_bytes()
    damage(path)
    with pytest.raises(SystemExit):
        measure(files)
    assert (
        "e2.safetensors.unusable, and the same command trains it again" in capsys.readouterr().err
    )
    assert not path.exists()
    files.train()
    assert path.read_bytes() == content
    measure(files)
    for name, table in before.items():
        pd.testing.assert_frame_equal(table, measured_tables(files)[name])


def interrupt(*arguments, **keywords):
    raise KeyboardInterrupt


def test_stale_tables_are_set_aside_before_anything_is_measured(files, monkeypatch, capsys):
    """A job that is interrupted now leaves no table that a finished job would be taken for."""
    measure(files)
    other = Files(files.folder, tiny_study(**SIZES | {"measure": MEASURE | {"step_size": 0.2}}))
    monkeypatch.setattr(run_command, "measure", interrupt)
    with pytest.raises(SystemExit) as end:
        measure(other)
    assert (
        end.value.code == 130 and "interrupted; what is finished stays" in capsys.readouterr().err
    )
    assert not list((files.folder / "runs/w2_s0/sharpness").glob("*.parquet"))


def test_snapshots_of_other_training_settings_are_refused(files, capsys):
    other = Files(files.folder, tiny_study(**SIZES | {"batch_size": 7}))
    with pytest.raises(SystemExit):
        measure(other)
    assert "its training_identity is" in capsys.readouterr().err


def test_more_samples_than_there_are(files, capsys):
    other = Files(files.folder, tiny_study(**SIZES | {"measure": MEASURE | {"samples": 101}}))
    with pytest.raises(SystemExit):
        measure(other)
    assert "measure.samples is 101, but" in capsys.readouterr().err


def test_a_missing_snapshot(files, capsys):
    (files.folder / "runs/w2_s0/snapshots/e2.safetensors").unlink()
    with pytest.raises(SystemExit):
        measure(files)
    assert "snapshots/e2.safetensors does not exist" in capsys.readouterr().err
