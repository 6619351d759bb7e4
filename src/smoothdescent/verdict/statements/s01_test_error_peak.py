"""Test error against width has a peak near the interpolation threshold and is lower at the largest
width.
"""

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import Evidence
from smoothdescent.verdict.reading import error_peak
from smoothdescent.verdict.statement import CONVNET, HEIGHT, statement


@statement(figures={CONVNET: ("figure1",)}, statistic=HEIGHT, general=True)
def decide(experiment: ExperimentTables) -> Evidence:
    """{PEAK}"""
    return error_peak(experiment, "test_error")
