import numpy as np
import pytest
import torch
from sharpness.references import MEAN, STD, normalised, random_images
from torchvision.transforms import functional

from smoothdescent.errors import UserError
from smoothdescent.randomness import sample_uniforms
from smoothdescent.sharpness import Tangent, jitter_coefficients, tangent_points
from smoothdescent.sharpness.tangent import ORDERS

ADJUST = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
)


def jittered(image, sample_id, number, magnitude, seed=0):
    """Apply jitter `number` of a sample with torchvision, image after image."""
    draws = sample_uniforms(
        seed, "jitter", sample_ids=torch.tensor([sample_id]), count=4 * number + 4
    )[0, -4:].tolist()
    for kind in ORDERS[int(draws[3] * 6)]:
        image = ADJUST[kind](image, 1 - magnitude + 2 * magnitude * draws[kind])
    return image


@pytest.mark.parametrize("magnitude", [0.01, 0.3])
@pytest.mark.parametrize("step", ["delta", "full"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tangent_points_match_torchvision(magnitude, step, channels):
    # Values far from 0 and 1: torchvision clamps, the jitters here must not.
    images = 0.4 + 0.2 * random_images(5, size=6, channels=channels)
    tangent = Tangent(jitters=7, step_size=0.2, step=step, magnitude=magnitude)
    mean, std = MEAN[:channels], STD[:channels]
    sample_ids = torch.tensor([3, 0, 12345678901, 7, 8])
    found = tangent_points(images, sample_ids, mean=mean, std=std, tangent=tangent, seed=4)
    assert found.shape == (5, 7, channels, 6, 6)
    scale = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
    shift = torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1)
    for n in range(5):
        for m in range(7):
            u = jittered(images[n], int(sample_ids[n]), m, magnitude, 4) - images[n]
            x = images[n] + (0.2 if step == "delta" else 1.0) * u
            torch.testing.assert_close(found[n, m], (x - shift) / scale, atol=1e-12, rtol=0)


def test_images_outside_the_unit_interval_are_not_clamped():
    images = 4 * random_images(1) - 2
    ids = torch.tensor([0])
    tangent = Tangent(jitters=1, step="full")
    inside = tangent_points(images / 8 + 0.5, ids, mean=MEAN, std=STD, tangent=tangent)
    a, b, c = jitter_coefficients(ids, tangent)[0, 0].tolist()
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
    grey = (images[0] * weights).sum(0)
    u = a * images[0] + b * grey + c * grey.mean()
    found = tangent_points(images, ids, mean=MEAN, std=STD, tangent=tangent)[0, 0]
    scale = torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(found, normalised(images[0]) + u / scale, atol=1e-12, rtol=0)
    assert inside.shape == found[None, None].shape


def test_factors_and_orders_are_uniform():
    tangent = Tangent(jitters=2, magnitude=0.25)
    ids = torch.arange(20000)
    coefficients = jitter_coefficients(ids, tangent)
    # In the brightness-like part a+1 is the product of the three factors.
    product = coefficients[..., 0] + 1
    assert product.min() >= 0.75**3 and product.max() <= 1.25**3
    assert abs(product.mean() - 1) < 0.01
    assert abs(product.var() - ((1 + 0.25**2 / 3) ** 3 - 1)) < 0.003
    order = (sample_uniforms(0, "jitter", sample_ids=ids, count=4)[:, 3] * 6).long()
    counts = np.bincount(order.numpy())
    assert len(counts) == 6 and abs(counts - 20000 / 6).max() < 300


def test_draws_belong_to_the_sample_and_to_the_seed():
    ids = torch.tensor([5, 2, 9])
    drawn = jitter_coefficients(ids, Tangent(jitters=3), seed=1)
    assert torch.equal(drawn[[2, 0]], jitter_coefficients(ids[[2, 0]], Tangent(jitters=3), seed=1))
    assert torch.equal(drawn[:, :2], jitter_coefficients(ids, Tangent(jitters=2), seed=1))
    assert not torch.equal(drawn, jitter_coefficients(ids, Tangent(jitters=3), seed=2))


@pytest.mark.parametrize(
    "wrong", [{"jitters": 0}, {"step_size": 0.0}, {"magnitude": 1.0}, {"step": "half"}]
)
def test_wrong_settings(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Tangent(**wrong)


def test_images_of_two_channels_have_no_jitter():
    with pytest.raises(UserError, match="2 channels"):
        tangent_points(random_images(1, channels=2), torch.tensor([0]), mean=MEAN[:2], std=STD[:2])
