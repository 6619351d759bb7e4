"""A run is bit-identical whether or not a signal, a kill or a new segment interrupted it."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from training.tiny import NAME, Files, contents, tiny_study

from smoothdescent.errors import UserError
from smoothdescent.files import read_table
from smoothdescent.networks.weights import load_tensors, read_weights_metadata
from smoothdescent.training import engine
from smoothdescent.training.autosave import Autosave, Stopped


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def train_whole(files, tag=""):
    for start, end in ((None, 2), (2, 4), (4, 6)):
        files.train(end, start, tag=tag)


def test_segments(files):
    train_whole(files)
    run = files.folder / "run"
    assert sorted(p.name for p in (run / "snapshots_e2").iterdir()) == [
        "e0.safetensors",
        "e1.safetensors",
        "e2.safetensors",
    ]
    assert [p.name for p in (run / "autosave").iterdir()] == ["e6"], "earlier work is removed"
    history = read_table(run / "history_e6.parquet").to_pandas()
    assert history["epoch"].tolist() == list(range(7))
    assert history["test_error"].notna().tolist() == [True, True, True, True, True, False, True]
    snapshot, metadata = load_tensors(run / "snapshots_e6" / "e6.safetensors")
    assert (metadata["width"], metadata["seed"], metadata["epoch"]) == ("2", "0", "6")
    state, _ = load_tensors(run / "state_e6.safetensors")
    for name, weights in snapshot.items():
        assert torch.equal(weights, state[f"network/{name}"])


def test_segments_do_not_change_the_result(files, tmp_path):
    train_whole(files)
    (tmp_path / "one").mkdir()
    shutil.copy(files.data, tmp_path / "one" / "data.safetensors")
    one = Files(tmp_path / "one", tiny_study(segments=[]))
    one.train(6)
    first = load_tensors(files.folder / "run/state_e6.safetensors")[0]
    second = load_tensors(one.folder / "run/state_e6.safetensors")[0]
    assert first.keys() == second.keys()
    for name in first.keys() - {"history"}:
        assert torch.equal(first[name], second[name]), name


class Interrupt:
    """Raises a signal in this process after a number of steps."""

    def __init__(self, steps, number):
        self.steps, self.number = steps, number

    def __call__(self, original):
        def train(*arguments, on_step, **keywords):
            def interrupted(samples):
                self.steps -= 1
                if self.steps == 0:
                    os.kill(os.getpid(), self.number)
                on_step(samples)

            return original(*arguments, on_step=interrupted, **keywords)

        return train


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("steps", [1, 7, 8, 14])
def test_a_signal_saves_and_stops_and_the_same_command_continues(
    files, monkeypatch, capsys, steps, number
):
    # 100 samples in batches of 16 are 7 steps an epoch: the first, a last one, the next, the end.
    files.train(2, tag="-whole")
    with monkeypatch.context() as patch:
        interrupted = Interrupt(steps, number)(engine.train)
        patch.setattr("smoothdescent.training.command.train", interrupted)
        with pytest.raises(SystemExit) as stopped:
            files.train(2)
    assert stopped.value.code == 128 + number
    assert "saved in" in capsys.readouterr().err
    assert not (files.folder / "run" / "state_e2.safetensors").exists()
    files.train(2)
    assert "resumed from" in capsys.readouterr().err
    assert contents(files.folder / "run") == contents(files.folder / "run-whole")


def test_usr1_saves_and_goes_on(files, monkeypatch):
    saved = []
    original = Autosave.save
    monkeypatch.setattr(
        Autosave, "save", lambda self: (saved.append(self.run.step), original(self))
    )
    monkeypatch.setattr(
        "smoothdescent.training.command.train", Interrupt(3, signal.SIGUSR1)(engine.train)
    )
    files.train(2)
    assert saved == [3, 0], "once on the signal, once at the end"


def test_outputs_that_were_deleted_are_restored_without_training(files, monkeypatch):
    files.train(2)
    before = contents(files.folder / "run")
    for path in (files.folder / "run").iterdir():
        if path.name != "autosave":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    monkeypatch.setattr(engine, "_train_epoch", lambda *_: pytest.fail("trained again"))
    files.train(2)
    assert contents(files.folder / "run") == before


def test_work_of_other_settings_is_discarded(files, capsys, tmp_path):
    files.train(2)
    other = Files(tmp_path, tiny_study(batch_size=20))
    other.train(2)
    assert "is discarded: its configuration" in capsys.readouterr().err
    (tmp_path / "fresh").mkdir()
    shutil.copy(files.data, tmp_path / "fresh" / "data.safetensors")
    fresh = Files(tmp_path / "fresh", tiny_study(batch_size=20))
    fresh.train(2)
    assert contents(tmp_path / "run") == contents(tmp_path / "fresh" / "run")


@pytest.mark.parametrize("damage", ["state", "snapshot"])
def test_damaged_work_is_discarded(files, capsys, damage):
    files.train(2)
    before = contents(files.folder / "run")
    name = {"state": "state", "snapshot": "e1"}[damage]
    path = files.folder / "run/autosave/e2" / f"{name}.safetensors"
    half = path.read_bytes()[:1000]
    path.unlink()  # the outputs are links to the same data
    path.write_bytes(half)
    files.train(2)
    assert "is discarded" in capsys.readouterr().err
    assert contents(files.folder / "run") == before


def test_states_of_another_run_are_refused(files, tmp_path):
    files.train(2)
    with pytest.raises(SystemExit):
        files.train(4, 2, seed=1)
    assert (files.folder / "run" / "state_e2.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "state_e2.safetensors belongs to another run: its seed is '0', expected '1'"),
        ({"width": 3}, "state_e2.safetensors is not a training state of this network"),
    ],
)
def test_the_message_names_what_differs(files, capsys, change, words):
    files.train(2)
    with pytest.raises(SystemExit):
        files.train(4, 2, **change)
    assert words in capsys.readouterr().err


def test_an_epoch_that_ends_no_segment(files, capsys):
    with pytest.raises(SystemExit):
        files.train(3)
    assert "--until is 3, expected the end of a segment" in capsys.readouterr().err


def test_a_full_disk(files, small_disk, capsys):
    """The training says so and stops; with space again, it goes on from what is saved."""
    run = files.folder / "run"
    run.symlink_to(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(100_000))
    with pytest.raises(SystemExit) as stopped:
        files.train(2)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("smoothdescent: error: cannot write ") and "the disk is full" in error
    assert not list(run.glob("state*")) and not list(run.glob("history*"))
    filler.unlink()
    files.train(2)
    assert (run / "history_e2.parquet").exists()


@pytest.mark.slow
def test_kill_9_again_and_again(tmp_path):
    """A real process, killed without warning at many moments, ends with the same bytes."""
    study = tiny_study(epochs=40, segments=[], snapshots=[0, 5, 11, 23])
    study = study.model_copy(update={"autosave_minutes": 0.2 / 60})
    files = Files(tmp_path, study)
    subprocess.run(files.command(40, tag="-whole"), check=True, capture_output=True)
    kills, log = 0, ""
    for attempt in range(12):
        process = subprocess.Popen(files.command(40), stderr=subprocess.PIPE, text=True)
        saved = files.folder / "run/autosave/e40/state.safetensors"
        before = position(saved)
        deadline = time.monotonic() + 60
        # Kill once the attempt has saved something new, at a moment that differs each time.
        while process.poll() is None and position(saved) == before:
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.01)
        time.sleep(0.03 * attempt)
        process.kill()
        log += process.communicate()[1]
        if process.returncode == 0:
            break
        kills += 1
    else:
        subprocess.run(files.command(40), check=True, capture_output=True)
    assert kills >= 3
    assert "resumed from" in log and "discarded" not in log
    assert contents(files.folder / "run") == contents(files.folder / "run-whole")


def position(path):
    if not path.exists():
        return None
    return json.loads(read_weights_metadata(path)["position"])


def test_a_loop_that_is_stopped_raises(files, tmp_path):
    """What the loop sees of a signal is one exception, after the state is saved."""
    from smoothdescent.training.run import new_run

    experiment = tiny_study().experiments[NAME]
    run = new_run(
        experiment, width=2, seed=0, num_classes=10, image_size=8, device=torch.device("cpu")
    )
    autosave = Autosave(tmp_path / "a", fingerprint="f", run=run, metadata={}, minutes=100)
    autosave.listen()
    autosave.save_if_due()
    assert not autosave.state_path.exists()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM"):
        autosave.save_if_due()
    assert autosave.state_path.exists()


def test_user_error_is_what_other_files_raise(files):
    from smoothdescent.training.run import new_run

    experiment = tiny_study().experiments[NAME]
    run = new_run(
        experiment, width=2, seed=0, num_classes=10, image_size=8, device=torch.device("cpu")
    )
    with pytest.raises(UserError, match="is not a training state"):
        run.load(files.data)
