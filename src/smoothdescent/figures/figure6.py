"""Figure 6: ResNet18s with Adam, batch norm and augmentation on CIFAR-10, 20 % label noise.

a: test and training error against base width, from `history.parquet`. b: training accuracy,
cross-entropy, Jacobian and Hessian norm against base width, one curve per volume, from
`sharpness.parquet`.

Shows claims 9 (the trends of the ConvNets; the test error peaks at or before the threshold), 12
(where the threshold lies) and 14 (the largest volume has the lowest accuracy and the highest
sharpness). Cost: about three seconds.
"""

from __future__ import annotations

from smoothdescent.figures import FIGURES, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    experiment = experiments[FIGURES["figure6"][0]]
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 3.9))
    panels.errors_and_measures(drawing, drawing.figure.subplots(2, 3), experiment)
    panels.headline(drawing.figure, experiment)
    return drawing
