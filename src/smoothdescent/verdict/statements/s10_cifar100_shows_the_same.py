"""CIFAR-100 without added noise shows the same."""

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, attempt, combine
from smoothdescent.verdict.statement import CIFAR100, statement


@statement(
    figures={CIFAR100: ("figure4", "figure1")},
    statistic="statistics of statements 1, 2, 3, 5 and 6",
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Statements 1, 2, 3, 5 and 6 hold on CIFAR-100. It fails if one fails."""
    from smoothdescent.verdict.statements import STATEMENTS  # which imports this file

    return combine([attempt(STATEMENTS[n].decide, experiment) for n in (1, 2, 3, 5, 6)])
