"""The measures of figure 2 around samples with the right label (top) and a wrong one (bottom).
Where the two rows of a measure have axes of their own, their numbers say so. {VOLUMES} See whether
the peaks around noisy samples are higher, and whether narrow networks fit clean samples first.
"""

from smoothdescent.figures.drawing import Drawing
from smoothdescent.tables.experiment import ExperimentTables

EXPERIMENTS = ("convnet-cifar10-noise20",)
HEADING = "Clean and noisy samples"
QUOTATION = (
    "sharp interpolation is observed for both clean and noisy samples, with crossentropy, "
    "sensitivity (Jacobian norm) and curvature peaking over all volumes considered"
)


def draw(experiments: dict[str, ExperimentTables]) -> Drawing:
    """Draw the figure from `sharpness.parquet`: about three seconds."""
    from smoothdescent.figures import panels, style

    [experiment] = experiments.values()
    drawing = Drawing(style.new_figure(style.DOUBLE_COLUMN, 3.7))
    grid = drawing.figure.subplots(2, 4, sharex=True)
    panels.clean_and_noisy_rows(drawing, grid, experiment)
    style.panel_letters(grid.flat)
    panels.headline(drawing.figure, experiment)
    panels.volume_legend(drawing.figure, experiment)
    return drawing
