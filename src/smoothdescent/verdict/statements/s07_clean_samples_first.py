"""Small models fit clean samples first: below the threshold, accuracy on noisy samples is near
zero.
"""

from dataclasses import replace

import numpy as np

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import Curve, smallest
from smoothdescent.verdict.evidence import Evidence, TooLittleData, combine, compare
from smoothdescent.verdict.reading import class_count, final_values, label, threshold
from smoothdescent.verdict.statement import CONVNET, statement


@statement(
    figures={CONVNET: ("figure3",)},
    statistic="largest accuracy on noisy samples at widths below half the threshold",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """At every width below half the threshold, accuracy on noisy samples lies below that of a guess
    among the experiment's classes and below that on clean samples, intervals included. It fails if
    one of them is reversed.
    """
    classes = class_count(experiment.config)
    if classes is None:
        raise TooLittleData("the number of classes, and so the accuracy of a guess, is not known")
    chance = 100 / classes
    near = threshold(experiment, sides=False)
    widths, noisy = final_values(experiment, "accuracy", 0, "noisy")
    _, clean = final_values(experiment, "accuracy", 0, "clean")
    if noisy.shape != clean.shape:
        raise TooLittleData("sharpness.parquet lacks the clean or the noisy samples of some runs")
    small = widths < near / 2
    if not small.any():
        raise TooLittleData(f"no width lies below half the threshold w = {near}")
    level, gap = (Curve.of(widths[small], values[small]) for values in (noisy, clean - noisy))
    if not len(gap.x):
        raise TooLittleData(f"no width below half the threshold w = {near} has values")
    drawn = _sampling_error(experiment, level.x, level.mean / 100)
    below, low, high, at = smallest(
        chance - level.mean, np.hypot(level.error, 100 * drawn), level.freedom
    )
    apart, apart_low, apart_high, apart_at = smallest(gap.mean, gap.error, gap.freedom)
    where = f"at widths below {near / 2:g}"
    return combine(
        [
            compare(
                chance - below,
                chance - high,
                chance - low,
                below=chance,
                unit="%",
                subject=f"accuracy on noisy samples {where}, largest",
                words=f"{where} the accuracy on noisy samples is at most {chance - below:.3g} % "
                f"(w = {level.x[at]}), to lie below {chance:g} %",
                curve=replace(level, label=label("accuracy", 0, "noisy")),
            ),
            compare(
                apart,
                apart_low,
                apart_high,
                above=0.0,
                unit="percentage points",
                subject=f"accuracy on clean minus noisy samples {where}, smallest",
                words=f"{where} the accuracy on clean samples exceeds that on noisy ones by at "
                f"least {apart:.3g} percentage points (w = {gap.x[apart_at]})",
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
