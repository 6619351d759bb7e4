from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdescent.cli import main
from smoothdescent.data.labels import corrupted_classes, make_labels
from smoothdescent.data.sources import Decoded
from smoothdescent.data.store import open_store, write_store
from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table

TRUE = np.random.default_rng(0).integers(0, 10, 2000)
SYMMETRIC = {"kind": "symmetric", "rate": 0.2}
ASYMMETRIC = {"kind": "asymmetric", "classes": 4, "rate": 0.8}


def split(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame["split"] == name]


def test_columns_and_order() -> None:
    frame = make_labels(TRUE, 10, train_samples=100, validation=20, noise=SYMMETRIC)
    assert list(frame.columns) == ["sample_id", "label_true", "label", "is_noisy", "split"]
    assert [str(frame[name].dtype) for name in frame][:4] == ["int64", "int64", "int64", "bool"]
    assert frame["sample_id"].is_monotonic_increasing
    assert frame["sample_id"].is_unique
    np.testing.assert_array_equal(frame["label_true"], TRUE[frame["sample_id"]])


@settings(max_examples=50)
@given(
    classes=st.integers(2, 20),
    total=st.integers(2, 300),
    data=st.data(),
    rate=st.floats(0, 1),
    noise_seed=st.integers(0, 99),
)
def test_symmetric_noise(
    classes: int, total: int, data: st.DataObject, rate: float, noise_seed: int
) -> None:
    true = np.random.default_rng(total).integers(0, classes, total)
    validation = data.draw(st.integers(0, total - 1))
    samples = data.draw(st.none() | st.integers(1, total - validation))
    frame = make_labels(
        true,
        classes,
        train_samples=samples,
        validation=validation,
        noise={"kind": "symmetric", "rate": rate},
        noise_seed=noise_seed,
    )
    train, held_out = split(frame, "train"), split(frame, "validation")
    expected = total - validation if samples is None else samples
    assert (len(train), len(held_out)) == (expected, validation)
    assert train["is_noisy"].sum() == round(rate * expected)
    assert not held_out["is_noisy"].any()
    assert (frame["is_noisy"] == (frame["label"] != frame["label_true"])).all()
    assert frame["label"].between(0, classes - 1).all()


@settings(max_examples=50)
@given(corrupted=st.integers(1, 10), rate=st.floats(0, 1), noise_seed=st.integers(0, 99))
def test_asymmetric_noise(corrupted: int, rate: float, noise_seed: int) -> None:
    noise = {"kind": "asymmetric", "classes": corrupted, "rate": rate}
    frame = make_labels(TRUE, 10, validation=300, noise=noise, noise_seed=noise_seed)
    classes = corrupted_classes(10, noise, noise_seed)
    assert len(set(classes)) == corrupted
    assert classes == sorted(classes)
    train = split(frame, "train")
    for label, group in train.groupby("label_true"):
        expected = round(rate * len(group)) if label in classes else 0
        assert group["is_noisy"].sum() == expected
    assert not split(frame, "validation")["is_noisy"].any()


def test_the_papers_asymmetric_noise() -> None:
    true = np.repeat(np.arange(100), 500)
    noise = {"kind": "asymmetric", "classes": 20, "rate": 0.8}
    assert make_labels(true, 100, noise=noise)["is_noisy"].mean() == 0.16


@pytest.mark.parametrize("noise", [SYMMETRIC, {**ASYMMETRIC, "classes": 10}])
def test_wrong_labels_are_uniform_over_the_other_classes(noise: dict) -> None:
    true = np.repeat(np.arange(5), 20_000)
    noise = {**noise, "classes": 5} if "classes" in noise else noise
    frame = make_labels(true, 5, noise=noise)
    noisy = frame[frame["is_noisy"]]
    counts = pd.crosstab(noisy["label_true"], noisy["label"]).to_numpy()
    expected = counts.sum(axis=1, keepdims=True) / 4
    off_diagonal = ~np.eye(5, dtype=bool)
    assert (counts[~off_diagonal] == 0).all()
    # Within five standard deviations of the binomial count.
    deviation = np.abs(counts - expected)[off_diagonal]
    assert deviation.max() < 5 * np.sqrt(expected.max() * 0.75)


def test_which_samples_are_noisy_is_uniform() -> None:
    hits = np.zeros(50)
    for noise_seed in range(400):
        frame = make_labels(TRUE[:50], 10, noise=SYMMETRIC, noise_seed=noise_seed)
        hits += frame["is_noisy"]
    # 80 expected of each, standard deviation 8.
    assert hits.min() > 40
    assert hits.max() < 120


def test_seeds_act_apart() -> None:
    base = make_labels(TRUE, 10, validation=100, noise=SYMMETRIC)
    again = make_labels(TRUE, 10, validation=100, noise=SYMMETRIC)
    pd.testing.assert_frame_equal(base, again)
    other_noise = make_labels(TRUE, 10, validation=100, noise=SYMMETRIC, noise_seed=1)
    assert (base["split"] == other_noise["split"]).all()
    assert (base["label"] != other_noise["label"]).any()
    other_split = make_labels(TRUE, 10, validation=100, noise=SYMMETRIC, split_seed=1)
    assert (base["split"] != other_split["split"]).any()


def test_smaller_training_sets_are_nested() -> None:
    small = make_labels(TRUE, 10, train_samples=200, validation=50)
    large = make_labels(TRUE, 10, train_samples=900, validation=50)
    assert set(split(small, "train")["sample_id"]) < set(split(large, "train")["sample_id"])
    assert (
        split(small, "validation")["sample_id"].tolist()
        == split(large, "validation")["sample_id"].tolist()
    )


def test_without_noise_labels_are_true() -> None:
    frame = make_labels(TRUE, 10)
    assert len(frame) == 2000
    assert not frame["is_noisy"].any()
    assert corrupted_classes(10, None, 0) == corrupted_classes(10, SYMMETRIC, 0) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"train_samples": 1990, "validation": 20},
            "keys 'train_samples' and 'validation' ask for 1990 and 20 samples; the data set has "
            "2000 training images",
        ),
        ({"validation": 2000}, "ask for 1 and 2000 samples; the data set has 2000"),
        ({"train_samples": 0}, "keys 'train_samples' and 'validation' are 0 and 0; expected"),
        ({"validation": -1}, "keys 'train_samples' and 'validation' are None and -1; expected"),
        ({"noise": {"kind": "pair", "rate": 0.1}}, "expected null or a mapping whose 'kind' is"),
        ({"noise": 0.2}, "key 'noise' is 0.2; expected null or a mapping"),
        (
            {"noise": {**SYMMETRIC, "classes": 3}},
            "key 'noise' has the keys classes, kind, rate; symmetric noise takes kind, rate",
        ),
        (
            {"noise": {"kind": "asymmetric", "rate": 0.2}},
            "key 'noise' has the keys kind, rate; asymmetric noise takes classes, kind, rate",
        ),
        ({"noise": {**SYMMETRIC, "rate": 1.5}}, "key 'noise.rate' is 1.5; expected a number from"),
        ({"noise": {**SYMMETRIC, "rate": -0.1}}, "key 'noise.rate' is -0.1; expected a number"),
        ({"noise": {**SYMMETRIC, "rate": "1e-1"}}, "key 'noise.rate' is '1e-1'; expected a number"),
        (
            {"noise": {**ASYMMETRIC, "classes": 11}},
            "key 'noise.classes' is 11; expected a whole number from 1 to 10",
        ),
        ({"noise": {**ASYMMETRIC, "classes": 0}}, "key 'noise.classes' is 0; expected"),
    ],
)
def test_a_faulty_setting_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_labels(TRUE, 10, **arguments)


@pytest.fixture
def store(tmp_path: Path, decoded: Decoded) -> Path:
    """Return a data set file."""
    path = tmp_path / "data.safetensors"
    write_store(path, "random", decoded)
    return path


def test_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "out" / "labels.parquet"
    given_settings = {
        "train_samples": None,
        "validation": 8,
        "split_seed": 4,
        "noise": {"kind": "asymmetric", "classes": 2, "rate": 0.5},
        "noise_seed": 2,
    }
    arguments = ["--data", str(store), "--settings", json.dumps(given_settings)]
    main(["make-labels", *arguments, "--output", str(output)])
    expected = make_labels(np.arange(40) % 4, 4, **given_settings)
    pd.testing.assert_frame_equal(read_table(output).to_pandas(), expected)
    metadata = read_metadata(output)
    assert metadata["data_sha256"] == open_store(store).sha256
    assert metadata["dataset"] == "random"
    assert json.loads(metadata["settings"]) == given_settings
    assert json.loads(metadata["noise"]) == given_settings["noise"]
    noisy = expected.loc[expected["is_noisy"], "label_true"]
    assert corrupted_classes(4, given_settings["noise"], 0) != sorted(noisy.unique())
    assert json.loads(metadata["corrupted_classes"]) == sorted(noisy.unique())
    assert "32 training samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"noize": None}, "argument --settings has the unknown key 'noize'; expected some of"),
        ({"validation": 1.5}, "key 'validation' is 1.5; expected a whole number"),
        ({"train_samples": 41}, "ask for 41 and 0 samples; the data set has 40 training images"),
    ],
)
def test_command_explains_and_writes_nothing(
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    given_settings: dict,
    message: str,
) -> None:
    output = tmp_path / "labels.parquet"
    arguments = ["--data", str(store), "--settings", json.dumps(given_settings)]
    with pytest.raises(SystemExit) as exit_status:
        main(["make-labels", *arguments, "--output", str(output)])
    assert exit_status.value.code == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_single_class_is_refused() -> None:
    with pytest.raises(UserError, match="the data set has 1 class; expected at least 2"):
        make_labels(np.zeros(8, dtype=np.int64), 1)
