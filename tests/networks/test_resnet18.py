"""The residual family: its shape, and the same function as torchvision's at base width 64."""

import pytest
import torch
import torchvision
from torch import nn

from smoothdescent.networks.registry import build, count_parameters
from smoothdescent.networks.resnet18 import ResNet18


def expected_parameters(w, classes):
    """3x3 and 1x1 kernels, two batch norm vectors a convolution, the linear layer, counted."""
    convolutions = [(3, w, 9)]
    for stage, after in enumerate((w, 2 * w, 4 * w, 8 * w)):
        before = after if stage == 0 else after // 2
        convolutions += [(before, after, 9)] + 3 * [(after, after, 9)]
        if stage > 0:
            convolutions.append((before, after, 1))
    kernels = sum(before * after * area for before, after, area in convolutions)
    norms = sum(2 * after for _, after, _ in convolutions)
    return kernels + norms + classes * (8 * w + 1)


@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_parameter_count(width):
    network = build("resnet18", width=width, num_classes=10, image_size=32)
    assert isinstance(network, ResNet18)
    assert count_parameters(network) == expected_parameters(width, 10)


def torchvision_network(classes):
    """torchvision's ResNet18 with the stem for small images."""
    network = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network.double()


@pytest.mark.parametrize("training", [True, False])
def test_same_function_as_torchvision(training):
    torch.manual_seed(0)
    ours, theirs = ResNet18(64, 10).double(), torchvision_network(10)
    # Both list the same modules in the same order.
    values = list(theirs.state_dict().values())
    assert [v.shape for v in values] == [v.shape for v in ours.state_dict().values()]
    for value in values:
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))


@pytest.mark.parametrize("size", [8, 15, 16, 32])
def test_any_image_size(size):
    network = build("resnet18", width=2, num_classes=7, image_size=size).eval()
    assert network(torch.randn(2, 3, size, size)).shape == (2, 7)


def test_in_evaluation_mode_samples_do_not_depend_on_each_other():
    torch.manual_seed(0)
    network = ResNet18(2, 10).double()
    x = torch.randn(8, 3, 16, 16, dtype=torch.float64)
    network(x)
    network.eval()
    torch.testing.assert_close(network(x)[2:3], network(x[2:3]))
    network.train()
    assert not torch.allclose(network(x)[2:3], network(x[2:6])[:1])
