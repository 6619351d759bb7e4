"""What drawing a figure gives: the figure and the numbers on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PLOTTED = {
    **dict.fromkeys(("panel", "experiment", "series"), "string"),
    **dict.fromkeys(("x", "y", "y_std", "y_within", "value", "value_std"), "float64"),
    "seeds": "Int64",
}


@dataclass
class Drawing:
    """A figure, the numbers on it, and what the axes of its panels are called."""

    figure: Figure
    axes: dict[str, dict[str, str]] = field(default_factory=dict)
    _columns: dict[str, list[object]] = field(default_factory=lambda: {key: [] for key in PLOTTED})

    def record(self, panel: str, series: str, experiment: str | None, **numbers: Any) -> None:
        """Add plotted numbers: x and y, on a heatmap value and value_std too.

        A curve has y_std, the standard deviation over seeds, and y_within, that over the final
        checkpoints of a run.
        """
        count = len(numbers["x"])
        columns = {"panel": [panel] * count, "series": [series] * count, **numbers}
        columns["experiment"] = [experiment] * count
        for name, values in self._columns.items():
            values.extend(columns.get(name, [np.nan] * count))

    def label(self, panel: str, **labels: str) -> None:
        """Add the names, with units, of a panel's axes."""
        self.axes[panel] = labels

    @property
    def table(self) -> pd.DataFrame:
        """The plotted numbers in long form, with the columns of `PLOTTED`."""
        import pandas as pd

        return pd.DataFrame(self._columns).astype(PLOTTED)
