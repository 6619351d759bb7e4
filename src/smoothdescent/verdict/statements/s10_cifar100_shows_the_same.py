"""CIFAR-100 without added noise shows the same."""

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, combine
from smoothdescent.verdict.statement import CIFAR100, statement
from smoothdescent.verdict.statements import (
    s01_test_error_peak,
    s02_sharpness_peaks_at_points,
    s03_sharpness_peaks_in_volumes,
    s05_accuracy_keeps_up,
    s06_crossentropy_over_volumes,
)

PARTS = (
    s01_test_error_peak,
    s02_sharpness_peaks_at_points,
    s03_sharpness_peaks_in_volumes,
    s05_accuracy_keeps_up,
    s06_crossentropy_over_volumes,
)


@statement(
    figures={CIFAR100: ("figure4", "figure1")},
    statistic="statistics of statements 1, 2, 3, 5 and 6",
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Statements 1, 2, 3, 5 and 6 hold on CIFAR-100. It fails if one fails."""
    return combine([part.decide(experiment) for part in PARTS])
