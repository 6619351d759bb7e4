"""The picture of one measured table."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib import pyplot

from smoothdescent.errors import UserError
from smoothdescent.figures import plot_sharpness, style

# Two clean samples and a noisy one, volumes 0 and 1.
TABLE = pa.table(
    {
        "sample_id": [3, 3, 1, 1, 2, 2],
        "volume": np.array([0, 1] * 3, np.int16),
        "is_noisy": [False, False, True, True, False, False],
        "jacobian_norm": [1.0, 2.0, 8.0, 9.0, 3.0, 6.0],
        "accuracy": [1.0, 0.5, 0.0, 0.0, 1.0, 1.0],
    }
)


@pytest.fixture
def ax():
    figure = pyplot.figure()
    yield figure.subplots()
    pyplot.close(figure)


def curves(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_clean_and_noisy_samples_have_a_curve_each(ax):
    assert plot_sharpness(TABLE, "jacobian_norm", ax) is ax
    assert curves(ax) == {"clean, 2": [[0, 2], [1, 4]], "noisy, 1": [[0, 8], [1, 9]]}
    assert [line.get_color() for line in ax.lines] == [style.BLUE, style.VERMILLION]
    assert ax.get_ylabel() == "Jacobian norm (nats per unit input)"
    band = ax.collections[0].get_paths()[0].vertices
    # The values 2 and 6 have the sample standard deviation sqrt(8), and their mean the error 2.
    assert band[band[:, 0] == 1, 1].max() == pytest.approx(4 + 2)
    assert not ax.collections[1].get_paths(), "one noisy sample has no error"


def test_without_labels_that_are_known_to_be_wrong_there_is_one_curve(ax):
    plot_sharpness(TABLE.drop_columns("is_noisy"), "accuracy", ax)
    [line] = ax.lines
    assert line.get_label() == "all, 3" and ax.get_ylabel() == "accuracy (%)"
    np.testing.assert_allclose(line.get_ydata(), [200 / 3, 50])


@pytest.mark.parametrize("convert", [pa.Table.to_pandas, pa.Table.to_pydict])
def test_other_kinds_of_tables(ax, convert):
    plot_sharpness(TABLE, ax=ax)
    expected = curves(ax)
    new = plot_sharpness(convert(TABLE))
    assert curves(new) == expected and new.figure is not ax.figure
    pyplot.close(new.figure)


def test_only_clean_samples(ax):
    plot_sharpness(TABLE.filter(pa.array([True, True, False, False, True, True])), ax=ax)
    assert curves(ax).keys() == {"clean, 2"}


@pytest.mark.parametrize(
    ("table", "measure", "message"),
    [
        (TABLE, "margin", "no column 'margin'; its columns are sample_id, volume, is_noisy"),
        ({"accuracy": [1.0]}, "accuracy", "no column 'volume'; its columns are accuracy"),
        (TABLE.slice(0, 0), "accuracy", "the table has no rows"),
    ],
)
def test_faults(table, measure, message):
    with pytest.raises(UserError, match=message):
        plot_sharpness(table, measure)
