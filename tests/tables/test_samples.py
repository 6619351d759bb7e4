"""The table of samples: one row for each run, measured sample and volume."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.test_measure_runs import SIZES, measure
from training.tiny import Files, tiny_study

from smoothdescent.files import read_metadata, read_table, write_table
from smoothdescent.products import damaged
from smoothdescent.tables.experiment import final_rows, read_tables
from smoothdescent.tables.samples import fitted_since

CHANGES = SIZES | {"seeds": [0, 1], "final_snapshots": {"count": 2, "every": 1}}
KEYS = ["width", "seed", "volume"]


def history_of(fitted, ends):
    """Return a history whose odd epochs have no evaluation; `ends`: with an evaluation."""
    rows = [
        {"epoch": 2 * e, "fitted": np.packbits(bits).tobytes()} for e, bits in enumerate(fitted)
    ]
    epochs = {row["epoch"]: row["fitted"] for row in rows}
    last = 2 * len(fitted) - (2 if ends else 1)
    table = {"epoch": range(last + 1), "fitted": [epochs.get(e) for e in range(last + 1)]}
    return pa.table(table, pa.schema({"epoch": pa.int64(), "fitted": pa.binary()}))


@given(
    st.integers(1, 20).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=8)
    )
)
def test_fitted_since_agrees_with_a_search(fitted):
    expected = []
    for course in zip(*fitted, strict=True):
        fits = [2 * start for start in range(len(course)) if all(course[start:])]
        expected.append(min(fits, default=-1))
    samples = len(fitted[0])
    assert fitted_since(history_of(fitted, ends=True), samples).tolist() == expected
    assert fitted_since(history_of(fitted, ends=False), samples).tolist() == [-1] * samples


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    files = Files(tmp_path_factory.mktemp("gathered"), tiny_study(**CHANGES))
    files.train("w2_s0", "w2_s1")
    measure(files, "w2_s0", "w2_s1")
    files.gather()
    return files


@pytest.fixture
def files(gathered, tmp_path):
    shutil.copytree(gathered.folder, tmp_path, dirs_exist_ok=True)
    return Files(tmp_path, tiny_study(**CHANGES))


def test_measures_are_the_means_of_the_final_checkpoints(files):
    samples = read_table(files.gathered["samples"]).to_pandas()
    assert len(samples) == 2 * 6 * 3
    final = pd.concat(
        read_table(files.folder / f"runs/w2_s{seed}/sharpness/e{epoch}.parquet").to_pandas()
        for seed in (0, 1)
        for epoch in (1, 2)
    )
    labels = read_table(files.labels).to_pandas().set_index("sample_id")
    for row in samples.itertuples():
        own = final[(final["seed"] == row.seed) & (final["sample_id"] == row.sample_id)]
        own = own[own["volume"] == row.volume]
        assert len(own) == 2
        for name in ("accuracy", "crossentropy", "jacobian_norm"):
            assert getattr(row, name) == pytest.approx(own[name].mean(), rel=1e-6)
        # Equation 5 with M = 4 and delta = 0.1: 1 / (M^2 delta^2) = 6.25.
        hessian = 6.25 * np.sqrt(own["hessian_sumsq"]).mean()
        assert row.hessian_norm == pytest.approx(hessian, rel=1e-6)
        label = labels.loc[row.sample_id]
        assert (row.label, row.label_true) == (label["label"], label["label_true"])
        assert row.is_noisy == label["is_noisy"] == (row.label != row.label_true)


def test_their_means_are_those_of_the_experiment(files):
    names = ["accuracy", "crossentropy", "jacobian_norm", "hessian_norm"]
    samples = read_table(files.gathered["samples"]).to_pandas()
    means = samples.astype(dict.fromkeys(names, "float64")).groupby(KEYS)[names].mean()
    expected = final_rows(read_tables(files.folder), "all").set_index(KEYS)[names].sort_index()
    pd.testing.assert_frame_equal(means, expected, rtol=1e-6, check_index_type=False)


def test_a_damaged_table_and_one_of_another_time_are_found(files):
    paths = [files.gathered[name] for name in ("history", "sharpness", "samples", "config")]
    facts = {"config_hash": files.resolved.identity}
    group = {path: facts if path.suffix == ".parquet" else {} for path in paths}
    samples, sharpness = files.gathered["samples"], files.gathered["sharpness"]
    assert damaged([group]) == {}
    before = samples.read_bytes()
    content = bytearray(before)
    content[len(content) // 2] ^= 1
    samples.write_bytes(content)
    assert {*damaged([group])} == {samples, sharpness}
    samples.write_bytes(before)
    write_table(samples, read_table(samples).slice(1), read_metadata(samples))
    assert [*damaged([group])] == [sharpness], "it knows what it was gathered with"
    files.gather()
    assert samples.read_bytes() == before and damaged([group]) == {}


def test_a_history_of_another_run_is_set_aside(files):
    runs = files.folder / "runs"
    shutil.copy(runs / "w2_s1/history.parquet", runs / "w2_s0/history.parquet")
    before = files.gathered["samples"].read_bytes()
    with pytest.raises(SystemExit):
        files.gather()
    assert (runs / "w2_s0/history.parquet.unusable").exists()
    assert files.gathered["samples"].read_bytes() == before
    files.train("w2_s0")
    files.gather()
    assert files.gathered["samples"].read_bytes() == before


def test_labels_of_other_settings_are_refused(files, capsys):
    noise = {"kind": "symmetric", "rate": 0.2, "seed": 1}
    other = Files(files.folder / "other", tiny_study(**CHANGES | {"noise": noise}))
    shutil.copy(other.labels, files.labels)
    with pytest.raises(SystemExit):
        files.gather()
    assert "labels.parquet: its settings is" in capsys.readouterr().err


def test_a_failure_leaves_no_part_of_the_table(files):
    """It is written run by run, and the last run has a fault."""
    files.gathered["samples"].unlink()
    (files.folder / "runs/w2_s1/sharpness/e2.parquet").unlink()
    with pytest.raises(SystemExit):
        files.gather()
    assert not list(files.folder.glob("*samples*"))
