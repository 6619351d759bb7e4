"""Figure 5: test error, training cross-entropy and Jacobian norm over epochs and base widths.

Means over seeds; ConvNets on CIFAR-10 with 20 % label noise, at the training points (volume 0).
The test error from `history.parquet`, the rest from the snapshots in `sharpness.parquet`.

Shows claim 8 (past the threshold the three show double descent over epochs, below it they do not).
Cost: about two seconds.
"""

from __future__ import annotations

from smoothdescent.figures import FIGURES, heatmaps, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    experiment = experiments[FIGURES["figure5"][0]]
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.35))
    axes = list(drawing.figure.subplots(1, 3))
    heatmaps.row_of_heatmaps(drawing, axes, experiment, heatmaps.COLUMNS)
    panels.headline(drawing.figure, experiment)
    return drawing
