"""The training step, which a GPU takes from a captured graph, against plain arithmetic."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from networks.references import plain_convnet
from torch.nn import functional
from training.tiny import NAME, tiny_study

from smoothdescent.networks.weights import load_tensors
from smoothdescent.training.augmentation import crop, draw_crops, pad
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import train
from smoothdescent.training.run import new_run
from smoothdescent.training.step import WARM_UP, Step, own_stream

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]
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
