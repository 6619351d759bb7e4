"""The heatmaps of figure 5 for the residual networks (a to c), and the Hessian norm of both
families (d, e), on one logarithmic scale of three decades, below which all is darkest. See whether
sharpness rises and falls again past the threshold.
"""

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables, training_course

EXPERIMENTS = ("resnet18-cifar10-noise20", "convnet-cifar10-noise20")
HEADING = "Over epochs, residual networks"
QUOTATION = (
    "Both model-wise and epoch-wise trends reported for the ConvNets also hold for this setup"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure from `history.parquet` and `sharpness.parquet`: about three seconds."""
    from smoothdescent.figures import heatmaps, panels, style

    resnet, convnet = (experiments.get(name) for name in EXPERIMENTS)
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 4.7 if resnet else 2.4))
    grid = drawing.figure.subplots(2 if resnet else 1, 3, squeeze=False)
    shown = []
    if resnet:
        prefix = f"{resnet.name} "
        heatmaps.row_of_heatmaps(drawing, list(grid[0]), resnet, heatmaps.COLUMNS, prefix)
        shown += [(ax, resnet) for ax in grid[0]]
    hessians = [experiment for experiment in (resnet, convnet) if experiment]
    columns = ["hessian_norm"]
    means = [training_course(experiment, *columns)["mean"] for experiment in hessians]
    scale = heatmaps.shared_scale(*means)
    for ax, experiment in zip(grid[-1], hessians, strict=False):
        heatmaps.row_of_heatmaps(drawing, [ax], experiment, columns, f"{experiment.name} ", scale)
        shown.append((ax, experiment))
    for ax, experiment in shown:
        panels.panel_title(ax, experiment, columns=34, heading=ax.get_title())
    style.panel_letters(ax for ax, _ in shown)
    for ax in grid[-1][len(hessians) :]:
        ax.set_axis_off()
    panels.threshold_legend(grid[-1][-1], hessians, "center left")
    return drawing
