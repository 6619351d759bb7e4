"""Statements about peaks of curves over width: 1, 2, 3, 4 and 11."""

from __future__ import annotations

import numpy as np

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve, t_quantile
from smoothdescent.verdict.evidence import Evidence, TooLittleData, absent, combine, compare
from smoothdescent.verdict.peaks import peak, window
from smoothdescent.verdict.reading import (
    NAMES,
    RATIOS,
    final_error,
    final_measure,
    final_values,
    larger_volumes,
    positive,
    subject,
    threshold,
    unit,
)


def test_error_peak(experiment: ExperimentTables, column: str = "test_error") -> Evidence:
    """Statement 1: the test error peaks near the threshold."""
    near = threshold(experiment)
    return peak(final_error(experiment, column), near, NAMES[column], unit(column))


def measure_peak(
    experiment: ExperimentTables, column: str, volume: int, subset: str = "all"
) -> Evidence:
    """Return the evidence that a measure at the end of training peaks near the threshold."""
    near = threshold(experiment)
    curve = final_measure(experiment, column, volume, subset)
    return peak(curve, near, subject(column, volume, subset), unit(column))


def sharpness_peaks_at_points(experiment: ExperimentTables) -> Evidence:
    """Statement 2: both norms peak at the training points."""
    return combine([measure_peak(experiment, column, 0) for column in RATIOS])


def sharpness_peaks_in_volumes(experiment: ExperimentTables) -> Evidence:
    """Statement 3: both norms peak at every volume."""
    volumes = [0, *larger_volumes(experiment)]
    return combine([measure_peak(experiment, c, volume) for c in RATIOS for volume in volumes])


def noisy_peaks_higher(experiment: ExperimentTables) -> Evidence:
    """Statement 4: around noisy samples there are peaks, higher than around clean ones."""
    measures = [(column, volume) for column in RATIOS for volume in experiment.volumes]
    measures += [("crossentropy", volume) for volume in experiment.volumes if volume > 0]
    peaks = [measure_peak(experiment, *measure, "noisy") for measure in measures]
    return combine(peaks + [_noisy_over_clean(experiment, *measure) for measure in measures])


def _noisy_over_clean(experiment: ExperimentTables, column: str, volume: int) -> Evidence:
    """Compare the highest means near the threshold, noisy to clean, paired by run.

    The ratio of the two maxima is at least the ratio at the width where the clean curve is highest,
    and at most that where the noisy one is.
    """
    near = threshold(experiment)
    widths, noisy = final_values(experiment, column, volume, "noisy")
    _, clean = final_values(experiment, column, volume, "clean")
    what = f"{subject(column, volume)}, noisy over clean"
    if noisy.shape != clean.shape or not (positive(noisy) and positive(clean)):
        raise TooLittleData(f"{what}: no ratio, some values are zero or missing")
    noisy_curve, clean_curve, ratio = (
        Curve.of(widths, values, logarithmic=True) for values in (noisy, clean, noisy / clean)
    )
    candidates = np.flatnonzero(window(ratio.x, near))
    top_noisy, top_clean = (
        candidates[np.argmax(curve.mean[candidates])] for curve in (noisy_curve, clean_curve)
    )
    half = t_quantile(ratio.freedom, len(candidates)) * ratio.error
    value = noisy_curve.mean[top_noisy] - clean_curve.mean[top_clean]
    return compare(
        value,
        ratio.mean[top_clean] - half[top_clean],
        ratio.mean[top_noisy] + half[top_noisy],
        above=1.0,
        unit="times",
        subject=f"{what}, ratio of the peaks",
        words=f"{what}: the highest mean of the noisy samples (w = {ratio.x[top_noisy]}) is "
        f"{np.exp(value):.3g} times that of the clean ones (w = {ratio.x[top_clean]})",
        logarithmic=True,
    )


def unperturbed_not_corrupted(experiment: ExperimentTables) -> Evidence:
    """Statement 11: double descent of the test error on unperturbed classes only."""
    return combine(
        [
            test_error_peak(experiment, "test_error_unperturbed"),
            absent(test_error_peak(experiment, "test_error_corrupted")),
        ]
    )
