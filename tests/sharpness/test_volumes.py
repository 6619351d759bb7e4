import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothdescent.sharpness import segment_lengths, volume_integrals


def brute_force(values, points):
    """Equation 6 for one sample: values [P, K+1], points [P, K+1, D]."""
    result = []
    for volume in range(values.shape[1]):
        averages = []
        for path_values, path_points in zip(values, points, strict=True):
            area = length = 0.0
            for k in range(volume):
                step = float(np.sqrt(((path_points[k + 1] - path_points[k]) ** 2).sum()))
                area += step * (path_values[k] + path_values[k + 1]) / 2
                length += step
            averages.append(area / length if length > 0 else path_values[0])
        result.append(sum(averages) / len(averages))
    return result


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**16), st.data())
def test_volumes_match_a_loop(directions, steps, seed, data):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(3, directions, steps + 1))
    points = generator.normal(size=(3, directions, steps + 1, 2, 3))
    for k in range(1, steps + 1):  # some segments have length zero
        if data.draw(st.booleans()):
            points[:, 0, k] = points[:, 0, k - 1]
    found = volume_integrals(
        torch.from_numpy(values), segment_lengths(torch.from_numpy(points))
    ).numpy()
    for n in range(3):
        expected = brute_force(values[n], points[n].reshape(directions, steps + 1, -1))
        np.testing.assert_allclose(found[n], expected, rtol=1e-12, atol=1e-12)


def test_a_path_of_length_zero_has_the_value_at_its_base():
    values = torch.tensor([[[3.0, 9.0, 9.0], [1.0, 1.0, 2.0]]])
    lengths = torch.tensor([[[0.0, 0.0], [0.0, 2.0]]])
    assert volume_integrals(values, lengths).tolist() == [[2.0, 2.0, (3 + 1.5) / 2]]


def test_a_linear_function_is_integrated_exactly():
    points = torch.linspace(0, 4, 5).view(1, 1, 5, 1)
    found = volume_integrals(2 + 3 * points[..., 0], segment_lengths(points))
    torch.testing.assert_close(found[0], 2 + 3 * torch.arange(5.0).double() / 2)
