"""The training step, which a GPU takes from a captured graph, against plain arithmetic."""

import copy
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
import torch
from networks.references import plain_convnet
from torch.nn import functional
from training.tiny import NAME, tiny_study

from smoothdescent.devices import prepare_training
from smoothdescent.networks.weights import load_tensors
from smoothdescent.training import step as step_module
from smoothdescent.training.augmentation import crop, draw_crops, pad
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import train
from smoothdescent.training.run import LAYOUTS, new_run
from smoothdescent.training.step import WARM_UP, Step, fastest_kernels, own_stream

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SHIFT = 2


def data_on(device, samples=50):
    draw = torch.Generator().manual_seed(0)
    data = TrainingData(
        images=torch.randn(samples, 8, 8, 3, generator=draw),
        labels=torch.randint(10, (samples,), generator=draw),
        is_noisy=torch.zeros(samples, dtype=torch.bool),
        sample_ids=torch.arange(samples),
        test_images=torch.randn(20, 8, 8, 3, generator=draw),
        test_labels=torch.randint(10, (20,), generator=draw),
        corrupted_classes=None,
    )
    moved = {
        field.name: value.to(device)
        for field in fields(data)
        if (value := getattr(data, field.name)) is not None
    }
    return replace(data, **moved, padded=pad(moved["images"], SHIFT, torch.zeros(3).to(device)))


def start(experiment, device, width=2):
    return new_run(
        experiment, width=width, seed=0, num_classes=10, image_size=8, device=torch.device(device)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augmented", [False, True])
def test_steps_of_changing_size_and_rate(device, augmented):
    """As many steps as a graph is replayed in, with what it reads changed before each."""
    changes = {"augmentation": {"shift": SHIFT, "flip": True}} if augmented else {}
    experiment = tiny_study(**changes).experiments[NAME]
    data, run = data_on(device), start(experiment, device)
    network = copy.deepcopy(run.network)
    plain = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, foreach=False)
    losses = 0.0
    with own_stream(torch.device(device)):
        step = Step(run, data, experiment)
        for number in range(4 * WARM_UP):
            if number % WARM_UP == 0:
                epoch = number // WARM_UP
                step.start_epoch(7, epoch)
                crops = draw_crops(7, epoch, data.sample_ids, shift=SHIFT, flip=True)
            size, rate = (16, 7)[number % 2], 0.01 * (1 + number)
            batch = torch.randperm(50)[:size].to(device)
            step(batch, rate)
            images = crop(data.padded, batch, crops, SHIFT) if augmented else data.images[batch]
            loss = functional.cross_entropy(
                plain_convnet(network, images.permute(0, 3, 1, 2)), data.labels[batch]
            )
            plain.param_groups[0]["lr"] = rate
            plain.zero_grad()
            loss.backward()
            plain.step()
            losses += loss.item() * size
    for ours, theirs in zip(run.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert run.running[0].item() == pytest.approx(losses, rel=1e-4)
    assert bool(step._graphs) == (device == "cuda")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("network", ["convnet", "resnet18"])
def test_a_run_that_is_loaded_goes_on(device, optimizer, network, tmp_path):
    settings = {"name": optimizer, "learning_rate": 0.01}
    experiment = tiny_study(optimizer=settings, network=network).experiments[NAME]
    data = data_on(device)
    whole, first, second = (start(experiment, device) for _ in range(3))
    train(whole, data, experiment, seed=0, until=4, evaluate_at=set())
    train(first, data, experiment, seed=0, until=2, evaluate_at=set())
    first.save(tmp_path / "state.safetensors", {})
    second.load("state", *load_tensors(tmp_path / "state.safetensors"))
    train(second, data, experiment, seed=0, until=4, evaluate_at=set())
    tolerance = 0 if device == "cpu" else 1e-4
    for one, other in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert len(second.history) == 5


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_near_and_evaluated_in_full(device):
    data = data_on(device)
    runs = {}
    for precision in ("float32", "tf32", "bfloat16"):
        experiment = tiny_study(precision=precision).experiments[NAME]
        runs[precision] = start(experiment, device, width=9)
        train(runs[precision], data, experiment, seed=0, until=2, evaluate_at={1})
        assert {p.dtype for p in runs[precision].network.parameters()} == {torch.float32}
    full, tf32, half = ([row["train_loss"] for row in run.history[1:]] for run in runs.values())
    assert half == pytest.approx(full, rel=1e-2) and half != full
    assert tf32 == (full if device == "cpu" else pytest.approx(full, rel=1e-3))
    untrained = [run.history[0]["train_loss_all"] for run in runs.values()]
    assert untrained == [untrained[0]] * 3


def test_runs_side_by_side_keep_to_their_precision(monkeypatch):
    """Every step of three runs in TF32, every evaluation in full float32."""
    monkeypatch.setattr(step_module, "precision_in_force", lambda precision, device: precision)
    experiment = tiny_study(precision="tf32", network="training.networks:plain", evaluate_every=1)
    experiment, data = experiment.experiments[NAME], data_on("cpu")
    seen = Counter()

    def look(network, _):
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        seen[network.training, tf32] += 1
        time.sleep(0)  # lets another run go on

    def work(run):
        train(run, data, experiment, seed=0, until=12, evaluate_at=set())

    prepare_training(torch.device("cpu"), torch.get_num_threads())
    runs = [start(experiment, "cpu") for _ in range(3)]
    for run in runs:
        run.network.register_forward_pre_hook(look)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, runs))
    assert seen == {(True, (True, True)): 3 * 12 * 4, (False, (False, False)): 3 * 13 * 2}
    assert not torch.backends.cudnn.allow_tf32


class FailingCapture:
    """In place of `torch.cuda.graph`, which raises once more where a capture has failed."""

    def __init__(self, *arguments, **keywords):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *error):
        raise RuntimeError("operation failed due to a previous error during capture")


def test_a_step_that_cannot_be_captured_says_why_and_trains_on(monkeypatch, capsys, one_thread):
    """On a machine without CUDA, what captures is a stand-in."""
    monkeypatch.setattr(Step, "capturing", True)
    monkeypatch.setattr(
        Step, "_can_capture", lambda step, size: Step.capturing and step._eager_steps[size] >= 2
    )
    monkeypatch.setattr(torch.cuda, "graph", FailingCapture)
    for name in ("CUDAGraph", "graph_pool_handle", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: name)
    ended = []
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *pool: ended.append(pool))
    experiment = tiny_study(
        network="training.networks:plain", optimizer={"name": "adam", "learning_rate": 0.01}
    ).experiments[NAME]
    data = data_on("cpu")
    expected, run, other = (start(experiment, "cpu") for _ in range(3))
    passes = Counter()

    def reads_back(network, _):
        passes[network.training] += 1
        if passes[True] == 3:
            raise ValueError("item() during capture")

    run.network.register_forward_pre_hook(reads_back)
    for each in (run, other, expected):
        train(each, data, experiment, seed=0, until=2, evaluate_at=set())
    printed = capsys.readouterr().err
    assert printed.count("cannot be captured") == 1
    assert "ValueError: item() during capture" in printed
    assert ended == [(None, "graph_pool_handle")]  # no memory is taken from it any more
    for ours, theirs in zip(run.network.parameters(), expected.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(group["capturable"] for group in run.optimizer.param_groups)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_state_is_loaded_into_the_tensors_that_a_step_uses(optimizer, tmp_path, one_thread):
    settings = {"name": optimizer, "learning_rate": 0.01}
    experiment = tiny_study(
        optimizer=settings, network="training.networks:plain", epochs=9
    ).experiments[NAME]
    data, run = data_on("cpu"), start(experiment, "cpu")
    run.save(tmp_path / "start.safetensors", {})
    step = Step(run, data, experiment)

    def advance(until):
        train(run, data, experiment, seed=0, until=until, evaluate_at=set(), step=step)
        return [tensor.clone() for tensor in run.network.state_dict().values()]

    def places():
        buffers = [v for state in run.optimizer.state.values() for v in state.values()]
        return [t.data_ptr() for t in [*run.network.parameters(), *buffers, run.running]]

    advance(1)
    run.save(tmp_path / "state.safetensors", {})
    before, expected = places(), advance(3)
    run.load("state", *load_tensors(tmp_path / "state.safetensors"))
    assert places() == before and run.epoch == 1
    assert all(map(torch.equal, advance(3), expected))
    run.load("state", *load_tensors(tmp_path / "start.safetensors"))  # which has no buffers
    assert places() == before and run.epoch == 0
    assert all(map(torch.equal, advance(3), expected))


# Too wide for compiled kernels.
@pytest.mark.parametrize(("network", "width"), [("convnet", 33), ("resnet18", 13)])
def test_memory_layouts_train_the_same(network, width, tmp_path, one_thread):
    """On a GPU the faster one is chosen; a state is laid out as its run was."""
    experiment = tiny_study(network=network).experiments[NAME]
    # Whole batches: layouts disagree on the gradients of a batch norm of two values.
    data, runs = data_on("cpu", samples=48), {}
    for layout, memory_format in LAYOUTS.items():
        run = runs[layout] = start(experiment, "cpu", width=width)
        run.lay_out(layout)
        train(run, data, experiment, seed=0, until=1, evaluate_at=set())
        run.save(tmp_path / "state.safetensors", {})
        again = start(experiment, "cpu", width=width)
        again.load("state", *load_tensors(tmp_path / "state.safetensors"))
        again.lay_out(layout)
        for each in (run, again):
            train(each, data, experiment, seed=0, until=2, evaluate_at=set())
        for one, other in zip(run.network.parameters(), again.network.parameters(), strict=True):
            assert torch.equal(one, other)
            if one.ndim == 4:
                buffers = [v for v in again.optimizer.state[other].values() if v.ndim == 4]
                assert all(t.is_contiguous(memory_format=memory_format) for t in [other, *buffers])
    losses = [[row["train_loss"] for row in run.history[1:]] for run in runs.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_the_fastest_kernels_are_found_once(monkeypatch, tmp_path):
    cache = pytest.importorskip("smoothdescent.kernels.cache")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    sizes = {"width": 2, "num_classes": 10, "image_size": 8}
    names = [f"torch, {layout}" for layout in LAYOUTS]
    found = []
    for changes in ({}, {"precision": "bfloat16"}):
        experiment = tiny_study(network="training.networks:plain", **changes).experiments[NAME]
        found.append(fastest_kernels(names, data_on("cpu"), experiment, **sizes))
        with monkeypatch.context() as context:
            context.setattr(step_module, "new_run", None)  # nothing is timed again
            assert fastest_kernels(names, data_on("cpu"), experiment, **sizes) == found[-1]
    assert {*found} <= {*names} and len(list(tmp_path.iterdir())) == 2
