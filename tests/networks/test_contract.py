"""The public functions refuse what cannot be measured, and leave the caller's tensors alone."""

import copy

import pytest
import torch
from training import networks

from smoothdescent.errors import UserError
from smoothdescent.networks.contract import check_evaluation
from smoothdescent.sharpness import SVDPaths, input_gradients, measure

PATHS = SVDPaths(1, (2, 4))
NORMALISED = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.mark.parametrize("name", ["InPlaceData", "InPlace", "in_place_layer"])
def test_points_of_the_caller_are_left_alone(name):
    points, labels = torch.randn(6, 3, 8, 8), torch.arange(6)
    given = points.clone()
    for layout in (torch.contiguous_format, torch.channels_last):
        points = points.contiguous(memory_format=layout)
        with pytest.raises(UserError, match=r"in-place|in place"):
            input_gradients(getattr(networks, name)(1, 10), points, labels)
        assert torch.equal(points, given)


@pytest.mark.parametrize("memory", ["512MiB", "300KiB"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("batch_statistics", "network Sequential gives an image different logits alone"),
        ("DropsAlways", "evaluates the same images again"),
        ("InPlaceData", "changes its input in place"),
        ("CastsToHalf", "does not compute in float32"),
    ],
)
def test_networks_that_cannot_be_measured(name, words, memory):
    images = torch.rand(24, 3, 8, 8)
    with pytest.raises(UserError, match=words):
        measure(
            getattr(networks, name)(1, 10),
            images,
            torch.arange(24) % 10,
            paths=PATHS,
            memory=memory,
            **NORMALISED,
        )


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("name", ["weight_norm", "Keeps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attributes_that_cannot_be_copied(name, dtype):
    torch.manual_seed(0)
    network = getattr(networks, name)(1, 10)
    points, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    network(points)
    with pytest.raises((RuntimeError, TypeError)):
        copy.deepcopy(network)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    found = input_gradients(network, points.to(dtype), labels)
    torch.testing.assert_close(found.logits, network(points).to(dtype), rtol=1e-4, atol=1e-5)
    assert network.training
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_logits_that_hardly_depend_on_the_image_are_no_sign_of_low_precision():
    torch.manual_seed(0)
    network = networks.plain(1, 10).eval()
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        for scale in (1.0, 1e-2, 1e-4, 1e-6, 1e-8, 0.0):
            weak = copy.deepcopy(network)
            weak[0].weight.mul_(scale)
            check_evaluation(weak, images, "network")
            check_evaluation(weak.double(), images.double(), "network")
