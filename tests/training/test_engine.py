"""The training loop against a plain one, and its schedule."""

import math
from dataclasses import replace

import pytest
import torch
from networks.references import plain_convnet
from torch.nn import functional
from training.tiny import NAME, tiny_study

from smoothdescent.networks.registry import build
from smoothdescent.randomness import derive_seed, generator
from smoothdescent.training.augmentation import crop, draw_crops, pad
from smoothdescent.training.data import TrainingData
from smoothdescent.training.engine import train
from smoothdescent.training.evaluation import evaluate
from smoothdescent.training.optimizers import SGD, Adam, learning_rate
from smoothdescent.training.run import new_run

CPU = torch.device("cpu")


def random_data(samples=50, classes=10, corrupted=None):
    draw = torch.Generator().manual_seed(0)
    return TrainingData(
        images=torch.randn(samples, 8, 8, 3, generator=draw),
        labels=torch.randint(classes, (samples,), generator=draw),
        is_noisy=torch.rand(samples, generator=draw) < 0.3,
        sample_ids=torch.arange(100, 100 + samples),
        test_images=torch.randn(31, 8, 8, 3, generator=draw),
        test_labels=torch.randint(classes, (31,), generator=draw),
        corrupted_classes=corrupted,
    )


def start(experiment, seed=0, width=2):
    return new_run(experiment, width=width, seed=seed, num_classes=10, image_size=8, device=CPU)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_loop_is_plain_training(optimizer):
    """The same weights as a loop written in the plainest way, in float32 rounding."""
    settings = {"sgd": {"learning_rate": 0.05, "warmup_epochs": 2}, "adam": {"learning_rate": 0.01}}
    settings = {"name": optimizer, **settings[optimizer]}
    study = tiny_study(optimizer=settings)
    experiment = study.experiments[NAME]
    assert experiment.optimizer.name == optimizer
    data, epochs = random_data(), 3
    run = start(experiment)
    train(run, data, experiment, seed=0, until=epochs, evaluate_at=set())

    torch.manual_seed(derive_seed(0, "initialisation"))
    network = build("convnet", width=2, num_classes=10, image_size=8)
    plain = {
        "sgd": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9, foreach=False),
        "adam": lambda p: torch.optim.Adam(p, lr=1.0, foreach=False),
    }[optimizer](network.parameters())
    step, warmup = 0, settings.get("warmup_epochs", 0) * math.ceil(50 / 16)
    losses = []
    for epoch in range(epochs):
        order = torch.randperm(50, generator=generator(0, "shuffle", epoch))
        total = 0.0
        for first in range(0, 50, 16):
            batch = order[first : first + 16]
            for group in plain.param_groups:
                group["lr"] = settings["learning_rate"] * min(1, (step + 1) / max(warmup, 1))
            plain.zero_grad()
            loss = functional.cross_entropy(
                plain_convnet(network, data.images[batch].permute(0, 3, 1, 2).contiguous()),
                data.labels[batch],
            )
            loss.backward()
            plain.step()
            total += loss.item() * len(batch)
            step += 1
        losses.append(total / 50)
    for ours, theirs in zip(run.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert [row["train_loss"] for row in run.history[1:]] == pytest.approx(losses, rel=1e-5)


def test_augmentation_is_drawn_anew_for_each_epoch_and_seed():
    """The loop trains on what the batched augmentation makes of each sample."""
    experiment = tiny_study(augmentation={"shift": 2, "flip": True}).experiments[NAME]
    data = random_data()
    data = replace(data, padded=pad(data.images, 2, torch.tensor([-2.0, -2.1, -1.9])))
    run, seen = start(experiment), []
    run.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
    train(run, data, experiment, seed=3, until=2, evaluate_at=set())
    seen = torch.cat([x for x in seen if len(x) <= 16]).permute(0, 2, 3, 1)
    for epoch in range(2):
        crops = draw_crops(3, epoch, data.sample_ids, shift=2, flip=True)
        order = torch.randperm(50, generator=generator(3, "shuffle", epoch))
        expected = crop(data.padded, order, crops, 2)
        assert any(torch.equal(seen[i : i + 50], expected) for i in range(len(seen) - 49))
        assert not torch.equal(expected, data.images[order])


def test_warm_up_is_linear_then_constant():
    settings = SGD(name="sgd", learning_rate=0.4, warmup_epochs=2)
    rates = [learning_rate(settings, step, steps_per_epoch=5) for step in range(13)]
    assert rates == pytest.approx([0.04 * (i + 1) for i in range(10)] + [0.4] * 3)
    none = SGD(name="sgd", learning_rate=0.4, warmup_epochs=0)
    assert learning_rate(none, 0, 5) == 0.4


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_inverse_square_root_schedule(kind):
    """Against a loop that counts the changes of the rate."""
    name = kind.__name__.lower()
    settings = kind(name=name, learning_rate=0.1, warmup_epochs=0, schedule="inverse_sqrt")
    changes = 0
    for step in range(4 * 512):
        changes += step > 0 and step % 512 == 0
        assert learning_rate(settings, step, 7) == 0.1 / (1 + changes) ** 0.5
    assert learning_rate(settings, 3 * 512, 7) == 0.05
    warm = settings.model_copy(update={"warmup_epochs": 100})
    constant = warm.model_copy(update={"schedule": "constant"})
    assert learning_rate(warm, 600, 7) == learning_rate(constant, 600, 7) / 2**0.5


def test_evaluation_is_exact_and_leaves_the_network_as_it_was():
    run = start(tiny_study().experiments[NAME])
    data = random_data(samples=601)
    losses, correct = evaluate(run.network, data.images, data.labels)
    logits = run.network(data.images.permute(0, 3, 1, 2))
    expected = functional.cross_entropy(logits, data.labels, reduction="none")
    torch.testing.assert_close(losses, expected.double(), rtol=1e-5, atol=1e-6)
    assert torch.equal(correct, logits.argmax(1) == data.labels)
    assert run.network.training


def test_history_splits_clean_noisy_and_corrupted():
    corrupted = torch.zeros(10, dtype=torch.bool)
    corrupted[[1, 4]] = True
    data = random_data(corrupted=corrupted)
    experiment = tiny_study().experiments[NAME]
    run = start(experiment)
    train(run, data, experiment, seed=0, until=2, evaluate_at={1})
    assert [row["epoch"] for row in run.history] == [0, 1, 2]
    row = run.history[-1]
    losses, _ = evaluate(run.network, data.images, data.labels)
    share = data.is_noisy.double().mean().item()
    assert 0 < share < 1
    for name in ("loss", "accuracy"):
        mixed = (1 - share) * row[f"train_{name}_clean"] + share * row[f"train_{name}_noisy"]
        assert mixed == pytest.approx(row[f"train_{name}_all"])
    assert row["train_loss_noisy"] == pytest.approx(losses[data.is_noisy].mean().item())
    _, right = evaluate(run.network, data.test_images, data.test_labels)
    of_corrupted = (data.test_labels == 1) | (data.test_labels == 4)
    assert row["test_error_corrupted"] == pytest.approx(
        1 - right[of_corrupted].double().mean().item()
    )
    assert row["test_error_unperturbed"] == pytest.approx(
        1 - right[~of_corrupted].double().mean().item()
    )
    table = run.history_table()
    assert table["train_loss"].isna().tolist() == [True, False, False]
    assert len(table) == 3


def test_seeds_differ_and_repeat():
    experiment = tiny_study().experiments[NAME]
    data = random_data()
    weights = []
    for seed in (0, 0, 1):
        run = start(experiment, seed)
        train(run, data, experiment, seed=seed, until=1, evaluate_at=set())
        weights.append(torch.cat([p.detach().flatten() for p in run.network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_building_a_run_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    start(tiny_study().experiments[NAME])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_run_that_diverges_passes_its_later_epochs_by():
    experiment = tiny_study().experiments[NAME]
    wild = experiment.optimizer.model_copy(update={"learning_rate": 1e30, "warmup_epochs": 0})
    experiment = experiment.model_copy(update={"optimizer": wild})
    run = start(experiment)
    train(run, random_data(), experiment, seed=0, until=4, evaluate_at=set())
    ended = run.diverged
    weights = {name: w.clone() for name, w in run.network.state_dict().items()}
    train(run, random_data(), experiment, seed=0, until=9, evaluate_at=set())
    assert ended in (1, 2, 3, 4) and run.diverged == run.trained_epochs == ended
    assert all(
        w.equal(weights[name]) or w.isnan().any() for name, w in run.network.state_dict().items()
    )
    table = run.history_table()
    assert table["epoch"].tolist() == [*range(10)]
    assert table.loc[ended:, "learning_rate":].isna().all(axis=None)
    assert all(run.was_evaluated(epoch) for epoch in range(ended, 10))
