"""Past the threshold, test error, cross-entropy and Jacobian norm show double descent over epochs;
below it they do not.
"""

import numpy as np

from smoothdescent.tables.columns import describe
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.courses import Courses, courses
from smoothdescent.verdict.curves import LEVEL
from smoothdescent.verdict.evidence import (
    FAILS,
    Evidence,
    TooLittleData,
    absent,
    attempt,
    combine,
    result_of,
    sentence,
)
from smoothdescent.verdict.reading import threshold
from smoothdescent.verdict.statement import CONVNET, statement

COMPARABLE = (
    1 / 3
)  # of the height of the peaks past the threshold: a lower one below counts as none
COLUMNS = ("test_error", "crossentropy", "jacobian_norm")


@statement(
    figures={CONVNET: ("figure5",)},
    statistic="share of widths with a peak over epochs",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """For each of the three, more than half the widths from the threshold on have a peak over
    epochs and at least half of those below it have none; it fails if one is reversed. Every run has
    its own height. A width has a peak if the 95 % interval of the mean height over runs, less what
    noise between evaluations adds to it, lies above zero. It has none if the interval ends below
    what is visible: one percentage point of an error, a ratio of 1.1 of a norm, a tenth of the
    course's range of the cross-entropy; below the threshold also if it ends below a third of the
    mean height from the threshold on.
    """
    return combine([attempt(_around_threshold, experiment, column) for column in COLUMNS])


def _around_threshold(experiment: ExperimentTables, column: str) -> Evidence:
    near, found = threshold(experiment), courses(experiment, column)
    past = found.heights.x >= near
    comparable = COMPARABLE * found.heights.mean[past].mean() if past.any() else 0.0
    return combine(
        [
            attempt(_share, found, past, 0.0, column, "past the threshold"),
            absent(attempt(_share, found, ~past, comparable, column, "below the threshold")),
        ]
    )


def _share(
    found: Courses, chosen: np.ndarray, comparable: float, column: str, where: str
) -> Evidence:
    """Return the evidence that most of the chosen widths [M] show a peak over epochs.

    It holds if more than half of them do, and fails if half or more do not. A peak lower than
    `comparable` counts as none, however visible.
    """
    from scipy import stats

    none = found.high <= np.maximum(found.visible, comparable)
    total = int(chosen.sum())
    if not total:
        raise TooLittleData(f"no values of the {describe(column).text} {where}")
    showing, lacking = (int(kind[chosen].sum()) for kind in ((found.low > 0) & ~none, none))
    interval = stats.binomtest(showing, total).proportion_ci(1 - LEVEL)
    result = result_of(2 * showing > total, 2 * lacking >= total)
    known = found.heights.known
    name = f"{describe(column).text} over epochs, widths {where}"
    words = f"{name}: {showing} of {total} peak, {lacking} do not"
    words += f", {total - showing - lacking} are undecided" if known else "; one seed only"
    return Evidence(
        result,
        showing / total,
        interval.low if known else float("-inf"),
        interval.high if known else float("inf"),
        "of the widths",
        f"{name}, share with a peak",
        sentence(f"{words}."),
        # A share that fails is one that holds to `absent`: by the widths without a peak.
        (lacking if result == FAILS else showing) / total,
        curve=found.heights,
    )
