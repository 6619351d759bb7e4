"""Curves: the noise between seeds, and intervals that hold at once."""

import numpy as np
import pytest

from smoothdescent.verdict.curves import Curve, smallest

X = np.arange(6)


def test_the_larger_of_two_variances_counts():
    values = np.zeros((6, 3))
    values[1] = [-1, 0, 1]
    curve = Curve.of(X, values)
    # Its own variance is 1; two widths on either side share it, the last two do not.
    assert list(curve.freedom) == [6, 8, 10, 10, 8, 6]
    assert curve.variance == pytest.approx([2 / 6, 1, 2 / 10, 2 / 10, 0, 0])
    assert curve.error[1] == pytest.approx(3**-0.5)


def test_single_seeds_among_others_borrow_from_all():
    values = np.array([[1.0, np.nan]] * 4 + [[0.0, 2.0]] * 2)
    curve = Curve.of(X, values)
    assert curve.known
    assert list(curve.freedom) == [2, 2, 1, 2, 2, 2]
    assert curve.variance == pytest.approx(2.0)


def test_missing_values():
    values = np.array([[1.0, 3.0], [2.0, np.nan], [np.nan, np.nan], [5.0, 7.0], [0, 0], [0, 0]])
    curve = Curve.of(X, values)
    assert list(curve.x) == [0, 1, 3, 4, 5]
    assert list(curve.mean) == [2, 2, 6, 0, 0]
    assert list(curve.seeds) == [2, 1, 2, 2, 2]
    assert list(curve.freedom) == [2, 3, 4, 3, 3]
    assert curve.variance[1] == pytest.approx(4 / 3)


def test_one_seed_knows_no_noise():
    curve = Curve.of(X, np.arange(6.0)[:, None])
    assert not curve.known and not curve.freedom.any()
    assert np.isinf(curve.error).all()
    assert np.isinf(curve.differences()[1]).all()
    with pytest.raises(ValueError, match="single seeds"):
        curve.redraw(3, np.random.default_rng(0))


def test_intervals_hold_for_all_pairs_at_once():
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        difference, half = Curve.of(X, random.standard_normal((6, 3))).differences()
        wrong += bool((np.abs(difference) > half).any())
    # 5 % by Tukey's test; less because the larger of two variances counts.
    assert wrong / 300 <= 0.05


def test_redraw():
    curve = Curve.of(X, np.arange(6.0)[:, None] + [[-1, 0, 1]])
    draws = curve.redraw(4000, np.random.default_rng(0))
    assert draws.mean(axis=0) == pytest.approx(np.arange(6.0), abs=0.05)
    assert draws.std(axis=0) == pytest.approx(3**-0.5, rel=0.05)


def test_smallest_covers_the_smallest():
    random = np.random.default_rng(2)
    true, covered = np.array([0.0, 0.1, 0.1, 3.0]), 0
    for _ in range(400):
        curve = Curve.of(np.arange(4), true[:, None] + random.standard_normal((4, 3)))
        value, low, high, at = smallest(curve.mean, curve.error, curve.freedom)
        assert value == curve.mean[at]
        covered += low <= 0 <= high
    assert covered / 400 >= 0.93
