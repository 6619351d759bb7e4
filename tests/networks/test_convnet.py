"""The ConvNet against its definition, written out."""

import pytest
import torch
from networks.references import plain_convnet

from smoothdescent.networks import convnet
from smoothdescent.networks.convnet import ConvNet


@pytest.fixture(params=[1, 2])
def threads(request):
    """Numbers of threads: the kernels for few channels are for one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("image_size", [8, 16, 32])
@pytest.mark.parametrize("width", [1, 3, 9])
def test_values_and_gradients(width, image_size, threads):
    torch.manual_seed(0)
    network = ConvNet(width, 10, image_size).double()
    x = torch.randn(5, 3, image_size, image_size, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(5, 10, dtype=torch.float64)
    results = []
    for logits in (network(x), plain_convnet(network, x)):
        wanted = [x, *network.parameters()]
        results.append([logits, *torch.autograd.grad((logits * direction).sum(), wanted)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert network.convolutions[3].weight.shape == (8 * width, 4 * width, 3, 3)


def test_the_kernels_for_few_channels_are_used_where_they_can_be(threads):
    pytest.importorskip("numba")
    narrow, wide = ConvNet(8, 10, 16), ConvNet(9, 10, 16)
    images = torch.randn(2, 3, 16, 16)
    assert narrow._fits_lanes(images) == (threads == 1)
    assert not wide._fits_lanes(images)
    assert not narrow._fits_lanes(images.half())
    large = ConvNet(1, 10, 64)
    x = torch.randn(2, 3, 64, 64)
    assert not large._fits_lanes(x)
    torch.testing.assert_close(large(x), plain_convnet(large, x))


def test_without_numba(monkeypatch, threads):
    network, images = ConvNet(2, 10, 16).double(), torch.randn(3, 3, 16, 16).double()
    logits = network(images)
    monkeypatch.setattr(convnet, "kernels", lambda: None)
    torch.testing.assert_close(network(images), logits)
