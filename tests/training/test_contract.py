"""The dry run of a network: what works, and what is refused before any training, and how."""

import random

import numpy as np
import pytest
import torch
from training.test_random_layers import weights
from training.test_step import data_on
from training.tiny import NAME, tiny_study

from smoothdescent.errors import UserError
from smoothdescent.networks.registry import build
from smoothdescent.networks.weights import load_weights, save_weights
from smoothdescent.training.contract import check_trainable
from smoothdescent.training.engine import train
from smoothdescent.training.run import new_run

CPU = torch.device("cpu")
SIZES = {"width": 1, "num_classes": 10, "image_size": 8}


def experiment_of(network, **changes):
    name = network if ":" in network else f"training.networks:{network}"
    return tiny_study(network=name, **changes).experiments[NAME]


def check(network, **changes):
    check_trainable(experiment_of(network, **changes), device=CPU, **SIZES)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize(
    "network",
    [
        "smoothdescent.networks.convnet:ConvNet",
        *("plain", "dropout", "depth_torch", "depth_python", "depth_numpy", "UsedTwice"),
        *("weight_norm", "lazy", "Keeps", "spectral_norm", "Unused"),
    ],
)
def test_what_works_is_trained_saved_and_measured(network, tmp_path, capsys):
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    check(network)
    check(network, optimizer={"name": "adam", "learning_rate": 0.01})
    assert random.getstate() == generators[0]
    assert np.random.get_state()[1].tolist() == generators[1]
    assert torch.equal(torch.get_rng_state(), generators[2])
    assert ("no logit depends on spare.weight" in capsys.readouterr().err) == (network == "Unused")

    experiment = experiment_of(network)
    runs = []
    for _ in range(2):
        run = new_run(experiment, seed=0, device=CPU, **SIZES)
        train(run, data_on("cpu"), experiment, seed=0, until=1, evaluate_at={1})
        runs.append(run)
    assert torch.equal(*map(weights, runs))
    save_weights(tmp_path / "w.safetensors", runs[0].network, {})
    other = build(experiment.network, **SIZES)
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(torch.cat([t.flatten() for t in other.state_dict().values()]), weights(run))


def test_a_wide_residual_network():
    experiment = experiment_of("smoothdescent.networks.resnet18:ResNet18")
    check_trainable(experiment, width=9, num_classes=10, image_size=8, device=CPU)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("InPlaceData", "changes its input in place"),
        ("InPlace", "changes its input in place"),
        ("in_place_layer", "changes its input in place"),
        ("batch_statistics", "different logits alone than in a batch"),
        ("DropsAlways", "different logits when it evaluates the same images again"),
        ("Counts", "changes its tensor count when it evaluates"),
        ("Switches", "puts its module body into training mode"),
        ("CastsToHalf", "does not compute in float32"),
        ("Autocasts", "does not compute in float32"),
        ("ReturnsBfloat16", "returned torch.bfloat16"),
        ("Asserts", "AssertionError: too few images"),
        ("Views", "view size is not compatible"),
        ("Pairs", "returned tuple"),
        ("ExtraState", "keeps _extra_state, a dict, in its state"),
        ("Remembers", "other weights after it was saved and resumed"),
        ("OwnGenerator", "other weights after it was saved and resumed"),
        ("DrawsAnyhow", "starts from other weights each time"),
        ("RandomFeatures", "different logits after its weights were saved and loaded"),
        ("scripted", "is scripted"),
        ("frozen", "no parameter to train"),
        ("too_many_classes", "returned 11 logits for an image; expected 10"),
    ],
)
def test_what_is_refused(network, words):
    with pytest.raises(UserError, match=words) as refusal:
        check(network)
    assert str(refusal.value).startswith(f"network training.networks:{network}")


def test_the_precision_that_is_measured_in():
    measured = tiny_study().experiments[NAME].measure.model_dump()
    check("CastsToFloat")
    with pytest.raises(UserError, match="does not compute in float64"):
        check("CastsToFloat", measure=measured | {"dtype": "float64"})
