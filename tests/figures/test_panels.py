from __future__ import annotations

import numpy as np
import pytest
from figures.synthetic import make_experiment
from matplotlib.figure import Figure

from smoothdescent.figures import figure2, panels
from smoothdescent.figures.panels import LINEAR_RANGE

TABLES = {"widths": [1, 4, 7, 16], "epochs": [1, 50]}


def axes_of(figure: Figure) -> dict[str, str]:
    return {ax.get_title(): ax.get_yscale() for ax in figure.axes}


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (2 * LINEAR_RANGE, "log")])
def test_norms_whose_peaks_lie_far_apart_get_a_logarithmic_axis(factor: float, scale: str) -> None:
    experiment = make_experiment(**TABLES, volumes=2)
    table = experiment.sharpness
    table.loc[table["volume"] == 1, "hessian_norm"] *= factor
    drawing = figure2.draw({experiment.name: experiment})
    scales = axes_of(drawing.figure)
    assert scales.pop("Hessian norm") == scale
    assert set(scales.values()) == {"linear"}
    assert all(ax.get_ylim()[0] == 0 for ax in drawing.figure.axes[:3])


def test_other_normalisations_are_named() -> None:
    experiment = make_experiment(**TABLES, volumes=1)
    object.__setattr__(experiment, "normalisation", "rms")
    drawing = figure2.draw({experiment.name: experiment})
    assert "Hessian norm (rms)" in axes_of(drawing.figure)


def test_legend_counts_erased_singular_values() -> None:
    experiment = make_experiment(**TABLES, volumes=4)
    title, handles = panels.volume_handles(experiment)
    assert title == "volume $k$ (singular values erased)"
    labels = [handle.get_label() for handle in handles]
    assert labels == ["0", "1 (2)", "2 (4)", "3 (6)", "interpolation threshold"]


def test_curves_and_bands_show_the_recorded_numbers() -> None:
    experiment = make_experiment(**TABLES, volumes=4)
    drawing = figure2.draw({experiment.name: experiment})
    rows = drawing.table[
        (drawing.table["panel"] == "jacobian_norm") & (drawing.table["series"] == "volume 2")
    ]
    ax = drawing.figure.axes[2]
    curves = [line for line in ax.lines if line.get_linestyle() == "-"]
    curve = curves[len(curves) - 1 - 2]  # drawn from the largest volume to the point itself
    assert np.array_equal(curve.get_xdata(), rows["x"])
    assert np.array_equal(curve.get_ydata(), rows["y"])
    corners = ax.collections[len(curves) - 1 - 2].get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx((rows["y"] + rows["y_std"]).max())
    assert corners[:, 1].min() == pytest.approx((rows["y"] - rows["y_std"]).min())


@pytest.mark.parametrize(
    ("centres", "edges"),
    [
        ([4.0], [4 / 2**0.5, 4 * 2**0.5]),
        ([1.0, 4.0], [0.5, 2.0, 8.0]),
        ([1.0, 4.0, 16.0], [0.5, 2.0, 8.0, 32.0]),
    ],
)
def test_cell_edges(centres: list[float], edges: list[float]) -> None:
    assert panels._edges(np.array(centres)) == pytest.approx(edges)
