"""The ConvNet against its definition, written out."""

import pytest
import torch
from networks.references import plain_convnet

from smoothdescent.networks import compiled
from smoothdescent.networks.convnet import ConvNet


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


def test_without_gradients(threads):
    network, images = ConvNet(3, 10, 16), torch.randn(5, 3, 16, 16)
    network.choose_kernels()
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain_convnet(network, images))


def average_pool(network):
    network.last_pool = torch.nn.AvgPool2d(4)


def dilate(network):
    network.convolutions[1].dilation = (2, 2)


def normalise(network):
    torch.nn.utils.parametrizations.weight_norm(network.linear)


def watch(network):
    network.linear.register_forward_hook(lambda *_: None)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("change", [average_pool, dilate, normalise, watch, ConvNet.half])
def test_a_network_that_was_changed_is_not_compiled(change):
    network = ConvNet(3, 10, 16).to(memory_format=torch.channels_last)
    network.choose_kernels("compiled")
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    assert network.training_step(optimizer) is not None
    change(network)
    assert network.training_step(optimizer) is None
    network.choose_kernels("compiled")
    assert network.kernels == "torch"


@pytest.mark.usefixtures("one_thread")
def test_a_subclass_computes_what_it_says():
    class Doubled(ConvNet):
        def forward(self, x):
            return 2 * super().forward(x)

    network = Doubled(3, 10, 16)
    network.choose_kernels("compiled")
    assert network.kernels == "torch"


def test_several_threads_or_no_numba(monkeypatch, threads):
    network = ConvNet(3, 10, 16)
    network.choose_kernels("compiled")
    assert network.kernels == ("compiled" if threads == 1 else "torch")
    monkeypatch.setattr(compiled, "kernels", lambda name: None)
    network.choose_kernels("compiled")
    assert network.kernels == "torch"
