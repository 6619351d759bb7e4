"""The tables that a comparison holds: findings, and settings that differ. All cells are text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from smoothdescent.compare.study import ComparedStudy
from smoothdescent.tables.experiment import ExperimentTables
from smoothdescent.verdict.evidence import FAILS, HOLDS, UNDECIDED
from smoothdescent.verdict.findings import tally
from smoothdescent.verdict.report import SYMBOLS
from smoothdescent.verdict.statements import STATEMENTS

NOTHING = "–"


def differences(studies: Mapping[str, ExperimentTables]) -> list[list[str]]:
    """Return the settings of an experiment that differ between studies.

    They are those that its tables were made with and hold: what its `config.yaml` says, under the
    checksum of the tables.

    Args:
        studies: the experiment's tables, by study.

    Returns:
        The key, with dots between its parts, and its value in each study.
    """
    settings = [_flat(experiment.config) for experiment in studies.values()]
    keys = {key for values in settings for key in values}
    rows = [[key, *(values.get(key, NOTHING) for values in settings)] for key in sorted(keys)]
    return [row for row in rows if len({*row[1:]}) > 1]


def _flat(config: dict[str, Any]) -> dict[str, str]:
    """Return the values of nested blocks as text, by key."""
    [values] = pd.json_normalize(config).to_dict("records")
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }


def findings(studies: Mapping[str, ComparedStudy]) -> tuple[list[str], list[list[str]]]:
    """Return the results of every statement in every study that has a verdict.

    Returns:
        The heads of the columns, and rows: one for each statement, with its number and text, and
        one for each count of results. No rows if no study has a verdict.
    """
    verdicts = {name: study.verdict for name, study in studies.items() if study.verdict is not None}
    head = ["", "Finding", *verdicts]
    if not verdicts:
        return head, []
    results = {
        name: tally(zip(table["number"], table["result"], strict=True))
        for name, table in verdicts.items()
    }
    rows = []
    for number, statement in STATEMENTS.items():
        cells = [_result(table[table["number"] == number], results[name].get(number))
                 for name, table in verdicts.items()]  # fmt: skip
        rows.append([str(number), statement.text, *cells])
    counts = [Counter(found.values()) for found in results.values()]
    for words, result in (("hold", HOLDS), ("do not", FAILS), ("cannot be told", UNDECIDED)):
        rows.append(["", words, *(str(count[result]) for count in counts)])
    return head, rows


def _result(found: pd.DataFrame, result: str | None) -> str:
    """Return the result of a statement, and for how many of its experiments if not for all."""
    if result is None:
        return NOTHING
    share = (found["result"] == result).sum()
    of = "" if share == len(found) else f" ({share} of {len(found)})"
    return f"{SYMBOLS[result]} {result}{of}"
