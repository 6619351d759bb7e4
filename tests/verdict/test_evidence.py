"""How single tests become a result, and several become one."""

import math

import pytest

from smoothdescent.verdict.evidence import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Evidence,
    absent,
    combine,
    compare,
)


def part(result: str, name: str, clearance: float = 1.0) -> Evidence:
    return Evidence(result, 1.0, 0.5, 2.0, "", name, f"{name}.", clearance)


@pytest.mark.parametrize(
    ("results", "expected", "chosen"),
    [
        ([HOLDS, HOLDS], HOLDS, "b"),
        ([HOLDS, UNDECIDED], UNDECIDED, "b"),
        ([UNDECIDED, FAILS], FAILS, "b"),
        ([FAILS, HOLDS, UNDECIDED], FAILS, "a"),
    ],
)
def test_all_together(results, expected, chosen):
    parts = [
        part(result, name, 3.0 - i)
        for i, (result, name) in enumerate(zip(results, "abc", strict=False))
    ]
    combined = combine(parts)
    assert combined.result == expected
    assert combined.subject == chosen
    nested = combine([combine(parts[:1]), combine(parts[1:])])
    assert (nested.result, nested.text) == (combined.result, combined.text)


def test_many_failures_are_not_all_told():
    text = combine([part(FAILS, f"p{i}") for i in range(5)] + [part(HOLDS, "x")]).text
    assert text == "Of 6 tests 1 holds, 5 fail. p0. p1. p2. 2 more likewise."


def test_absent():
    assert [absent(part(r, "")).result for r in (HOLDS, FAILS, UNDECIDED)] == [
        FAILS, HOLDS, UNDECIDED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [(1, 3, HOLDS, FAILS), (-3, -1, FAILS, HOLDS), (-1, 1, UNDECIDED, UNDECIDED)],
)
def test_compare(low, high, above, below):
    names = {"unit": "", "subject": "", "words": "it"}
    value = (low + high) / 2
    assert compare(value, low, high, above=0.0, **names).result == above
    assert compare(value, low, high, below=0.0, **names).result == below
    ratio = compare(value, low, high, above=1.0, logarithmic=True, **names)
    assert ratio.result == above
    assert (ratio.low, ratio.high) == (math.exp(low), math.exp(high))
    assert ratio.text.startswith("It (95")


def test_compare_without_noise():
    names = {"unit": "", "subject": "", "words": "it"}
    found = compare(1.0, -math.inf, math.inf, above=1.0, logarithmic=True, **names)
    assert found.result == UNDECIDED
    assert "one seed only" in found.text
    assert not math.isfinite(found.low)
