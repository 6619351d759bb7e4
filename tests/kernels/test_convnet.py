"""The compiled ConvNet against the plain layers, in float64 autograd."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks.references import plain_convnet
from torch.nn import functional

from smoothdescent.networks.convnet import ConvNet

calls = pytest.importorskip("smoothdescent.kernels.calls", reason="numba is not installed")
BLOCK = calls.kernel.BLOCK
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4}  # of the largest value

shapes = st.builds(
    dict,
    width=st.integers(1, 9),
    size=st.sampled_from([8, 16, 24]),
    classes=st.integers(2, 11),
    channels=st.integers(1, 6),
    count=st.integers(1, 2 * BLOCK + 1),
    dtype=st.just(torch.float64),
    seed=st.integers(0, 2**31),
)

# More than one vector of channels, and more than one block of images.
SEVERAL = {"width": 17, "size": 8, "classes": 3, "channels": 3, "count": 2 * BLOCK + 6, "seed": 0}
SEVERAL["dtype"] = torch.float64
# Of drawn shapes, float32 would now and then choose another of two nearly equal maxima.
FLOAT32 = {"width": 3, "size": 8, "classes": 5, "channels": 3, "count": 9, "seed": 0}
FLOAT32["dtype"] = torch.float32


def drawn(width, size, classes, channels, count, dtype, seed):
    """Return a network, the same in float64, images [N, C, H, W] and labels."""
    torch.manual_seed(seed)
    network = ConvNet(width, classes, size, channels).to(dtype)
    network = network.to(memory_format=torch.channels_last)
    reference = ConvNet(width, classes, size, channels).double()
    reference.load_state_dict(network.state_dict())
    images = torch.randn(count, size, size, channels, dtype=dtype).permute(0, 3, 1, 2)
    return network, reference, images, torch.randint(classes, (count,))


def assert_near(found, expected, dtype):
    scale = max(expected.abs().max().item(), 1e-3)
    torch.testing.assert_close(
        found.double(), expected.detach(), rtol=0, atol=TOLERANCE[dtype] * scale
    )


@settings(max_examples=40)
@given(shapes)
@example(FLOAT32)
def test_logits_and_input_gradients(shape):
    network, reference, images, labels = drawn(**shape)
    points = images.double().requires_grad_()
    expected = plain_convnet(reference, points)
    loss = functional.cross_entropy(expected, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, points)
    dtype = shape["dtype"]
    assert_near(calls.logits(network, images), expected, dtype)
    for ours, theirs in zip(
        calls.input_gradients(network, images, labels), (expected, gradient), strict=True
    ):
        assert_near(ours, theirs, dtype)


@settings(max_examples=40)
@given(shapes)
@example(SEVERAL)
@example(FLOAT32)
def test_steps_are_those_of_sgd(shape):
    network, reference, images, labels = drawn(**shape)
    dtype, momentum = shape["dtype"], 0.8
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=momentum)
    step = calls.TrainingStep(network, optimizer)
    sums = torch.zeros(2, dtype=torch.float64)
    plain = torch.optim.SGD(reference.parameters(), lr=1.0, momentum=momentum, foreach=False)
    total, correct = 0.0, 0
    for rate in (0.03, 0.01):
        plain.param_groups[0]["lr"] = rate
        logits = plain_convnet(reference, images.double())
        loss = functional.cross_entropy(logits, labels)
        plain.zero_grad()
        loss.backward()
        plain.step()
        step(images.permute(0, 2, 3, 1), labels, rate, sums)
        total += loss.item() * len(labels)
        correct += (logits.argmax(1) == labels).sum().item()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        assert_near(ours, theirs, dtype)
        buffers = (o.state[p]["momentum_buffer"] for o, p in ((optimizer, ours), (plain, theirs)))
        assert_near(*buffers, dtype)
    assert sums[0].item() == pytest.approx(total, rel=TOLERANCE[dtype])
    if dtype == torch.float64:
        assert sums[1].item() == correct


def test_of_equal_maxima_the_first_has_the_gradient():
    network, reference, images, labels = drawn(2, 8, 3, 3, 5, torch.float64, seed=1)
    images = torch.ones_like(images)
    points = images.clone().requires_grad_()
    loss = functional.cross_entropy(plain_convnet(reference, points), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, points)
    assert_near(calls.input_gradients(network, images, labels)[1], gradient, torch.float64)


def test_not_a_number_stays():
    network, _, images, labels = drawn(2, 8, 3, 3, 5, torch.float32, seed=1)
    images[3, 1, 4, 4] = torch.nan
    logits = calls.logits(network, images)
    assert logits[3].isnan().all() and not logits[[0, 1, 2, 4]].isnan().any()
    sums = torch.zeros(2, dtype=torch.float64)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9)
    step = calls.TrainingStep(network, optimizer)
    step(images.permute(0, 2, 3, 1), labels, 0.1, sums)
    assert sums[0].isnan()


@pytest.mark.parametrize("width", [1, 2, 5, 6])
def test_what_is_not_finite_stays_in_its_image(width):
    network, _, images, labels = drawn(width, 8, 3, 3, BLOCK + 3, torch.float32, seed=1)
    network.linear.weight.data *= 1e20
    _, expected = calls.input_gradients(network, images, labels)
    images[::2] *= 1e25  # features stay finite, logits do not
    _, gradients = calls.input_gradients(network, images, labels)
    assert gradients[::2].isnan().any()
    assert torch.equal(gradients[1::2], expected[1::2])


def test_an_optimiser_that_does_more_is_not_replaced():
    network = ConvNet(2, 3, 8).to(memory_format=torch.channels_last)
    parameters = list(network.parameters())

    def can_take(optimizer):
        return calls.TrainingStep.can_take(network, optimizer)

    fused = torch.optim.SGD(parameters, lr=1.0, momentum=0.9, fused=True)
    assert can_take(fused)
    network.to(memory_format=torch.contiguous_format)
    assert not can_take(fused)
    network.to(memory_format=torch.channels_last)
    assert not can_take(torch.optim.SGD(parameters, lr=1.0))
    assert not can_take(torch.optim.SGD(parameters, lr=1.0, momentum=0.9, weight_decay=0.1))
    assert not can_take(torch.optim.SGD(parameters, lr=1.0, momentum=0.9, nesterov=True))
    assert not can_take(torch.optim.SGD(parameters[2:], lr=1.0, momentum=0.9))
    assert not can_take(torch.optim.Adam(parameters))
    parameters[0].requires_grad_(False)
    assert not can_take(torch.optim.SGD(parameters, lr=1.0, momentum=0.9))
