"""The compiled ResNet against plain modules, in float64 autograd."""

import copy

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from networks.references import plain_resnet18
from torch.nn import functional

from smoothdescent.networks.resnet18 import ResNet18

calls = pytest.importorskip("smoothdescent.kernels.residual_calls", reason="numba is not installed")
BLOCK = calls.BLOCK
# Of the largest value; batch norm of few pixels magnifies what rounding changes.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}

shapes = st.builds(
    dict,
    width=st.integers(1, 9),
    size=st.sampled_from([8, 15, 16, 24]),
    classes=st.integers(2, 11),
    channels=st.integers(1, 4),
    count=st.integers(3, 2 * BLOCK + 1),
    dtype=st.just(torch.float64),
    seed=st.integers(0, 2**31),
)

LEAST_BATCH = 9  # images, of which the last stage has one pixel each
FLOAT32 = {"width": 5, "size": 16, "classes": 10, "channels": 3, "count": 2 * BLOCK + 3, "seed": 0}
FLOAT32["dtype"] = torch.float32


def drawn(width, size, classes, channels, count, dtype, seed):
    """Return a network, the same in float64, images [N, C, H, W] and labels."""
    torch.manual_seed(seed)
    network = ResNet18(width, classes, channels).to(dtype)
    for name, value in network.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            value.uniform_(0.5, 2)
        elif name.endswith(("norm.bias", "running_mean")):
            value.normal_()
    network = network.to(memory_format=torch.channels_last)
    reference = copy.deepcopy(network).double()
    images = torch.randn(count, size, size, channels, dtype=dtype).permute(0, 3, 1, 2)
    return network, reference, images, torch.randint(classes, (count,))


def assert_near(found, expected, dtype, name=""):
    scale = max(expected.abs().max().item(), 1e-3)
    torch.testing.assert_close(
        found.double(),
        expected.detach().double(),
        rtol=0,
        atol=TOLERANCE[dtype] * scale,
        msg=lambda message: f"{name}: {message}",
    )


@settings(max_examples=30)
@given(shapes)
@example(FLOAT32)
def test_logits_and_input_gradients(shape):
    network, reference, images, labels = drawn(**shape)
    network.eval(), reference.eval()
    points = images.double().requires_grad_()
    expected = plain_resnet18(reference, points)
    loss = functional.cross_entropy(expected, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, points)
    assert_near(calls.logits(network, images), expected, shape["dtype"])
    for ours, theirs in zip(
        calls.input_gradients(network, images, labels), (expected, gradient), strict=True
    ):
        assert_near(ours, theirs, shape["dtype"])


@settings(max_examples=30)
@given(shapes)
@example(FLOAT32)
def test_steps_are_those_of_plain_modules(shape):
    """Values, gradients of all parameters and running moments, over three steps."""
    # Of a batch norm of two values the gradient is zero but for rounding, which it magnifies:
    # PyTorch's own memory layouts then differ by 1e-9.
    assume(shape["count"] >= LEAST_BATCH)
    network, reference, images, labels = drawn(**shape)
    dtype, count = shape["dtype"], len(labels)
    step = calls.TrainingStep(network, torch.optim.SGD(network.parameters(), lr=1.0))
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in (slice(count), slice(count - 1), slice(count)):
        # Both begin each step with the same weights: a ReLU that rounding switches is no error.
        reference.load_state_dict(network.state_dict())
        logits = plain_resnet18(reference, images[batch].double())
        loss = functional.cross_entropy(logits, labels[batch])
        reference.zero_grad()
        loss.backward()
        before = sums.clone()
        step(images[batch].permute(0, 2, 3, 1), labels[batch], 0.01, sums)
        found, right = (sums - before).tolist()
        assert found == pytest.approx(loss.item() * len(logits), rel=TOLERANCE[dtype])
        if dtype == torch.float64:
            assert right == (logits.argmax(1) == labels[batch]).sum()
        theirs = dict(reference.named_parameters())
        largest = max(each.grad.abs().max() for each in theirs.values())
        for name, ours in network.named_parameters():
            expected = torch.cat([theirs[name].grad.flatten(), largest[None]])
            assert_near(torch.cat([ours.grad.flatten(), largest[None]]), expected, dtype, name)
        for name, ours in network.named_buffers():
            assert_near(ours, reference.get_buffer(name), dtype, name)


def train(kernels, optimizer, steps=12):
    """Return the losses of a short training, and the network."""
    network, _, images, labels = drawn(3, 8, 4, 3, 40, torch.float64, seed=0)
    optimizer = optimizer(network.parameters(), lr=0.01)
    step, losses = calls.TrainingStep(network, optimizer), []
    for k in range(steps):
        batch = slice(0, 24) if k % 2 else slice(24, 40)
        if kernels == "compiled":
            sums = torch.zeros(2, dtype=torch.float64)
            step(images[batch].permute(0, 2, 3, 1), labels[batch], 0.01, sums)
            losses.append(sums[0].item() / len(labels[batch]))
        else:
            loss = functional.cross_entropy(plain_resnet18(network, images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, network


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_training_is_that_of_plain_modules_and_repeats(optimizer):
    losses, network = train("compiled", optimizer)
    expected, reference = train("torch", optimizer)
    assert losses == pytest.approx(expected, rel=1e-6) and losses[-1] < losses[0]
    for name, theirs in reference.state_dict().items():
        assert_near(network.state_dict()[name], theirs, torch.float32, name)
    again, repeated = train("compiled", optimizer)
    assert again == losses
    for ours, other in zip(
        network.state_dict().values(), repeated.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, other)


def test_not_a_number_stays():
    network, _, images, labels = drawn(2, 8, 3, 3, 5, torch.float64, seed=1)
    images[3, 1, 4, 4] = torch.nan
    logits = calls.logits(network.eval(), images)
    assert logits[3].isnan().all() and not logits[[0, 1, 2, 4]].isnan().any()
    gradient = calls.input_gradients(network, images, labels)[1]
    assert gradient[3].isnan().any() and not gradient[[0, 1, 2, 4]].isnan().any()
    sums = torch.zeros(2, dtype=torch.float64)
    step = calls.TrainingStep(network.train(), torch.optim.SGD(network.parameters(), lr=1.0))
    step(images.permute(0, 2, 3, 1), labels, 0.1, sums)
    assert sums[0].isnan() and network.linear.weight.isnan().any()
    assert network.stem.norm.running_mean.isnan().any()


def test_one_pixel_has_no_variance():
    network, _, images, labels = drawn(1, 8, 3, 3, 1, torch.float64, seed=1)
    step = calls.TrainingStep(network, torch.optim.SGD(network.parameters(), lr=1.0))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        step(images.permute(0, 2, 3, 1), labels, 0.1, torch.zeros(2, dtype=torch.float64))


def test_an_optimiser_of_some_weights_or_other_layouts_is_not_taken():
    network = ResNet18(2, 3).to(memory_format=torch.channels_last)
    parameters = list(network.parameters())

    def can_take(optimizer):
        return calls.TrainingStep.can_take(network, optimizer)

    adam = torch.optim.Adam(parameters)
    assert can_take(adam) and can_take(torch.optim.SGD(parameters, lr=1.0))
    assert not can_take(torch.optim.Adam(parameters[1:]))
    network.to(memory_format=torch.contiguous_format)
    assert not can_take(adam)
    network.to(memory_format=torch.channels_last)
    parameters[0].requires_grad_(False)
    assert not can_take(adam)
