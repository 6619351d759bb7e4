"""Heatmaps over epochs and base widths. Each is drawn on given axes and records what it plots."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, NullLocator

from smoothdescent.figures import style
from smoothdescent.figures.drawing import Drawing
from smoothdescent.figures.panels import WIDTH_LABEL, mark_widths, no_data
from smoothdescent.tables.columns import describe
from smoothdescent.tables.experiment import ExperimentTables, training_course

COLUMNS = ["test_error", "crossentropy", "jacobian_norm"]


def row_of_heatmaps(
    drawing: Drawing,
    axes: list[Axes],
    experiment: ExperimentTables,
    columns: list[str],
    prefix: str = "",
    norm: Normalize | None = None,
) -> None:
    """Plot heatmaps over epochs and widths side by side, each under the measure's name.

    `norm` is the scale of the colours; each heatmap has its own without.
    """
    for ax, column in zip(axes, columns, strict=True):
        heatmap(drawing, ax, experiment, column, f"{prefix}{column}", norm)
        ax.set_title(describe(column).beside_test or describe(column).title)
    # The test error is evaluated more often than snapshots are taken.
    limits = [ax.get_ylim() for ax in axes if ax.collections]
    for ax in axes:
        if ax.collections:
            style.epoch_axis(ax, min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_ylabel("epoch")


def heatmap(
    drawing: Drawing,
    ax: Axes,
    experiment: ExperimentTables,
    column: str,
    panel: str,
    norm: Normalize | None = None,
) -> None:
    """Plot the test error, or a measure at the training points, against epoch and width.

    A cell reaches half-way, on the logarithmic axes, to the neighbouring epochs and widths that
    were evaluated. Combinations without a value are grey.
    """
    text, data = describe(column), training_course(experiment, column)
    drawing.record(
        panel, text.short or text.title, experiment.name,
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
            norm=norm or _colour_scale(column, cells.to_numpy()),
        )  # fmt: skip
        ax.set_facecolor("0.88")
        style.width_axis(ax, cells.columns.to_numpy(), limits=(x_edges[0], x_edges[-1]))
        # All heatmaps of a figure end at the same epochs, whatever those epochs' neighbours are.
        ends = cells.index[[0, -1]] if len(cells) > 1 else y_edges
        style.epoch_axis(ax, *ends)
        mark_widths(ax, experiment, on_image=True)
        # A pointed end says that the darkest colour stands for smaller values too.
        extend = "min" if np.nanmin(cells.to_numpy()) < mesh.norm.vmin else "neither"
        bar = drawing.figure.colorbar(mesh, ax=ax, pad=0.02, aspect=25, extend=extend)
        bar.outline.set_linewidth(0.6)
        bar.set_label(text.unit)
        if isinstance(mesh.norm, LogNorm):
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bar.ax.yaxis.set_major_formatter("{x:g}")
            bar.ax.yaxis.set_minor_locator(NullLocator())
    else:
        style.width_axis(ax, experiment.history["width"].to_numpy())
        ax.set_yticks([])
        no_data(ax)


def shared_scale(*means: pd.Series) -> Normalize | None:
    """Return one scale for a norm's means in several experiments, or None if there are none.

    It is logarithmic, over three decades, where the norms of one family do not crush those of
    another; what is smaller has the darkest colour.
    """
    high = np.nanmax(np.concatenate(means), initial=0.0)
    return LogNorm(high / 1000, high, clip=True) if high else None


def _colour_scale(column: str, values: np.ndarray) -> Normalize:
    """Return a logarithmic scale for a test error that spans more than a factor of ten.

    Every training starts from guessing. Where it ends at a few per cent, the second descent is
    invisible on a scale that has to reach 90 %.
    """
    if column == "test_error" and 0 < 10 * np.nanmin(values) < np.nanmax(values):
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
