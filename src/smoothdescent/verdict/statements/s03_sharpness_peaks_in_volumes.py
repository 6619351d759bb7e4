"""Jacobian norm and Hessian norm peak near the threshold over every volume."""

from smoothdescent.tables.columns import NORMS
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence, attempt, combine
from smoothdescent.verdict.reading import larger_volumes, measure_peak
from smoothdescent.verdict.statement import CONVNET, HEIGHT, statement


@statement(figures={CONVNET: ("figure2",)}, statistic=f"{HEIGHT}, as a ratio", general=True)
def decide(experiment: ExperimentTables) -> Evidence:
    """Both norms over every volume, on a logarithmic scale. {PEAK}"""
    points = [attempt(measure_peak, experiment, norm, 0) for norm in NORMS]
    return combine([*points, attempt(_around, experiment)])


def _around(experiment: ExperimentTables) -> Evidence:
    volumes = larger_volumes(experiment)
    return combine([attempt(measure_peak, experiment, norm, v) for norm in NORMS for v in volumes])
