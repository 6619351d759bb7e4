"""A measured table at a glance: one measure over the volumes, around clean and noisy samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smoothdescent.errors import UserError
from smoothdescent.tables.columns import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_sharpness(table: Any, measure: str = "jacobian_norm", ax: Axes | None = None) -> Axes:
    """Draw the mean of a measure over samples against the volume.

    Bands are one standard error of the mean; a single sample has none. With a boolean column
    `is_noisy`, clean and noisy samples have a curve each.

    Args:
        table: as `sharpness.measure` returns and `smoothdescent measure` writes: an Arrow table, a
            data frame or a dictionary of columns, one row per (sample, volume).
        measure: the column to draw.
        ax: the panel to draw on; default: that of a new pyplot figure.

    Returns:
        The panel.

    Raises:
        UserError: the table has no rows, or lacks the column.
    """
    import pyarrow as pa
    from matplotlib import pyplot

    from smoothdescent.figures import style

    table = pa.table(table)
    for name in ("volume", measure):
        if name not in table.column_names:
            raise UserError(
                f"the table has no column {name!r}; its columns are {', '.join(table.column_names)}"
            )
    if table.num_rows == 0:
        raise UserError("the table has no rows; expected one per sample and volume")
    text = describe(measure)
    volume, values = table["volume"].to_numpy(), text.scale * table[measure].to_numpy()
    curves = {"all": (style.BLUE, np.full(len(values), True))}
    if "is_noisy" in table.column_names:
        noisy = table["is_noisy"].to_numpy()
        curves = {"clean": (style.BLUE, ~noisy), "noisy": (style.VERMILLION, noisy)}
    if ax is None:
        ax = pyplot.figure().subplots()
    for name, (colour, chosen) in curves.items():
        volumes = np.unique(volume[chosen])
        samples = [values[chosen & (volume == k)] for k in volumes]
        mean = np.array([group.mean() for group in samples])
        error = np.array([_standard_error(group) for group in samples])
        if len(volumes):
            ax.fill_between(volumes, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
            ax.plot(volumes, mean, color=colour, marker="o", label=f"{name}, {len(samples[0])}")
    ax.set_xticks(np.unique(volume))
    ax.set_xlabel("volume $k$")
    ax.set_ylabel(f"{text.text} ({text.unit})" if text.unit else text.text)
    ax.legend(title="samples")
    return ax


def _standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
