"""The figures of the paper, drawn from the tables of the experiments, one file each.

A figure selects, averages over seeds and plots; it never computes a measure. In its file
`figureN.py`

- the docstring is its caption: what it shows and what to see in it; `HEADING` is the same in a
  few words;
- `EXPERIMENTS` are those that it reads, its subject first; panels of the others are left out when
  their tables are not given;
- `QUOTATION` is what the paper saw in it;
- `draw(experiments)` draws it from the tables, by the experiments' names. It imports a plotting
  library itself, so that a workflow reads the rest quickly.

`plot_sharpness` draws one measured table, of any network.
"""

import importlib
import pkgutil
import re
from types import ModuleType

from smoothdescent.figures import overview
from smoothdescent.figures.sharpness import plot_sharpness

__all__ = ["FIGURES", "figure_file", "figures_of", "plot_sharpness", "shown_experiments"]

_NAMES = [name for _, name, _ in pkgutil.iter_modules(__path__) if re.fullmatch(r"figure\d+", name)]
_FILES = {
    name: importlib.import_module(f"{__name__}.{name}")
    for name in sorted(_NAMES, key=lambda name: int(name.removeprefix("figure")))
}
FIGURES: dict[str, tuple[str, ...]] = {name: file.EXPERIMENTS for name, file in _FILES.items()}
_PAPERS = {name for experiments in FIGURES.values() for name in experiments}


def figure_file(figure: str) -> ModuleType:
    """Return the module of a figure; any other name is that of an experiment."""
    return _FILES.get(figure, overview)


def shown_experiments(figure: str) -> tuple[str, ...]:
    """Return the experiments that a figure shows; any other name is that of an experiment."""
    return FIGURES.get(figure, (figure,))


def figures_of(experiments: list[str]) -> list[str]:
    """Return the figures of a study: the paper's whose subject it has, one for each other."""
    papers = [name for name, shown in FIGURES.items() if shown[0] in experiments]
    return [*papers, *(name for name in experiments if name not in _PAPERS)]
