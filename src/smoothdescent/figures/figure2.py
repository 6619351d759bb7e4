"""Figure 2: the four measures against base width, one curve per volume.

From `sharpness.parquet`; the threshold from `history.parquet`. Claims 2, 3, 5, 6, 13 (beside figure
1c) and 15. Cost: about two seconds.
"""

from __future__ import annotations

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("convnet-cifar10-noise20",)
HEADING = "Loss landscape against width"
VOLUMES = (
    "Volume 0 is the training point itself, volume k the paths around it up to their k-th "
    "augmentation; bands are one standard deviation over seeds."
)
CAPTION = (
    f"The four measures around all training samples, at the end of training. {VOLUMES} See "
    "whether the Jacobian and Hessian norms peak near the threshold and fall beyond it, over "
    "every volume, while accuracy keeps rising."
)
QUOTATION = (
    "accuracy over volumes increases monotonically with model size, while crossentropy "
    "follows double descent"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure from the experiments given, by name."""
    from smoothdescent.figures import panels

    return panels.measures_figure(*experiments.values())
