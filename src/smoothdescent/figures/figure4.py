"""Figure 4: the measures of figure 2 on CIFAR-100 without added label noise.

One curve per volume; ConvNets, all training samples, at the end of training. From
`sharpness.parquet`; the threshold from `history.parquet`.

Shows claim 10 (the same trends without artificial noise). Cost: about two seconds.
"""

from __future__ import annotations

from smoothdescent.figures import FIGURES, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    return panels.one_row_of_measures(experiments[FIGURES["figure4"][0]])
