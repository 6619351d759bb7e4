"""Networks by name, and their weights on disk."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from smoothdescent.errors import UserError
from smoothdescent.networks.registry import build, count_parameters
from smoothdescent.networks.weights import load_weights, save_weights


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("image_size", [8, 16, 32])
def test_convnet_is_the_five_layer_cnn(width, image_size):
    network = build("convnet", width=width, num_classes=10, image_size=image_size)
    w = width
    channels = [3, w, 2 * w, 4 * w, 8 * w]
    expected = sum(9 * a * b + b for a, b in pairwise(channels))
    assert count_parameters(network) == expected + 8 * w * 10 + 10

    x = torch.randn(2, 3, image_size, image_size)
    reference = nn.Sequential(
        network.convolutions[0], nn.ReLU(),
        network.convolutions[1], nn.ReLU(), nn.MaxPool2d(2),
        network.convolutions[2], nn.ReLU(), nn.MaxPool2d(2),
        network.convolutions[3], nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), network.linear,
    )  # fmt: skip
    torch.testing.assert_close(network(x), reference(x), rtol=1e-4, atol=1e-6)


def custom_network(width, num_classes):
    """A network without an image size, found by its import path."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_classes))


def no_network():
    """A callable that builds something else."""
    return "no network"


def test_import_path():
    network = build("test_registry:custom_network", width=3, num_classes=7, image_size=8)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


def test_torchvision_network():
    network = build("torchvision.models:resnet18", width=None, num_classes=7, image_size=32)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    monkeypatch.syspath_prepend(request.path.parent)


@pytest.mark.parametrize(
    ("network", "settings", "words"),
    [
        ("convent", {}, "no network 'convent'; expected one of convnet"),
        ("no_such_module:Net", {}, "no_such_module"),
        ("torch.nn:NoNet", {}, "NoNet"),
        ("test_registry:no_network", {}, "returned a str"),
        ("builtins:dict", {}, "cannot be built"),
        ("convnet", {"width": 0}, "width is 0"),
        ("convnet", {"width": None}, "needs a width"),
        ("convnet", {"image_size": 12}, "image_size is 12, expected a multiple of 8"),
    ],
)
def test_faults(network, settings, words):
    with pytest.raises(UserError, match=words):
        build(network, **{"width": 1, "num_classes": 10, "image_size": 16} | settings)


@pytest.fixture
def convnet():
    return build("convnet", width=2, num_classes=10, image_size=8)


def test_weights_round_trip(tmp_path, convnet):
    save_weights(tmp_path / "w.safetensors", convnet, {"epoch": "3"})
    other = build("convnet", width=2, num_classes=10, image_size=8)
    assert load_weights(tmp_path / "w.safetensors", other) == {"epoch": "3"}
    for a, b in zip(convnet.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_of_another_network(tmp_path, convnet):
    path = tmp_path / "w.safetensors"
    save_weights(path, convnet, {})
    with pytest.raises(UserError, match=r"w\.safetensors: tensor .* has shape .*width"):
        load_weights(path, build("convnet", width=3, num_classes=10, image_size=8))
    with pytest.raises(UserError, match="another architecture than Linear: it lacks bias"):
        load_weights(path, nn.Linear(3, 3))


def test_damaged_weights(tmp_path, convnet):
    path = tmp_path / "w.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        load_weights(path, convnet)
    with torch.no_grad():
        convnet.linear.bias[0] = float("nan")
    save_weights(path, convnet, {})
    with pytest.raises(UserError, match=r"linear\.bias holds NaN"):
        load_weights(path, build("convnet", width=2, num_classes=10, image_size=8))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="is damaged: its checksum is"):
        load_weights(path, convnet)
    torch.save(convnet.state_dict(), path)
    with pytest.raises(UserError, match="not a safetensors file"):
        load_weights(path, convnet)
