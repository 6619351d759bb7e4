"""What a run keeps of which training samples it fits: exact, and the same however it was trained.

That an interruption, more or fewer epochs and a missing file change no byte of a run's history and
state, in which it is, is tested in `test_resume.py` and `test_stopping.py`.
"""

import json

import numpy as np
import pytest
import torch
from training.test_measure_runs import MEASURE, measure
from training.test_resume import count_epochs
from training.tiny import Files, contents, tiny_study

from smoothdescent.data.loading import load_experiment_data
from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table, write_table
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import load_tensors, load_weights, save_tensors
from smoothdescent.tables.runs import read_histories
from smoothdescent.tables.samples import fitted_since

EVALUATED = [0, 1, 2, 3, 4, 6]
# Fast enough to learn and to forget samples in these epochs.
CHANGES = {
    "optimizer": {"name": "adam", "learning_rate": 0.02, "warmup_epochs": 0},
    "snapshots": EVALUATED[:-1],
    "measure": MEASURE,
}


@pytest.fixture
def files(tmp_path):
    """A run each of whose evaluations has a snapshot."""
    files = Files(tmp_path, tiny_study(**CHANGES))
    files.train()
    return files


def predictions(files, epoch):
    """Return which training samples a snapshot fits, found one image at a time."""
    data = load_experiment_data(files.data, files.labels).train
    network = build("convnet", width=2, num_classes=10, image_size=8)
    load_weights(files.folder / f"runs/w2_s0/snapshots/e{epoch}.safetensors", network)
    network.eval()
    with torch.no_grad():
        found = [int(network(image[None]).argmax()) for image in data.images]
    return [guess == label for guess, label in zip(found, data.labels.tolist(), strict=True)]


def kept(files):
    """Return which samples each evaluation in the history has found fitted, by epoch."""
    history = read_table(files.folder / "runs/w2_s0/history.parquet").to_pandas()
    rows = history[history["fitted"].notna()]
    bits = (np.unpackbits(np.frombuffer(row, np.uint8), count=100) for row in rows["fitted"])
    return dict(zip(rows["epoch"], bits, strict=True))


def test_the_history_has_the_predictions_of_each_snapshot(files):
    found = kept(files)
    assert [*found] == EVALUATED
    for epoch, fitted in found.items():
        assert fitted.tolist() == predictions(files, epoch)
    history = read_table(files.folder / "runs/w2_s0/history.parquet").to_pandas()
    accuracies = history.set_index("epoch")["train_accuracy_all"]
    assert all(accuracies[epoch] == fitted.mean() for epoch, fitted in found.items())


def test_a_sample_is_fitted_since_the_evaluation_after_its_last_fault(files):
    right = {epoch: predictions(files, epoch) for epoch in EVALUATED}
    expected = []
    for sample in range(100):
        expected.append(-1)
        for epoch in reversed(EVALUATED):
            if not right[epoch][sample]:
                break
            expected[-1] = epoch
    history = read_table(files.folder / "runs/w2_s0/history.parquet")
    assert fitted_since(history, 100).tolist() == expected
    assert len({*expected}) >= 4, "samples are learnt at different times, and some are not"
    measure(files)
    files.gather()
    rows = read_table(files.gathered["samples"]).to_pandas()
    assert len(rows) == 6 * 3
    ids = load_experiment_data(files.data, files.labels).train.sample_ids.tolist()
    for row in rows.fillna({"fitted_since": -1}).itertuples():
        assert row.fitted_since == expected[ids.index(row.sample_id)]


def test_a_run_of_before_predictions_were_kept(files, monkeypatch, capsys):
    """All such histories are set aside at once; the same command evaluates again."""
    files.train("w2_s1")
    two = Files(files.folder, tiny_study(**CHANGES | {"seeds": [0, 1]}))
    before = contents(files.folder / "runs")
    for run in ("w2_s0", "w2_s1"):
        folder = files.folder / "runs" / run
        tensors, metadata = load_tensors(folder / "state.safetensors")
        tensors = {key: t for key, t in tensors.items() if not key.startswith("fitted/")}
        save_tensors(folder / "state.safetensors", tensors, metadata)
        history = read_table(folder / "history.parquet")
        metadata = read_metadata(folder / "history.parquet")
        write_table(folder / "history.parquet", history.drop_columns("fitted"), metadata)
    with pytest.raises(UserError, match=r"w2_s0/history.parquet has no .*and 1 more like it"):
        read_histories(files.folder / "runs", two.resolved)
    trained = count_epochs(monkeypatch)
    two.train("w2_s0", "w2_s1")
    assert trained == 2 * [1, 2, 3, 4, 5, 6]
    assert "training again" in capsys.readouterr().err
    after = contents(files.folder / "runs")
    for name in before:
        assert after[name] == before[name] or name.endswith("state.safetensors"), name
    assert read_histories(files.folder / "runs", two.resolved).keys() == {(2, 0), (2, 1)}


def test_a_run_that_diverges_fits_nothing(tmp_path):
    fast = {"name": "sgd", "learning_rate": 900.0, "warmup_epochs": 0}
    wild = Files(tmp_path, tiny_study(optimizer=fast, measure=MEASURE))
    wild.train()
    measure(wild)
    wild.gather()
    assert 0 in kept(wild) and 6 not in kept(wild)
    rows = read_table(wild.gathered["samples"]).to_pandas()
    assert len(rows) == 6 * 3
    assert rows[["fitted_since", "jacobian_norm", "hessian_norm"]].isna().all(axis=None)


def test_a_run_that_has_stopped_fits_what_it_fitted_then(tmp_path):
    stop = {"loss": 1e9, "for_epochs": 2}
    files = Files(tmp_path, tiny_study(stop_below=stop, measure=MEASURE))
    files.train()
    found = kept(files)
    assert [*found] == [0, 1, 2, 3, 4, 6]
    assert all((found[epoch] == found[2]).all() for epoch in (3, 4, 6))
    measure(files)
    files.gather()
    rows = read_table(files.gathered["samples"]).to_pandas()
    assert rows["fitted_since"].dropna().le(2).all()
    said = json.loads(read_metadata(files.gathered["samples"])["experiment_config"])
    assert said["stop_below"] == stop
