"""Figure 7: asymmetric label noise on CIFAR-100 sets smoothness apart from generalisation.

a: training accuracy, cross-entropy, Jacobian and Hessian norm against base width, one curve per
volume, around clean (top) and noisy (bottom) samples, from `sharpness.parquet`. b: test error
against base width on the classes whose training labels were corrupted and on the others, from
`history.parquet`.

Shows claim 11 (double descent of the test error on unperturbed classes alone), beside smoothness
around both kinds of samples. Cost: about three seconds.
"""

from __future__ import annotations

import numpy as np

from smoothdescent.figures import FIGURES, panels, style
from smoothdescent.figures.experiment import ExperimentTables

ERRORS = ("test_error_unperturbed", "test_error_corrupted")


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    experiment = experiments[FIGURES["figure7"][0]]
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 5.3))
    # One grid for all panels, so that b begins and ends with the columns of a.
    spec = drawing.figure.add_gridspec(3, 4)
    grid = np.empty((2, 4), dtype=object)
    for column in range(4):
        upper = drawing.figure.add_subplot(spec[0, column])
        lower = drawing.figure.add_subplot(spec[1, column], sharex=upper, sharey=upper)
        upper.tick_params(labelbottom=False)
        grid[:, column] = upper, lower
    panels.clean_and_noisy_rows(drawing, grid, experiment, prefix="a ")
    errors = drawing.figure.add_subplot(spec[2, :2])
    panels.errors_over_width(drawing, errors, experiment, ERRORS, "b")
    errors.set_title("Test error")
    style.panel_letter(grid[0, 0], "a")
    style.panel_letter(errors, "b")
    panels.headline(drawing.figure, experiment)
    panels.legend_cell(drawing.figure.add_subplot(spec[2, 2:]), experiment, errors)
    return drawing
