"""Figure 6: ResNet18s with Adam, batch norm and augmentation on CIFAR-10, 20 % label noise.

a from `history.parquet`, b from `sharpness.parquet`. Claims 9, 12 and 14. Cost: about three
seconds.
"""

from __future__ import annotations

from smoothdescent.figures.drawing import Drawing
from smoothdescent.figures.figure2 import VOLUMES
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("resnet18-cifar10-noise20",)
HEADING = "Residual networks in the settings of practice"
CAPTION = (
    "Batch norm, Adam, shifts and flips. a: test error against width; b: the four measures. "
    f"{VOLUMES} See whether the test error peaks at or before the threshold, and the largest "
    "volume is the sharpest."
)
QUOTATION = (
    "the largest integration volume considered [...] now shows considerably increased "
    "sharpness and loss curvature, while still undergoing double descent"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure from the experiments given, by name."""
    from smoothdescent.figures import panels, style

    [experiment] = experiments.values()
    height = 1.95 * panels.errors_and_measures_rows(experiment)
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, height))
    panels.errors_and_measures(drawing, drawing.figure, experiment)
    panels.headline(drawing.figure, experiment)
    return drawing
