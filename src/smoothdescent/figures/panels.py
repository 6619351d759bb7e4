"""Panels that several figures share. Each draws on given axes and records what it plots."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from scipy.stats import t

from smoothdescent.figures import style
from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.columns import MEASURES, describe
from smoothdescent.tables.convergence import divergences
from smoothdescent.tables.experiment import ExperimentTables, final_errors, final_volumes

WIDTH_LABEL = "base width $w$"


# Colour and dashes of an error's line.
ERROR_LINES = {
    "test_error": (style.VERMILLION, "-"),
    "train_error": (style.BLUE, "--"),
    "test_error_corrupted": (style.VERMILLION, "-"),
    "test_error_unperturbed": (style.BLUE, "-"),
}

# The least height of an axis of errors, in percentage points: less is noise.
LEAST_SPAN = 2.0

# A grid of widths denser than this has smaller markers, which do not hide the curves.
SPARSE_WIDTHS = 20

# Marks of widths of which a run does not converge, has stopped training early, or has not ended.
UNSETTLED, STOPPED, INCOMPLETE = "x", "s", "^"

# Curves whose peaks differ by more than this factor are unreadable on one linear axis.
LINEAR_RANGE = 30.0

# Panels of a measure whose highest peaks differ by more than this factor have axes of their own.
SHARED_RANGE = 4.0


def curve(ax: Axes, data: pd.DataFrame, color: object, bands: str | None, **line: object) -> None:
    """Plot the mean over seeds against width, with a band.

    Whiskers are one standard deviation within runs, over their final checkpoints.

    Args:
        ax: the panel.
        data: what `over_seeds` returns, by width.
        color: of the line and its band.
        bands: `std`, one standard deviation; `interval`, 95 % confidence intervals of the mean
            (Student's t); None for no band.
        line: how the line is drawn.
    """
    # A width of one seed has no `std`, which leaves a gap: a band across it may miss the mean.
    spread = data if bands and data["std"].notna().any() else data.iloc[:0]
    half = spread["std"]
    if bands == "interval":
        half = half * t.ppf(0.975, spread["seeds"] - 1) / np.sqrt(spread["seeds"])
    if len(data) > SPARSE_WIDTHS:
        line["markersize"] = 1.2  # seen where a width stands alone
    ax.fill_between(
        spread["width"], spread["mean"] - half, spread["mean"] + half,
        color=color, alpha=0.14, linewidth=0,
    )  # fmt: skip
    whisker = data.dropna(subset=["within"])
    if len(whisker):
        ends = [whisker["mean"] + sign * whisker["within"] for sign in (-1, 1)]
        ax.vlines(whisker["width"], *ends, color=color, linewidth=0.5)
    ax.plot(data["width"], data["mean"], color=color, marker="o", markeredgewidth=0, **line)


def _curves_over_width(
    drawing: Drawing, ax: Axes, experiment: ExperimentTables, measure: str, subset: str, panel: str
) -> None:
    """Plot one measure against width, one curve per volume, at the end of training.

    The unit is written at the axis; the caller writes the titles.
    """
    text, data = describe(measure), final_volumes(experiment, measure, subset)
    colours = style.volume_colours(len(experiment.volumes))
    # The point itself is drawn last, above the volumes. Seven bands on each other hide the curves.
    for volume, colour in reversed(list(zip(experiment.volumes, colours, strict=True))):
        rows = data[data["volume"] == volume]
        ends = (experiment.volumes[0], experiment.volumes[-1])
        bands = experiment.bands if volume in ends else None
        curve(ax, rows, colour, bands, linewidth=1.5 if volume == 0 else 0.9)
    for volume in experiment.volumes:
        rows = data[data["volume"] == volume]
        drawing.record(
            panel, f"volume {volume}", experiment.name,
            x=rows["width"], y=rows["mean"], y_std=rows["std"],
            y_within=rows["within"], seeds=rows["seeds"],
        )  # fmt: skip
    drawing.label(panel, x="base width w", y=text.label)
    ax.set_ylabel(text.unit)
    style.width_axis(ax, experiment.history["width"].to_numpy())
    mark_widths(ax, experiment)
    if data["mean"].isna().all():
        no_data(ax)


def measures_over_volumes(
    drawing: Drawing,
    rows: dict[str, list[Axes]],
    experiment: ExperimentTables,
    measures: list[str],
    prefix: str = "",
) -> None:
    """Plot measures over volumes, a panel for each of them and each subset of samples.

    Args:
        drawing: the figure.
        rows: the panels of each subset 'all', 'clean' or 'noisy', in the order of `measures`. Those
            of a measure have the same y axis unless it would crush one of them.
        experiment: the tables.
        measures: columns of `sharpness.parquet`.
        prefix: put before the measure's name to name the panel in the plotted table.
    """
    for subset, axes in rows.items():
        name = prefix if subset == "all" else f"{prefix}{subset} "
        for ax, measure in zip(axes, measures, strict=True):
            _curves_over_width(drawing, ax, experiment, measure, subset, f"{name}{measure}")
    for measure, *column in zip(measures, *rows.values(), strict=True):
        _scale(dict(zip(rows, column, strict=True)), experiment, measure)
        title = describe(measure).title
        if measure == "hessian_norm" and experiment.normalisation != "equation5":
            title = f"{title} ({experiment.normalisation})"
        column[0].set_title(title)
        column[-1].set_xlabel(WIDTH_LABEL)


def _scale(axes: dict[str, Axes], experiment: ExperimentTables, measure: str) -> None:
    """Choose the y axes of a measure's panels, by subset: one for all, or one for each.

    They differ where the highest peaks do, by more than SHARED_RANGE. Each is linear, from zero if
    the measure is not negative, or logarithmic. The norms fall towards zero past the threshold,
    whatever the axis; what has to stay visible is the peak of each curve. Their axis is logarithmic
    if the peaks, over all volumes and subsets, differ by more than LINEAR_RANGE, and then ends at a
    tenth of the lowest peak.
    """
    values = pd.concat(final_volumes(experiment, measure, s).assign(subset=s) for s in axes)
    peaks = values.groupby(["subset", "volume"])["mean"].max().dropna()
    for ax in axes.values():
        if peaks.empty:
            ax.set_yticks([])
        elif measure == "accuracy":
            ax.set_ylim(0, 103)
    if peaks.empty or measure == "accuracy" or values["mean"].min() < 0:
        return
    highest = peaks.groupby("subset").max()
    together = highest.max() <= SHARED_RANGE * highest.min()
    for group in [list(axes)] if together else [[subset] for subset in axes]:
        own = peaks[peaks.index.isin(group, level="subset") & (peaks > 0)]
        top = max(axes[subset].get_ylim()[1] for subset in group)
        logarithmic = describe(measure).norm and len(own) and own.max() > LINEAR_RANGE * own.min()
        for subset in group:
            axes[subset].set_ylim(0, top)
            if logarithmic:
                axes[subset].set_yscale("log")
                axes[subset].set_ylim(own.min() / 10, own.max() * 2)


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
    drawing: Drawing, ax: Axes, experiment: ExperimentTables, columns: tuple[str, str], panel: str
) -> None:
    """Plot two errors at the end of training, in per cent, against width.

    A test error has the axis for itself, so that a peak of a few per cent is seen. The second
    column has an axis at the right: the training error falls from far above to zero, and the test
    error on corrupted classes lies far above that on the others. Two test errors keep one scale,
    in which a percentage point is as high on either side.
    """
    right = _axis_at_the_right(ax)
    for column, target in zip(columns, (ax, right), strict=True):
        name, (colour, dashes) = describe(column).short, ERROR_LINES[column]
        data = final_errors(experiment, column)
        curve(target, data, colour, experiment.bands, linestyle=dashes, label=name)
        drawing.record(
            panel, name, experiment.name,
            x=data["width"], y=data["mean"], y_std=data["std"],
            y_within=data["within"], seeds=data["seeds"],
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
        set_height(ax, max(heights[0], LEAST_SPAN))
    else:
        for axis in (ax, right):
            set_height(axis, max(*heights, LEAST_SPAN))
    drawing.label(panel, x="base width w", y="error (%)")
    ax.set_xlabel(WIDTH_LABEL)
    style.width_axis(ax, experiment.history["width"].to_numpy())
    mark_widths(ax, experiment)


def mark_widths(ax: Axes, experiment: ExperimentTables, on_image: bool = False) -> None:
    """Mark the threshold, and on the x axis widths whose runs do not converge, stopped or lack."""
    style.mark_threshold(ax, experiment.threshold, on_image)
    style.mark_below(ax, sorted({width for width, _ in experiment.unsettled}), UNSETTLED)
    style.mark_below(ax, experiment.stopped_widths, STOPPED)
    some = [width for width, runs in experiment.incomplete_widths.items() if runs]
    style.mark_below(ax, some, INCOMPLETE)


def partial_lines(experiments: Iterable[ExperimentTables]) -> list[str]:
    """Return what is written above a figure of partial tables; no lines for any others."""
    partial = [experiment for experiment in experiments if experiment.partial]
    lines = []
    for experiment in partial:
        text = f"partial: {experiment.partial}"
        if missing := [*experiment.incomplete_widths.values()].count(0):
            text += f"; no run yet at {missing} of {len(experiment.config['widths'])} widths"
        lines.append(text + (f" ({experiment.name})" if len(partial) > 1 else ""))
    return lines


def marks_note(experiments: Iterable[ExperimentTables]) -> str:
    """Return the legend of the marks on the x axes; empty if there are none."""
    experiments = list(experiments)
    texts = []
    if any(experiment.unsettled for experiment in experiments):
        texts.append("\u00d7 a run of this width does not converge")
    missing = {f"w{w}_s{s}" for e in experiments for w, s in divergences(e.history)}
    if missing:
        texts.append(f"of {', '.join(sorted(missing))}, which diverged, nothing is drawn after it")
    if any(experiment.stopped_widths for experiment in experiments):
        texts.append("\u25a1 a run of this width stopped training early")
    if any(runs for experiment in experiments for runs in experiment.incomplete_widths.values()):
        texts.append("\u25b3 not all seeds of this width are there")
    return "on the axis: " + ", ".join(texts) if texts else ""


def _axis_at_the_right(ax: Axes) -> Axes:
    """Return a second y axis."""
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    ax.set_zorder(right.get_zorder() + 1)  # the test error is drawn above
    ax.patch.set_visible(False)
    return right


def set_height(ax: Axes, height: float) -> None:
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


def measures_figure(experiment: ExperimentTables) -> Drawing:
    """Draw the figure of the measures over volumes, all training samples, four in a row."""
    measures = experiment.measures
    rows = -(-len(measures) // 4)
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.3 * rows))
    axes = _panels(drawing.figure.subplots(rows, 4, squeeze=False).flat, len(measures))
    measures_over_volumes(drawing, {"all": axes}, experiment, measures)
    style.panel_letters(axes)
    headline(drawing.figure, experiment)
    volume_legend(drawing.figure, experiment)
    return drawing


def _panels(axes: Iterable[Axes], count: int) -> list[Axes]:
    """Return the first `count` panels of a grid; the others stay empty."""
    axes = list(axes)
    for ax in axes[count:]:
        ax.set_axis_off()
    return axes[:count]


def clean_and_noisy_rows(
    drawing: Drawing, grid: np.ndarray, experiment: ExperimentTables, prefix: str = ""
) -> None:
    """Plot the four measures around clean (first row) and noisy samples on a 2 x 4 grid of axes."""
    rows = {subset: list(axes) for subset, axes in zip(("clean", "noisy"), grid, strict=True)}
    measures_over_volumes(drawing, rows, experiment, list(MEASURES), prefix)
    for subset, axes in rows.items():
        axes[0].set_ylabel(f"{subset} samples\n%")


def threshold_legend(place: Figure | Axes, experiments: list[ExperimentTables], where: str) -> None:
    """Say, at a place of a figure of heatmaps, what their dotted lines are, if they have any."""
    if any(experiment.threshold is not None for experiment in experiments):
        place.legend(handles=[style.threshold_handle()], loc=where)


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


def errors_and_measures_rows(experiment: ExperimentTables) -> int:
    """Return the rows of `errors_and_measures`: two, and more for measures beside the four."""
    return -(-(2 + len(experiment.measures)) // 3)


def errors_and_measures(drawing: Drawing, parent: FigureBase, experiment: ExperimentTables) -> None:
    """Plot the errors (a), the measures over volumes (b) and a legend on rows of three axes."""
    grid = parent.subplots(errors_and_measures_rows(experiment), 3)
    errors = grid[0, 0]
    cells = [*grid[0, 1:], *grid[1, 1:], *grid[2:].flat]
    measures = _panels(cells, len(experiment.measures))
    errors_over_width(drawing, errors, experiment, ("test_error", "train_error"), "a")
    errors.set_title("Error")
    measures_over_volumes(drawing, {"all": measures}, experiment, experiment.measures, "b ")
    style.panel_letter(errors, "a")
    style.panel_letter(measures[0], "b")
    legend_cell(grid[1, 0], experiment, errors)
