"""The residual family: its shape, and the same function as torchvision's at base width 64."""

import pytest
import torch
import torchvision
from torch import nn

from smoothdescent.networks import compiled
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


@pytest.mark.usefixtures("one_thread")
def test_compiled_kernels_evaluate_square_images_in_evaluation_mode():
    pytest.importorskip("smoothdescent.kernels.residual_calls")
    network, images = ResNet18(2, 10), torch.randn(5, 3, 16, 16)
    network.choose_kernels("compiled")
    assert not network.uses_compiled(images)
    network.eval()
    assert network.uses_compiled(images) and not network.uses_compiled(images[..., :8])
    with torch.no_grad():
        torch.testing.assert_close(network(images), network.layers(images), rtol=1e-4, atol=1e-5)
    network.stem.train()
    assert not network.uses_compiled(images)


def replace_norm(network):
    network.stages[1][0].first.norm.eps = 1e-3


def smooth(network):
    network.stages[0][1].shortcut = nn.ReLU()


def watch(network):
    network.stem.norm.register_forward_hook(lambda *_: None)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("change", [replace_norm, smooth, watch, ResNet18.half])
def test_a_network_that_was_changed_is_not_compiled(change):
    pytest.importorskip("smoothdescent.kernels.residual_calls")
    network = ResNet18(2, 10).to(memory_format=torch.channels_last)
    network.choose_kernels("compiled")
    optimizer = torch.optim.Adam(network.parameters())
    assert network.training_step(optimizer) is not None
    change(network)
    assert network.training_step(optimizer) is None
    network.choose_kernels("compiled")
    assert network.kernels == "torch"


def test_several_threads_a_subclass_or_no_numba(monkeypatch, threads):
    class Other(ResNet18):
        pass

    for network in (ResNet18(2, 10), Other(2, 10)):
        network.choose_kernels("compiled")
        possible = threads == 1 and type(network) is ResNet18
        assert network.kernels == ("compiled" if possible else "torch")
    network = ResNet18(2, 10)
    monkeypatch.setattr(compiled, "kernels", lambda name: None)
    network.choose_kernels("compiled")
    assert network.kernels == "torch"
