"""The ConvNet against its definition, written out."""

import pytest
import torch
from torch.nn import functional

from smoothdescent.networks.convnet import ConvNet


def as_defined(network, x, image_size):
    """Convolution, ReLU, and pooling after stages 2, 3 and 4 and over what is left."""
    for stage, convolution in enumerate(network.convolutions, start=1):
        x = functional.relu(convolution(x))
        if stage > 1:
            x = functional.max_pool2d(x, 2)
    return network.linear(functional.max_pool2d(x, image_size // 8).flatten(1))


@pytest.mark.parametrize("image_size", [8, 16, 32])
@pytest.mark.parametrize("width", [1, 3])
def test_values_and_gradients(width, image_size):
    torch.manual_seed(0)
    network = ConvNet(width, 10, image_size).double()
    x = torch.randn(5, 3, image_size, image_size, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(5, 10, dtype=torch.float64)
    results = []
    for logits in (network(x), as_defined(network, x, image_size)):
        wanted = [x, *network.parameters()]
        results.append([logits, *torch.autograd.grad((logits * direction).sum(), wanted)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert network.convolutions[3].weight.shape == (8 * width, 4 * width, 3, 3)
