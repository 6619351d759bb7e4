"""Convolutions in lanes against PyTorch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

lanes = pytest.importorskip("smoothdescent.kernels.lanes", reason="numba is not installed")


def plain_stage(x, weight, bias, pool):
    x = functional.conv2d(x, weight, bias, padding=1)
    return functional.relu(functional.max_pool2d(x, pool))


def stage(x, weight, bias, pool, border=1):
    y = lanes.stage(lanes.to_lanes(x), weight, bias, pool=pool, border=border)
    if border:
        edges = torch.ones_like(y, dtype=torch.bool)
        edges[:, 1:-1, 1:-1] = False
        assert (y[edges] == 0).all(), "the next stage needs zeros there"
        y = y[:, 1:-1, 1:-1]
    return y.permute(3, 0, 1, 2)


def values_and_gradients(function, *inputs, **keywords):
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = function(*inputs, **keywords)
    draw = torch.Generator().manual_seed(1)
    direction = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    return [y, *torch.autograd.grad((y * direction).sum(), inputs)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 33),
    st.integers(0, 1),
    st.sampled_from([(torch.float64, 1e-12), (torch.float32, 1e-4)]),
)
def test_values_and_gradients(inputs, outputs, size, pool, count, border, precision):
    dtype, tolerance = precision
    draw = torch.Generator().manual_seed(inputs + 10 * outputs)
    height, width = (pool * n for n in size)
    x = torch.randn(count, inputs, height, width, generator=draw, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, 3, 3, generator=draw, dtype=torch.float64)
    bias = torch.randn(outputs, generator=draw, dtype=torch.float64)
    expected = values_and_gradients(plain_stage, x, weight, bias, pool=pool)
    arguments = [t.to(dtype) for t in (x, weight, bias)]
    found = values_and_gradients(stage, *arguments, pool=pool, border=border)
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(theirs.abs().max().item(), 1)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance * scale)


def test_of_equal_maxima_the_first_has_the_gradient():
    x = torch.ones(2, 1, 8, 8)
    x[1, :, 2:6, 3:5] = 3.0
    weight, bias = torch.zeros(1, 1, 3, 3), torch.tensor([0.5])
    weight[0, 0, 1, 1] = 1.0
    ours = values_and_gradients(stage, x, weight, bias, pool=4)
    theirs = values_and_gradients(plain_stage, x, weight, bias, pool=4)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_only_what_is_needed_is_computed():
    x, weight, bias = torch.randn(3, 2, 4, 4), torch.randn(5, 2, 3, 3), torch.randn(5)
    full = values_and_gradients(stage, x, weight, bias, pool=2)
    moving = x.clone().requires_grad_()
    stage(moving, weight, bias, pool=2).sum().backward()
    assert weight.grad is None
    fixed = weight.clone().requires_grad_()
    y = stage(x, fixed, bias.clone().requires_grad_(), pool=2)
    torch.testing.assert_close(y, full[0])


def test_not_a_number_stays():
    weight, bias = torch.randn(2, 1, 3, 3), torch.zeros(2)
    weight[0, 0, 1, 1] = torch.nan
    y = stage(torch.randn(4, 1, 4, 4), weight, bias, pool=2)
    assert y[:, 0].isnan().all() and not y[:, 1].isnan().any()


def test_second_derivatives_are_refused():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    y = stage(x, torch.randn(1, 1, 3, 3), torch.ones(1), pool=2).square().sum()
    (gradient,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
