from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from figures.synthetic import make_experiment
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from smoothdescent.figures import heatmaps, panels
from smoothdescent.figures.command import draw
from smoothdescent.figures.panels import LINEAR_RANGE
from smoothdescent.tables.experiment import ExperimentTables

TABLES = {"widths": [1, 4, 7, 16], "epochs": [1, 50]}


def axes_of(figure: Figure) -> dict[str, str]:
    return {ax.get_title(): ax.get_yscale() for ax in figure.axes}


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (2 * LINEAR_RANGE, "log")])
def test_norms_whose_peaks_lie_far_apart_get_a_logarithmic_axis(factor: float, scale: str) -> None:
    experiment = make_experiment(**TABLES, volumes=2)
    table = experiment.sharpness
    table.loc[table["volume"] == 1, "hessian_norm"] *= factor
    drawing = draw("figure2", {experiment.name: experiment})
    scales = axes_of(drawing.figure)
    assert scales.pop("Hessian norm") == scale
    assert set(scales.values()) == {"linear"}
    assert all(ax.get_ylim()[0] == 0 for ax in drawing.figure.axes[:3])


def test_other_normalisations_are_named() -> None:
    experiment = make_experiment(**TABLES, volumes=1)
    object.__setattr__(experiment, "normalisation", "rms")
    drawing = draw("figure2", {experiment.name: experiment})
    assert "Hessian norm (rms)" in axes_of(drawing.figure)


def test_legend_counts_erased_singular_values() -> None:
    experiment = make_experiment(**TABLES, volumes=4)
    title, handles = panels.volume_handles(experiment)
    assert title == "volume $k$ (singular values erased)"
    labels = [handle.get_label() for handle in handles]
    assert labels == ["0", "1 (2)", "2 (4)", "3 (6)", "interpolation threshold"]


@pytest.mark.parametrize(("bands", "factor"), [("std", 1.0), ("interval", 4.302653 / 3**0.5)])
def test_curves_and_bands_show_the_recorded_numbers(bands: str, factor: float) -> None:
    experiment = make_experiment(**TABLES, volumes=4)
    experiment.config["bands"] = bands
    drawing = draw("figure2", {experiment.name: experiment})
    ax = drawing.figure.axes[2]
    curves = [line for line in ax.lines if line.get_linestyle() == "-"]
    for volume in range(4):
        rows = drawing.table[
            (drawing.table["panel"] == "jacobian_norm")
            & (drawing.table["series"] == f"volume {volume}")
        ]
        drawn = len(curves) - 1 - volume  # from the largest volume to the point itself
        assert np.array_equal(curves[drawn].get_xdata(), rows["x"])
        assert np.array_equal(curves[drawn].get_ydata(), rows["y"])
        paths = ax.collections[drawn].get_paths()
        if volume in (1, 2):
            assert not any(len(path.vertices) for path in paths), "seven bands hide the curves"
            continue
        corners = paths[0].vertices
        half = factor * rows["y_std"]  # Student's t of three seeds
        assert corners[:, 1].max() == pytest.approx((rows["y"] + half).max())
        assert corners[:, 1].min() == pytest.approx((rows["y"] - half).min())


def test_whiskers_show_the_spread_within_runs() -> None:
    made = make_experiment(**TABLES, volumes=2)
    last = made.sharpness[made.sharpness["epoch"] == made.sharpness["epoch"].max()]
    earlier = last.assign(epoch=last["epoch"] - 1, jacobian_norm=0.5 * last["jacobian_norm"])
    experiment = dataclasses.replace(
        made,
        sharpness=pd.concat([made.sharpness, earlier]),
        final_epochs=[last["epoch"].max() - 1, last["epoch"].max()],
    )
    drawing = draw("figure2", {experiment.name: experiment})
    rows = drawing.table[
        (drawing.table["panel"] == "jacobian_norm") & (drawing.table["series"] == "volume 0")
    ]
    assert (rows["y_within"] > 0).all()
    whiskers = [c for c in drawing.figure.axes[2].collections if isinstance(c, LineCollection)]
    ends = np.array([segment[:, 1] for segment in whiskers[-1].get_segments()])
    assert ends[:, 0] == pytest.approx((rows["y"] - rows["y_within"]).to_numpy())
    assert ends[:, 1] == pytest.approx((rows["y"] + rows["y_within"]).to_numpy())
    one = draw("figure2", {made.name: made})
    assert one.table["y_within"].isna().all()
    assert not any(isinstance(c, LineCollection) for ax in one.figure.axes for c in ax.collections)


@pytest.mark.parametrize("figure", ["figure1", "figure2", "figure5"])
def test_widths_whose_runs_do_not_converge_or_stopped_are_marked(figure: str) -> None:
    experiment = make_experiment(widths=[1, 4, 7, 16], epochs=[1, 40, 45, 50], volumes=1)
    assert panels.marks_note([experiment]) == ""
    history = experiment.history
    odd = (history["width"] == 4) & (history["seed"] == 1) & history["epoch"].isin([40, 50])
    history.loc[odd, "train_accuracy_all"] = 0.0
    history["stopped"] = (history["width"] > 4) & (history["epoch"] == 50)
    experiment = dataclasses.replace(experiment)
    assert list(experiment.unsettled) == [(4, 1)] and experiment.stopped_widths == [7, 16]
    note = panels.marks_note([experiment])
    assert "does not converge" in note and "stopped" in note
    axes = draw(figure, {experiment.name: experiment}).figure.axes
    lines = [line for ax in axes for line in ax.lines]
    for marker, widths in ((panels.UNSETTLED, [4]), (panels.STOPPED, [7, 16])):
        marked = [list(line.get_xdata()) for line in lines if line.get_marker() == marker]
        assert marked == [widths] * {"figure1": 1, "figure2": 4, "figure5": 3}[figure]


@pytest.mark.parametrize(
    ("centres", "edges"),
    [
        ([4.0], [4 / 2**0.5, 4 * 2**0.5]),
        ([1.0, 4.0], [0.5, 2.0, 8.0]),
        ([1.0, 4.0, 16.0], [0.5, 2.0, 8.0, 32.0]),
    ],
)
def test_cell_edges(centres: list[float], edges: list[float]) -> None:
    assert heatmaps._edges(np.array(centres)) == pytest.approx(edges)


def height(ax: Axes) -> float:
    low, high = ax.get_ylim()
    return high - low


def test_both_axes_of_test_errors_have_one_scale() -> None:
    experiment = make_experiment("convnet-cifar100-asymmetric", **TABLES, volumes=1)
    drawing = draw("figure7", {experiment.name: experiment})
    axes = {ax.get_ylabel(): ax for ax in drawing.figure.axes}
    left, right = axes["unperturbed classes (%)"], axes["corrupted classes (%)"]
    assert height(left) == pytest.approx(height(right))
    shown = drawing.table[drawing.table["panel"] == "b"]
    for ax, series in ((left, "unperturbed classes"), (right, "corrupted classes")):
        values = shown.loc[shown["series"] == series, "y"]
        assert ax.get_ylim()[0] <= values.min() and values.max() <= ax.get_ylim()[1]
        assert ax.get_ylim()[1] <= 101


@pytest.mark.parametrize("error", [0.0, 0.4, 0.999])
def test_errors_that_hardly_change_keep_an_axis_of_two_percentage_points(error: float) -> None:
    experiment = make_experiment("resnet18-cifar10-noise20", **TABLES, volumes=1)
    experiment.history["test_error"] = error + 1e-9 * experiment.history["width"]
    drawing = draw("figure6", {experiment.name: experiment})
    ax = drawing.figure.axes[0]
    assert height(ax) == pytest.approx(panels.LEAST_SPAN)
    assert ax.get_ylim()[0] < 100 * error < ax.get_ylim()[1]


def test_a_missing_test_error_is_told_beside_the_training_error() -> None:
    experiment = make_experiment(**TABLES, volumes=1)
    experiment.history["test_error"] = np.nan
    drawing = draw("figure1", {experiment.name: experiment})
    left, right = drawing.figure.axes[2:]
    assert "no test error" in [text.get_text() for text in left.texts]
    assert len(left.get_yticks()) == 0 and right.get_ylim() == (0, 100)
    assert not any("no " in text.get_text() for text in right.texts)


@pytest.mark.parametrize(("count", "small"), [(20, False), (21, True)])
def test_dense_widths_have_small_markers(count: int, small: bool) -> None:
    tables = {"widths": list(range(1, count + 1)), "epochs": [5], "volumes": 1, "seeds": (0,)}
    experiment = make_experiment(**tables)
    [line] = draw("figure2", {experiment.name: experiment}).figure.axes[1].lines[:1]
    assert line.get_marker() == "o"
    assert (line.get_markersize() < 2) == small


def with_one_seed(experiment: ExperimentTables, width: int) -> ExperimentTables:
    """Return an experiment without the other seeds of a width."""
    tables = {"history": experiment.history, "sharpness": experiment.sharpness}
    return dataclasses.replace(
        experiment,
        **{name: t[(t["width"] != width) | (t["seed"] == 0)] for name, t in tables.items()},
    )


def test_a_band_has_a_gap_where_a_width_has_one_seed() -> None:
    widths = [1, 2, 4, 7, 16, 32]
    experiment = with_one_seed(make_experiment(widths=widths, epochs=[1, 50], volumes=1), 4)
    ax = draw("figure2", {experiment.name: experiment}).figure.axes[2]
    paths = [path for band in ax.collections for path in band.get_paths()]
    spans = {(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in paths}
    assert {(1, 2), (7, 32)} <= spans and (1, 32) not in spans


def test_widths_of_which_runs_are_to_come_are_marked() -> None:
    experiment = with_one_seed(make_experiment(**TABLES, volumes=1), 7)
    config = {**experiment.config, "widths": [1, 4, 7, 12, 16], "seeds": [0, 1, 2]}
    partial = dataclasses.replace(experiment, config=config, partial="10 of 15 runs")
    assert partial.incomplete_widths == {7: 1, 12: 0}
    assert panels.partial_lines([partial]) == [
        "partial: 10 of 15 runs; no run yet at 1 of 5 widths"
    ]
    assert "\u25b3 not all seeds" in panels.marks_note([partial])
    for ax in draw("figure2", {partial.name: partial}).figure.axes:
        marks = [line for line in ax.lines if line.get_marker() == panels.INCOMPLETE]
        assert [list(line.get_xdata()) for line in marks] == [[7]]
    whole = dataclasses.replace(partial, partial="")
    assert panels.partial_lines([whole]) == [] and "seeds" not in panels.marks_note([whole])
