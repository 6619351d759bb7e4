"""Cross-entropy over volumes k >= 1 shows double descent; at the training points it tends to zero
past the threshold.
"""

import math

import numpy as np

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve, t_quantile
from smoothdescent.verdict.evidence import Evidence, attempt, combine, compare
from smoothdescent.verdict.reading import (
    final_values,
    label,
    larger_volumes,
    measure_peak,
    positive,
    subject,
    threshold,
)
from smoothdescent.verdict.statement import CONVNET, HEIGHT, statement

ZERO = 0.01  # part of the curve's largest value below which the cross-entropy counts as zero


@statement(
    figures={CONVNET: ("figure2", "figure3")},
    statistic=f"{HEIGHT}; ratio of the cross-entropy at the largest width to others",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Cross-entropy over every volume k >= 1 has a peak; at the training points, that of the
    largest width lies below a hundredth of the highest and below that of the threshold, interval
    included. {PEAK}
    """
    return combine([attempt(_peaks, experiment), attempt(_vanishing, experiment)])


def _peaks(experiment: ExperimentTables) -> Evidence:
    volumes = larger_volumes(experiment)
    return combine([attempt(measure_peak, experiment, "crossentropy", v) for v in volumes])


def _vanishing(experiment: ExperimentTables) -> Evidence:
    """Compare the cross-entropy of the largest width with the highest and with the threshold's."""
    near = threshold(experiment)
    widths, values = final_values(experiment, "crossentropy", 0)
    if not positive(values):  # a loss below the smallest number of float32 is zero
        values = np.maximum(values, np.finfo(np.float32).tiny)
    curve = Curve.of(widths, values, logarithmic=True, label=label("crossentropy", 0))
    error = curve.error
    highest, at = int(np.argmax(curve.mean)), int(np.flatnonzero(curve.x == near)[0])
    parts = []
    for other, bound, name in ((highest, ZERO, "the highest"), (at, 1.0, "the threshold's")):
        value = curve.mean[-1] - curve.mean[other]
        # The highest is a scale only, as good as fixed; the threshold's is compared to.
        noise = error[-1] if bound == ZERO else math.hypot(error[-1], error[other])
        half = float(t_quantile(curve.freedom[-1])) * noise
        measure = subject("crossentropy", 0)
        parts.append(
            compare(
                value,
                value - half,
                value + half,
                below=bound,
                unit="times",
                subject=f"{measure}, last over {name}",
                words=f"{measure}: at w = {curve.x[-1]} it is "
                f"{math.exp(value):.2g} times {name} (w = {curve.x[other]}), to lie "
                f"below {bound:g}",
                logarithmic=True,
                curve=curve,
            )
        )
    return combine(parts)
