"""Figure 3: the measures of figure 2 around clean and around noisy samples.

Top: training samples that keep their true label; bottom: those whose label was replaced. The
panels of a column share their axis. ConvNets on CIFAR-10 with 20 % label noise, from
`sharpness.parquet`; the threshold from `history.parquet`.

Shows claims 4 (higher peaks around noisy samples) and 7 (small networks fit clean samples first),
and claims 3, 5 and 6 on either subset. Cost: about three seconds.
"""

from __future__ import annotations

from smoothdescent.figures import FIGURES, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    experiment = experiments[FIGURES["figure3"][0]]
    drawing = panels.Drawing(style.new_figure(style.DOUBLE_COLUMN, 3.7))
    grid = drawing.figure.subplots(2, 4, sharex=True, sharey="col")
    panels.clean_and_noisy_rows(drawing, grid, experiment)
    panels.headline(drawing.figure, experiment)
    panels.volume_legend(drawing.figure, experiment)
    return drawing
