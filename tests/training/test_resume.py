"""A run is bit-identical whether or not a signal, a kill or a missing file interrupted it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import torch
from training.test_measure_runs import MEASURE, measure
from training.tiny import NAME, Files, Interrupt, contents, tiny_study

from smoothdescent.cli import main
from smoothdescent.errors import UserError
from smoothdescent.files import read_metadata, read_table
from smoothdescent.lease import Lease
from smoothdescent.networks.weights import load_tensors, read_weights_metadata, save_tensors
from smoothdescent.training import engine, trainer
from smoothdescent.training.folder import RunFolder, Stopped, StopRequest
from smoothdescent.training.run import new_run


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


EPOCHS = (0, 1, 3, 6)  # whose snapshots are kept


def snapshots(epochs=EPOCHS):
    return [f"snapshots/e{epoch}.safetensors" for epoch in epochs]


def test_products(files):
    files.train()
    run = files.folder / "runs/w2_s0"
    assert sorted(contents(run)) == sorted(
        [*snapshots(), "history.parquet", "run.json", "state.safetensors"]
    )
    history = read_table(run / "history.parquet").to_pandas()
    assert history["epoch"].tolist() == list(range(7))
    assert history["test_error"].notna().tolist() == [True, True, True, True, True, False, True]
    snapshot, metadata = load_tensors(run / "snapshots/e6.safetensors")
    assert (metadata["width"], metadata["seed"], metadata["epoch"]) == ("2", "0", "6")
    state, _ = load_tensors(run / "state.safetensors")
    for name, weights in snapshot.items():
        assert torch.equal(weights, state[f"network/{name}"])


def test_more_epochs_and_other_packings_do_not_change_the_result(files):
    """Trained in three steps, three runs a job, and in one step, one run a job."""
    for epochs in (2, 4, 6):
        kept = [epoch for epoch in (0, 1, 3) if epoch < epochs]
        longer = Files(files.folder, tiny_study(epochs=epochs, snapshots=kept))
        longer.train("w1_s0", "w2_s0", "w2_s1")
    for name in ("w1_s0", "w2_s0", "w2_s1"):
        files.train(name, tag="-alone")
        steps, alone = (contents(files.folder / f"runs{tag}" / name) for tag in ("", "-alone"))
        for product in (*snapshots(), "history.parquet", "run.json"):
            assert steps[product] == alone[product], product
        # What was the end of a training for some time is kept, although nobody asks for it.
        assert steps.keys() - alone.keys() == {f"snapshots/e{e}.safetensors" for e in (2, 4)}


def test_a_run_that_fails_leaves_the_others_alone(files, monkeypatch, capsys):
    original = engine.train

    def train(run, *arguments, seed, **keywords):
        if seed == 1:
            raise UserError("the training has diverged")
        return original(run, *arguments, seed=seed, **keywords)

    monkeypatch.setattr("smoothdescent.training.trainer.train", train)
    with pytest.raises(SystemExit):
        files.train("w2_s0", "w2_s1", "w2_s2")
    assert "error: w2_s1: the training has diverged" in capsys.readouterr().err
    for name, trained in (("w2_s0", True), ("w2_s1", False), ("w2_s2", True)):
        assert (files.folder / f"runs/{name}/history.parquet").exists() == trained


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("steps", [1, 7, 8, 42])
def test_a_signal_saves_and_stops_and_the_same_command_resumes(
    files, monkeypatch, capsys, steps, number
):
    # 100 samples in batches of 16 are 7 steps an epoch: the first, a last one, the next, the end.
    files.train(tag="-whole")
    with monkeypatch.context() as patch:
        interrupted = Interrupt(steps, number)(engine.train)
        patch.setattr("smoothdescent.training.trainer.train", interrupted)
        with pytest.raises(SystemExit) as stopped:
            files.train()
    assert stopped.value.code == 128 + number
    assert "; saved, the same command" in capsys.readouterr().err
    assert not (files.folder / "runs/w2_s0/history.parquet").exists()
    files.train()
    assert "resumed from" in capsys.readouterr().err
    assert contents(files.folder / "runs") == contents(files.folder / "runs-whole")


def test_usr1_saves_and_goes_on(files, monkeypatch):
    saved = []
    original = RunFolder.save_state

    def save(self, run, path, finished=False):
        saved.append((run.step, finished))
        original(self, run, path, finished)

    monkeypatch.setattr(RunFolder, "save_state", save)
    monkeypatch.setattr(
        "smoothdescent.training.trainer.train", Interrupt(3, signal.SIGUSR1)(engine.train)
    )
    files.train()
    assert saved == [(3, False), (0, True)]


def count_epochs(monkeypatch):
    """Return a list that gets each epoch that is trained."""
    trained = []
    original = engine._train_epoch

    def counted(run, *arguments):
        trained.append(run.epoch + 1)
        original(run, *arguments)

    monkeypatch.setattr(engine, "_train_epoch", counted)
    return trained


def test_finished_work_is_not_repeated(files, monkeypatch):
    files.train()
    before = contents(files.folder / "runs")
    trained = count_epochs(monkeypatch)
    files.train()
    assert trained == [] and contents(files.folder / "runs") == before


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content, position = bytearray(path.read_bytes()), -20
    if path.suffix == ".parquet":
        column = pq.read_metadata(path).row_group(0).column(5)
        start = column.dictionary_page_offset or column.data_page_offset
        position = start + column.total_compressed_size - 1
    content[position] ^= 1
    path.write_bytes(bytes(content))


def replace(path):
    """Put another epoch's snapshot, or another run's history, in the place of a product."""
    other = path.parents[2] / "w2_s1" / "snapshots" / path.name
    if path.name == "history.parquet":
        other = path.parents[1] / "w2_s1" / path.name
    shutil.copy(other, path)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), truncate, flip, replace])
@pytest.mark.parametrize(
    ("product", "epochs"),
    # The weights of the last epoch are in the state; those of others are trained for again.
    [("snapshots/e1", [1]), ("snapshots/e3", [1, 2, 3]), ("snapshots/e6", []), ("history", [])],
)
def test_products_are_made_again(files, monkeypatch, capsys, damage, product, epochs):
    files.train("w2_s0", "w2_s1")
    before = contents(files.folder / "runs")
    [path] = (files.folder / "runs/w2_s0").glob(f"{product}.*")
    damage(path)
    there = path.exists()
    trained = count_epochs(monkeypatch)
    files.train()
    assert trained == epochs
    after = contents(files.folder / "runs")
    kept = {name: after.pop(name) for name in list(after) if name.endswith(".unusable")}
    assert after == before
    assert len(kept) == there
    assert ("it is kept as" in capsys.readouterr().err) == there or product == "history"


def test_kernels_are_timed_for_a_run_that_begins_alone(files, monkeypatch):
    """With a stand-in for what a GPU does then."""
    begun = []
    monkeypatch.setattr(trainer, "choose_kernels", lambda run, *_, **sizes: begun.append(run.epoch))
    files.train()
    assert begun == [0]
    files.train()  # is finished
    (files.folder / "runs/w2_s0/snapshots/e1.safetensors").unlink()
    files.train()  # trains again from the beginning, as the run did
    assert begun == [0]
    (files.folder / "runs/w2_s0/state.safetensors").unlink()
    (files.folder / "runs/w2_s0/history.parquet").unlink()
    files.train()
    assert begun == [0, 0]


def test_a_run_without_state_is_trained_anew_and_keeps_its_products(files, monkeypatch):
    files.train()
    before = contents(files.folder / "runs")
    for name in ("state.safetensors", "history.parquet"):
        (files.folder / "runs/w2_s0" / name).unlink()
    trained = count_epochs(monkeypatch)
    files.train()
    assert trained == [1, 2, 3, 4, 5, 6]
    assert contents(files.folder / "runs") == before


def test_training_again_is_deleting_the_folder(files, monkeypatch):
    files.train()
    before = contents(files.folder / "runs")
    shutil.rmtree(files.folder / "runs/w2_s0")
    trained = count_epochs(monkeypatch)
    files.train()
    assert trained == [1, 2, 3, 4, 5, 6]
    assert contents(files.folder / "runs") == before


def test_more_epochs_resume(files, monkeypatch, capsys):
    files.train()
    trained = count_epochs(monkeypatch)
    longer = Files(files.folder, tiny_study(epochs=8))
    longer.train()
    assert trained == [7, 8]
    assert "state.safetensors after epoch 6, step 0" in capsys.readouterr().err
    longer.train(tag="-whole")
    run, whole = (contents(files.folder / f"runs{tag}/w2_s0") for tag in ("", "-whole"))
    assert {name: run[name] for name in whole} == whole


def test_fewer_epochs_train_for_the_new_end_alone(files, monkeypatch):
    files.train()
    before = contents(files.folder / "runs/w2_s0")
    trained = count_epochs(monkeypatch)
    shorter = Files(files.folder, tiny_study(epochs=3, snapshots=[1]))
    shorter.train()
    assert trained == [], "epoch 3 has a snapshot"
    after = contents(files.folder / "runs/w2_s0")
    assert {name for name in before if before[name] != after[name]} == {"history.parquet"}
    shorter.train(tag="-whole")
    whole = contents(files.folder / "runs-whole/w2_s0")
    assert after["history.parquet"] == whole["history.parquet"]


def test_a_snapshot_that_was_not_kept_is_trained_for_again(files, monkeypatch, capsys):
    files.train()
    before = contents(files.folder / "runs/w2_s0")
    more = Files(files.folder, tiny_study(snapshots=[0, 1, 2, 3, 5]))
    trained = count_epochs(monkeypatch)
    more.train()
    assert trained == [1, 2, 3, 4, 5]
    assert "products of epochs 2, 5 are missing; training again" in capsys.readouterr().err
    after = contents(files.folder / "runs/w2_s0")
    assert after.keys() - before.keys() == set(snapshots((2, 5)))
    assert all(after[name] == before[name] for name in before if name != "history.parquet")
    more.train(tag="-whole")
    whole = contents(files.folder / "runs-whole/w2_s0")
    assert after["history.parquet"] == whole["history.parquet"]


def test_a_replay_resumes_too(files, monkeypatch, capsys):
    files.train()
    before = contents(files.folder / "runs")
    (files.folder / "runs/w2_s0/snapshots/e3.safetensors").unlink()
    with monkeypatch.context() as patch:
        interrupted = Interrupt(12, signal.SIGTERM)(engine.train)
        patch.setattr("smoothdescent.training.trainer.train", interrupted)
        with pytest.raises(SystemExit):
            files.train()
    assert (files.folder / "runs/w2_s0/replay.safetensors").exists()
    capsys.readouterr()
    files.train()
    assert "replay.safetensors after epoch 1, step 5" in capsys.readouterr().err
    assert contents(files.folder / "runs") == before


def test_work_of_other_settings_is_kept_aside_and_comes_back(files, capsys, monkeypatch):
    files.train()
    before = contents(files.folder / "runs")
    other = Files(files.folder, tiny_study(batch_size=20))
    other.train()
    assert "was trained with other settings; it is kept as" in capsys.readouterr().err
    other.train(tag="-fresh")
    run = "runs/w2_s0"
    assert contents(files.folder / run) == contents(files.folder / "runs-fresh/w2_s0")
    trained = count_epochs(monkeypatch)
    files.train()
    assert "comes back" in capsys.readouterr().err and trained == []
    after = contents(files.folder / "runs")
    assert {name: after[name] for name in before} == before
    assert len([path for path in (files.folder / "runs").iterdir() if path.is_dir()]) == 2


def test_the_log_of_a_run_has_all_its_jobs(files, monkeypatch):
    files.train()
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    Files(files.folder, tiny_study(epochs=7)).train()
    first, second = (files.folder / "runs/w2_s0.log").read_text().split("SLURM job 17, ")
    assert f"process {os.getpid()} on host" in first and "epoch 1:" in first
    assert f"process {os.getpid()} on host" in second and "resumed from" in second


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_damaged_state_is_not_used(files, capsys, monkeypatch, damage):
    files.train()
    damage(files.folder / "runs/w2_s0/state.safetensors")
    longer = Files(files.folder, tiny_study(epochs=7))
    trained = count_epochs(monkeypatch)
    longer.train()
    assert trained == [1, 2, 3, 4, 5, 6, 7]
    assert "is not used" in capsys.readouterr().err
    longer.train(tag="-whole")
    run, whole = (contents(files.folder / f"runs{tag}/w2_s0") for tag in ("", "-whole"))
    assert {name: run[name] for name in whole} == whole


def test_a_state_of_another_run_changes_nothing(files, capsys):
    """It is refused before it has touched the network."""
    files.train("w2_s0", "w2_s1", tag="-whole")
    files.train("w2_s0", "w2_s1")
    run = files.folder / "runs/w2_s0"
    shutil.copy(files.folder / "runs/w2_s1/state.safetensors", run)
    (run / "history.parquet").unlink()
    files.train()
    assert "its seed is '1', expected '0'" in capsys.readouterr().err
    (run / "state.safetensors.unusable").unlink()  # it is kept
    assert contents(run) == contents(files.folder / "runs-whole/w2_s0")


def stop_in_epoch_2(files, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted = Interrupt(10, signal.SIGTERM)(engine.train)
        patch.setattr("smoothdescent.training.trainer.train", interrupted)
        with pytest.raises(SystemExit):
            files.train()


def test_work_in_progress_of_other_code_is_not_used(files, monkeypatch, capsys):
    """That of a finished training is, and the history says so."""
    stop_in_epoch_2(files, monkeypatch)
    capsys.readouterr()
    monkeypatch.setattr("smoothdescent.training.trainer.training_code", lambda: "other")
    original = engine.learning_rate
    monkeypatch.setattr(engine, "learning_rate", lambda *arguments: 2 * original(*arguments))
    files.train()
    assert "state.safetensors is not used: " in capsys.readouterr().err
    (files.folder / "runs/w2_s0/state.safetensors.unusable").unlink()
    files.train(tag="-whole")
    assert contents(files.folder / "runs") == contents(files.folder / "runs-whole")
    monkeypatch.setattr("smoothdescent.training.trainer.training_code", lambda: "newer")
    Files(files.folder, tiny_study(epochs=8)).train()
    conditions = conditions_of(files)
    assert [(c["from_epoch"], c["code"]) for c in conditions] == [(0, "other"), (6, "newer")]


def conditions_of(files):
    metadata = read_metadata(files.folder / "runs/w2_s0/history.parquet")
    return json.loads(metadata["conditions"])


def test_other_conditions_are_recorded(files, monkeypatch, capsys):
    """A training that resumes on another device loses nothing; its history says so."""
    stop_in_epoch_2(files, monkeypatch)
    capsys.readouterr()
    monkeypatch.setattr("smoothdescent.training.trainer.describe", lambda device: "another")
    files.train()
    log = capsys.readouterr().err
    assert "resumed from" in log and "device was cpu, is another" in log
    conditions = conditions_of(files)
    assert [(c["from_epoch"], c["device"]) for c in conditions] == [(0, "cpu"), (1, "another")]


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
    files = Files(tmp_path, tiny_study(epochs=1_000_000, snapshots=[]))
    words = [str(word) for word in files.train_arguments()]
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
    files = Files(tmp_path, tiny_study(epochs=300, snapshots=[0]))
    words = [str(word) for word in files.train_arguments()]
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
    files.train(tag="-whole")
    assert after == contents(files.folder / "runs-whole")


@pytest.mark.parametrize("run", ["w2", "w2s0", "w_s0", "w2_s0x"])
def test_what_is_not_a_run_name(files, capsys, run):
    with pytest.raises(SystemExit):
        files.train(run)
    assert f"{run!r} is not a run name; expected w{{width}}_s{{seed}}" in capsys.readouterr().err


def test_a_full_disk(files, small_disk, capsys):
    """The training says so and stops; with space again, it resumes from what is saved."""
    run = files.folder / "runs"
    run.symlink_to(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(100_000))
    with pytest.raises(SystemExit) as stopped:
        files.train()
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("smoothdescent: error: w2_s0: cannot write ")
    assert "the disk is full" in error
    assert not list(run.rglob("history*"))
    filler.unlink()
    files.train()
    assert (run / "w2_s0/history.parquet").exists()


def test_side_by_side_as_one_after_the_other(tmp_path, monkeypatch):
    study = tiny_study(seeds=[0, 1], widths=[2, 3])
    runs = ["w2_s0", "w2_s1", "w3_s0", "w3_s1"]
    files = Files(tmp_path, study)
    files.train(*runs)
    monkeypatch.setattr("smoothdescent.training.command.side_by_side", lambda device, runs: 3)
    files.train(*runs, tag="-aside")
    assert contents(tmp_path / "runs") == contents(tmp_path / "runs-aside")
    for run in runs:
        log = (tmp_path / f"runs-aside/{run}.log").read_text()
        assert f"{run} epoch 6" in log
        assert not any(other in log for other in runs if other != run)


ASIDE = """
import sys
from smoothdescent.training import command
command.side_by_side = lambda device, runs: 2
from smoothdescent.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_signal_stops_all_that_run_side_by_side(tmp_path):
    # Longer than any machine takes to see both begin; then they are trained to a nearer end.
    files = Files(tmp_path, tiny_study(epochs=1_000_000, snapshots=[0], seeds=[0, 1, 2]))
    runs = ["w2_s0", "w2_s1", "w2_s2"]
    words = [str(word) for word in files.train_arguments(*runs)]
    command = [sys.executable, "-c", ASIDE, *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    started = [tmp_path / f"runs/{run}/snapshots/e0.safetensors" for run in runs[:2]]
    wait_until(lambda: all(path.exists() for path in started), process)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, printed
    for run in runs[:2]:
        assert (tmp_path / f"runs/{run}/state.safetensors").exists()
        assert "stopped by SIGTERM" in (tmp_path / f"runs/{run}.log").read_text()
    assert not (tmp_path / "runs/w2_s2").exists()
    assert not list(tmp_path.glob("runs/*.lease"))
    end = 3 + max(position(tmp_path / f"runs/{run}/state.safetensors")["epoch"] for run in runs[:2])
    nearer = Files(tmp_path, tiny_study(epochs=end, snapshots=[0], seeds=[0, 1, 2]))
    nearer.train(*runs)
    nearer.train(*runs, tag="-whole")
    assert contents(tmp_path / "runs") == contents(tmp_path / "runs-whole")


def wait_until(happened, process):
    deadline = time.monotonic() + 300
    while not happened():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_kill_9_again_and_again(tmp_path):
    """A real process, killed without warning at many moments, ends with the same bytes."""
    endless = Files(tmp_path, tiny_study(epochs=1_000_000, snapshots=[0, 5, 11, 23]))
    saved = tmp_path / "runs/w2_s0/state.safetensors"
    log = ""
    for attempt in range(6):
        command = endless.command(autosave_minutes=0.2 / 60)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        before = position(saved)
        # Kill once the attempt has saved something new, at a moment that differs each time.
        wait_until(lambda: position(saved) != before, process)  # noqa: B023
        time.sleep(0.03 * attempt)
        process.kill()
        log += process.communicate()[1]
    assert log.count("resumed from") == 5 and "not used" not in log
    files = Files(tmp_path, tiny_study(epochs=position(saved)["epoch"] + 30, snapshots=[0, 5, 11]))
    subprocess.run(files.command(), check=True, capture_output=True)
    subprocess.run(files.command(tag="-whole"), check=True, capture_output=True)
    run, whole = (contents(tmp_path / f"runs{tag}/w2_s0") for tag in ("", "-whole"))
    assert {name: run[name] for name in whole} == whole
    assert run.keys() - whole.keys() <= {"snapshots/e23.safetensors"}


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
        stop_a_loop(run, RunFolder(tmp_path / "a", {}, {}, lease))


def stop_a_loop(run, folder):
    request = StopRequest()
    listener, other = request.listener(), request.listener()
    folder.save_if_due(run, folder.state, listener, minutes=100)
    assert not folder.state.exists()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    with pytest.raises(Stopped, match="SIGTERM"):
        folder.save_if_due(run, folder.state, listener, minutes=100)
    for told in (other, request.listener()):
        with pytest.raises(Stopped, match="SIGTERM"):
            told.obey()
    assert folder.state.exists()


def test_user_error_is_what_other_files_raise(files):
    from smoothdescent.training.run import new_run

    experiment = tiny_study().experiments[NAME]
    run = new_run(
        experiment, width=2, seed=0, num_classes=10, image_size=8, device=torch.device("cpu")
    )
    with pytest.raises(UserError, match="is not a training state"):
        run.load(files.data, *load_tensors(files.data))


def test_a_run_that_diverges_has_all_its_products(files, capsys, monkeypatch):
    """It is measured and gathered beside the others; its later checkpoints are marked."""
    fast = {"name": "sgd", "learning_rate": 900.0, "warmup_epochs": 0}
    wild = Files(files.folder, tiny_study(optimizer=fast, seeds=[0, 1], measure=MEASURE))
    wild.train("w2_s0", "w2_s1")
    assert "w2_s0 has diverged in epoch" in capsys.readouterr().err
    trained = count_epochs(monkeypatch)
    wild.train("w2_s0", "w2_s1")
    assert trained == []
    measure(wild, "w2_s0", "w2_s1")
    wild.gather()
    history, sharpness = (
        read_table(wild.gathered[name]).to_pandas() for name in ("history", "sharpness")
    )
    history, sharpness = (table[table["seed"] == 0] for table in (history, sharpness))
    assert history["warning"].str.contains("diverged in epoch").all()
    last = sharpness[sharpness["epoch"] == 6]
    assert last["diverged"].all() and last["jacobian_norm"].isna().all()
    assert sharpness.loc[sharpness["epoch"] == 0, "jacobian_norm"].notna().all()
    assert set(last["volume"]) == {0, 1, 2} and set(last["subset"]) == {"all", "clean", "noisy"}
    for command in (
        ["figure", "figure2", "--output", files.folder / "figure2"],
        ["verdict", *(f"--output-{k}={files.folder / k}" for k in ("parquet", "md", "html"))],
    ):
        main([str(word) for word in [*command, "--tables", files.folder]])
    text = (files.folder / "md").read_text()
    assert " with values that are not finite left out: w2_s0" in text


def another_runs(path):
    shutil.copy(path.parent.with_name("w2_s1") / path.name, path)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), flip, another_runs])
def test_a_folder_without_its_marker_is_known_by_its_files(files, monkeypatch, capsys, damage):
    """It resumes, and under other settings it is set aside as what it is."""
    files.train("w2_s0", "w2_s1")
    before = contents(files.folder / "runs")
    damage(files.folder / "runs/w2_s0/run.json")
    trained = count_epochs(monkeypatch)
    files.train()
    assert trained == [] and contents(files.folder / "runs") == before
    damage(files.folder / "runs/w2_s0/run.json")
    other = Files(files.folder, tiny_study(batch_size=20))
    other.train()
    other.train(tag="-fresh")
    runs = (contents(files.folder / f"runs{tag}/w2_s0") for tag in ("", "-fresh"))
    assert next(runs) == next(runs)
    trained.clear()
    files.train()
    assert trained == [] and "comes back" in capsys.readouterr().err


def test_weights_that_the_run_was_not_trained_to_are_set_aside(files, monkeypatch):
    """As of a snapshot of another time, whole and of this run: its history knows them."""
    files.train()
    before = contents(files.folder / "runs")
    path = files.folder / "runs/w2_s0/snapshots/e1.safetensors"
    tensors, metadata = load_tensors(path)
    save_tensors(path, {name: 2 * tensor for name, tensor in tensors.items()}, metadata)
    trained = count_epochs(monkeypatch)
    files.train()
    assert trained == [1]
    path.with_name("e1.safetensors.unusable").unlink()
    assert contents(files.folder / "runs") == before


def test_a_state_that_cannot_be_read_now_is_not_lost(files, capsys):
    """A file system's error is none of the file: the job fails, and nothing is set aside."""
    files.train()
    longer = Files(files.folder, tiny_study(epochs=8))
    state = files.folder / "runs/w2_s0/state.safetensors"
    state.rename(state.with_name("kept"))
    state.symlink_to("/proc/self/mem")  # reading it is an input/output error
    before = contents(files.folder / "runs" / "w2_s0" / "snapshots")
    with pytest.raises(SystemExit):
        longer.train()
    assert f"cannot use {state}: Input/output error" in capsys.readouterr().err
    assert state.is_symlink()
    assert contents(files.folder / "runs" / "w2_s0" / "snapshots") == before


def test_a_state_that_does_not_fit_changes_nothing(files):
    files.train("w2_s0")
    path = files.folder / "runs/w2_s0/state.safetensors"
    tensors, metadata = load_tensors(path)
    name = next(name for name in tensors if name.startswith("optimizer/"))
    tensors[name] = tensors[name][:1]
    sizes = {"num_classes": 10, "image_size": 8, "device": torch.device("cpu")}
    run = new_run(files.resolved.experiment, width=2, seed=1, **sizes)
    weights = {key: value.clone() for key, value in run.network.state_dict().items()}
    with pytest.raises(UserError, match=f"{name.removeprefix('optimizer/')} has the shape"):
        run.load(path, tensors, metadata)
    assert all(value.equal(weights[key]) for key, value in run.network.state_dict().items())
    assert (run.epoch, run.history) == (0, [])
