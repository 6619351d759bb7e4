"""The four measures around all training samples, at the end of training. {VOLUMES} See whether the
Jacobian and Hessian norms peak near the threshold and fall beyond it, over every volume, while
accuracy keeps rising.
"""

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("convnet-cifar10-noise20",)
HEADING = "Loss landscape against width"
QUOTATION = (
    "accuracy over volumes increases monotonically with model size, while crossentropy "
    "follows double descent"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure from `sharpness.parquet`: about two seconds."""
    from smoothdescent.figures import panels

    return panels.measures_figure(*experiments.values())
