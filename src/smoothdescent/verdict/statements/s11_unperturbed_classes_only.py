"""Asymmetric noise: the test error shows double descent on unperturbed classes and none on
corrupted classes.
"""

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, absent, attempt, combine
from smoothdescent.verdict.reading import error_peak
from smoothdescent.verdict.statement import ASYMMETRIC, HEIGHT, statement


@statement(figures={ASYMMETRIC: ("figure7",)}, statistic=HEIGHT)
def decide(experiment: ExperimentTables) -> Evidence:
    """The test error on unperturbed classes has a peak, and that on corrupted classes fails to have
    one. {PEAK}
    """
    unperturbed = attempt(error_peak, experiment, "test_error_unperturbed")
    corrupted = attempt(error_peak, experiment, "test_error_corrupted")
    return combine([unperturbed, absent(corrupted)])
