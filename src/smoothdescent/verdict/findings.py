"""All statements decided for all experiments at hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import (
    FAILS,
    HOLDS,
    RESULTS,
    UNDECIDED,
    Evidence,
    TooLittleData,
    attempt,
    verb,
)
from smoothdescent.verdict.statement import ALL
from smoothdescent.verdict.statements import STATEMENTS, statements_of


@dataclass(frozen=True)
class Finding:
    """One statement on one experiment; the columns of verdict.parquet.

    `value` is the statistic named by `statistic`, in `unit`; `low` and `high` bound its 95 %
    confidence interval. They are NaN where the tables do not give them. `curve_x` and `curve_y`
    are the curve that decides, a mean over seeds against width, and `curve_label` says of what;
    empty where none does.
    """

    number: int
    statement: str
    experiment: str
    statistic: str
    unit: str
    value: float
    low: float
    high: float
    rule: str
    result: str
    reason: str
    figures: list[str]
    curve_x: list[float]
    curve_y: list[float]
    curve_label: str


def decide_all(experiments: dict[str, ExperimentTables]) -> list[Finding]:
    """Decide every statement for the experiments that it is about, in order.

    Args:
        experiments: the tables by name. An experiment of the paper that is missing leaves its
            statements undecided; one that is not the paper's gets the general statements.
    """
    others = [name for name in experiments if name not in ALL]
    return [
        decide_one(number, name, experiments.get(name))
        for number, statement in STATEMENTS.items()
        for name in (*statement.figures, *(others if statement.general else ()))
    ]


def decide_one(number: int, name: str, experiment: ExperimentTables | None) -> Finding:
    """Decide one statement for one experiment; None if it is not at hand."""
    statement = STATEMENTS[number]

    def decide() -> Evidence:
        if experiment is None:
            raise TooLittleData(f"the tables of {name} are not given")
        return statement.decide(experiment)

    evidence = attempt(decide)
    curve = evidence.curve
    return Finding(
        number=number,
        statement=statement.text,
        experiment=name,
        statistic=evidence.subject or statement.statistic,
        unit=evidence.unit,
        value=evidence.value,
        low=evidence.low if math.isfinite(evidence.low) else math.nan,
        high=evidence.high if math.isfinite(evidence.high) else math.nan,
        rule=statement.rule,
        result=evidence.result,
        reason=evidence.text,
        figures=list(statement.figures.get(name, ())),
        curve_x=[] if curve is None else curve.x.astype(float).tolist(),
        curve_y=[] if curve is None else curve.shown.tolist(),
        curve_label="" if curve is None else curve.label,
    )


def tally(found: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Return one result for each statement, over the experiments that it was decided for.

    It fails if it fails for one of them, holds if it holds for one and fails for none, and is
    undecided otherwise.

    Args:
        found: number and result of every finding.
    """
    results: dict[int, set[str]] = {}
    for number, result in found:
        results.setdefault(number, set()).add(result)
    order = (FAILS, HOLDS, UNDECIDED)
    return {number: next(r for r in order if r in given) for number, given in results.items()}


def mark(figure: str, experiments: dict[str, ExperimentTables]) -> str:
    """Return one line for a figure's caption: the result of each statement that it shows.

    The statements are decided here, from the tables that the figure draws. Were they read from the
    verdict, a figure by name would need the tables of all experiments.

    Args:
        figure: such as 'figure2'; an experiment that is not the paper's has a figure of its name.
        experiments: those that the figure shows, by name.

    Returns:
        Such as 'Verdict: statements 2, 3 hold; 6 fails; 13 undecided'; empty if the figure shows
        none.
    """
    numbers: dict[str, list[str]] = {result: [] for result in RESULTS}
    for number, name in statements_of(figure, list(experiments)):
        numbers[decide_one(number, name, experiments[name]).result].append(str(number))
    groups = [
        f"{', '.join(found)} {verb(result, len(found))}"
        for result, found in numbers.items()
        if found
    ]
    if not groups:
        return ""
    plural = "s" if "," in groups[0] else ""
    return f"Verdict: statement{plural} {'; '.join(groups)}"
