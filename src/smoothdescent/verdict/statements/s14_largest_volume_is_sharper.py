"""ResNet18s: over the largest volume, accuracy is lower and sharpness higher than over smaller ones
at every width, and still shows double descent.
"""

import numpy as np

from smoothdescent.tables.columns import NORMS
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve, smallest
from smoothdescent.verdict.evidence import Evidence, TooLittleData, attempt, combine, compare
from smoothdescent.verdict.reading import final_values, label, larger_volumes, measure_peak, subject
from smoothdescent.verdict.statement import RESNET, statement


@statement(
    figures={RESNET: ("figure6",)},
    statistic="smallest contrast between the largest and a smaller volume, over all widths",
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Accuracy is lower and both norms are higher than over every smaller volume at every width,
    intervals of the differences paired by run included, and both norms over the largest volume
    peak. It fails if one is reversed. {PEAK}
    """
    largest = larger_volumes(experiment)[-1]
    parts = [attempt(_extreme, experiment, column, largest) for column in ("accuracy", *NORMS)]
    peaks = [attempt(measure_peak, experiment, norm, largest) for norm in NORMS]
    return combine([*parts, *peaks])


def _extreme(experiment: ExperimentTables, column: str, largest: int) -> Evidence:
    """Compare a measure over the largest volume with every smaller one, paired by run."""
    x, far = final_values(experiment, column, largest)
    means, errors, names, freedom = [], [], [], []
    for volume in experiment.volumes:
        if volume == largest:
            continue
        _, near = final_values(experiment, column, volume)
        if near.shape != far.shape:
            raise TooLittleData(f"{subject(column, volume)}: some runs are missing")
        gap = near - far if column == "accuracy" else np.log(far) - np.log(near)
        curve = Curve.of(x, gap)
        means.append(curve.mean)
        errors.append(curve.error)
        names += [(volume, width) for width in curve.x]
        freedom.append(curve.freedom)
    value, low, high, at = smallest(
        np.concatenate(means), np.concatenate(errors), np.concatenate(freedom)
    )
    volume, width = names[at]
    ratio = column != "accuracy"
    more = "times" if ratio else "percentage points"
    return compare(
        value,
        low,
        high,
        above=1.0 if ratio else 0.0,
        unit=more,
        subject=f"{subject(column, largest)} against smaller volumes, smallest contrast",
        words=f"{subject(column, largest)} is {'higher' if ratio else 'lower'} than over smaller "
        f"ones by at least {np.exp(value) if ratio else value:.3g} {more} "
        f"(volume {volume}, w = {width})",
        logarithmic=ratio,
        curve=Curve.of(x, far, label=label(column, largest)),
    )
