"""Bias, pooling and ReLU in one kernel against PyTorch's modules, by Triton's interpreter."""

import importlib
import sys

import pytest
import torch
from torch import nn

from smoothdescent.networks import compiled
from smoothdescent.networks.convnet import ConvNet

NAME = "smoothdescent.kernels.pooled_stage"
LAYOUTS = [torch.channels_last, torch.contiguous_format]


@pytest.fixture
def stage(monkeypatch):
    """The module, whose kernels are interpreted on the CPU: no GPU is needed."""
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    compiled.kernels.cache_clear()
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME)
    compiled.kernels.cache_clear()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "size", "window"), [(3, 4, 1), (20, 8, 2), (1, 16, 8)])
def test_against_the_modules(stage, layout, channels, size, window):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(7, channels, size, size, generator=draw).contiguous(memory_format=layout)
    x[0, 0, 0, 1] = x[0, 0, 0, 0]  # of two that are equal the first one has the gradient
    x[1, 0, 0, 0] = float("nan")
    bias = torch.randn(channels, generator=draw)
    slope = torch.randn(7, channels, size // window, size // window, generator=draw)
    found = []
    for fused in (True, False):
        inputs = [x.clone(memory_format=layout).requires_grad_(), bias.clone().requires_grad_()]
        if fused:
            y = stage.bias_pool_relu(*inputs, window)
            assert y.is_contiguous(memory_format=layout)
        else:
            y = nn.ReLU()(nn.MaxPool2d(window)(inputs[0] + inputs[1][:, None, None]))
        found.append([y, *torch.autograd.grad(y, inputs, slope)])
    (y, grad, bias_grad), (expected, expected_grad, expected_bias_grad) = found
    assert y.isnan().any() and torch.equal(y.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(grad, expected_grad)
    torch.testing.assert_close(bias_grad, expected_bias_grad)


def test_networks_compute_the_same(stage):
    network = ConvNet(3, 10, 16)
    images, labels = torch.randn(5, 3, 16, 16), torch.arange(5)
    found = []
    for kernels in (compiled.TORCH, compiled.FUSED):
        network.kernels = kernels
        logits = network.layers(images)
        loss = nn.functional.cross_entropy(logits, labels)
        found.append([logits, *torch.autograd.grad(loss, list(network.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_kernels_are_tried_before_they_are_used(stage, monkeypatch, capsys):
    cpu = torch.device("cpu")
    assert stage.can_be_used(cpu) and capsys.readouterr().err == ""
    stage.can_be_used.cache_clear()
    monkeypatch.setattr(
        stage,
        "bias_pool_relu",
        lambda x, bias, window: 0 * x[..., ::window, ::window] + bias[:, None, None],
    )
    assert not stage.can_be_used(cpu)
    assert "are not one kernel on cpu: they differ from PyTorch's by" in capsys.readouterr().err
    stage.can_be_used.cache_clear()
    monkeypatch.setattr(stage, "bias_pool_relu", None)
    assert not stage.can_be_used(cpu) and not stage.can_be_used(cpu)
    said = capsys.readouterr().err
    assert said.count("TypeError: 'NoneType' object is not callable") == 1


def test_without_a_gpu_networks_keep_to_pytorchs_kernels():
    network = ConvNet(33, 10, 8)
    network.choose_kernels(compiled.FUSED)
    assert network.kernels == compiled.TORCH
