"""All statements decided for all experiments at hand."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pandas as pd

from smoothdescent.figures.experiment import ExperimentTables
from smoothdescent.verdict import ALL, STATEMENTS, Statement
from smoothdescent.verdict.evidence import UNDECIDED, Evidence, TooLittleData, sentence


@dataclass(frozen=True)
class Finding:
    """One statement on one experiment; the columns of verdict.parquet.

    `value` is the statistic named by `statistic`, in `unit`; `low` and `high` bound its 95 %
    confidence interval. They are NaN where the tables do not give them.
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
        for name in (*statement.experiments, *(others if statement.general else ()))
    ]


def decide_one(number: int, name: str, experiment: ExperimentTables | None) -> Finding:
    """Decide one statement for one experiment; None if it is not at hand."""
    statement = STATEMENTS[number]
    try:
        if experiment is None:
            raise TooLittleData(f"the tables of {name} are not given")
        evidence = _rule(statement)(experiment)
    except TooLittleData as lack:
        evidence = Evidence(
            UNDECIDED, math.nan, math.nan, math.nan, "", "", sentence(f"{lack}".rstrip(".") + ".")
        )
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
        figures=list(statement.figures_of(name)),
    )


def _rule(statement: Statement) -> Callable[[ExperimentTables], Evidence]:
    module, function = statement.function.split(":")
    return getattr(importlib.import_module(f"smoothdescent.verdict.{module}"), function)


def to_table(findings: list[Finding]) -> pd.DataFrame:
    """Return one row per finding."""
    return pd.DataFrame([asdict(finding) for finding in findings])
