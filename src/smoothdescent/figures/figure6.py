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
from smoothdescent.figures.experiment import Experiment


@style.styled
def draw(experiments: dict[str, Experiment]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    experiment = experiments[FIGURES["figure6"][0]]
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 3.9))
    grid = drawing.figure.subplots(2, 3)
    errors, measures = grid[0, 0], [grid[0, 1], grid[0, 2], grid[1, 1], grid[1, 2]]
    panels.errors_over_width(drawing, errors, experiment, ["test_error", "train_error"], "a")
    errors.set_title("Error")
    panels.row_of_measures(drawing, measures, experiment, "all", prefix="b ")
    panels.scale_measures(measures, experiment, ["all"])
    panels.title_measures(measures, experiment)
    for ax in measures:
        ax.set_xlabel(panels.WIDTH_LABEL)
    style.panel_letter(errors, "a")
    style.panel_letter(measures[0], "b")
    panels.headline(drawing.figure, experiment)
    panels.legend_cell(grid[1, 0], experiment, errors)
    return drawing
