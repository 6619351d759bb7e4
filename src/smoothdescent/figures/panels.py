"""Panels that several figures share. Each draws on given axes and records what it plots."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from smoothdescent.figures import style
from smoothdescent.figures.experiment import (
    Experiment,
    final_errors,
    final_volumes,
    training_course,
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
TEST_ERROR = Measure("Test error", "%", 100.0)

ERRORS = {
    "test_error": ("test error", style.VERMILLION, "-"),
    "train_error": ("training error", style.BLUE, "--"),
    "test_error_corrupted": ("corrupted classes", style.VERMILLION, "-"),
    "test_error_unperturbed": ("unperturbed classes", style.BLUE, "-"),
}

AT_THE_RIGHT = {"train_error": "training error", "test_error_corrupted": "corrupted classes"}

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
    ax.fill_between(
        band["width"], band["mean"] - band["std"], band["mean"] + band["std"],
        color=color, alpha=0.14, linewidth=0,
    )  # fmt: skip
    ax.plot(data["width"], data["mean"], color=color, marker="o", markeredgewidth=0, **line)


def measure_over_volumes(
    drawing: Drawing, ax: Axes, experiment: Experiment, measure: str, subset: str, panel: str
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
    if not np.isfinite(data["mean"]).any():
        no_data(ax)


def scale_measures(axes: list[Axes], experiment: Experiment, subsets: list[str]) -> None:
    """Choose the y axes of four panels, or columns that share axes: linear from zero, or log.

    The norms fall towards zero past the threshold, whatever the axis; what has to stay visible is
    the peak of each curve. Their axis is logarithmic if the peaks, over all volumes and `subsets`,
    differ by more than LINEAR_RANGE, and then ends at a tenth of the lowest peak.
    """
    for ax, measure in zip(axes, MEASURES, strict=True):
        if measure == "accuracy":
            ax.set_ylim(0, 103)
            continue
        ax.set_ylim(bottom=0)
        if measure == "crossentropy":
            continue
        peaks = pd.concat(
            final_volumes(experiment, measure, subset, 1.0).groupby("volume")["mean"].max()
            for subset in subsets
        )
        peaks = peaks[peaks > 0]
        if len(peaks) and peaks.max() > LINEAR_RANGE * peaks.min():
            ax.set_yscale("log")
            ax.set_ylim(peaks.min() / 10, peaks.max() * 2)


def row_of_measures(
    drawing: Drawing,
    axes: list[Axes],
    experiment: Experiment,
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


def title_measures(axes: list[Axes], experiment: Experiment) -> None:
    """Write the measures' names above four panels."""
    for ax, (name, measure) in zip(axes, MEASURES.items(), strict=True):
        plain = name != "hessian_norm" or experiment.normalisation == "equation5"
        ax.set_title(measure.title if plain else f"{measure.title} ({experiment.normalisation})")


def volume_handles(experiment: Experiment) -> tuple[str, list[Line2D]]:
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
    drawing: Drawing, ax: Axes, experiment: Experiment, columns: list[str], panel: str
) -> None:
    """Plot errors at the end of training, in per cent, against width.

    A test error has the axis for itself, so that a peak of a few per cent is seen. The training
    error, which falls from far above to zero, has its own at the right, and so has the test error
    on corrupted classes, which lies far above that on the others.
    """
    found = False
    for column in columns:
        name, colour, dashes = ERRORS[column]
        data = final_errors(experiment, column)
        found = found or bool(np.isfinite(data["mean"]).any())
        target = ax
        if column in AT_THE_RIGHT:
            target = _axis_at_the_right(ax, f"{AT_THE_RIGHT[column]} (%)", colour)
            if column == "train_error":
                target.set_ylim(0, 100)
            ax.plot(
                [], [], color=colour, marker="o", markeredgewidth=0, linestyle=dashes, label=name
            )
        curve(target, data, colour, linestyle=dashes, label=name)
        drawing.record(
            panel, name, experiment.name,
            x=data["width"], y=data["mean"], y_std=data["std"], seeds=data["seeds"],
        )  # fmt: skip
    drawing.label(panel, x="base width w", y="error (%)")
    ax.set_xlabel(WIDTH_LABEL)
    ax.set_ylabel("test error (%)")
    style.width_axis(ax, experiment.history["width"].to_numpy())
    style.mark_threshold(ax, experiment.threshold)
    if not found:
        no_data(ax)


def _axis_at_the_right(ax: Axes, label: str, colour: str) -> Axes:
    """Return a second y axis in the colour of the curve that it belongs to."""
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    right.set_ylabel(label, color=colour)
    right.tick_params(axis="y", labelcolor=colour)
    ax.set_zorder(right.get_zorder() + 1)  # the test error is drawn above
    ax.patch.set_visible(False)
    return right


def heatmap(drawing: Drawing, ax: Axes, experiment: Experiment, column: str, panel: str) -> None:
    """Plot the test error, or a measure at the training points, against epoch and width.

    A cell reaches half-way, on the logarithmic axes, to the neighbouring epochs and widths that
    were evaluated. Combinations without a value are grey.
    """
    text = TEST_ERROR if column == "test_error" else MEASURES[column]
    data = training_course(experiment, column, text.scale)
    name = text.title.lower() if column == "test_error" else text.title
    drawing.record(
        panel, name, experiment.name,
        x=data["width"], y=data["epoch"], value=data["mean"], value_std=data["std"],
        seeds=data["seeds"],
    )  # fmt: skip
    drawing.label(panel, x="base width w", y="epoch", value=text.label)
    ax.set_xlabel(WIDTH_LABEL)
    if data["mean"].notna().any():
        cells = data.pivot(index="epoch", columns="width", values="mean").sort_index()
        x_edges = _edges(cells.columns.to_numpy(dtype=float))
        y_edges = _edges(cells.index.to_numpy(dtype=float))
        mesh = ax.pcolormesh(
            x_edges, y_edges, np.ma.masked_invalid(cells.to_numpy()),
            cmap=style.heatmap_colours(), edgecolors="face", linewidth=0.1,
            norm=_colour_scale(column, cells.to_numpy()),
        )  # fmt: skip
        ax.set_facecolor("0.88")
        style.width_axis(ax, cells.columns.to_numpy(), limits=(x_edges[0], x_edges[-1]))
        # All heatmaps of a figure end at the same epochs, whatever those epochs' neighbours are.
        ends = cells.index[[0, -1]] if len(cells) > 1 else y_edges
        style.epoch_axis(ax, *ends)
        style.mark_threshold(ax, experiment.threshold, on_image=True)
        bar = drawing.figure.colorbar(mesh, ax=ax, pad=0.02, aspect=25)
        bar.outline.set_linewidth(0.6)
        bar.set_label(text.unit)
        if isinstance(mesh.norm, LogNorm):
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bar.ax.yaxis.set_major_formatter("{x:g}")
            bar.ax.yaxis.set_minor_locator(NullLocator())
    else:
        no_data(ax)


def _colour_scale(column: str, values: np.ndarray) -> Normalize:
    """Return a logarithmic scale for a test error that spans more than a factor of ten.

    Every training starts from guessing. Where it ends at a few per cent, the second descent is
    invisible on a scale that has to reach 90 %.
    """
    found = values[np.isfinite(values)]
    if column == "test_error" and 0 < 10 * found.min() < found.max():
        return LogNorm()
    return Normalize()


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the borders of cells around increasing positions, half-way on a logarithmic axis."""
    logs = np.log(centres)
    if len(logs) == 1:
        return np.exp(logs[0] + np.array([-0.5, 0.5]) * np.log(2.0))
    middles = (logs[1:] + logs[:-1]) / 2
    first, last = 2 * logs[0] - middles[0], 2 * logs[-1] - middles[-1]
    return np.exp(np.concatenate([[first], middles, [last]]))


def no_data(ax: Axes) -> None:
    """Say on a panel that its table has no values yet."""
    ax.text(0.5, 0.5, "no data", transform=ax.transAxes, ha="center", va="center")


def headline(figure: Figure, experiment: Experiment) -> None:
    """Write above a figure what was trained, and that no width interpolates if so."""
    lines = [experiment.title, experiment.threshold_note]
    figure.suptitle("\n".join(line for line in lines if line))


def panel_title(ax: Axes, experiment: Experiment, columns: int, heading: str = "") -> None:
    """Write the same above one panel, below a heading, in lines of at most `columns` characters."""
    texts = (heading, experiment.title, experiment.threshold_note)
    lines = [line for text in texts for line in textwrap.wrap(text, columns)]
    ax.set_title("\n".join(lines), fontsize=7)


def one_row_of_measures(experiment: Experiment) -> Drawing:
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
    drawing: Drawing, grid: np.ndarray, experiment: Experiment, prefix: str = ""
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


def volume_legend(figure: Figure, experiment: Experiment) -> None:
    """Put the legend of the volumes below a figure."""
    title, handles = volume_handles(experiment)
    figure.legend(handles=handles, title=title, loc="outside lower center", ncols=len(handles))


def legend_cell(ax: Axes, experiment: Experiment, errors: Axes) -> None:
    """Turn a panel into the legends of the volumes and of a panel of errors."""
    ax.set_axis_off()
    title, handles = volume_handles(experiment)
    first = ax.legend(handles=errors.get_legend_handles_labels()[0], loc="upper left")
    ax.add_artist(first)
    ax.legend(handles=handles, title=title, loc="lower left", ncols=2, alignment="left")


def errors_and_measures(drawing: Drawing, grid: np.ndarray, experiment: Experiment) -> None:
    """Plot the errors (a), the four measures over volumes (b) and a legend on 2 x 3 axes."""
    errors, measures = grid[0, 0], [grid[0, 1], grid[0, 2], grid[1, 1], grid[1, 2]]
    errors_over_width(drawing, errors, experiment, ["test_error", "train_error"], "a")
    errors.set_title("Error")
    row_of_measures(drawing, measures, experiment, "all", prefix="b ")
    scale_measures(measures, experiment, ["all"])
    title_measures(measures, experiment)
    for ax in measures:
        ax.set_xlabel(WIDTH_LABEL)
    style.panel_letter(errors, "a")
    style.panel_letter(measures[0], "b")
    legend_cell(grid[1, 0], experiment, errors)


HEATMAPS = ["test_error", "crossentropy", "jacobian_norm"]
HEATMAP_TITLES = {
    "test_error": "Test error",
    "crossentropy": "Training cross-entropy",
    "jacobian_norm": "Jacobian norm",
    "hessian_norm": "Hessian norm",
}


def row_of_heatmaps(
    drawing: Drawing, axes: list[Axes], experiment: Experiment, columns: list[str], prefix: str = ""
) -> None:
    """Plot heatmaps over epochs and widths side by side."""
    for ax, column in zip(axes, columns, strict=True):
        heatmap(drawing, ax, experiment, column, f"{prefix}{column}")
        ax.set_title(HEATMAP_TITLES[column])
    # The test error is evaluated more often than snapshots are taken.
    limits = [ax.get_ylim() for ax in axes if ax.collections]
    for ax in axes:
        if limits:
            style.epoch_axis(ax, min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_ylabel("epoch")
