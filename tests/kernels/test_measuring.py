"""What is compiled beside the evaluation of networks, against PyTorch.

Tensors that are to be differentiated are left to PyTorch.
"""

import pytest
import torch
from sharpness.references import MEAN, STD

from smoothdescent.sharpness import SVDPaths, Tangent, path_images
from smoothdescent.sharpness.gradients import Evaluation
from smoothdescent.sharpness.measures import hessian_sumsq
from smoothdescent.sharpness.tangent import NormalisedImages, jitter_coefficients
from smoothdescent.sharpness.volumes import segment_lengths

measuring = pytest.importorskip("smoothdescent.kernels.measuring", reason="numba is not installed")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture(params=TOLERANCE, ids=str)
def draw(request):
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.rand(*shape, generator=generator, dtype=request.param)


def assert_both_agree(function, tensor):
    """Compare what is compiled with what PyTorch does."""
    with_torch = function(tensor.clone().requires_grad_())
    compiled = function(tensor)
    assert with_torch.requires_grad and not compiled.requires_grad
    tolerance = TOLERANCE[tensor.dtype]
    assert compiled.dtype == with_torch.dtype and compiled.shape == with_torch.shape
    torch.testing.assert_close(compiled, with_torch.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("height", "width"), [(6, 9), (8, 5)])
def test_erased_singular_values(draw, height, width):
    assert_both_agree(
        lambda images: path_images(images, SVDPaths(2, (1, 3, 4))), draw(2, 3, height, width)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_tangent_points(draw, channels):
    images = 4 * draw(5, 48 * channels) - 2
    scale = NormalisedImages(MEAN[:channels], STD[:channels], 48, images.dtype, torch.device("cpu"))
    tangent = Tangent(jitters=3, magnitude=0.3)
    drawn = jitter_coefficients(torch.arange(5), tangent, channels=channels).to(images)
    assert_both_agree(lambda images: scale.with_tangents(images, drawn), images)
    assert torch.equal(scale.with_tangents(images, drawn)[:, 0], scale(images))


def test_segment_lengths(draw):
    assert_both_agree(segment_lengths, draw(3, 2, 4, 48))
    assert_both_agree(segment_lengths, draw(3, 2, 4, 16, 3).transpose(3, 4))


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 1, 4, 2, 3)])
def test_differences_of_gradients(draw, count, order):
    """In either memory layout, and as parts of one tensor."""
    gradients = draw(count, 1 + 3, 3, 5, 5).permute(order)

    def measured(gradients):
        evaluation = Evaluation(None, None, None, gradients[:, 0], gradients[:, 1:])
        return hessian_sumsq(evaluation)

    assert_both_agree(measured, gradients)


def test_tiny_differences_do_not_vanish():
    gradients = torch.tensor([0.0, 1e-30]).repeat(48, 1).T.reshape(1, 2, 3, 4, 4)
    found = hessian_sumsq(Evaluation(None, None, None, gradients[:, 0], gradients[:, 1:]))
    assert found.item() == pytest.approx(48e-60, rel=1e-6)
