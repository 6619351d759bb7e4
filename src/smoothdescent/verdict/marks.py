"""The verdict's mark on a figure."""

from __future__ import annotations

from smoothdescent.figures.experiment import Experiment
from smoothdescent.verdict import STATEMENTS
from smoothdescent.verdict.findings import decide_one


def mark(figure: str, experiments: dict[str, Experiment]) -> str:
    """Return one line for a figure: the result of each statement that it shows.

    The statements are decided here, from the tables that the figure draws. Were they read from the
    verdict, a figure by name would need the tables of all experiments.

    Args:
        figure: such as 'figure2'; an experiment that is not the paper's has a figure of its name.
        experiments: those that the figure shows, by name.

    Returns:
        Such as 'Verdict: statement 2 holds, 3 is undecided'; empty if the figure shows none.
    """
    parts = [
        f"{number} {_words(decide_one(number, name, experiment).result)}"
        for number, statement in STATEMENTS.items()
        for name, experiment in experiments.items()
        if figure in statement.figures_of(name) or (figure == name and statement.general)
    ]
    return f"Verdict: statement {', '.join(parts)}" if parts else ""


def _words(result: str) -> str:
    return "is undecided" if result == "undecided" else result
