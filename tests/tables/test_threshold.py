from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothdescent.tables.threshold import final_train_accuracy, interpolation_threshold


def make_history(accuracies: dict[int, list[list[float]]]) -> pd.DataFrame:
    """Return a history from `accuracies[width][seed][epoch]`; NaN is an epoch not evaluated."""
    return pd.DataFrame(
        [
            {"width": width, "seed": seed, "epoch": epoch, "train_accuracy_all": accuracy}
            for width, runs in accuracies.items()
            for seed, course in enumerate(runs)
            for epoch, accuracy in enumerate(course)
        ],
        columns=["width", "seed", "epoch", "train_accuracy_all"],
    )


def test_smallest_interpolating_width() -> None:
    history = make_history({8: [[1.0]], 4: [[0.9996]], 2: [[0.999]]})
    assert interpolation_threshold(history) == 4


def test_a_larger_width_that_misses_does_not_matter() -> None:
    history = make_history({2: [[0.5]], 4: [[1.0]], 8: [[0.9]]})
    assert interpolation_threshold(history) == 4


def test_mean_over_seeds_decides() -> None:
    history = make_history({4: [[1.0], [1.0], [0.998]], 8: [[1.0], [1.0], [0.9990]]})
    assert interpolation_threshold(history) == 8


def test_last_evaluation_of_each_run_counts() -> None:
    history = make_history({2: [[1.0, 0.9]], 4: [[0.5, 1.0, math.nan], [0.5, 0.6, 1.0]]})
    assert interpolation_threshold(history) == 4
    assert final_train_accuracy(history).to_dict() == {2: 0.9, 4: 1.0}


@pytest.mark.parametrize(
    "accuracies", [{}, {2: [[math.nan]]}, {1: [[0.2]], 2: [[0.9994]]}], ids=["empty", "nan", "low"]
)
def test_no_interpolating_width(accuracies: dict[int, list[list[float]]]) -> None:
    assert interpolation_threshold(make_history(accuracies)) is None


def test_accuracy_is_configurable() -> None:
    history = make_history({1: [[0.89]], 2: [[0.9]], 4: [[1.0]]})
    assert interpolation_threshold(history, accuracy=0.9) == 2


@given(
    st.dictionaries(
        st.integers(1, 64),
        st.lists(
            st.lists(st.sampled_from([0.0, 0.5, 1.0, math.nan]), min_size=1, max_size=4),
            min_size=1,
            max_size=3,
        ),
        max_size=5,
    )
)
def test_agrees_with_loops(accuracies: dict[int, list[list[float]]]) -> None:
    expected = None
    for width in sorted(accuracies):
        finals = []
        for course in accuracies[width]:
            evaluated = [accuracy for accuracy in course if not math.isnan(accuracy)]
            finals += evaluated[-1:]
        if finals and sum(finals) / len(finals) >= 0.9995:
            expected = width
            break
    assert interpolation_threshold(make_history(accuracies)) == expected
