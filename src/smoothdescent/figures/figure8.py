"""Figure 8: the heatmaps of figure 5 for ResNet18s, and the Hessian norm of both families.

Means over seeds, over epochs and base widths, at the training points (volume 0); CIFAR-10 with
20 % label noise. The test error from `history.parquet`, the rest from the snapshots in
`sharpness.parquet`.

Shows claims 8 and 9 (double descent over epochs past the threshold, also in the training settings
of practice, and of the curvature). The panels of a family that is not given are left out.
Cost: about three seconds.
"""

from __future__ import annotations

from smoothdescent.figures import FIGURES, heatmaps, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    resnet, convnet = (experiments.get(name) for name in FIGURES["figure8"])
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 4.7 if resnet else 2.4))
    grid = drawing.figure.subplots(2 if resnet else 1, 3, squeeze=False)
    shown = []
    if resnet:
        columns = heatmaps.COLUMNS
        heatmaps.row_of_heatmaps(drawing, list(grid[0]), resnet, columns, f"{resnet.name} ")
        shown += [(ax, resnet, column) for ax, column in zip(grid[0], columns, strict=True)]
    hessians = [experiment for experiment in (resnet, convnet) if experiment]
    for ax, experiment in zip(grid[-1], hessians, strict=False):
        heatmaps.row_of_heatmaps(drawing, [ax], experiment, ["hessian_norm"], f"{experiment.name} ")
        shown.append((ax, experiment, "hessian_norm"))
    for ax, experiment, column in shown:
        panels.panel_title(ax, experiment, columns=38, heading=heatmaps.TITLES[column])
    for ax in grid[-1][len(hessians) :]:
        ax.set_axis_off()
    return drawing
