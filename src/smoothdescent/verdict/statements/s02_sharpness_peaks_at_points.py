"""Jacobian norm and Hessian norm at the training points peak near the threshold and fall beyond
it.
"""

from smoothdescent.tables.columns import NORMS
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, attempt, combine
from smoothdescent.verdict.reading import measure_peak
from smoothdescent.verdict.statement import CONVNET, HEIGHT, statement


@statement(figures={CONVNET: ("figure2",)}, statistic=f"{HEIGHT}, as a ratio", general=True)
def decide(experiment: ExperimentTables) -> Evidence:
    """Both norms, on a logarithmic scale. {PEAK}"""
    return combine([attempt(measure_peak, experiment, norm, 0) for norm in NORMS])
