"""Wrong labels in some classes only. a: the four measures around clean and noisy samples; b: test
error on the unperturbed classes and, on the right axis, in the same scale, on the corrupted ones.
{END} See whether only the unperturbed classes show double descent.
"""

import numpy as np

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("convnet-cifar100-asymmetric",)
HEADING = "Asymmetric noise"
QUOTATION = (
    "double descent for the test error can still be observed for the unperturbed classes, "
    "while the trend disappears for the corrupted classes"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw a from `sharpness.parquet` and b from `history.parquet`: about three seconds."""
    from smoothdescent.figures import panels, style

    [experiment] = experiments.values()
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 5.3))
    # One grid for all panels, so that b begins and ends with the columns of a.
    spec = drawing.figure.add_gridspec(3, 4)
    grid = np.empty((2, 4), dtype=object)
    for column in range(4):
        upper = drawing.figure.add_subplot(spec[0, column])
        lower = drawing.figure.add_subplot(spec[1, column], sharex=upper)
        upper.tick_params(labelbottom=False)
        grid[:, column] = upper, lower
    panels.clean_and_noisy_rows(drawing, grid, experiment, prefix="a ")
    errors = drawing.figure.add_subplot(spec[2, :2])
    columns = ("test_error_unperturbed", "test_error_corrupted")
    panels.errors_over_width(drawing, errors, experiment, columns, "b")
    errors.set_title("Test error")
    style.panel_letter(grid[0, 0], "a")
    style.panel_letter(errors, "b")
    panels.headline(drawing.figure, experiment)
    panels.legend_cell(drawing.figure.add_subplot(spec[2, 2:]), experiment, errors)
    return drawing
