"""The batched augmentation against torchvision's on single images, and its draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torchvision.transforms.v2 import functional as single

from smoothdescent.training.augmentation import Crops, crop, draw_crops, pad

BLACK = torch.tensor([-2.0, -1.5, -1.0], dtype=torch.float64)


def random_images(samples=6, height=8, width=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shape = (samples, height, width or height, 3)
    return torch.randn(shape, generator=draw, dtype=torch.float64)


@settings(max_examples=40)
@given(
    shift=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 4000),
    chosen=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    width=st.sampled_from([5, 8]),
)
def test_same_as_torchvision_on_single_images(shift, flip, seed, epoch, chosen, width):
    images = random_images(width=width)
    crops = draw_crops(seed, epoch, torch.arange(100, 106), shift=shift, flip=flip)
    batch = crop(pad(images, shift, BLACK), torch.tensor(chosen), crops, shift)
    for image, n in zip(batch, chosen, strict=True):
        # torchvision pads all channels alike: pad what lies above black with zeros.
        above = single.pad((images[n] - BLACK).permute(2, 0, 1), [shift], fill=0)
        expected = single.crop(above, int(crops.top[n]), int(crops.left[n]), 8, width)
        if crops.flipped[n]:
            expected = single.horizontal_flip(expected)
        torch.testing.assert_close(image, expected.permute(1, 2, 0) + BLACK)


def test_black_borders():
    images = random_images().float()
    black = BLACK.float()
    corner = Crops(torch.zeros(6).long(), torch.zeros(6).long(), torch.zeros(6, dtype=torch.bool))
    batch = crop(pad(images, 3, black), torch.arange(6), corner, 3)
    assert torch.equal(batch[:, :3], black.expand(6, 3, 8, 3))
    assert torch.equal(batch[:, :, :3], black.expand(6, 8, 3, 3))
    assert torch.equal(batch[:, 3:, 3:], images[:, :5, :5])
    assert batch.is_contiguous()


def test_a_draw_depends_on_seed_epoch_and_sample_alone():
    ids = torch.tensor([3, 8, 5])
    crops = draw_crops(1, 2, ids, shift=4, flip=True)
    other = draw_crops(1, 2, ids[[2, 0]], shift=4, flip=True)
    assert torch.equal(crops.top[[2, 0]], other.top)
    assert torch.equal(crops.left[[2, 0]], other.left)
    assert torch.equal(crops.flipped[[2, 0]], other.flipped)
    many = torch.arange(1000)
    first = draw_crops(1, 2, many, shift=4, flip=True)
    for seed, epoch in ((1, 3), (2, 2)):
        second = draw_crops(seed, epoch, many, shift=4, flip=True)
        assert 0.05 < (first.top == second.top).double().mean() < 0.2


def test_offsets_are_uniform_and_flips_are_fair():
    crops = draw_crops(0, 7, torch.arange(20_000), shift=4, flip=True)
    for offsets in (crops.top, crops.left):
        assert chisquare(offsets.bincount(minlength=9)).pvalue > 0.001
        assert (offsets.min(), offsets.max()) == (0, 8)
    pairs = (9 * crops.top + crops.left) * 2 + crops.flipped
    assert chisquare(pairs.bincount(minlength=162)).pvalue > 0.001, "drawn independently"
    assert not draw_crops(0, 7, torch.arange(100), shift=4, flip=False).flipped.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_shift_and_no_flip_change_nothing(dtype):
    images = random_images().to(dtype)
    crops = draw_crops(0, 0, torch.arange(6), shift=0, flip=False)
    batch = crop(pad(images, 0, BLACK.to(dtype)), torch.tensor([4, 1]), crops, 0)
    assert torch.equal(batch, images[[4, 1]])
