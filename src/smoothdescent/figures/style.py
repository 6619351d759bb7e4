"""The look of all figures, in one place: sizes, fonts, colours, axes, and how they are saved."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from smoothdescent.files import atomic_path, write_table

if TYPE_CHECKING:
    import pandas as pd

DOUBLE_COLUMN = 7.0  # inches

# From the palette of Okabe and Ito, told apart with every common kind of colour blindness.
BLUE, VERMILLION = "#0072B2", "#D55E00"
STUDIES = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HEATMAP = "viridis"

_SETTINGS = {
    # DejaVu Sans comes with matplotlib, so a figure looks the same on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "figure.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlepad": 12,
    "axes.labelpad": 2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.2,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Draw with the settings of this module, whatever the caller's are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, whose panels are spaced and aligned by itself."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.04, hspace=0.06)
    return figure


@look()
def add_lines(figure: Figure, lines: list[str], **text: Any) -> None:
    """Write the last lines above a figure, which grows by them; `text` is how all of them look."""
    figure.suptitle("\n".join(filter(None, [figure.get_suptitle(), *lines])), **text)
    figure.set_figheight(figure.get_figheight() + 0.14 * len(lines))


@look()
def save(
    figure: Figure,
    table: pd.DataFrame,
    stem: str | Path,
    metadata: dict[str, Any],
    companions: Iterable[Path] = (),
) -> None:
    """Write a figure as PDF and PNG, and beside them the numbers that it shows as Parquet.

    The files carry no date: the same tables give the same bytes.

    Args:
        figure: the figure.
        table: the plotted numbers in long form.
        stem: path of the files without their suffix.
        metadata: stored in the Parquet file.
        companions: files written with them, whose checksums the Parquet file keeps too.
    """
    stem = Path(stem)
    pictures = []
    for suffix, pairs in ((".pdf", {"CreationDate": None}), (".png", {})):
        pictures.append(stem.with_name(stem.name + suffix))
        with atomic_path(pictures[-1]) as path:
            figure.savefig(path, metadata=pairs)
    write_table(stem.with_name(stem.name + ".parquet"), table, metadata, [*pictures, *companions])


def volume_colours(count: int) -> list[Any]:
    """Return the colours of volumes 0..count-1: the point itself in blue, then light to dark."""
    if count < 2:
        return [BLUE] * count
    shades = matplotlib.colormaps["YlOrBr"](np.linspace(0.38, 1.0, count - 1))
    return [BLUE, *shades]


def heatmap_colours() -> Colormap:
    """Return the colour map of heatmaps; cells without a value are grey."""
    return matplotlib.colormaps[HEATMAP].with_extremes(bad="0.88")


def width_axis(ax: Axes, widths: np.ndarray, limits: tuple[float, float] | None = None) -> None:
    """Make the x axis one of base widths: logarithmic, with plain numbers.

    Args:
        ax: the panel.
        widths: the widths shown.
        limits: ends of the axis; by default a little beyond the first and last width.
    """
    low, high = float(np.min(widths)), float(np.max(widths))
    ax.set_xscale("log", base=2)
    ax.set_xlim(*(limits or (low / 1.1, high * 1.1)))
    ax.xaxis.set_major_locator(FixedLocator(_width_ticks(np.unique(widths))))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _width_ticks(widths: np.ndarray) -> list[float]:
    """Return the widths that have room: powers of two first, then the last, then the others."""
    room = (widths[-1] / widths[0]) ** 0.12
    powers = [width for width in widths if np.log2(width) % 1 == 0]
    ticks: list[float] = []
    for width in [*powers, widths[-1], *widths]:
        if width not in ticks and all(max(width / t, t / width) >= room for t in ticks):
            ticks.append(float(width))
    return sorted(ticks)


def epoch_axis(ax: Axes, low: float, high: float) -> None:
    """Make the y axis one of epochs: logarithmic from `low` to `high`, with plain numbers."""
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ([1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= max(low, 1)) & (ticks <= high) & (ticks % 1 == 0)]
        if len(ticks) >= 3:
            break
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def mark_threshold(ax: Axes, width: int | None, on_image: bool = False) -> None:
    """Mark the interpolation threshold, if there is one, by a dotted line with its width above."""
    if width is None:
        return
    line = ax.axvline(width, color="white" if on_image else "0.25", linestyle=":", linewidth=1.0)
    if on_image:
        # A dark rim keeps the line visible on light cells.
        line.set_path_effects(
            [patheffects.Stroke(linewidth=2.0, foreground="0.1", alpha=0.6), patheffects.Normal()]
        )
    ax.annotate(
        f"w = {width}",
        xy=(width, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 1),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=7,
        color="0.25",
    )


def mark_below(ax: Axes, widths: list[int], marker: str) -> None:
    """Put a mark on the x axis at each of some widths."""
    if not widths:
        return
    ax.plot(
        widths, [0] * len(widths), transform=ax.get_xaxis_transform(), clip_on=False, zorder=5,
        color=VERMILLION, linestyle="none", marker=marker, markersize=3.5, fillstyle="none",
        markeredgewidth=0.8,
    )  # fmt: skip


def threshold_handle() -> Line2D:
    """Return the legend entry of the threshold's line."""
    return Line2D([], [], color="0.25", linestyle=":", label="interpolation threshold")


def panel_letters(axes: Iterable[Axes]) -> None:
    """Give panels letters in their order."""
    for ax, letter in zip(axes, string.ascii_lowercase, strict=False):
        panel_letter(ax, letter)


def panel_letter(ax: Axes, letter: str) -> None:
    """Write a bold letter at the top left of a panel, in line with its title."""
    ax.annotate(
        letter,
        xy=(0.0, 1.0),
        xycoords="axes fraction",
        xytext=(-24, matplotlib.rcParams["axes.titlepad"]),
        textcoords="offset points",
        ha="left",
        va="baseline",
        fontsize=9,
        fontweight="bold",
    )
