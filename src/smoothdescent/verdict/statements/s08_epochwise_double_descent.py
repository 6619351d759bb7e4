"""Past the threshold, test error, cross-entropy and Jacobian norm show double descent over epochs;
below it they do not.
"""

from smoothdescent.tables.columns import describe
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.curves import LEVEL, Curve
from smoothdescent.verdict.evidence import (
    FAILS,
    HOLDS,
    Evidence,
    TooLittleData,
    absent,
    combine,
    result_of,
    sentence,
)
from smoothdescent.verdict.peaks import peak
from smoothdescent.verdict.reading import courses, threshold
from smoothdescent.verdict.statement import CONVNET, statement

COLUMNS = ("test_error", "crossentropy", "jacobian_norm")


@statement(
    figures={CONVNET: ("figure5",)},
    statistic="share of widths with a peak over epochs",
    general=True,
)
def decide(experiment: ExperimentTables) -> Evidence:
    """For each of the three, more than half the widths past the threshold have a peak over epochs
    and at least half the widths below it have none; fails if one is reversed. {PEAK} Over epochs,
    any but the first and the last may hold the peak.
    """
    near = threshold(experiment)
    parts = []
    for column in COLUMNS:
        curves = courses(experiment, column)
        past = [curve for width, curve in curves.items() if width >= near]
        below = [curve for width, curve in curves.items() if width < near]
        parts.append(_share(past, column, "past the threshold"))
        parts.append(absent(_share(below, column, "below the threshold")))
    return combine(parts)


def _share(curves: list[Curve], column: str, where: str) -> Evidence:
    """Return the evidence that most of the widths show a peak over epochs.

    It holds if more than half of them do, fails if half or more do not, each by the interval of its
    own peak's height.
    """
    curves = [curve for curve in curves if len(curve.x) > 2]
    if not curves:
        raise TooLittleData(f"fewer than three epochs of the {describe(column).text} {where}")
    results = [peak(curve, None, "", describe(column).difference_unit).result for curve in curves]
    total, showing, lacking = len(results), results.count(HOLDS), results.count(FAILS)
    from scipy import stats

    interval = stats.binomtest(showing, total).proportion_ci(1 - LEVEL)
    known = any(curve.freedom for curve in curves)
    name = f"{describe(column).text} over epochs, widths {where}"
    words = f"{name}: {showing} of {total} peak, {lacking} do not"
    words += f", {total - showing - lacking} are undecided" if known else "; one seed only"
    return Evidence(
        result_of(2 * showing > total, 2 * lacking >= total),
        showing / total,
        interval.low if known else float("-inf"),
        interval.high if known else float("inf"),
        "of the widths",
        f"{name}, share with a peak",
        sentence(f"{words}."),
        showing / total,
    )
