"""The tables of runs are gathered only if all are there, themselves, and of one origin."""

import json
import shutil

import pytest
from training.test_measure_runs import SIZES, measure
from training.tiny import Files, tiny_study

from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table, write_table
from smoothdescent.sharpness import run_command
from smoothdescent.tables.runs import read_checkpoints, read_histories

RUNS = ("w2_s0", "w2_s1")


def read_runs(folder, resolved):
    """Read all tables of all runs."""
    for _ in read_checkpoints(folder, resolved, read_histories(folder, resolved)):
        pass


@pytest.fixture
def files(tmp_path):
    files = Files(tmp_path, tiny_study(**SIZES | {"seeds": [0, 1]}))
    files.train(*RUNS)
    measure(files, *RUNS)
    return files


def test_tables_and_the_configuration_that_they_were_made_with(files):
    files.gather()
    outputs = files.gathered
    history = read_table(outputs["history"]).to_pandas()
    assert len(history) == 2 * 3
    assert set(history["warning"]) == {""}, "two evaluations cannot swing"
    metadata = read_metadata(outputs["sharpness"])
    assert json.loads(metadata["training_devices"]) == ["cpu"]
    assert json.loads(metadata["experiment_config"])["epochs"] == 2
    assert (metadata["num_classes"], metadata["image_size"]) == ("10", "8")
    assert "epochs: 2" in outputs["config"].read_text()


def test_all_final_checkpoints_are_gathered_over_all_volumes(files):
    changes = SIZES | {"seeds": [0, 1], "final_snapshots": {"count": 2, "every": 1}}
    more = Files(files.folder, tiny_study(**changes))
    more.train(*RUNS)
    measure(more, *RUNS)
    more.gather()
    outputs = more.gathered
    table = read_table(outputs["sharpness"]).to_pandas()
    assert table.groupby("epoch")["volume"].nunique().to_dict() == {0: 1, 1: 3, 2: 3}
    assert json.loads(read_metadata(outputs["history"])["final_epochs"]) == [1, 2]


def test_a_final_checkpoint_without_its_volumes_is_set_aside(files):
    """What was measured at the points alone is not taken for the end of a run."""
    changes = SIZES | {"seeds": [0, 1], "snapshots": [0, 1], "epochs": 2}
    points = Files(files.folder, tiny_study(**changes))
    points.train(*RUNS)
    measure(points, *RUNS)
    more = Files(
        files.folder, tiny_study(**changes | {"final_snapshots": {"count": 2, "every": 1}})
    )
    with pytest.raises(UserError, match=r"w2_s0/sharpness/e1.*its volumes is '0', expected 'all'"):
        read_runs(more.folder / "runs", more.resolved)


@pytest.mark.parametrize("name", ["history.parquet", "sharpness/e0.parquet"])
def test_a_missing_table_is_named(files, name):
    (files.folder / "runs/w2_s1" / name).unlink()
    with pytest.raises(UserError, match=rf"w2_s1/{name} does not exist"):
        read_runs(files.folder / "runs", files.resolved)


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("history.parquet", "w2_s1/history.parquet", "its seed is '1', expected '0'"),
        ("sharpness/e0.parquet", "w2_s1/sharpness/e0.parquet", "its seed is '1', expected '0'"),
        ("sharpness/e2.parquet", "w2_s0/sharpness/e0.parquet", "its epoch is '0', expected '2'"),
    ],
)
def test_a_table_of_another_run_or_epoch_is_set_aside(files, name, other, words):
    runs = files.folder / "runs"
    shutil.copy(runs / other, runs / "w2_s0" / name)
    with pytest.raises(UserError, match=words):
        read_runs(runs, files.resolved)
    assert not (runs / "w2_s0" / name).exists()
    assert (runs / "w2_s0" / f"{name}.unusable").exists()


def test_a_table_of_other_weights_is_set_aside(files):
    """The history knows the snapshots that the training wrote."""
    table = files.folder / "runs/w2_s0/sharpness/e0.parquet"
    stored = read_table(table)
    metadata = stored.schema.metadata | {b"snapshot_sha256": b"0"}
    write_table(table, stored.replace_schema_metadata(metadata))
    with pytest.raises(UserError, match="its snapshot_sha256 is '0', expected"):
        read_runs(files.folder / "runs", files.resolved)


def test_tables_that_were_measured_otherwise_are_set_aside(files):
    """A job of an earlier configuration has ended after it was changed."""
    measuring = {**SIZES["measure"], "jitters": 2}
    other = Files(files.folder, tiny_study(**SIZES | {"seeds": [0, 1], "measure": measuring}))
    with pytest.raises(UserError, match=r"its measuring_identity is .*, expected .*; it is kept"):
        read_runs(files.folder / "runs", other.resolved)


def test_tables_of_another_engine_are_not_mixed_in(files, monkeypatch):
    """As after a change of the engine: one run is measured with the new one."""
    for path in (files.folder / "runs/w2_s1/sharpness").iterdir():
        path.unlink()
    monkeypatch.setattr(run_command, "measuring_code", lambda experiment: "newer")
    measure(files, "w2_s1")
    with pytest.raises(UserError, match=r"with different code.*; 2 tables of another origin than"):
        read_runs(files.folder / "runs", files.resolved)
    assert not list((files.folder / "runs/w2_s0/sharpness").glob("*.parquet"))
    measure(files, *RUNS)
    read_runs(files.folder / "runs", files.resolved)


def test_tables_of_other_settings_are_refused(files):
    other = Files(files.folder, tiny_study(**SIZES | {"seeds": [0, 1], "batch_size": 7}))
    with pytest.raises(UserError, match="its training_identity is"):
        read_runs(files.folder / "runs", other.resolved)
