"""Runs that stop training: when, what their products say, and that nothing else changes."""

import json
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.test_measure_runs import MEASURE, count_measurements, measure, measured_tables
from training.tiny import NAME, Files, Interrupt, contents, tiny_study

from smoothdescent.files import read_metadata, read_table
from smoothdescent.networks.weights import load_tensors
from smoothdescent.training import engine
from smoothdescent.training.stopping import stop_epoch

# Any loss is below: the evaluations at 0 and 2 span the epochs that are asked for.
STOPS = {"stop_below": {"loss": 1e9, "for_epochs": 2}, "evaluate_every": 2, "measure": MEASURE}
AT = 2


def settings(every, loss, for_epochs):
    stop = {"loss": loss, "for_epochs": for_epochs}
    return tiny_study(evaluate_every=every, stop_below=stop).experiments[NAME]


def rows(losses, every):
    """Return a history with these exact losses at the evaluations, and lower ones in between."""
    count = every * (len(losses) - 1) + 1
    return [
        {"epoch": e, "train_loss_all": losses[e // every] if e % every == 0 else 0.0}
        for e in range(count)
    ]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 0.5, 0.5, 0.5], 6),
        ([2.0, 0.5, 0.5], None),
        ([2.0, 0.5, 1.0, 0.5, 0.5], None),
        ([2.0, 0.5, 2.0, 0.5, 0.5, 0.5, 0.5], 10),
        ([2.0, 0.5, float("nan"), 0.5, 0.5], None),
    ],
)
def test_the_loss_must_stay_below(losses, expected):
    assert stop_epoch(rows(losses, 2), settings(2, 1.0, 4)) == expected


@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(1, 9),
)
def test_agrees_with_a_search_over_windows(losses, every, for_epochs):
    expected = None
    for end in range(len(losses)):
        for begin in range(end + 1):
            below = all(loss < 1.0 for loss in losses[begin : end + 1])
            if below and every * (end - begin) >= for_epochs and expected is None:
                expected = every * end
    assert stop_epoch(rows(losses, every), settings(every, 1.0, for_epochs)) == expected


def test_off_by_default():
    assert stop_epoch(rows([0.0] * 9, 2), tiny_study().experiments[NAME]) is None


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path, tiny_study(**STOPS))


def weights(path):
    return load_tensors(path)[0]


def test_later_checkpoints_are_the_last_weights_and_say_so(files, capsys):
    files.train()
    assert f"stops training after epoch {AT}" in capsys.readouterr().err
    run = files.folder / "runs/w2_s0"
    plain = Files(files.folder, tiny_study(evaluate_every=2, epochs=AT, snapshots=[0, 1]))
    plain.train(tag="-plain")
    last = weights(files.folder / f"runs-plain/w2_s0/snapshots/e{AT}.safetensors")
    for epoch, trained in ((0, 0), (1, 1), (3, AT), (6, AT)):
        tensors, metadata = load_tensors(run / f"snapshots/e{epoch}.safetensors")
        assert metadata["trained_epochs"] == str(trained)
        assert all(torch.equal(tensors[name], last[name]) for name in last) == (epoch >= AT)
    history = read_table(run / "history.parquet").to_pandas()
    assert (history["learning_rate"] == 0).tolist() == [epoch > AT for epoch in range(7)]
    evaluated = history["test_error"].notna().tolist()
    assert evaluated == [epoch in (0, 1, 2, 3, 4, 6) for epoch in range(7)]
    exact = history.loc[[2, 3, 4, 6], "train_loss_all":].dropna(axis=1)
    assert (exact == exact.iloc[0]).all(axis=None)
    assert history.loc[AT + 1 :, "train_loss"].isna().all()


def test_the_last_weights_are_measured_once(tmp_path, monkeypatch):
    final = {"final_snapshots": {"count": 2, "every": 2}}  # epochs 4 and 6
    files = Files(tmp_path, tiny_study(**STOPS | final))
    files.train()
    measured = count_measurements(monkeypatch)
    measure(files)
    assert measured == [0, 0, 0, None], "epochs 0, 1 and 3, and the final ones together"
    last = measured_tables(files)
    same = last["e4"].drop(columns="epoch").equals(last["e6"].drop(columns="epoch"))
    assert same and set(last["e6"]["epoch"]) == {6}


def test_tables_say_so(files):
    files.train()
    measure(files)
    assert read_metadata(files.folder / "runs/w2_s0/sharpness/e6.parquet")["trained_epochs"] == str(
        AT
    )
    files.gather()
    for name in ("history", "sharpness"):
        table = read_table(files.gathered[name]).to_pandas()
        assert np.array_equal(table["stopped"], table["epoch"] > AT)
    config = json.loads(read_metadata(files.gathered["history"])["experiment_config"])
    assert config["stop_below"] == STOPS["stop_below"]


def test_longer_and_interrupted_it_stops_at_the_same_epoch(files, monkeypatch):
    files.train(tag="-whole")
    whole = contents(files.folder / "runs-whole/w2_s0")
    Files(files.folder, tiny_study(**STOPS | {"epochs": 4, "snapshots": [0, 1, 3]})).train()
    files.train()
    steps = contents(files.folder / "runs/w2_s0")
    del steps["snapshots/e4.safetensors"]
    assert steps == whole

    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    with monkeypatch.context() as patch:
        # In the second of two epochs of seven steps.
        interrupted = Interrupt(9, signal.SIGTERM)(engine.train)
        patch.setattr("smoothdescent.training.trainer.train", interrupted)
        with pytest.raises(SystemExit):
            files.train(tag="-again")
    files.train(tag="-again")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert contents(files.folder / "runs-again/w2_s0") == whole


def test_a_snapshot_after_the_stop_is_made_again(files):
    files.train()
    run = files.folder / "runs/w2_s0"
    before = contents(run)
    (run / "snapshots/e3.safetensors").unlink()
    files.train()
    assert contents(run) == before
