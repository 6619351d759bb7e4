import copy

import pytest
import torch
from sharpness.references import (
    loss_and_gradient,
    normalised,
    random_images,
    random_labels,
    smooth,
)
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from smoothdescent.errors import UserError
from smoothdescent.kernels.batch_norm import ConvNorm
from smoothdescent.networks.registry import build
from smoothdescent.sharpness import full_precision, input_gradients
from smoothdescent.sharpness.gradients import FrozenNetwork, _seconds, freeze

CPU = torch.device("cpu")


def test_points_match_single_evaluations():
    network = smooth().train()
    points, labels = normalised(random_images(7)), random_labels(7)
    found = input_gradients(network, points, labels, batch_size=3)
    for n in range(7):
        loss, correct, gradient = loss_and_gradient(network, points[n], labels[n])
        assert found.loss[n].item() == pytest.approx(loss, rel=1e-12)
        assert found.correct[n].item() == correct
        torch.testing.assert_close(found.gradient[n], gradient, rtol=1e-10, atol=1e-14)


def test_linear_softmax_has_its_closed_form():
    weight = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    linear = nn.Linear(12, 4).double()
    linear.load_state_dict({"weight": weight, "bias": torch.arange(4.0).double()})
    network = nn.Sequential(nn.Flatten(), linear)
    points, labels = random_images(5, size=2), random_labels(5, classes=4)
    found = input_gradients(network, points, labels)
    logits = points.flatten(1) @ weight.T + torch.arange(4.0)
    p = torch.softmax(logits, dim=1) - torch.eye(4)[labels]
    torch.testing.assert_close(found.gradient.flatten(1), p @ weight)


def test_tiny_losses_keep_their_digits_in_float32():
    # Logits 0 and 30: the loss is log(1 + exp(-30)) = 9.4e-14, far below float32's epsilon.
    linear = nn.Linear(1, 2, bias=False)
    linear.load_state_dict({"weight": torch.tensor([[0.0], [30.0]])})
    network = nn.Sequential(nn.Flatten(), linear)
    found = input_gradients(network, torch.ones(1, 1, 1, 1), torch.tensor([1]))
    assert found.gradient.dtype == torch.float32
    assert found.loss.item() == pytest.approx(9.357622968840175e-14, rel=1e-2)
    assert found.gradient.item() == pytest.approx(-30 * 9.357622968840175e-14, rel=1e-2)


class Views(nn.Module):
    """A network that insists on the usual memory layout."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.linear(self.convolution(x).view(len(x), -1))


def test_memory_layouts():
    example = torch.rand(1, 3, 8, 8)
    assert freeze(smooth(), CPU, torch.float32, example).layout == torch.channels_last
    frozen = freeze(Views(), CPU, torch.float32, example)
    assert frozen.layout == torch.contiguous_format
    assert frozen.evaluate(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), 2).loss.shape == (2,)
    assert _seconds(frozen.module, example, torch.contiguous_format) > 0


def test_stored_bytes_leave_out_the_weights():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 1000), nn.Tanh(), nn.Linear(1000, 3))
    frozen = freeze(network, CPU, torch.float32, torch.rand(1, 3, 2, 2))
    assert frozen.saved_bytes == 1000 * 4  # the output of tanh; the linear layers need weights only
    assert frozen.fixed_bytes == 0


def test_weights_that_are_computed_are_counted_once():
    network = nn.Sequential(nn.Conv2d(3, 64, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    weight_norm(network[0])
    frozen = freeze(network, CPU, torch.float32, torch.rand(1, 3, 8, 8))
    weights, activations = 4 * network[0].weight.numel(), 4 * 64 * 36
    assert weights <= frozen.fixed_bytes < 1.1 * weights
    assert activations <= frozen.saved_bytes < 2 * activations


def test_batch_norm_is_folded_once(monkeypatch):
    """A ResNet stores activations alone, and computes what it did when it folded each time."""
    network = build("resnet18", width=13, num_classes=10, image_size=8)  # too wide to be compiled
    points, labels = torch.randn(8, 3, 8, 8), torch.arange(8)
    for _ in range(3):
        network.train()(points)
    found = freeze(network, CPU, torch.float32, points[:1])
    monkeypatch.setattr(ConvNorm, "fold", lambda part: None)
    expected = freeze(network, CPU, torch.float32, points[:1])
    assert found.fixed_bytes == 0 < expected.fixed_bytes
    assert found.saved_bytes == expected.saved_bytes
    for each in ("logits", "loss", "gradient"):
        values = (getattr(f.evaluate(points, labels, 3), each) for f in (found, expected))
        assert torch.equal(*values)
    assert not network.stem.folded


def test_infinite_logits_of_compiled_networks_are_refused():
    pytest.importorskip("numba")
    network = build("convnet", width=2, num_classes=3, image_size=8).eval()
    network.kernels = "compiled"
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1e12)
    frozen = FrozenNetwork(network, torch.channels_last, 3, 0, 0, block=16)
    with pytest.raises(UserError, match="given returned NaN or infinite logits"):
        frozen.check(torch.rand(1, 3, 8, 8), "the network given")


def test_reduced_precision_is_off_inside_and_comes_back():
    x = torch.rand(64, 512, generator=torch.Generator().manual_seed(0))
    exact = x.double() @ x.double().T
    backends = torch.backends
    before = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16 products, where there are any
        backends.cudnn.allow_tf32 = True
        reduced = x @ x.T
        with full_precision():
            torch.testing.assert_close((x @ x.T).double(), exact, rtol=1e-6, atol=0)
            assert not backends.cuda.matmul.allow_tf32 and not backends.cudnn.allow_tf32
            assert backends.cudnn.deterministic
            with backends.cudnn.flags(enabled=True):  # as a network may
                pass
            assert not backends.cudnn.allow_tf32
        assert torch.equal(x @ x.T, reduced)
        assert torch.get_float32_matmul_precision() == "medium"
        assert backends.cuda.matmul.allow_tf32 and backends.cudnn.allow_tf32
        assert not backends.cudnn.deterministic
    finally:
        torch.set_float32_matmul_precision(before[0])
        backends.cudnn.allow_tf32 = before[1]


def test_surrounding_contexts_do_not_matter():
    network, points, labels = smooth().float(), random_images(2).float(), random_labels(2)
    expected = input_gradients(network, points, labels)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = input_gradients(network, points, labels)
    with torch.inference_mode():
        inferred = input_gradients(network, points, labels)
    for other in (found, inferred):
        assert torch.equal(other.loss, expected.loss)
        assert torch.equal(other.gradient, expected.gradient)


def test_the_network_is_left_as_it_is():
    network = smooth().train()
    network.linear.weight.requires_grad_(False)
    network(normalised(random_images(2))).sum().backward()
    before, gradient = copy.deepcopy(network), network.convolution.weight.grad.clone()
    input_gradients(network, normalised(random_images(2)), random_labels(2))
    assert network.training and network.norm.training
    for was, now in zip(before.parameters(), network.parameters(), strict=True):
        assert torch.equal(was, now) and was.requires_grad == now.requires_grad
        assert was.stride() == now.stride()
    assert torch.equal(network.convolution.weight.grad, gradient)
    assert network.linear.weight.grad is None
    for was, now in zip(before.buffers(), network.buffers(), strict=True):
        assert torch.equal(was, now)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(3, 2, 3), r"returned \[1, 2, 6, 6\]"),
        (nn.Conv2d(4, 2, 3), r"cannot evaluate images of shape \[1, 3, 8, 8\]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), "cannot evaluate"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), "labels range from 0 to 2.* 2 outputs"),
    ],
)
def test_networks_that_do_not_match(network, message):
    with pytest.raises(UserError, match=message):
        input_gradients(network, torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value):
    network = smooth()
    network.norm.running_var[1] = value
    with pytest.raises(UserError, match=r"norm\.running_var holds NaN or infinite"):
        input_gradients(network, random_images(1), random_labels(1))
