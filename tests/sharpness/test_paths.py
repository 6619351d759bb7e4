import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sharpness.references import random_images

from smoothdescent.errors import UserError
from smoothdescent.sharpness import Paths, ShiftPaths, SVDPaths, path_images
from smoothdescent.sharpness.paths import svd_images


def numpy_svd_image(image, direction, strength):
    """Erase singular values with 1-based indices r-s-p+1 .. r-p, one channel after another."""
    result = np.empty_like(image)
    for channel, matrix in enumerate(image):
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        rank = len(s)
        for index in range(rank - strength - direction + 1, rank - direction + 1):
            s[index - 1] = 0
        result[channel] = u @ np.diag(s) @ vt
    return result


@settings(max_examples=30)
@given(st.data())
def test_svd_paths_match_numpy(data):
    height, width = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 9))
    rank = min(height, width)
    directions = data.draw(st.integers(1, rank))
    strengths = data.draw(st.sets(st.integers(1, rank - directions + 1), min_size=1))
    seed = data.draw(st.integers(0, 2**16))
    images = np.random.default_rng(seed).random((2, 3, height, width))
    found = path_images(torch.from_numpy(images), SVDPaths(directions, sorted(strengths)))
    assert found.shape == (2, directions, len(strengths) + 1, 3, height, width)
    for n in range(2):
        for p in range(directions):
            np.testing.assert_array_equal(found[n, p, 0], images[n])
            for k, strength in enumerate(sorted(strengths), start=1):
                expected = numpy_svd_image(images[n], p, strength)
                np.testing.assert_allclose(found[n, p, k], expected, atol=1e-12)


def test_images_of_low_rank_do_not_move_before_their_rank_is_reached():
    generator = np.random.default_rng(0)
    constant = np.full((3, 8, 8), 0.3)
    rank_one = np.einsum("ci,cj->cij", generator.random((3, 8)), generator.random((3, 8)))
    images = torch.from_numpy(np.stack([constant, rank_one]))
    found = path_images(images, SVDPaths(2, (1, 4, 6)))
    # Up to seven of the eight singular values are zero: no path moves at all.
    assert torch.equal(found, images[:, None, None].expand_as(found))
    everything = path_images(images, SVDPaths(1, (7, 8)))
    assert torch.equal(everything[:, 0, 1], images)
    torch.testing.assert_close(everything[:, 0, 2], torch.zeros_like(images))


def test_black_images_have_paths_of_length_zero():
    images = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(path_images(images, SVDPaths(1, (1, 4))), torch.zeros(1, 1, 3, 3, 4, 4))


def test_repeated_singular_values_lose_the_right_energy():
    # An orthogonal matrix: all singular values are 1, which of them are erased is a choice.
    orthogonal = torch.linalg.qr(random_images(1)[0]).Q[None]
    found = path_images(orthogonal, SVDPaths(3, (2, 5)))
    for k, strength in ((1, 2), (2, 5)):
        values = torch.linalg.svdvals(found[0, :, k])
        expected = torch.tensor([1.0] * (8 - strength) + [0.0] * strength, dtype=torch.float64)
        torch.testing.assert_close(values, expected.expand_as(values))


def test_the_decomposition_is_in_float64_for_float32_images():
    images = random_images(2).float()
    found = path_images(images, SVDPaths(2, (3, 5)))
    assert found.dtype == torch.float32
    exact = path_images(images.double(), SVDPaths(2, (3, 5)))
    assert torch.equal(found, exact.float())


def test_whole_shifts_repeat_the_edges():
    images = random_images(1, size=6)
    found = path_images(images, ShiftPaths(4, (1, 2)))
    right, down = found[0, 0, 2], found[0, 1, 1]
    torch.testing.assert_close(right[..., 2:], images[0, ..., :-2])
    torch.testing.assert_close(right[..., :2], images[0, ..., :1].expand(-1, -1, 2))
    torch.testing.assert_close(down[:, 1:], images[0, :, :-1])
    torch.testing.assert_close(down[:, 0], images[0, :, 0])
    left, up = found[0, 2, 1], found[0, 3, 1]
    torch.testing.assert_close(left[..., :-1], images[0, ..., 1:])
    torch.testing.assert_close(up[:, :-1], images[0, :, 1:])


@settings(max_examples=20)
@given(st.integers(1, 7), st.floats(0.05, 9), st.integers(2, 7), st.integers(2, 7))
def test_shifts_are_bilinear(directions, radius, height, width):
    image = np.random.default_rng(0).random((1, height, width))
    found = path_images(torch.from_numpy(image)[None], ShiftPaths(directions, (radius,)))
    for p in range(directions):
        angle = 2 * math.pi * p / directions
        for row in range(height):
            for column in range(width):
                y, x = row - radius * math.sin(angle), column - radius * math.cos(angle)
                y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                top, left = min(int(y), height - 2), min(int(x), width - 2)
                a, b = y - top, x - left
                expected = (1 - a) * (
                    (1 - b) * image[0, top, left] + b * image[0, top, left + 1]
                ) + a * ((1 - b) * image[0, top + 1, left] + b * image[0, top + 1, left + 1])
                # Distances are rounded to a millionth of a pixel.
                assert abs(found[0, p, 1, 0, row, column] - expected) < 3e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Paths("spiral", 1, (1,)), "family 'spiral'"),
        (lambda: SVDPaths(0), "directions 0"),
        (lambda: SVDPaths(1, ()), "strengths"),
        (lambda: SVDPaths(1, (2, 1)), "increasing"),
        (lambda: ShiftPaths(1, (0, 1)), "positive"),
        (lambda: path_images(random_images(1), SVDPaths(4, (6,))), "9 smallest singular values"),
        (lambda: path_images(random_images(1), SVDPaths(1, (1.5,))), "whole numbers"),
    ],
)
def test_wrong_paths(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_vectors_that_a_gpu_leaves_undefined(monkeypatch):
    """On a machine without one, what decomposes is a stand-in: vectors of zero values are NaN."""
    original = torch.linalg.svd
    images = torch.rand(1, 2, 1, 8, dtype=torch.float64) * torch.rand(8, 1, dtype=torch.float64)
    images[:, 1] = 0  # a channel without any light
    expected = svd_images(images, 2, (2, 4))

    def undefined(x, full_matrices):
        u, s, vh = original(x, full_matrices=full_matrices)
        zero = s <= 1e-12
        u, vh = u.clone(), vh.clone()
        u.transpose(-1, -2)[zero] = torch.nan
        vh[zero] = torch.nan
        return u, s, vh

    monkeypatch.setattr(torch.linalg, "svd", undefined)
    found = svd_images(images, 2, (2, 4))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
