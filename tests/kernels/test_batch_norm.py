"""Our batch norm against PyTorch's, in training and folded in evaluation mode."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdescent.kernels.batch_norm import ConvNorm


def layer(before, after, stride=1, seed=0):
    torch.manual_seed(seed)
    module = ConvNorm(before, after, 3, stride).double()
    with torch.no_grad():
        for values in (module.norm.weight, module.norm.bias, module.norm.running_mean):
            values.normal_()
        module.norm.running_var.uniform_(0.5, 2)
    return module


def plain(module, x):
    return module.norm(module.convolution(x))


def gradients(function, module, x):
    """Return the outputs and the gradients of a random projection of them."""
    x = x.clone().requires_grad_()
    y = function(x)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    parameters = list(module.parameters())
    return [y, *torch.autograd.grad((y * direction).sum(), [x, *parameters])]


@settings(max_examples=40)
@given(
    before=st.integers(1, 3),
    after=st.integers(1, 20),
    batch=st.integers(1, 5),
    size=st.integers(2, 9),
    stride=st.integers(1, 2),
    channels_last=st.booleans(),
)
def test_training_is_pytorchs(before, after, batch, size, stride, channels_last):
    ours = layer(before, after, stride)
    theirs = copy.deepcopy(ours)
    x = torch.randn(batch, before, size, size, dtype=torch.float64)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    if batch * (-(-size // stride)) ** 2 == 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            ours(x)
        return
    found = gradients(ours, ours, x)
    expected = gradients(lambda x: plain(theirs, x), theirs, x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


def test_gradients_by_finite_differences():
    module = layer(2, 3)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)


@pytest.mark.parametrize("stride", [1, 2])
def test_evaluation_is_pytorchs(stride):
    module = layer(3, 5, stride).eval()
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    found = gradients(module, module, x)
    expected = gradients(lambda x: plain(module, x), module, x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
