"""Statement 8: double descent over epochs, past the threshold and not below it."""

from __future__ import annotations

from scipy import stats

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.verdict.curves import LEVEL, Curve
from smoothdescent.verdict.evidence import (
    FAILS,
    HOLDS,
    Evidence,
    TooLittleData,
    absent,
    combine,
    decide,
    sentence,
)
from smoothdescent.verdict.peaks import peak
from smoothdescent.verdict.reading import NAMES, courses, threshold, unit

COLUMNS = ("test_error", "crossentropy", "jacobian_norm")


def epochwise_past_threshold(experiment: ExperimentTables) -> Evidence:
    """Statement 8: most widths past the threshold have a peak over epochs, most below do not."""
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
        raise TooLittleData(f"fewer than three epochs of the {NAMES[column]} {where}")
    results = [peak(curve, None, "", unit(column)).result for curve in curves]
    total, showing, lacking = len(results), results.count(HOLDS), results.count(FAILS)
    interval = stats.binomtest(showing, total).proportion_ci(1 - LEVEL)
    known = any(curve.freedom for curve in curves)
    name = f"{NAMES[column]} over epochs, widths {where}"
    words = f"{name}: {showing} of {total} peak, {lacking} do not"
    words += f", {total - showing - lacking} are undecided" if known else "; one seed only"
    return Evidence(
        decide(2 * showing > total, 2 * lacking >= total),
        showing / total,
        interval.low if known else float("-inf"),
        interval.high if known else float("inf"),
        "of the widths",
        f"{name}, share with a peak",
        sentence(f"{words}."),
        showing / total,
    )
