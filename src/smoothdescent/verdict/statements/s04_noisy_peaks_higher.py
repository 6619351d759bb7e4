"""Peaks around noisy samples are higher than around clean samples."""

from dataclasses import replace

import numpy as np

from smoothdescent.tables.columns import NORMS
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve, t_quantile
from smoothdescent.verdict.evidence import Evidence, TooLittleData, attempt, combine, compare
from smoothdescent.verdict.peaks import window
from smoothdescent.verdict.reading import (
    final_values,
    label,
    measure_peak,
    positive,
    subject,
    threshold,
)
from smoothdescent.verdict.statement import CONVNET, statement


@statement(
    figures={CONVNET: ("figure3",)},
    statistic="ratio of the highest means near the threshold, noisy over clean samples",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """Both norms over every volume and cross-entropy over volumes k >= 1: the noisy samples' curve
    has a peak, and the ratio's interval (paired by run, Bonferroni over the widths near the
    threshold) lies above 1. It fails if an interval lies below 1. {PEAK}
    """
    measures = [(column, volume) for column in NORMS for volume in experiment.volumes]
    measures += [("crossentropy", volume) for volume in experiment.volumes if volume > 0]
    peaks = [attempt(measure_peak, experiment, *measure, "noisy") for measure in measures]
    ratios = [attempt(_noisy_over_clean, experiment, *measure) for measure in measures]
    return combine(peaks + ratios)


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
    if not len(candidates):
        raise TooLittleData(f"{what}: no width within a factor of two of {near}")
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
        curve=replace(noisy_curve, label=label(column, volume, "noisy")),
    )
