"""a: test error against width, with the training error on the right axis; b: the four measures of
the loss in input space; c: heatmaps over epochs. {VOLUMES}
"""

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

HEADING = "An experiment beside the paper's"
QUOTATION = ""


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure of the one experiment given, from both its tables: about four seconds."""
    from smoothdescent.figures import heatmaps, panels, style

    [experiment] = experiments.values()
    rows = panels.errors_and_measures_rows(experiment)
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 2.0 * (rows + 1)))
    # The heatmaps' columns are not those of the curves, whose axes differ in what is beside them.
    upper, lower = drawing.figure.subfigures(2, 1, height_ratios=[rows, 1])
    panels.errors_and_measures(drawing, upper, experiment)
    axes = list(lower.subplots(1, 3))
    heatmaps.row_of_heatmaps(drawing, axes, experiment, heatmaps.COLUMNS, "c ")
    style.panel_letter(axes[0], "c")
    panels.headline(drawing.figure, experiment)
    return drawing
