"""Batch norm, Adam and augmented images. a: test error against width; b: the four measures.
{VOLUMES} See whether the test error peaks at or before the threshold, and the largest volume is the
sharpest.
"""

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("resnet18-cifar10-noise20",)
HEADING = "Residual networks in the settings of practice"
QUOTATION = (
    "the largest integration volume considered [...] now shows considerably increased "
    "sharpness and loss curvature, while still undergoing double descent"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw a from `history.parquet` and b from `sharpness.parquet`: about three seconds."""
    from smoothdescent.figures import panels, style

    [experiment] = experiments.values()
    height = 1.95 * panels.errors_and_measures_rows(experiment)
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, height))
    panels.errors_and_measures(drawing, drawing.figure, experiment)
    panels.headline(drawing.figure, experiment)
    return drawing
