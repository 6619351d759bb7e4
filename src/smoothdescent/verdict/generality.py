"""Statements about the other experiments: 9, 10 and 14."""

from __future__ import annotations

import numpy as np

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.verdict import epochs, fitting, widths
from smoothdescent.verdict.curves import Curve, smallest
from smoothdescent.verdict.evidence import Evidence, TooLittleData, combine, compare
from smoothdescent.verdict.peaks import peak_location
from smoothdescent.verdict.reading import (
    RATIOS,
    final_error,
    final_values,
    larger_volumes,
    subject,
    threshold,
)


def resnet_shows_the_same(experiment: ExperimentTables) -> Evidence:
    """Statement 9: statements 1, 2, 3, 6 and 8, and the test error peaks no later than w*."""
    return combine(
        [
            widths.test_error_peak(experiment),
            _peak_no_later(experiment),
            widths.sharpness_peaks_at_points(experiment),
            widths.sharpness_peaks_in_volumes(experiment),
            fitting.crossentropy_over_volumes(experiment),
            epochs.epochwise_past_threshold(experiment),
        ]
    )


def cifar100_shows_the_same(experiment: ExperimentTables) -> Evidence:
    """Statement 10: statements 1, 2, 3, 5 and 6 without added noise."""
    return combine(
        [
            widths.test_error_peak(experiment),
            widths.sharpness_peaks_at_points(experiment),
            widths.sharpness_peaks_in_volumes(experiment),
            fitting.accuracy_keeps_up(experiment),
            fitting.crossentropy_over_volumes(experiment),
        ]
    )


def _peak_no_later(experiment: ExperimentTables) -> Evidence:
    near = threshold(experiment)
    value, low, high = peak_location(final_error(experiment), near, "test_error")
    return compare(
        value,
        low,
        high,
        # Widths are whole numbers: half a step more makes 'at' count as 'not after'.
        below=near + 0.5,
        unit="w",
        subject="test error, width of the peak",
        words=f"the test error peaks at w = {value:g}, the threshold is w = {near}",
    )


def largest_volume_is_sharper(experiment: ExperimentTables) -> Evidence:
    """Statement 14: the largest volume is fitted worst and sharpest at every width, and peaks."""
    largest = larger_volumes(experiment)[-1]
    parts = [
        _extreme(experiment, column, largest)
        for column in ("accuracy", "jacobian_norm", "hessian_norm")
    ]
    return combine([*parts, *(widths.measure_peak(experiment, c, largest) for c in RATIOS)])


def _extreme(experiment: ExperimentTables, column: str, largest: int) -> Evidence:
    """Compare a measure over the largest volume with every smaller one, paired by run."""
    x, far = final_values(experiment, column, largest)
    means, errors, names, freedom = [], [], [], 0
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
        freedom = curve.freedom
    value, low, high, at = smallest(np.concatenate(means), np.concatenate(errors), freedom)
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
    )
