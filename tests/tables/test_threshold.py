from __future__ import annotations

import math
import statistics

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothdescent.tables.threshold import disagreements, interpolation_threshold, late_accuracies

Accuracies = dict[int, list[list[float]]]
FITS, MISSES = st.floats(0.9995, 1.0), st.floats(0.0, 0.999)


def make_history(accuracies: Accuracies) -> pd.DataFrame:
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


def threshold(accuracies: Accuracies, statistic: str = "median", accuracy: float = 0.9995):
    runs = late_accuracies(make_history(accuracies), statistic=statistic)
    return interpolation_threshold(runs, accuracy, statistic)


def test_smallest_interpolating_width() -> None:
    assert threshold({8: [[1.0]], 4: [[0.9996]], 2: [[0.999]]}) == 4


def test_all_wider_widths_must_fit_too() -> None:
    assert threshold({2: [[1.0]], 4: [[0.9]], 8: [[1.0]], 16: [[1.0]]}) == 8
    assert threshold({2: [[1.0]], 4: [[1.0]], 8: [[0.9]]}) is None


@pytest.mark.parametrize(
    ("statistic", "expected"), [("median", 4), ("mean", 8), ("min", 16)], ids=str
)
def test_the_statistic_over_seeds(statistic: str, expected: int) -> None:
    accuracies = {
        4: [[1.0], [1.0], [0.75]],
        8: [[1.0], [1.0], [0.9986]],
        16: [[1.0], [1.0], [1.0]],
    }
    assert threshold(accuracies, statistic) == expected


def test_late_evaluations_are_the_last_three_and_those_of_the_final_checkpoints() -> None:
    history = make_history({2: [[0.1, 0.2, 0.3, math.nan, 0.5, 0.6]]})
    assert late_accuracies(history).tolist() == [0.5]
    assert late_accuracies(history, [1, 5]).tolist() == [pytest.approx(0.4)]
    assert late_accuracies(history, [5]).tolist() == [0.5]
    assert late_accuracies(history, [2], "min").tolist() == [0.3]


@pytest.mark.parametrize(
    "accuracies", [{}, {2: [[math.nan]]}, {1: [[0.2]], 2: [[0.9994]]}], ids=["empty", "nan", "low"]
)
def test_no_interpolating_width(accuracies: Accuracies) -> None:
    assert threshold(accuracies) is None


def test_accuracy_is_configurable() -> None:
    assert threshold({1: [[0.89]], 2: [[0.9]], 4: [[1.0]]}, accuracy=0.9) == 2


def test_widths_at_which_seeds_disagree() -> None:
    runs = late_accuracies(make_history({2: [[0.5], [0.6]], 4: [[1.0], [0.9]], 8: [[1.0], [1.0]]}))
    assert disagreements(runs) == {4: (1, 2)}


@st.composite
def agreeing_studies(draw: st.DrawFn) -> tuple[Accuracies, int | None]:
    """Studies whose seeds and late evaluations agree on who fits, and their threshold."""
    widths = draw(st.lists(st.integers(1, 64), min_size=1, max_size=5, unique=True))
    widths = sorted(widths)
    first = draw(st.integers(0, len(widths)))
    seeds, epochs = draw(st.integers(3, 5)), draw(st.integers(3, 5))
    accuracies = {
        width: [
            [draw(FITS if index >= first else MISSES) for _ in range(epochs)] for _ in range(seeds)
        ]
        for index, width in enumerate(widths)
    }
    return accuracies, widths[first] if first < len(widths) else None


@given(agreeing_studies(), st.data())
def test_one_seed_and_one_epoch_do_not_move_it(
    study: tuple[Accuracies, int | None], data: st.DataObject
) -> None:
    """At every width one run is replaced, and one late evaluation of each of the others."""
    accuracies, expected = study
    assert threshold(accuracies) == expected
    for runs in accuracies.values():
        odd = data.draw(st.integers(0, len(runs) - 1))
        for seed, course in enumerate(runs):
            replaced = range(len(course)) if seed == odd else [data.draw(st.integers(-3, -1))]
            for epoch in replaced:
                course[epoch] = data.draw(st.floats(0.0, 1.0))
    assert threshold(accuracies) == expected


@given(
    st.dictionaries(
        st.integers(1, 64),
        st.lists(
            st.lists(st.sampled_from([0.0, 0.5, 1.0, math.nan]), min_size=1, max_size=6),
            min_size=1,
            max_size=4,
        ),
        max_size=5,
    ),
    st.sampled_from(["median", "mean", "min"]),
)
def test_agrees_with_loops(accuracies: Accuracies, statistic: str) -> None:
    over = {"median": statistics.median, "mean": statistics.fmean, "min": min}[statistic]
    expected = None
    for width in sorted(accuracies, reverse=True):
        evaluated = [[a for a in course if not math.isnan(a)][-3:] for course in accuracies[width]]
        runs = [over(course) for course in evaluated if course]
        if runs and over(runs) < 0.9995:
            break
        expected = width if runs else expected
    assert threshold(accuracies, statistic) == expected
