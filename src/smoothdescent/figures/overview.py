"""All about one experiment that is not the paper's: what figures 1, 2 and 5 show of theirs.

Test and training error against base width, from `history.parquet`; the four measures against width,
one curve per volume, from `sharpness.parquet`; test error, training cross-entropy and Jacobian norm
over epochs and widths, from both. Cost: about four seconds.
"""

from __future__ import annotations

from smoothdescent.figures import heatmaps, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure of the one experiment given, by name."""
    [experiment] = experiments.values()
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 6.0))
    # The heatmaps' columns are not those of the curves, whose axes differ in what is beside them.
    upper, lower = drawing.figure.subfigures(2, 1, height_ratios=[2, 1])
    panels.errors_and_measures(drawing, upper.subplots(2, 3), experiment)
    axes = list(lower.subplots(1, 3))
    heatmaps.row_of_heatmaps(drawing, axes, experiment, heatmaps.COLUMNS, "c ")
    style.panel_letter(axes[0], "c")
    panels.headline(drawing.figure, experiment)
    return drawing
