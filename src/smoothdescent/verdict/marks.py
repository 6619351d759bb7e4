"""The verdict's mark on a figure."""

from __future__ import annotations

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.verdict import statements_of
from smoothdescent.verdict.evidence import RESULTS, verb
from smoothdescent.verdict.findings import decide_one


def mark(figure: str, experiments: dict[str, ExperimentTables]) -> str:
    """Return one line for a figure: the result of each statement that it shows.

    The statements are decided here, from the tables that the figure draws. Were they read from the
    verdict, a figure by name would need the tables of all experiments.

    Args:
        figure: such as 'figure2'; an experiment that is not the paper's has a figure of its name.
        experiments: those that the figure shows, by name.

    Returns:
        Such as 'Verdict: statements 2, 3 hold; 6 fails; 13 undecided'; empty if the figure shows
        none.
    """
    numbers: dict[str, list[str]] = {result: [] for result in RESULTS}
    for number, name in statements_of(figure, list(experiments)):
        numbers[decide_one(number, name, experiments[name]).result].append(str(number))
    groups = [
        f"{', '.join(found)} {verb(result, len(found))}"
        for result, found in numbers.items()
        if found
    ]
    if not groups:
        return ""
    plural = "s" if "," in groups[0] else ""
    return f"Verdict: statement{plural} {'; '.join(groups)}"
