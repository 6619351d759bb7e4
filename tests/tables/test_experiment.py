from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures.synthetic import (
    CONFIGS,
    SVD_PATHS,
    make_config,
    make_experiment,
    make_tables,
    write_experiment,
)

from smoothdescent.errors import UserError
from smoothdescent.files import read_table, sha256_file, write_table
from smoothdescent.tables.experiment import (
    ExperimentTables,
    final_errors,
    final_history,
    final_rows,
    final_volumes,
    over_seeds,
    read_tables,
    training_course,
)
from smoothdescent.verdict.reading import class_count, image_side

SMALL = {"widths": [2, 4, 8], "epochs": [0, 10, 30], "volumes": 3, "threshold": 4.0}


def test_reading_keeps_values_and_provenance(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, **SMALL)
    read = read_tables(folder)
    made = make_experiment(**SMALL)
    assert read.name == made.name and read.config == made.config
    for column in ("width", "epoch", "jacobian_norm"):
        assert read.sharpness[column].tolist() == made.sharpness[column].tolist()
    assert read.threshold == 4
    for table in ("history", "sharpness"):
        assert read.sources[table]["sha256"] == sha256_file(folder / f"{table}.parquet")
        assert len(read.sources[table]["config_hash"]) == 16


def test_missing_table(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, **SMALL)
    (folder / "sharpness.parquet").unlink()
    with pytest.raises(UserError, match=r"sharpness\.parquet does not exist"):
        read_tables(folder)


def test_a_history_of_another_time_is_refused(tmp_path: Path) -> None:
    """As of another scale, or of a configuration before this one: it is gathered again."""
    folder = write_experiment(tmp_path, **SMALL)
    history = read_table(folder / "history.parquet")
    write_table(folder / "history.parquet", history.slice(1))
    with pytest.raises(UserError, match=r"was not gathered together .*; it is kept as sharpness"):
        read_tables(folder)
    assert not (folder / "sharpness.parquet").exists()


def test_tables_know_classes_and_pixels_of_ones_own_images(tmp_path: Path) -> None:
    settings = {"data": {"dataset": "mine"}, "dataset": {"source": "parquet", "path": "there"}}
    config = read_tables(write_experiment(tmp_path, settings=settings, **SMALL)).config
    assert (class_count(config), image_side(config)) == (10, 16)


def test_another_table_is_refused(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path, **SMALL)
    shutil.copy(folder / "sharpness.parquet", folder / "history.parquet")
    with pytest.raises(
        UserError, match=r"history\.parquet: its table is 'sharpness', expected 'hi"
    ):
        read_tables(folder)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("convnet-cifar10-noise20", "ConvNet, CIFAR-10, 20 % label noise"),
        ("convnet-cifar100", "ConvNet, CIFAR-100"),
        ("resnet18-cifar10-noise20", "ResNet18, CIFAR-10, 20 % label noise"),
        ("convnet-cifar100-asymmetric", "ConvNet, CIFAR-100, 80 % label noise in 20 classes"),
    ],
)
def test_title_names_what_was_trained(name: str, title: str) -> None:
    assert make_experiment(name, **SMALL).title.replace("\u00a0", " ") == title


def test_title_names_the_data_that_were_used() -> None:
    config = make_config("convnet-cifar100", data={"dataset": "mine"}, dataset={})
    empty = pd.DataFrame()
    assert ExperimentTables("e", empty, empty, config).title == "ConvNet, mine"
    config["dataset"] = {"source": "procedural"}
    assert ExperimentTables("e", empty, empty, config).title == "ConvNet, procedural images"
    assert ExperimentTables("e", empty, empty).title == "e"


def test_threshold_accuracy_comes_from_the_configuration() -> None:
    history, sharpness = make_tables(**SMALL)
    name = "convnet-cifar10-noise20"
    strict = ExperimentTables(name, history, sharpness, make_config(name))
    lenient = ExperimentTables(
        name, history, sharpness, make_config(name, threshold={"accuracy": 0.01})
    )
    assert (strict.threshold, lenient.threshold) == (4, 2)
    assert strict.threshold_note == ""


def test_threshold_note_never_rounds_up_to_100_percent() -> None:
    history = pd.DataFrame(
        {"width": [3, 12], "seed": 0, "epoch": 1, "train_accuracy_all": [0.5, 0.99949]}
    )
    note = ExperimentTables("e", history, pd.DataFrame()).threshold_note
    expected = "no width interpolates (highest training accuracy 99.9 % at w = 12)"
    assert note.replace("\u00a0", " ") == expected
    history["train_accuracy_all"] = np.nan
    assert (
        "no training accuracy yet" in ExperimentTables("e", history, pd.DataFrame()).threshold_note
    )


def test_threshold_note_names_the_width_that_spoils_it_and_those_where_seeds_disagree() -> None:
    history = pd.DataFrame(
        {
            "width": [2, 2, 2, 4, 4, 4, 8, 8, 8],
            "seed": [0, 1, 2] * 3,
            "epoch": 1,
            "train_accuracy_all": [1.0, 1.0, 0.75, 1.0, 1.0, 1.0, 0.9, 0.9, 1.0],
        }
    )
    experiment = ExperimentTables("e", history, pd.DataFrame())
    assert experiment.threshold is None
    assert experiment.threshold_note.replace("\u00a0", " ") == (
        "no threshold, w = 8 does not interpolate (training accuracy 90 %); "
        "seeds disagree at w = 2 (2 of 3 fit), 8 (1 of 3 fit)"
    )
    experiment = ExperimentTables("e", history[history["width"] < 8], pd.DataFrame())
    assert experiment.threshold == 2
    assert experiment.threshold_note.replace("\u00a0", " ") == (
        "seeds disagree at w = 2 (2 of 3 fit)"
    )


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (SVD_PATHS, ("singular values erased", ["0", "2", "4"])),
        ({"family": "shift", "strengths": [1.0, 2.5]}, ("pixels shifted", ["0", "1", "2.5"])),
        ({"family": "other", "strengths": [1, 2]}, ("", ["", "", ""])),
        ({}, ("", ["", "", ""])),
    ],
)
def test_volume_strengths(paths: dict[str, object], expected: tuple[str, list[str]]) -> None:
    name = "convnet-cifar10-noise20"
    config = make_config(name, measure={"paths": paths})
    assert ExperimentTables(name, *make_tables(**SMALL), config).volume_strengths == expected


def test_over_seeds() -> None:
    frame = pd.DataFrame(
        {
            "width": [1, 1, 1, 2, 3, 3],
            "seed": [0, 1, 2, 0, 0, 1],
            "test_error": [1.0, 2.0, 6.0, 5.0, 7.0, np.inf],
        }
    )
    result = over_seeds(frame, ["width"], "test_error")
    assert result["mean"].tolist() == [300.0, 500.0, 700.0]
    assert result["std"].iloc[0] == pytest.approx(100 * np.sqrt(7.0))
    assert result["std"].iloc[1:].isna().all()
    assert result["seeds"].tolist() == [3, 1, 1]
    assert result["within"].isna().all()


def test_over_seeds_averages_the_checkpoints_of_a_run_first() -> None:
    frame = pd.DataFrame(
        {
            "width": [1] * 6,
            "seed": [0, 0, 1, 1, 2, 2],
            "epoch": [8, 9] * 3,
            "crossentropy": [1.0, 3.0, 6.0, 6.0, 4.0, np.nan],
        }
    )
    [row] = over_seeds(frame, ["width"], "crossentropy").to_dict("records")
    # Runs of mean 2 and 6, of variance 2 and 0; the third has no mean.
    assert (row["mean"], row["seeds"]) == (4.0, 2)
    assert row["std"] == pytest.approx(np.sqrt(8.0))
    assert row["within"] == pytest.approx(1.0)


def test_the_end_of_a_run_is_the_mean_of_its_final_checkpoints() -> None:
    history, sharpness = make_tables(**SMALL)
    late = sharpness[sharpness["epoch"] == 30].assign(epoch=20)
    late["jacobian_norm"] *= 3
    sharpness = pd.concat([sharpness, late], ignore_index=True)
    row = history["epoch"] == 10
    history.loc[row, "test_error"], history.loc[history["epoch"] == 30, "test_error"] = 0.2, 0.6
    name = "convnet-cifar10-noise20"
    config = make_config(name)
    last = ExperimentTables(name, history, sharpness, config)
    both = ExperimentTables(name, history, sharpness, config, final_epochs=[20, 30])
    keys = ["volume", "width", "seed"]
    at_end, mean = final_rows(last, "clean"), final_rows(both, "clean")
    assert mean[keys].equals(at_end[keys]) and len(mean) == 3 * 3 * 3
    assert mean["jacobian_norm"].to_numpy() == pytest.approx(2 * at_end["jacobian_norm"])
    curves = final_volumes(both, "jacobian_norm", "clean")
    assert curves["mean"].to_numpy() == pytest.approx(
        mean.groupby(["volume", "width"])["jacobian_norm"].mean().to_numpy()
    )
    assert (curves["within"] > 0).all()
    both = ExperimentTables(name, history, sharpness, config, final_epochs=[10, 30])
    assert final_errors(both, "test_error")["mean"].tolist() == pytest.approx([40.0] * 3)
    errors = final_history(both)
    assert errors["test_error"].tolist() == pytest.approx([0.4] * 9)
    assert errors[["width", "seed"]].drop_duplicates().shape == (9, 2)


def test_final_volumes_take_the_last_epoch_of_each_run() -> None:
    experiment = make_experiment(**SMALL)
    table = experiment.sharpness
    table.loc[table["epoch"] < 30, "jacobian_norm"] = 1e9
    result = final_volumes(experiment, "jacobian_norm", "noisy")
    assert len(result) == 9 and result["mean"].max() < 1e6
    assert final_volumes(make_experiment("convnet-cifar100"), "accuracy", "noisy").empty


def test_a_missing_error_column_gives_no_rows() -> None:
    assert final_errors(make_experiment(**SMALL), "test_error_corrupted").empty


def test_training_course_leaves_out_epoch_0_and_epochs_without_evaluation() -> None:
    experiment = make_experiment(**SMALL)
    assert 11 in experiment.history["epoch"].tolist()
    for column in ("test_error", "jacobian_norm"):
        assert training_course(experiment, column)["epoch"].unique().tolist() == [10, 30]


def test_every_experiment_of_the_study_has_synthetic_tables() -> None:
    from smoothdescent.figures import FIGURES

    assert {name for names in FIGURES.values() for name in names} | {"mine"} == set(CONFIGS)
