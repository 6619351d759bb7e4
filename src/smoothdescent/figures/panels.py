"""Panels that several figures share. Each draws on given axes and records what it plots."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smoothdescent.figures import style
from smoothdescent.figures.experiment import (
    ExperimentTables,
    final_errors,
    final_volumes,
)

WIDTH_LABEL = "base width $w$"


@dataclass(frozen=True)
class Measure:
    """How a measure is written: its name, its unit, and the factor from table to axis."""

    title: str
    unit: str
    scale: float = 1.0

    @property
    def label(self) -> str:
        """The name with the unit."""
        return f"{self.title} ({self.unit})"


# The input is the normalised image. The tangent Hessian is a difference of Jacobians divided by a
# pure number, so both norms have the same unit.
MEASURES = {
    "accuracy": Measure("Training accuracy", "%", 100.0),
    "crossentropy": Measure("Cross-entropy", "nats"),
    "jacobian_norm": Measure("Jacobian norm", "nats per unit input"),
    "hessian_norm": Measure("Hessian norm", "nats per unit input"),
}
NORMS = ("jacobian_norm", "hessian_norm")
TEST_ERROR = Measure("Test error", "%", 100.0)

ERRORS = {
    "test_error": ("test error", style.VERMILLION, "-"),
    "train_error": ("training error", style.BLUE, "--"),
    "test_error_corrupted": ("corrupted classes", style.VERMILLION, "-"),
    "test_error_unperturbed": ("unperturbed classes", style.BLUE, "-"),
}

# The least height of an axis of errors, in percentage points: less is noise.
LEAST_SPAN = 2.0

# A grid of widths denser than this has smaller markers, which do not hide the curves.
SPARSE_WIDTHS = 20

# Curves whose peaks differ by more than this factor are unreadable on one linear axis.
LINEAR_RANGE = 30.0

PLOTTED = {
    "panel": "string",
    "experiment": "string",
    "series": "string",
    "x": "float64",
    "y": "float64",
    "y_std": "float64",
    "value": "float64",
    "value_std": "float64",
    "seeds": "Int64",
}


@dataclass
class Drawing:
    """A figure, the numbers on it, and what the axes of its panels are called."""

    figure: Figure
    axes: dict[str, dict[str, str]] = field(default_factory=dict)
    _columns: dict[str, list[object]] = field(default_factory=lambda: {key: [] for key in PLOTTED})

    def record(self, panel: str, series: str, experiment: str | None, **numbers: Any) -> None:
        """Add plotted numbers: x and y, with y_std or, on a heatmap, value and value_std."""
        count = len(numbers["x"])
        columns = {"panel": [panel] * count, "series": [series] * count, **numbers}
        columns["experiment"] = [experiment] * count
        for name, values in self._columns.items():
            values.extend(columns.get(name, [np.nan] * count))

    def label(self, panel: str, **labels: str) -> None:
        """Add the names, with units, of a panel's axes."""
        self.axes[panel] = labels

    @property
    def table(self) -> pd.DataFrame:
        """The plotted numbers in long form, with the columns of `PLOTTED`."""
        return pd.DataFrame(self._columns).astype(PLOTTED)


def curve(ax: Axes, data: pd.DataFrame, color: object, **line: object) -> None:
    """Plot the mean over seeds against width, with a band of one standard deviation."""
    band = data.dropna(subset=["std"])
    if len(data) > SPARSE_WIDTHS:
        line["markersize"] = 1.2  # seen where a width stands alone
    ax.fill_between(
        band["width"], band["mean"] - band["std"], band["mean"] + band["std"],
        color=color, alpha=0.14, linewidth=0,
    )  # fmt: skip
    ax.plot(data["width"], data["mean"], color=color, marker="o", markeredgewidth=0, **line)


def measure_over_volumes(
    drawing: Drawing, ax: Axes, experiment: ExperimentTables, measure: str, subset: str, panel: str
) -> None:
    """Plot one measure against width, one curve per volume, at the end of training.

    The unit is written at the axis; the caller writes the titles.
    """
    text = MEASURES[measure]
    data = final_volumes(experiment, measure, subset, text.scale)
    colours = style.volume_colours(len(experiment.volumes))
    # The point itself is drawn last, above the volumes.
    for volume, colour in reversed(list(zip(experiment.volumes, colours, strict=True))):
        rows = data[data["volume"] == volume]
        curve(ax, rows, colour, linewidth=1.5 if volume == 0 else 0.9)
    for volume in experiment.volumes:
        rows = data[data["volume"] == volume]
        drawing.record(
            panel, f"volume {volume}", experiment.name,
            x=rows["width"], y=rows["mean"], y_std=rows["std"], seeds=rows["seeds"],
        )  # fmt: skip
    drawing.label(panel, x="base width w", y=text.label)
    ax.set_ylabel(text.unit)
    style.width_axis(ax, experiment.history["width"].to_numpy())
    style.mark_threshold(ax, experiment.threshold)
    if data["mean"].isna().all():
        no_data(ax)


def scale_measures(axes: list[Axes], experiment: ExperimentTables, subsets: list[str]) -> None:
    """Choose the y axes of four panels, or columns that share axes: linear from zero, or log.

    The norms fall towards zero past the threshold, whatever the axis; what has to stay visible is
    the peak of each curve. Their axis is logarithmic if the peaks, over all volumes and `subsets`,
    differ by more than LINEAR_RANGE, and then ends at a tenth of the lowest peak.
    """
    for ax, measure in zip(axes, MEASURES, strict=True):
        values = [final_volumes(experiment, measure, subset, 1.0) for subset in subsets]
        peaks = pd.concat(rows.groupby("volume")["mean"].max() for rows in values).dropna()
        if peaks.empty:
            ax.set_yticks([])
            continue
        if measure == "accuracy":
            ax.set_ylim(0, 103)
            continue
        ax.set_ylim(bottom=0)
        peaks = peaks[peaks > 0]
        if measure in NORMS and len(peaks) and peaks.max() > LINEAR_RANGE * peaks.min():
            ax.set_yscale("log")
            ax.set_ylim(peaks.min() / 10, peaks.max() * 2)


def row_of_measures(
    drawing: Drawing,
    axes: list[Axes],
    experiment: ExperimentTables,
    subset: str,
    prefix: str = "",
) -> None:
    """Plot the four measures over volumes on four axes; `scale_measures` then sets the y axes.

    Args:
        drawing: the figure.
        axes: four panels, in the order of MEASURES.
        experiment: the tables.
        subset: 'all', 'clean' or 'noisy'.
        prefix: put before the measure's name to name the panel in the plotted table.
    """
    for ax, measure in zip(axes, MEASURES, strict=True):
        measure_over_volumes(drawing, ax, experiment, measure, subset, f"{prefix}{measure}")


def title_measures(axes: list[Axes], experiment: ExperimentTables) -> None:
    """Write the measures' names above four panels."""
    for ax, (name, measure) in zip(axes, MEASURES.items(), strict=True):
        plain = name != "hessian_norm" or experiment.normalisation == "equation5"
        ax.set_title(measure.title if plain else f"{measure.title} ({experiment.normalisation})")


def volume_handles(experiment: ExperimentTables) -> tuple[str, list[Line2D]]:
    """Return a legend's title and entries: one per volume, and the threshold if there is one."""
    quantity, strengths = experiment.volume_strengths
    handles = []
    colours = style.volume_colours(len(experiment.volumes))
    for volume, strength, colour in zip(experiment.volumes, strengths, colours, strict=True):
        text = f"{volume} ({strength})" if strength and volume else f"{volume}"
        width = 1.5 if volume == 0 else 0.9
        handles.append(Line2D([], [], color=colour, marker="o", linewidth=width, label=text))
    if experiment.threshold is not None:
        handles.append(style.threshold_handle())
    return f"volume $k$ ({quantity})" if quantity else "volume $k$", handles


def errors_over_width(
    drawing: Drawing,
    ax: Axes,
    experiment: ExperimentTables,
    columns: tuple[str, str],
    panel: str,
) -> None:
    """Plot two errors at the end of training, in per cent, against width.

    A test error has the axis for itself, so that a peak of a few per cent is seen. The second
    column has an axis at the right: the training error falls from far above to zero, and the test
    error on corrupted classes lies far above that on the others. Two test errors keep one scale,
    in which a percentage point is as high on either side.
    """
    right = _axis_at_the_right(ax)
    for column, target in zip(columns, (ax, right), strict=True):
        name, colour, dashes = ERRORS[column]
        data = final_errors(experiment, column)
        curve(target, data, colour, linestyle=dashes, label=name)
        drawing.record(
            panel, name, experiment.name,
            x=data["width"], y=data["mean"], y_std=data["std"], seeds=data["seeds"],
        )  # fmt: skip
        target.set_ylabel(f"{name} (%)", color=colour)
        target.tick_params(axis="y", labelcolor=colour)
        if data["mean"].isna().all():
            target.set_yticks([])
            no_data(target, f"no {name}", height=0.6 if target is ax else 0.4)
    # For the legend, which is made from the left axis.
    ax.plot([], [], color=colour, marker="o", markeredgewidth=0, linestyle=dashes, label=name)
    heights = [high - low for low, high in (ax.get_ylim(), right.get_ylim())]
    if columns[1] == "train_error":
        right.set_ylim(0, 100)
        _set_height(ax, max(heights[0], LEAST_SPAN))
    else:
        for axis in (ax, right):
            _set_height(axis, max(*heights, LEAST_SPAN))
    drawing.label(panel, x="base width w", y="error (%)")
    ax.set_xlabel(WIDTH_LABEL)
    style.width_axis(ax, experiment.history["width"].to_numpy())
    style.mark_threshold(ax, experiment.threshold)


def _axis_at_the_right(ax: Axes) -> Axes:
    """Return a second y axis."""
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    ax.set_zorder(right.get_zorder() + 1)  # the test error is drawn above
    ax.patch.set_visible(False)
    return right


def _set_height(ax: Axes, height: float) -> None:
    """Give an axis of per cent a height around its middle, but not far beyond 0 or 100."""
    low = float(np.clip(sum(ax.get_ylim()) / 2 - height / 2, -1, 101 - height))
    ax.set_ylim(low, low + height)


def no_data(ax: Axes, text: str = "no data", height: float = 0.5) -> None:
    """Say on a panel that its table has no values yet."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    ax.text(0.5, height, text, transform=ax.transAxes, ha="center", va="center", bbox=box)


def headline(figure: Figure, experiment: ExperimentTables) -> None:
    """Write above a figure what was trained, and that no width interpolates if so."""
    lines = [experiment.title, experiment.threshold_note]
    figure.suptitle("\n".join(line for line in lines if line))


def panel_title(ax: Axes, experiment: ExperimentTables, columns: int, heading: str = "") -> None:
    """Write the same above one panel, below a heading, in lines of at most `columns` characters."""
    texts = (heading, experiment.title, experiment.threshold_note)
    lines = [line for text in texts for line in textwrap.wrap(text, columns)]
    ax.set_title("\n".join(lines), fontsize=7)


def one_row_of_measures(experiment: ExperimentTables) -> Drawing:
    """Draw the figure of the four measures over volumes, all training samples, in one row."""
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.3))
    axes = list(drawing.figure.subplots(1, 4))
    row_of_measures(drawing, axes, experiment, "all")
    scale_measures(axes, experiment, ["all"])
    title_measures(axes, experiment)
    for ax in axes:
        ax.set_xlabel(WIDTH_LABEL)
    headline(drawing.figure, experiment)
    volume_legend(drawing.figure, experiment)
    return drawing


def clean_and_noisy_rows(
    drawing: Drawing, grid: np.ndarray, experiment: ExperimentTables, prefix: str = ""
) -> None:
    """Plot the four measures around clean (first row) and noisy samples on a 2 x 4 grid of axes."""
    subsets = ["clean", "noisy"]
    for axes, subset in zip(grid, subsets, strict=True):
        row_of_measures(drawing, list(axes), experiment, subset, f"{prefix}{subset} ")
        axes[0].set_ylabel(f"{subset} samples\n%")
    scale_measures(list(grid[0]), experiment, subsets)
    title_measures(list(grid[0]), experiment)
    for ax in grid[1]:
        ax.set_xlabel(WIDTH_LABEL)


def volume_legend(figure: Figure, experiment: ExperimentTables) -> None:
    """Put the legend of the volumes below a figure."""
    title, handles = volume_handles(experiment)
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=len(handles))


def legend_cell(ax: Axes, experiment: ExperimentTables, errors: Axes) -> None:
    """Turn a panel into the legends of the volumes and of a panel of errors."""
    ax.set_axis_off()
    title, handles = volume_handles(experiment)
    first = ax.legend(handles=errors.get_legend_handles_labels()[0], loc="upper left")
    ax.add_artist(first)
    ax.legend(handles=handles, title=title, loc="lower left", ncols=2, alignment="left")


def errors_and_measures(drawing: Drawing, grid: np.ndarray, experiment: ExperimentTables) -> None:
    """Plot the errors (a), the four measures over volumes (b) and a legend on 2 x 3 axes."""
    errors, measures = grid[0, 0], [grid[0, 1], grid[0, 2], grid[1, 1], grid[1, 2]]
    errors_over_width(drawing, errors, experiment, ("test_error", "train_error"), "a")
    errors.set_title("Error")
    row_of_measures(drawing, measures, experiment, "all", prefix="b ")
    scale_measures(measures, experiment, ["all"])
    title_measures(measures, experiment)
    for ax in measures:
        ax.set_xlabel(WIDTH_LABEL)
    style.panel_letter(errors, "a")
    style.panel_letter(measures[0], "b")
    legend_cell(grid[1, 0], experiment, errors)
