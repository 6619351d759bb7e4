"""Test error, training cross-entropy and Jacobian norm at the training points over epochs and base
widths, means over seeds. Read a column upwards: see whether, past the threshold (dotted), the three
rise and fall again, and do not below it.
"""

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("convnet-cifar10-noise20",)
HEADING = "Over epochs"
QUOTATION = (
    "Models past the interpolation threshold (base width w = 15) undergo epoch-wise double "
    "descent for each metric"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure from `history.parquet` and `sharpness.parquet`: about two seconds."""
    from smoothdescent.figures import heatmaps, panels, style

    [experiment] = experiments.values()
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.35))
    axes = list(drawing.figure.subplots(1, 3))
    heatmaps.row_of_heatmaps(drawing, axes, experiment, heatmaps.COLUMNS)
    style.panel_letters(axes)
    panels.headline(drawing.figure, experiment)
    panels.threshold_legend(drawing.figure, [experiment], "outside lower center")
    return drawing
