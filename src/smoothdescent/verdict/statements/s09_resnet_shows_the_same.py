"""ResNet18s with Adam, batch norm and augmentation show the same; the test error's peak comes at or
before the threshold.
"""

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, attempt, combine, compare
from smoothdescent.verdict.peaks import peak_location
from smoothdescent.verdict.reading import final_error, threshold
from smoothdescent.verdict.statement import RESNET, statement


@statement(
    figures={RESNET: ("figure6", "figure8")},
    statistic="statistics of statements 1, 2, 3, 6 and 8; width of the test error's peak",
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Statements 1, 2, 3, 6 and 8 hold for the ResNet18s, and the bootstrap interval of the test
    error's peak ends at or before the threshold. It fails if one fails. Statements 4 and 7 are left
    out, since the paper's figures of ResNet18s do not tell clean from noisy samples; so is 5, since
    14 says what accuracy does.
    """
    from smoothdescent.verdict.statements import STATEMENTS  # which imports this file

    parts = [attempt(STATEMENTS[n].decide, experiment) for n in (1, 2, 3, 6, 8)]
    return combine([parts[0], attempt(_peak_no_later, experiment), *parts[1:]])


def _peak_no_later(experiment: ExperimentTables) -> Evidence:
    near, curve = threshold(experiment), final_error(experiment)
    value, low, high = peak_location(curve, near, "test_error")
    return compare(
        value,
        low,
        high,
        # Widths are whole numbers: half a step more makes 'at' count as 'not after'.
        below=near + 0.5,
        unit="w",
        subject="test error, width of the peak",
        words=f"the test error peaks at w = {value:g}, the threshold is w = {near}",
        curve=curve,
    )
