"""Figure 2: training accuracy, cross-entropy, Jacobian and Hessian norm against base width.

One curve per volume, from the point itself (volume 0) to the longest paths; ConvNets on CIFAR-10
with 20 % label noise, all training samples, at the end of training. Bands are one standard
deviation over seeds. From `sharpness.parquet`; the threshold from `history.parquet`.

Shows claims 2 and 3 (sharpness peaks near the threshold, over every volume), 5 (accuracy over
volumes does not fall past it), 6 (double descent of the cross-entropy), 13 (beside figure 1c) and
15 (the width of the Jacobian norm's peak). Cost: about two seconds.
"""

from __future__ import annotations

from smoothdescent.figures import FIGURES, panels, style
from smoothdescent.figures.experiment import ExperimentTables


@style.styled
def draw(experiments: dict[str, ExperimentTables]) -> panels.Drawing:
    """Draw the figure from the experiments given, by name."""
    return panels.one_row_of_measures(experiments[FIGURES["figure2"][0]])
