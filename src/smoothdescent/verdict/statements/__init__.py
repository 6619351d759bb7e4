"""The catalogue of the statements, one file `sNN_what_it_says.py` each.

Reading it loads no statistics library, so that a workflow and the figures' captions can.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from smoothdescent.verdict.statement import Statement

STATEMENTS: dict[int, Statement] = {
    int(name[1:3]): importlib.import_module(f"{__name__}.{name}").decide
    for _, name, _ in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
}


def statements_of(figure: str, experiments: Iterable[str]) -> list[tuple[int, str]]:
    """Return the numbers of the statements that a figure shows, each with its experiment.

    Args:
        figure: such as 'figure2'; an experiment that is not the paper's has a figure of its name.
        experiments: those that the figure shows, by name.
    """
    return [
        (number, name)
        for number, statement in STATEMENTS.items()
        for name in experiments
        if figure in statement.figures.get(name, ()) or (figure == name and statement.general)
    ]
