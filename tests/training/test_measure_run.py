"""Measuring the snapshots of a segment: nothing twice, nothing of another experiment."""

import shutil

import pytest
from training.tiny import Files, tiny_study

from smoothdescent.cli import main
from smoothdescent.files import read_metadata, read_table
from smoothdescent.sharpness import run_command

MEASURE = {"samples": 6, "paths": {"family": "svd", "strengths": [1, 3]}}
SIZES = {"segments": [], "epochs": 2, "snapshots": [0], "measure": MEASURE}


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path, tiny_study(**SIZES))
    files.train(2)
    return files


def measure(files, *extra, config=None):
    run = files.folder / "run"
    words = ["measure-run", "--config", config or files.config, "--data", files.data]
    words += ["--labels", files.labels, "--snapshots", run / "snapshots_e2"]
    words += ["--done", files.folder / "done", "--output", files.folder / "measured", *extra]
    main([str(word) for word in words])


def test_volumes_at_one_epoch_and_points_at_the_others(files):
    measure(files, "--volumes-at", 2)
    tables = {
        path.stem: read_table(path).to_pandas() for path in (files.folder / "measured").iterdir()
    }
    assert set(tables) == {"e0", "e2"}
    assert set(tables["e0"]["volume"]) == {0}
    assert set(tables["e2"]["volume"]) == {0, 1, 2}
    ids = tables["e0"]["sample_id"]
    assert len(ids) == 6 and set(ids) == set(tables["e2"]["sample_id"])
    labels = read_table(files.labels).to_pandas().set_index("sample_id")["is_noisy"]
    assert (tables["e0"]["is_noisy"].to_numpy() == labels[ids].to_numpy()).all()


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
    measure(files, "--volumes-at", 2)
    assert measured == [0, None]
    shutil.rmtree(files.folder / "measured")
    measure(files, "--volumes-at", 2)
    # A table over all volumes also serves where the points alone are asked for.
    measure(files)
    assert measured == [0, None]
    measure(files, "--volumes-at", 0)
    assert measured == [0, None, None]


def test_other_settings_or_weights_are_measured_again(files, monkeypatch, capsys):
    measured = count_measurements(monkeypatch)
    measure(files)
    other = tiny_study(**SIZES | {"measure": MEASURE | {"step_size": 0.2}})
    Files(files.folder, other)
    measure(files)
    assert len(measured) == 4
    assert "measured again" in capsys.readouterr().err
    path = files.folder / "measured/e2.parquet"
    before = read_metadata(path)["snapshot_sha256"]
    shutil.copy(files.folder / "run/snapshots_e2/e0.safetensors", files.folder / "e0")
    snapshot = files.folder / "run/snapshots_e2/e2.safetensors"
    snapshot.unlink()
    shutil.copy(files.folder / "e0", snapshot)
    measure(files)
    assert len(measured) == 5
    assert read_metadata(path)["snapshot_sha256"] != before


def test_snapshots_of_other_training_settings_are_refused(files, capsys):
    Files(files.folder, tiny_study(**SIZES | {"batch_size": 7}))
    with pytest.raises(SystemExit):
        measure(files)
    assert "was trained with other settings" in capsys.readouterr().err
    assert not (files.folder / "measured").exists()


def test_more_samples_than_there_are(files, capsys):
    Files(files.folder, tiny_study(**SIZES | {"measure": MEASURE | {"samples": 101}}))
    with pytest.raises(SystemExit):
        measure(files)
    assert "measure.samples is 101, but" in capsys.readouterr().err


def test_an_empty_folder_of_snapshots(files, capsys):
    shutil.rmtree(files.folder / "run/snapshots_e2")
    with pytest.raises(SystemExit):
        measure(files)
    assert "holds no snapshot" in capsys.readouterr().err
