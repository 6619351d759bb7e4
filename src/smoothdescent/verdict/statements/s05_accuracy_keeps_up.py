"""Accuracy over every volume does not decrease with width past the threshold."""

import math

import numpy as np

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve
from smoothdescent.verdict.evidence import Evidence, attempt, combine, interval, result_of, sentence
from smoothdescent.verdict.reading import final_values, label, subject, threshold
from smoothdescent.verdict.statement import CONVNET, statement

DROP = 1.0  # percentage points of accuracy: a smaller decrease with width counts as none


@statement(
    figures={CONVNET: ("figure2",)},
    statistic="largest fall of accuracy from a width past the threshold to a larger one",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Holds if at every volume the simultaneous 95 % interval of the largest fall ends below one
    percentage point; fails if at one volume it does not and lies above zero.
    """
    return combine([attempt(_largest_drop, experiment, volume) for volume in experiment.volumes])


def _largest_drop(experiment: ExperimentTables, volume: int) -> Evidence:
    near = threshold(experiment)
    widths, values = final_values(experiment, "accuracy", volume)
    past = widths >= near
    curve = Curve.of(widths[past], values[past], label=label("accuracy", volume))
    differences, half = curve.differences()
    pairs = np.triu_indices(len(curve.x), 1)  # row: the narrower width
    drops, half = differences[pairs], half[pairs]
    chosen = int(np.argmax(drops))
    value, low, high = (float(np.max(d)) for d in (drops, drops - half, drops + half))
    narrow, wide = (curve.x[index[chosen]] for index in pairs)
    what = f"{subject('accuracy', volume)}, largest fall past the threshold"
    words = f"{what}: {value:.3g} percentage points from w = {narrow} to {wide}"
    words += "" if value > 0 else ", a rise" if value < 0 else ", none"
    return Evidence(
        result_of(high < DROP, low > 0),
        value,
        low,
        high,
        "percentage points",
        what,
        sentence(f"{words} ({interval(low, high)})."),
        (DROP - value) / (high - value) if high > value else math.inf,
        curve=curve,
    )
