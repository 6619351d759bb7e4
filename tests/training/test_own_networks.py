"""Networks of users through the commands: refused before any training, or repeated exactly."""

import signal

import pytest
from training.test_measure_runs import MEASURE, measure
from training.tiny import Files, Interrupt, contents, tiny_study

from smoothdescent.training import engine


def files_of(tmp_path, network):
    changes = {"widths": [1], "epochs": 3, "snapshots": [1], "measure": MEASURE}
    return Files(tmp_path, tiny_study(network=f"training.networks:{network}", **changes))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("InPlaceData", "in place"),
        ("batch_statistics", "alone than in a batch"),
        ("Asserts", "training.networks:Asserts"),
        ("scripted", "scripted"),
    ],
)
def test_refused_before_training(tmp_path, capsys, network, words):
    files = files_of(tmp_path, network)
    with pytest.raises(SystemExit):
        files.train("w1_s0")
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("smoothdescent: error: network training.networks:") and words in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("network", ["dropout", "depth_python", "UsedTwice", "weight_norm", "lazy"])
def test_repeated_resumed_and_measured(tmp_path, monkeypatch, network):
    """Two runs a job or one, interrupted or not: the same files."""
    files = files_of(tmp_path, network)
    files.train("w1_s0", "w1_s1", tag="-whole")
    with monkeypatch.context() as patch:
        interrupted = Interrupt(9, signal.SIGTERM)(engine.train)
        patch.setattr("smoothdescent.training.trainer.train", interrupted)
        with pytest.raises(SystemExit):
            files.train("w1_s0")
    files.train("w1_s0")
    files.train("w1_s1")
    assert contents(tmp_path / "runs") == contents(tmp_path / "runs-whole")
    measure(files, "w1_s0", "w1_s1")
    assert len(list(tmp_path.glob("runs/*/sharpness/*.parquet"))) == 4
