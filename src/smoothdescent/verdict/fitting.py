"""Statements about how the training samples are fitted: 5, 6 and 7."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve, smallest, t_quantile
from smoothdescent.verdict.evidence import (
    Evidence,
    TooLittleData,
    combine,
    compare,
    decide,
    sentence,
)
from smoothdescent.verdict.reading import final_values, larger_volumes, positive, subject, threshold
from smoothdescent.verdict.widths import measure_peak

DROP = 1.0  # percentage points of accuracy: a smaller decrease with width counts as none
ZERO = 0.01  # part of the curve's largest value below which the cross-entropy counts as zero
CHANCE = 10.0  # per cent: accuracy of a guess among ten classes


def accuracy_keeps_up(experiment: ExperimentTables) -> Evidence:
    """Statement 5: past the threshold, accuracy does not decrease with width, at any volume."""
    return combine([_largest_drop(experiment, volume) for volume in experiment.volumes])


def _largest_drop(experiment: ExperimentTables, volume: int) -> Evidence:
    near = threshold(experiment)
    widths, values = final_values(experiment, "accuracy", volume)
    curve = Curve.of(widths[widths >= near], values[widths >= near])
    differences, half = curve.differences()
    pairs = np.triu_indices(len(curve.x), 1)  # row: the narrower width
    drops, half = differences[pairs], half[pairs]
    chosen = int(np.argmax(drops))
    value, low, high = (float(np.max(d)) for d in (drops, drops - half, drops + half))
    narrow, wide = (curve.x[index[chosen]] for index in pairs)
    what = f"{subject('accuracy', volume)}, largest fall past the threshold"
    evidence = Evidence(
        decide(high < DROP, low > 0),
        value,
        low,
        high,
        "percentage points",
        what,
        "",
        (DROP - value) / (high - value) if high > value else math.inf,
    )
    words = f"{what}: {value:.3g} percentage points from w = {narrow} to {wide}"
    words += "" if value > 0 else ", a rise" if value < 0 else ", none"
    return replace(evidence, text=sentence(f"{words} ({evidence.interval})."))


def crossentropy_over_volumes(experiment: ExperimentTables) -> Evidence:
    """Statement 6: cross-entropy peaks over every volume, and vanishes at the training points."""
    peaks = [measure_peak(experiment, "crossentropy", v) for v in larger_volumes(experiment)]
    return combine([*peaks, *_vanishing(experiment)])


def _vanishing(experiment: ExperimentTables) -> list[Evidence]:
    """Compare the cross-entropy of the largest width with the highest and with the threshold's."""
    near = threshold(experiment)
    widths, values = final_values(experiment, "crossentropy", 0)
    if not positive(values):  # a loss below the smallest number of float32 is zero
        values = np.maximum(values, np.finfo(np.float32).tiny)
    curve = Curve.of(widths, values, logarithmic=True)
    error = curve.error
    highest, at = int(np.argmax(curve.mean)), int(np.flatnonzero(curve.x == near)[0])
    parts = []
    for other, bound, name in ((highest, ZERO, "the highest"), (at, 1.0, "the threshold's")):
        value = curve.mean[-1] - curve.mean[other]
        # The highest is a scale only, as good as fixed; the threshold's is compared to.
        noise = error[-1] if bound == ZERO else math.hypot(error[-1], error[other])
        half = t_quantile(curve.freedom) * noise
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
            )
        )
    return parts


def clean_first(experiment: ExperimentTables) -> Evidence:
    """Statement 7: well below the threshold, clean samples are fitted and noisy ones are not."""
    near = threshold(experiment, sides=False)
    widths, noisy = final_values(experiment, "accuracy", 0, "noisy")
    _, clean = final_values(experiment, "accuracy", 0, "clean")
    if noisy.shape != clean.shape:
        raise TooLittleData("sharpness.parquet lacks the clean or the noisy samples of some runs")
    small = widths < near / 2
    if not small.any():
        raise TooLittleData(f"no width lies below half the threshold w = {near}")
    widths = widths[small]
    level, gap = (Curve.of(widths, values[small]) for values in (noisy, clean - noisy))
    drawn = _sampling_error(experiment, widths, level.mean / 100)
    below, low, high, at = smallest(
        CHANCE - level.mean, np.hypot(level.error, 100 * drawn), level.freedom
    )
    apart, apart_low, apart_high, apart_at = smallest(gap.mean, gap.error, gap.freedom)
    where = f"at widths below {near / 2:g}"
    return combine(
        [
            compare(
                CHANCE - below,
                CHANCE - high,
                CHANCE - low,
                below=CHANCE,
                unit="%",
                subject=f"accuracy on noisy samples {where}, largest",
                words=f"{where} the accuracy on noisy samples is at most {CHANCE - below:.3g} % "
                f"(w = {widths[at]}), to lie below {CHANCE:g} %",
            ),
            compare(
                apart,
                apart_low,
                apart_high,
                above=0.0,
                unit="percentage points",
                subject=f"accuracy on clean minus noisy samples {where}, smallest",
                words=f"{where} the accuracy on clean samples exceeds that on noisy ones by at "
                f"least {apart:.3g} percentage points (w = {widths[apart_at]})",
            ),
        ]
    )


def _sampling_error(
    experiment: ExperimentTables, widths: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Return the standard error of an accuracy on noisy samples for having measured only some.

    It is a binomial proportion's, by Agresti and Coull, who add two hits and two misses so that a
    share of zero is not taken for certain. The seeds share the samples, so more seeds do not make
    it smaller. It is zero if the table does not tell the number of samples.
    """
    table = experiment.sharpness
    if "samples" not in table.columns:
        return np.zeros(len(widths))
    table = table[(table["subset"] == "noisy") & (table["volume"] == 0)]
    count = table.groupby("width")["samples"].min().reindex(widths).to_numpy(dtype=float) + 4
    share = ((count - 4) * share + 2) / count
    return np.sqrt(share * (1 - share) / count)
