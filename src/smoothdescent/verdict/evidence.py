"""What a rule finds: a number with its interval, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smoothdescent.verdict.curves import Curve

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
RESULTS = (HOLDS, FAILS, UNDECIDED)


class TooLittleData(Exception):
    """The tables cannot decide a statement; the message says what is missing."""


@dataclass(frozen=True)
class Evidence:
    """The outcome of one test, or of several combined.

    Attributes:
        result: 'holds', 'fails' or 'undecided'.
        value: the statistic.
        low, high: its 95 % confidence interval; infinite where the data set no bound.
        unit: the statistic's unit.
        subject: what the number is about, such as a measure and a volume.
        text: the numbers behind the result, in words.
        clearance: for a test that holds, how far the value lies from the bound of the rule, in
            half-widths of the interval. The weakest of several tests has the smallest.
        parts: the tests that were combined.
        curve: the curve that decides, for a picture.
    """

    result: str
    value: float
    low: float
    high: float
    unit: str
    subject: str
    text: str
    clearance: float = math.inf
    parts: tuple[Evidence, ...] = ()
    curve: Curve | None = field(default=None, compare=False)


def attempt(decide: Callable[..., Evidence], *args: object) -> Evidence:
    """Return what a test finds; undecided, with the reason, if there is too little data for it.

    So a part that cannot be told hides no part that can.
    """
    try:
        return decide(*args)
    except TooLittleData as lack:
        text = sentence(f"{lack}".rstrip(".") + ".")
        return Evidence(UNDECIDED, math.nan, math.nan, math.nan, "", "", text)


def interval(low: float, high: float) -> str:
    """Return an interval in words."""
    if not (math.isfinite(low) or math.isfinite(high)):
        return "no interval: one seed only"
    return f"95\u00a0% interval {low:.3g} to {high:.3g}"


def compare(
    value: float,
    low: float,
    high: float,
    *,
    unit: str,
    subject: str,
    words: str,
    above: float | None = None,
    below: float | None = None,
    logarithmic: bool = False,
    curve: Curve | None = None,
) -> Evidence:
    """Return the evidence that a statistic lies above, or below, a bound.

    It holds if the whole interval lies on that side, fails if the whole of it lies on the other,
    and is undecided otherwise.

    Args:
        value, low, high: the statistic and its interval; logarithms of ratios if `logarithmic`.
        unit, subject: see Evidence.
        words: the finding with its numbers; the interval is added.
        above, below: the bound; one of the two. Not a logarithm.
        logarithmic: report the exponential.
        curve: what the statistic is computed from, for a picture.
    """
    told = math.exp if logarithmic else float
    bound = above if above is not None else below
    bound = math.log(bound) if logarithmic else bound
    holds, fails = (low > bound, high < bound) if above is not None else (high < bound, low > bound)
    near = low if above is not None else high
    clearance = (value - bound) / (value - near) if holds and value != near else math.inf
    known = math.isfinite(low) or math.isfinite(high)
    low, high = (told(low), told(high)) if known else (-math.inf, math.inf)
    text = sentence(f"{words} ({interval(low, high)}).")
    return Evidence(
        result_of(holds, fails), told(value), low, high, unit, subject, text, clearance, curve=curve
    )


def sentence(text: str) -> str:
    """Return the text with its first letter a capital."""
    return text[:1].upper() + text[1:]


def result_of(holds: bool, fails: bool) -> str:
    """Return the result of a rule from its two conditions."""
    return HOLDS if holds else FAILS if fails else UNDECIDED


def combine(parts: list[Evidence]) -> Evidence:
    """Return the evidence for all of `parts` together.

    They hold together if each holds, and fail if one fails. Asking each of them at the 5 % level
    needs no correction: for the whole to hold wrongly, one part must hold wrongly
    (an intersection-union test). The number is that of the part that decides: the first that
    fails, else the first undecided that has a number, else the one that holds with the least
    clearance.
    """
    parts = [test for part in parts for test in (part.parts or (part,))]
    # One lack may be that of many parts.
    if len({(part.result, part.text) for part in parts}) == 1:
        return parts[0]
    groups = {result: [p for p in parts if p.result == result] for result in RESULTS}
    counts = ", ".join(counted(result, len(found)) for result, found in groups.items() if found)
    for result in (FAILS, UNDECIDED):
        if groups[result]:
            chosen = min(groups[result], key=lambda part: math.isnan(part.value))
            text = f"Of {len(parts)} tests {counts}. {_texts(groups[result])}"
            return replace(chosen, text=text, parts=tuple(parts))
    chosen = min(parts, key=lambda part: part.clearance)
    text = f"All {len(parts)} tests hold; the weakest: {chosen.text}"
    return replace(chosen, text=text, parts=tuple(parts))


def verb(result: str, count: int) -> str:
    """Return a result as the verb of so many subjects: one holds, two hold."""
    return {HOLDS: "hold", FAILS: "fail"}.get(result, result) if count > 1 else result


def counted(result: str, count: int) -> str:
    """Return how many have a result, such as '2 hold'."""
    return f"{count} {verb(result, count)}"


def _texts(parts: list[Evidence], most: int = 3) -> str:
    texts = [*dict.fromkeys(part.text for part in parts)]
    more = [f"{len(texts) - most} more likewise."] if len(texts) > most else []
    return " ".join([*texts[:most], *more])


def absent(evidence: Evidence) -> Evidence:
    """Return the evidence that something is not there from that that it is."""
    opposite = {HOLDS: FAILS, FAILS: HOLDS, UNDECIDED: UNDECIDED}
    return replace(evidence, result=opposite[evidence.result])
