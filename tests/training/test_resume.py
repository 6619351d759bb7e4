"""A run is bit-identical whether or not a signal, a kill or a new segment interrupted it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from training.tiny import NAME, Files, contents, tiny_study

from smoothdescent.errors import UserError
from smoothdescent.files import read_table
from smoothdescent.lease import Lease
from smoothdescent.networks.weights import load_tensors, read_weights_metadata
from smoothdescent.training import engine
from smoothdescent.training.folder import RunFolder, Stopped, StopRequest


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


def train_whole(files, *runs, tag=""):
    for end in (2, 4, 6):
        files.train(end, *runs, tag=tag)


def test_segments(files):
    train_whole(files)
    run = files.folder / "runs/w2_s0"
    assert sorted(p.name for p in run.rglob("*") if p.is_file()) == [
        *("e0.safetensors", "e1.safetensors", "e3.safetensors", "e6.safetensors"),
        *("history.parquet", "run.json", "state_e6.safetensors"),
    ]
    history = read_table(run / "history.parquet").to_pandas()
    assert history["epoch"].tolist() == list(range(7))
    assert history["test_error"].notna().tolist() == [True, True, True, True, True, False, True]
    snapshot, metadata = load_tensors(run / "snapshots/e6.safetensors")
    assert (metadata["width"], metadata["seed"], metadata["epoch"]) == ("2", "0", "6")
    state, _ = load_tensors(run / "state_e6.safetensors")
    for name, weights in snapshot.items():
        assert torch.equal(weights, state[f"network/{name}"])
    receipt = json.loads(files.receipt(6).read_text())
    assert receipt == {"epoch": 6, "runs": ["w2_s0"]}


def test_segments_and_packs_do_not_change_the_result(files):
    train_whole(files, "w1_s0", "w2_s0", "w2_s1")
    Files(files.folder, tiny_study(segments=[]))
    for name in ("w1_s0", "w2_s0", "w2_s1"):
        files.train(6, name, tag="-alone")
    assert contents(files.folder / "runs") == contents(files.folder / "runs-alone")


def test_a_run_that_fails_leaves_the_others_alone(files, monkeypatch, capsys):
    original = engine.train

    def train(run, *arguments, seed, **keywords):
        if seed == 1:
            raise UserError("the training has diverged")
        return original(run, *arguments, seed=seed, **keywords)

    monkeypatch.setattr("smoothdescent.training.command.train", train)
    with pytest.raises(SystemExit):
        files.train(2, "w2_s0", "w2_s1", "w2_s2")
    assert "error: w2_s1: the training has diverged" in capsys.readouterr().err
    assert not files.receipt(2).exists()
    for name, trained in (("w2_s0", True), ("w2_s1", False), ("w2_s2", True)):
        assert (files.folder / f"runs/{name}/state_e2.safetensors").exists() == trained


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
    assert "; saved, the same command" in capsys.readouterr().err
    assert not list((files.folder / "runs/w2_s0").glob("state*"))
    assert not files.receipt(2).exists()
    files.train(2)
    assert "resumed from" in capsys.readouterr().err
    assert contents(files.folder / "runs") == contents(files.folder / "runs-whole")


def test_usr1_saves_and_goes_on(files, monkeypatch):
    saved = []
    original = RunFolder.save_progress
    monkeypatch.setattr(
        RunFolder,
        "save_progress",
        lambda self, run: (saved.append(run.step), original(self, run)),
    )
    monkeypatch.setattr(
        "smoothdescent.training.command.train", Interrupt(3, signal.SIGUSR1)(engine.train)
    )
    files.train(2)
    assert saved == [3]


def forbid_training(monkeypatch):
    monkeypatch.setattr(engine, "_train_epoch", lambda *_: pytest.fail("trained again"))


def test_what_is_trained_is_not_trained_again(files, monkeypatch):
    train_whole(files)
    before = contents(files.folder / "runs")
    forbid_training(monkeypatch)
    files.receipt(4).unlink()
    train_whole(files)
    assert files.receipt(4).exists()
    assert contents(files.folder / "runs") == before


def test_fewer_epochs_and_other_segments_cost_nothing(files, monkeypatch):
    train_whole(files)
    before = contents(files.folder / "runs")
    forbid_training(monkeypatch)
    (files.folder / "runs/w2_s0/history.parquet").unlink()
    Files(files.folder, tiny_study(epochs=3, segments=[1], snapshots=[1]))
    files.train(1)
    files.train(3)
    assert contents(files.folder / "runs") == before


def test_a_snapshot_that_was_not_kept_is_trained_for_again(files, monkeypatch, capsys):
    train_whole(files)
    before = contents(files.folder / "runs")
    Files(files.folder, tiny_study(snapshots=[0, 1, 2, 3, 5]))
    train_whole(files)
    assert "snapshots/e2.safetensors does not exist" in capsys.readouterr().err
    after = contents(files.folder / "runs")
    assert after.keys() - before.keys() == {
        f"w2_s0/snapshots/e{epoch}.safetensors" for epoch in (2, 5)
    }
    assert all(after[name] == before[name] for name in before if "snapshots" in name)
    forbid_training(monkeypatch)
    train_whole(files)


def test_work_of_other_settings_is_kept_aside_and_comes_back(files, capsys, monkeypatch):
    files.train(2)
    before = contents(files.folder / "runs")
    Files(files.folder, tiny_study(batch_size=20))
    files.train(2)
    assert "was trained with other settings; it is kept as" in capsys.readouterr().err
    files.train(2, tag="-fresh")
    run = "runs/w2_s0"
    assert contents(files.folder / run) == contents(files.folder / "runs-fresh/w2_s0")
    Files(files.folder, tiny_study())
    forbid_training(monkeypatch)
    files.train(2)
    assert "comes back" in capsys.readouterr().err
    after = contents(files.folder / "runs")
    assert {name: after[name] for name in before} == before
    assert len([path for path in (files.folder / "runs").iterdir() if path.is_dir()]) == 2


def test_the_log_of_a_run_has_all_its_jobs(files, monkeypatch):
    files.train(2)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    files.train(4)
    first, second = (files.folder / "runs/w2_s0.log").read_text().split("SLURM job 17, ")
    assert f"process {os.getpid()} on host" in first and "epoch 1:" in first
    assert f"process {os.getpid()} on host" in second and "resumed from" in second


@pytest.mark.parametrize("damage", ["state_e2", "snapshots/e1"])
def test_damaged_work_is_not_used(files, capsys, damage):
    files.train(2)
    before = contents(files.folder / "runs")
    path = files.folder / f"runs/w2_s0/{damage}.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    files.train(2)
    assert "is not used" in capsys.readouterr().err
    assert contents(files.folder / "runs") == before


def test_work_in_progress_of_other_code_is_not_used(files, monkeypatch, capsys):
    """The state at the end of the last segment is."""
    files.train(2)
    with monkeypatch.context() as patch:
        interrupted = Interrupt(3, signal.SIGTERM)(engine.train)
        patch.setattr("smoothdescent.training.command.train", interrupted)
        with pytest.raises(SystemExit):
            files.train(4)
    capsys.readouterr()
    monkeypatch.setattr("smoothdescent.training.command._code", lambda network: "other")
    files.train(4)
    log = capsys.readouterr().err
    assert "autosave.safetensors is not used: the code" in log
    assert "resumed from" in log and "state_e2.safetensors after epoch 2, step 0" in log


# The training command with a lease that beats and ages faster.
HURRIED = """
import sys
from smoothdescent import lease
timing = lease.Timing(beat=0.2, stale=2.0, check=0.1, pause=0.3, poll=0.1)
lease.Lease.__init__.__defaults__ = (WAIT, lambda: None, timing)
from smoothdescent.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_two_trainings_of_one_run(tmp_path):
    """The second waits, and ends with a sentence that names the first, which is undisturbed."""
    files = Files(tmp_path, tiny_study(epochs=4000, segments=[], snapshots=[]))
    words = [str(word) for word in files.train_arguments(4000)]
    command = [sys.executable, "-c", HURRIED.replace("WAIT", "1.0"), *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        lease = files.folder / "runs/w2_s0.lease"
        deadline = time.monotonic() + 60
        while not lease.exists():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"runs/w2_s0 is in use by process {first.pid} on host" in second.stderr
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        assert "stopped by SIGTERM" in first.communicate(timeout=60)[1]
    assert not lease.exists()


@pytest.mark.slow
def test_a_training_that_slept_is_deposed_and_stops(tmp_path):
    """Its twin took the run over; the twin's files are what an undisturbed training writes."""
    files = Files(tmp_path, tiny_study(epochs=300, segments=[], snapshots=[0]))
    words = [str(word) for word in files.train_arguments(300)]
    elsewhere = HURRIED.replace("WAIT", "60").replace("main(sys", "lease._machine = str\nmain(sys")
    command = [sys.executable, "-c", elsewhere]
    with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True) as first:
        begun = files.folder / "runs/w2_s0/snapshots/e0.safetensors"
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert second.returncode == 0, second.stderr
        assert "was abandoned by process" in second.stderr
        after = contents(files.folder / "runs")
        first.send_signal(signal.SIGCONT)
        assert "leaves the run as it is" in first.communicate(timeout=60)[1]
        assert first.returncode == 2
    assert contents(files.folder / "runs") == after
    files.train(300, tag="-whole")
    assert after == contents(files.folder / "runs-whole")


@pytest.mark.parametrize("run", ["w2", "w2s0", "w_s0", "w2_s0x"])
def test_a_name_that_is_no_run(files, capsys, run):
    with pytest.raises(SystemExit):
        files.train(2, run)
    assert f"{run!r} is no run; expected w{{width}}_s{{seed}}" in capsys.readouterr().err


def test_an_epoch_that_ends_no_segment(files, capsys):
    with pytest.raises(SystemExit):
        files.train(3)
    assert "--until is 3, expected the end of a segment" in capsys.readouterr().err


def test_a_full_disk(files, small_disk, capsys):
    """The training says so and stops; with space again, it goes on from what is saved."""
    run = files.folder / "runs"
    run.symlink_to(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(100_000))
    with pytest.raises(SystemExit) as stopped:
        files.train(2)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("smoothdescent: error: w2_s0: cannot write ")
    assert "the disk is full" in error
    assert not list(run.rglob("state*")) and not list(run.rglob("history*"))
    filler.unlink()
    files.train(2)
    assert (run / "w2_s0/history.parquet").exists()


def test_side_by_side_as_one_after_the_other(tmp_path):
    study = tiny_study(seeds=[0, 1], widths=[2, 3])
    runs = ["w2_s0", "w2_s1", "w3_s0", "w3_s1"]
    Files(tmp_path, study).train(2, *runs)
    files = Files(tmp_path, study.model_copy(update={"runs_at_once": 3}))
    files.train(2, *runs, tag="-aside")
    assert contents(tmp_path / "runs") == contents(tmp_path / "runs-aside")
    for run in runs:
        log = (tmp_path / f"runs-aside/{run}.log").read_text()
        assert f"{run} epoch 2" in log
        assert not any(other in log for other in runs if other != run)


@pytest.mark.slow
def test_a_signal_stops_all_that_run_side_by_side(tmp_path):
    study = tiny_study(epochs=400, segments=[], snapshots=[0], seeds=[0, 1, 2])
    files = Files(tmp_path, study.model_copy(update={"runs_at_once": 2}))
    runs = ["w2_s0", "w2_s1", "w2_s2"]
    process = subprocess.Popen(files.command(400, *runs), stderr=subprocess.PIPE, text=True)
    started = [tmp_path / f"runs/{run}/snapshots/e0.safetensors" for run in runs[:2]]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in started):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, printed
    for run in runs[:2]:
        assert (tmp_path / f"runs/{run}/autosave.safetensors").exists()
        assert "stopped by SIGTERM" in (tmp_path / f"runs/{run}.log").read_text()
    assert not (tmp_path / "runs/w2_s2").exists()
    assert not list(tmp_path.glob("runs/*.lease"))
    files.train(400, *runs)
    whole = Files(tmp_path, study)
    whole.train(400, *runs, tag="-whole")
    assert contents(tmp_path / "runs") == contents(tmp_path / "runs-whole")


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
        saved = files.folder / "runs/w2_s0/autosave.safetensors"
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
    assert "resumed from" in log and "not used" not in log
    assert contents(files.folder / "runs") == contents(files.folder / "runs-whole")


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
    with Lease(tmp_path / "a") as lease:
        stop_a_loop(run, RunFolder(tmp_path / "a", {}, "conditions", lease))


def stop_a_loop(run, folder):
    request = StopRequest()
    listener, other = request.listener(), request.listener()
    folder.save_if_due(run, listener, minutes=100)
    assert not folder.autosave.exists()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(Stopped, match="SIGTERM"):
        folder.save_if_due(run, listener, minutes=100)
    for told in (other, request.listener()):
        with pytest.raises(Stopped, match="SIGTERM"):
            told.obey()
    assert folder.autosave.exists()


def test_user_error_is_what_other_files_raise(files):
    from smoothdescent.training.run import new_run

    experiment = tiny_study().experiments[NAME]
    run = new_run(
        experiment, width=2, seed=0, num_classes=10, image_size=8, device=torch.device("cpu")
    )
    with pytest.raises(UserError, match="is not a training state"):
        run.load(files.data)
