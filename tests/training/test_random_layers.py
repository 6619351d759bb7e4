"""Networks that draw while they train: repeated, resumed and side by side, bit for bit."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from training.test_step import data_on
from training.tiny import NAME, tiny_study

from smoothdescent.networks.weights import load_tensors
from smoothdescent.training.engine import train
from smoothdescent.training.run import new_run

CPU = torch.device("cpu")
DRAWING = ["dropout", "depth_torch", "depth_python", "depth_numpy"]


@pytest.fixture
def experiment(request):
    return tiny_study(network=f"training.networks:{request.param}").experiments[NAME]


def start(experiment, seed=0):
    return new_run(experiment, width=1, seed=seed, num_classes=10, image_size=8, device=CPU)


def weights(run):
    return torch.cat([tensor.flatten() for tensor in run.network.state_dict().values()])


class Killed(Exception):
    pass


def trained(experiment, seed=0, stop=None, path=None):
    """Train 3 epochs of 4 steps; stop before a step, save, and resume in a new run."""
    run, steps = start(experiment, seed), 0

    def on_step(_):
        nonlocal steps
        steps += 1
        if steps == stop:
            run.save(path, {})
            raise Killed

    settings = {"seed": seed, "until": 3, "evaluate_at": set()}
    try:
        train(run, data_on("cpu"), experiment, on_step=on_step, **settings)
    except Killed:
        torch.rand(5), random.random(), np.random.rand()  # another process has other generators
        run = start(experiment, seed)
        run.load(path, *load_tensors(path))
        train(run, data_on("cpu"), experiment, **settings)
    return weights(run)


@pytest.mark.parametrize("experiment", DRAWING, indirect=True)
def test_repeated_and_resumed(experiment, tmp_path):
    whole = trained(experiment)
    torch.manual_seed(123)
    assert torch.equal(trained(experiment), whole)
    for stop in (1, 6, 8):
        assert torch.equal(trained(experiment, stop=stop, path=tmp_path / "state"), whole)
    assert not torch.equal(trained(experiment, seed=1), whole)


@pytest.mark.parametrize("experiment", DRAWING, indirect=True)
def test_side_by_side(experiment):
    alone = [trained(experiment, seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda seed: trained(experiment, seed), range(3)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("experiment", DRAWING, indirect=True)
def test_every_step_draws_anew_and_the_callers_generators_are_left_alone(experiment):
    run, drawn = start(experiment), []
    layer = run.network[4] if hasattr(run.network, "__getitem__") else run.network.second

    def note(layer, _, output):
        if layer.training:
            drawn.append(tuple((output == 0).flatten().tolist()))

    layer.register_forward_hook(note)
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    train(run, data_on("cpu"), experiment, seed=0, until=4, evaluate_at={0})
    assert random.getstate() == generators[0]
    assert np.random.get_state()[1].tolist() == generators[1]
    assert torch.equal(torch.get_rng_state(), generators[2])
    if isinstance(layer, nn.Dropout):
        assert len(set(drawn)) == 16
    else:
        assert 0 < len(drawn) < 16


@pytest.mark.parametrize("experiment", ["plain"], indirect=True)
def test_a_network_that_does_not_draw_is_seeded_once_an_epoch(experiment, monkeypatch):
    from smoothdescent.training import step

    seeds, original = [], step.global_generators
    monkeypatch.setattr(
        step, "global_generators", lambda seed, device: seeds.append(seed) or original(seed, device)
    )
    train(start(experiment), data_on("cpu"), experiment, seed=0, until=3, evaluate_at=set())
    assert len(seeds) == len(set(seeds)) == 3
